//! The flowcap command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Flows are opened by one thread and their records let go by another: what glibc's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    flowcap::main()
}
