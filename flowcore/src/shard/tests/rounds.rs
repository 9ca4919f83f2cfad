//! Many short runs, as the machine takes them: FLOWCAP_ROUNDS, or 2,000.

use std::thread;

use super::super::{WhenFull, start};
use super::{read, write};
use crate::table::TableOptions;

#[test]
fn many_rounds_end() {
    let rounds = std::env::var("FLOWCAP_ROUNDS").map_or(2_000, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let when_full = if round % 2 == 0 { WhenFull::Wait } else { WhenFull::Drop };
        let most = if round % 5 == 0 { round % 7 } else { usize::MAX };
        let ports: Vec<u16> = (1024..1024 + (round % 50) as u16).collect();
        let (router, merge, threads) = start(1 + round % 4, &TableOptions::default(), when_full).unwrap();
        let writer = thread::spawn(move || write(merge, most));
        let dropped = read(router, &ports, round % 3 == 0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let places = writer.join().unwrap();
        assert!(places.is_sorted());
        if most > ports.len() {
            assert_eq!(places.len() as u64 + dropped.packets, ports.len() as u64, "round {round}");
        }
    }
}
