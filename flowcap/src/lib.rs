//! The flowcap command: flags in, flow records out.
//!
//! Programs use `flowcore`. This library is there so that a fuzz target can reach what reads configuration files.
#![forbid(unsafe_code)]

mod apart;
mod args;
#[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
mod beside;
mod conf;
mod confine;
mod events;
mod generate;
mod health;
mod log;
mod lookups;
mod metrics;
mod outputs;
mod owners;
mod plan;
mod progress;
mod run;
mod sandbox;
#[cfg(feature = "ship")]
mod shippers;
#[cfg(not(feature = "ship"))]
#[path = "no_shippers.rs"]
mod shippers;
mod sockets;
#[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
mod watchers;
#[cfg(not(all(target_os = "linux", feature = "host", feature = "live")))]
#[path = "no_watchers.rs"]
mod watchers;

use std::error::Error as _;
use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use flowcore::Error;
use flowcore::field::Printable;

use args::Args;
use conf::{Fault, Given, Wrong};
use plan::{Plan, Refusal};

#[cfg(fuzzing)]
pub use conf::configured;

/// Does what the command line of this process says, and returns its exit code.
pub fn main() -> ExitCode {
    // What panicked has said so itself.
    std::panic::catch_unwind(obey).unwrap_or_else(|_| run::exit::INTERNAL.into())
}

fn obey() -> ExitCode {
    if let Err(error) = run::survive_large_files() {
        return run::no_signals(&error);
    }
    let given = match conf::read(std::env::args_os().collect()) {
        Ok(given) => given,
        Err(Wrong::Usage(error)) => refuse(error),
        Err(Wrong::File(fault)) => return misconfigured(&fault),
    };
    let Given { args, settings, file, warning } = given;
    if let Some(warning) = warning {
        run::say(&format!("flowcap: warning: {warning}"));
    }
    let (is_check, has_words) = (args.check, !args.words.is_empty());
    match (Plan::new(args), file) {
        (Ok(Plan::ListInterfaces), _) => run::list_interfaces(),
        (Ok(Plan::Meter(plan)), file) if is_check => {
            conf::check(file.as_deref(), &settings, &plan, shippers::check)
        }
        (Ok(Plan::Meter(plan)), file) => {
            run::meter(*plan, if file.is_some() { run::exit::CONFIG } else { run::exit::USAGE })
        }
        (Ok(Plan::Sockets(args)), _) => sockets::sockets(*args),
        (Ok(Plan::Events(args)), _) => events::events(args),
        (Ok(Plan::Generate(folder)), _) => match generate::generate(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(source) => run::fail(&Error::Output { name: folder.display().to_string(), source }),
        },
        #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
        (Ok(Plan::Lookups(args)), _) => lookups::serve(&args),
        #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
        (Ok(Plan::Watch(args)), _) => watchers::serve(&args),
        #[cfg(feature = "ship")]
        (Ok(Plan::Ship(args)), _) => shippers::serve(&args),
        (Err(Refusal::NothingToRead), Some(file)) => misconfigured(&Fault::whole(
            &file,
            "nothing to read: it needs 'interface' or 'read', or a flag -i or -r",
        )),
        (Err(Refusal::NothingToRead), None) => {
            _ = write!(std::io::stderr(), "{}", Args::command().render_help());
            run::exit::USAGE.into()
        }
        (Err(Refusal::Usage(what)), Some(file)) if !has_words => misconfigured(&Fault::whole(&file, what)),
        (Err(Refusal::Usage(what)), _) => {
            // clap would leave sequences for a terminal out, or let them through.
            Args::command().error(ErrorKind::ValueValidation, Printable(&what)).exit()
        }
    }
}

/// Ends the process with what is wrong with the command line.
fn refuse(mut error: clap::Error) -> ! {
    // clap's tip to put `--` in front of an unknown flag: there is nothing here that it could become.
    error.remove(ContextKind::Suggested);
    match escaped(&mut error) {
        Some(text) => {
            _ = std::io::stderr().write_all(text.as_bytes());
            std::process::exit(error.exit_code())
        }
        None => error.exit(),
    }
}

/// Returns the text of an error in which something has to be escaped, since clap lets through what acts on a terminal;
/// without colours, which could no longer be told from it.
fn escaped(error: &mut clap::Error) -> Option<String> {
    let printable = |text: &String| Printable(text).to_string();
    let given: Vec<(ContextKind, ContextValue)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, ContextValue::String(printable(text)))),
            ContextValue::Strings(texts) => {
                Some((kind, ContextValue::Strings(texts.iter().map(printable).collect())))
            }
            _ => None,
        })
        .collect();
    // What a value is refused for, which may quote it, and which clap does not let one change.
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    let is_harmless = given.iter().all(|(kind, value)| error.get(*kind) == Some(value));
    if is_harmless && printable(&why) == why {
        return None;
    }
    given.into_iter().for_each(|(kind, value)| _ = error.insert(kind, value));
    let styled = error.render().ansi().to_string();
    let styled = if why.is_empty() { styled } else { styled.replace(&why, &printable(&why)) };
    Some(StyledStr::from(styled).to_string())
}

fn misconfigured(fault: &Fault) -> ExitCode {
    run::say(&format!("flowcap: {fault}"));
    run::exit::CONFIG.into()
}
