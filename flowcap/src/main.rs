//! The flowcap command: flags in, flow records out.
#![forbid(unsafe_code)]

mod args;
mod events;
mod outputs;
mod owners;
mod plan;
mod progress;
mod run;
mod sockets;

use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser};

use args::Args;
use plan::{Plan, Refusal};

/// Flows are opened by one thread and their records let go by another: what glibc's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Plan::new(parse()) {
        Ok(Plan::ListInterfaces) => run::list_interfaces(),
        Ok(Plan::Meter(plan)) => run::meter(*plan),
        Ok(Plan::Sockets(args)) => sockets::sockets(*args),
        Ok(Plan::Events(args)) => events::events(args),
        Err(Refusal::NothingToRead) => {
            run::say(&Args::command().render_help().to_string());
            run::exit::USAGE.into()
        }
        Err(Refusal::Usage(what)) => Args::command().error(ErrorKind::ValueValidation, what).exit(),
    }
}

/// Reads the command line, or ends the process with what is wrong with it.
fn parse() -> Args {
    Args::try_parse().unwrap_or_else(|mut error| {
        // clap's tip to put `--` in front of an unknown flag: there is nothing here that it could become.
        error.remove(ContextKind::Suggested);
        error.exit()
    })
}
