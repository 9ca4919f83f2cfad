//! The flowcap command: flags in, flow records out.
#![forbid(unsafe_code)]

mod args;
mod plan;
mod progress;
mod run;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use args::Args;
use plan::{Plan, Refusal};

fn main() -> ExitCode {
    match Plan::new(Args::parse()) {
        Ok(Plan::ListInterfaces) => run::list_interfaces(),
        Ok(Plan::Meter(plan)) => run::meter(*plan),
        Err(Refusal::NothingToRead) => {
            run::say(&Args::command().render_help().to_string());
            run::exit::USAGE.into()
        }
        Err(Refusal::Usage(what)) => Args::command().error(ErrorKind::ValueValidation, what).exit(),
    }
}
