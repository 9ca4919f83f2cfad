//! The flowcap command.
fn main() {}
