//! What a server has, by who numbered it and its number there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::server::Server;
use crate::stand::number;

/// Records that a server has taken, without repeats.
#[derive(Default)]
pub struct Arrived {
    pub lines: BTreeMap<(String, u64), String>,
    /// How many came again.
    pub repeats: u64,
    /// What gap records say: the reason, by who says it and the first and the last number.
    pub gaps: BTreeMap<(String, u64, u64), String>,
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
            // Who writes records tells of gaps in records of their own, the spool of numbers that are missing.
            if record["type"] == "gap" && record.get("seq").is_none() {
                let reason = record["reason"].as_str().expect("a reason").to_owned();
                let [first, last, records] = ["first_seq", "last_seq", "records"]
                    .map(|member| record[member].as_u64().expect("a number"));
                assert_eq!(records, last - first + 1, "{line}");
                let before = self.gaps.insert((instance, first, last), reason.clone());
                assert!(before.is_none_or(|before| before == reason), "{line}");
                continue;
            }
            let before =
                self.lines.insert((instance, record["seq"].as_u64().expect("a number")), line.clone());
            self.repeats += u64::from(before.is_some());
            assert!(before.is_none_or(|before| before == line), "a number stands for one record: {line}");
        }
    }

    /// Returns how many records gap records stand for, by reason.
    pub fn told(&self) -> BTreeMap<String, u64> {
        let mut told = BTreeMap::new();
        for ((_, first, last), reason) in &self.gaps {
            *told.entry(reason.clone()).or_default() += last - first + 1;
        }
        for gap in self.records().iter().filter(|record| record["type"] == "gap") {
            let reason = gap["reason"].as_str().expect("a reason").to_owned();
            *told.entry(reason).or_default() += gap["records"].as_u64().expect("a number");
        }
        told
    }

    /// Returns the numbers below the last one, of the one spool that there may be, that are neither a record's nor in a gap.
    pub fn untold(&self) -> Vec<u64> {
        let end = self.lines.keys().map(|(_, seq)| seq + 1).max().unwrap_or(0);
        let mut is_told = vec![false; usize::try_from(end).expect("a size")];
        let spans = self.gaps.keys().map(|(_, first, last)| (*first, *last));
        for (first, last) in self.lines.keys().map(|(_, seq)| (*seq, *seq)).chain(spans) {
            is_told.iter_mut().take(last as usize + 1).skip(first as usize).for_each(|told| *told = true);
        }
        let instances: BTreeSet<&String> = self.lines.keys().map(|(instance, _)| instance).collect();
        assert!(instances.len() <= 1, "{instances:?}");
        (0..end).filter(|&seq| !is_told[seq as usize]).collect()
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
