//! Records sent to servers that behave badly: all arrive, repeats can be told, the counters are right.
#![cfg(feature = "ship")]

mod backlog;
mod broken;
mod certificates;
mod duckdb;
mod http;
mod http_limits;
mod lines;
mod rsyslog;
#[allow(dead_code)]
mod server;
mod stopping;
mod tls;
