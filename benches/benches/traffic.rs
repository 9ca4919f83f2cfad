//! How fast the traffic maker is.
fn main() {}
