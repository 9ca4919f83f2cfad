//! What a server has, by who numbered it and its number there.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::server::Server;
use crate::stand::number;

/// Records that a server has taken, without repeats.
#[derive(Default)]
pub struct Arrived {
    pub lines: BTreeMap<(String, u64), String>,
    /// How many came again.
    pub repeats: u64,
    /// How many records gap records stand for, by reason.
    pub gaps: BTreeMap<String, u64>,
}

impl Arrived {
    /// Takes what was answered with 200 so far.
    pub fn at(server: &Server) -> Arrived {
        let mut arrived = Arrived::default();
        arrived.take(server);
        arrived
    }

    /// Takes what came since, and has the server forget it. Each line must be whole, and a number stand for one record.
    pub fn take(&mut self, server: &Server) {
        let taken = server.take_requests().into_iter().filter(|request| request.status == 200);
        for line in taken.flat_map(|request| request.lines) {
            let record: Value = serde_json::from_str(&line).expect("a whole line");
            let instance = record["instance"].as_str().expect("an instance").to_owned();
            if record["type"] == "gap" {
                let reason = record["reason"].as_str().expect("a reason").to_owned();
                *self.gaps.entry(reason).or_default() += record["records"].as_u64().expect("a number");
                continue;
            }
            let before =
                self.lines.insert((instance, record["seq"].as_u64().expect("a number")), line.clone());
            self.repeats += u64::from(before.is_some());
            assert!(before.is_none_or(|before| before == line), "a number stands for one record: {line}");
        }
    }

    /// Returns the records in order.
    pub fn records(&self) -> Vec<Value> {
        self.lines.values().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
    }

    /// Returns the numbers that stand in the addresses of the flows, in order, each as often as a record has it.
    pub fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.records().iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}
