//! What the main process wants of those beside it.

use std::io;
#[cfg(feature = "ship")]
use std::process::ChildStdin;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;

/// What is wanted, each time more urgently.
///
/// It is the number of bytes in the pipe that is the standard input. Nobody takes them out, so that all who share it, and
/// who is started later, see the same. Where its other end is closed, as it is when the main process is no more, nobody
/// wants anything any longer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Order {
    /// Go on.
    GoOn,
    /// End; what waits is to be seen to.
    End,
    /// End soon.
    Hurry,
    /// End at once.
    Leave,
}

impl Order {
    /// Gives it to those who share a pipe: [`End`](Self::End) or [`Hurry`](Self::Hurry), once each.
    #[cfg(feature = "ship")]
    pub(crate) fn give(self, to: &mut ChildStdin) {
        // Who has ended needs no order.
        _ = io::Write::write_all(to, if self == Order::End { b"." } else { b".." });
    }

    /// Looks what is wanted now.
    pub(crate) fn now() -> Self {
        Order::look(Some(Duration::ZERO))
    }

    /// Waits until more is wanted than this, at most for a time; returns what is wanted then.
    pub(crate) fn after(this: Order, time: Option<Duration>) -> Self {
        let begin = Instant::now();
        loop {
            let left = time.map(|time| time.saturating_sub(begin.elapsed()));
            let wanted = match this {
                Order::GoOn => Order::look(left),
                _ => Order::now(),
            };
            if wanted > this || left == Some(Duration::ZERO) {
                return wanted;
            }
            if this > Order::GoOn {
                // What is in the pipe by now would wake at once.
                thread::sleep(left.map_or(TICK, |left| left.min(TICK)));
            }
        }
    }

    /// Looks what is wanted, as soon as it is anything but to go on, or after a time.
    fn look(time: Option<Duration>) -> Self {
        let input = io::stdin();
        let mut asked = [PollFd::new(&input, PollFlags::IN)];
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut asked, time.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Order::GoOn,
            Ok(_) => {}
            Err(_) => return Order::Leave,
        }
        if !(asked[0].revents() - PollFlags::IN).is_empty() {
            return Order::Leave;
        }
        match ioctl_fionread(&input) {
            Ok(0) | Err(_) => Order::Leave,
            Ok(1) => Order::End,
            Ok(_) => Order::Hurry,
        }
    }
}

/// How often an order is looked for that follows another one.
const TICK: Duration = Duration::from_millis(100);
