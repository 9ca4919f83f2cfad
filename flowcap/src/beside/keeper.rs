//! Who starts a process again when it dies.
//!
//! It has to be able to start a program, and what it would forbid itself that program could not do either: it gives up
//! privileges that the other does not need, and no more. But it reads no packet, no record, no file and no socket.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flowcore::Error;
use flowcore::record::Message;

use super::{Order, leave_signals, to_parent};
use crate::log;

/// Starts this program again with `--attempt`, to do the work itself, and again whenever that process dies, until it
/// ends as it should or the main process wants no more; `who` is that process in messages.
pub(crate) fn keep(who: &str) -> Result<(), Error> {
    leave_signals()?;
    let (mut attempt, mut wait) = (1u64, FIRST_WAIT);
    loop {
        // What waits is worth one more try at the end.
        let is_last = Order::now() != Order::GoOn;
        let began = Instant::now();
        let what = match this_again(attempt).stdin(Stdio::inherit()).stdout(Stdio::inherit()).status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        if is_last || Order::now() == Order::Leave {
            return Err(Error::Internal(format!("{who}: {what}")));
        }
        if began.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        // Where nobody hears it, nobody wants anything, either.
        _ = died();
        let line = format!("{who} has ended: {what}; it is started again in {} s", wait.as_secs());
        log::write(log::Level::Error, &line);
        if Order::after(Order::GoOn, Some(wait)) == Order::Leave {
            return Ok(());
        }
        (attempt, wait) = (attempt + 1, (wait * 2).min(LONGEST_WAIT));
    }
}

/// Tells of a death, behind what the dead may have begun to say.
fn died() -> io::Result<()> {
    io::stdout().write_all(b"\n")?;
    let mut parent = to_parent().map_err(io::Error::other)?;
    parent.write(&Message::<()>::Died).and_then(|()| parent.flush())
}

/// Returns what starts this process again, with its arguments.
fn this_again(attempt: u64) -> Command {
    let mut arguments = std::env::args_os();
    let (name, subcommand) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    // What runs here, even if another file has its name by now, or its folder is closed to this user.
    #[cfg(target_os = "linux")]
    let program = "/proc/self/exe";
    #[cfg(not(target_os = "linux"))]
    let program = crate::run::program();
    let mut command = Command::new(program);
    std::os::unix::process::CommandExt::arg0(&mut command, name).arg(subcommand);
    command.arg(format!("--attempt={attempt}")).args(arguments);
    command
}

/// How long it takes until a process that died is started again; it doubles from one time to the next.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest of those times; who has lived for longer begins anew.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
