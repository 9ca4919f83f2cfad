//! The progress bar of a replay, and numbers for people.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flowcore::meter::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error, in a thread of its own; it goes away when dropped.
pub(crate) struct Bar {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// Shows how far a meter is; `total` are the bytes of its files, if that is known.
    ///
    /// Shows nothing where standard error is no terminal.
    pub(crate) fn show(progress: Arc<Progress>, total: Option<u64>) -> Bar {
        if !stderr().is_terminal() {
            return Bar { done: None, thread: None };
        }
        let (done, wait) = channel::<()>();
        let draw = move || {
            let (bar, started) = (bar(total), Instant::now());
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = wait.recv_timeout(TICK) {
                bar.set_position(progress.file_bytes());
                bar.set_message(message(&progress, started.elapsed()));
            }
            bar.finish_and_clear();
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(draw).ok();
        Bar { done: Some(done), thread }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:24} {bytes}/{total_bytes}  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn message(progress: &Progress, elapsed: Duration) -> String {
    let packets = progress.packets();
    let rate = packets as f64 / elapsed.as_secs_f64().max(0.001);
    let flows = counted(progress.records(), "flow");
    format!("{}  {flows}  {} packets/s", counted(packets, "packet"), grouped(rate as u64))
}

/// Writes a number of things: `1 flow`, `1,234 flows`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Writes a number with commas: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_groups() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (123_456, "123,456"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
        assert_eq!((counted(1, "flow"), counted(0, "flow")), ("1 flow".to_owned(), "0 flows".to_owned()));
    }
}
