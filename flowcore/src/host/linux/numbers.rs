//! Sets and maps of the kernel's own numbers: inodes and cookies.
//!
//! The kernel counts them up, so that nobody can choose many that meet; what a machine with 50,000 sockets needs is a
//! hash that costs little.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// A set of numbers.
pub(super) type Numbers = HashSet<u64, RandomState>;

/// Values by number.
pub(super) type ByNumber<V> = HashMap<u64, V, RandomState>;
