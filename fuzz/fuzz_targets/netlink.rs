//! Any bytes as what the kernel answers by netlink: sockets, those that were destroyed, RDMA queue pairs, routes, events
//! of processes.
//!
//! Input: a byte that says which of them, and a datagram.
#![no_main]

use flowcore::host::answers::{Answer, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&way, datagram)) = data.split_first() else { return };
    let whole = read(way, datagram);
    assert_eq!(whole, read(way, datagram));
    // A message has 16 bytes at least, an entry of a list within one eight.
    assert!(whole.len() <= datagram.len() / 8);
    // Of what is cut off, what is before it is read as if nothing were missing.
    let cut = read(way, &datagram[..datagram.len() / 2]);
    assert!(cut.len() <= whole.len());
    let is_of_one_message = |answer: &Answer| !matches!(answer, Answer::QueuePair(_));
    assert!(cut.iter().zip(&whole).all(|(cut, whole)| cut == whole || !is_of_one_message(whole)));
});
