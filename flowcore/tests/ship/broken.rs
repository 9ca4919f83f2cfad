//! A backlog that cannot be read.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use flowcore::Stop;
use flowcore::ship::{self, Backlog, Batch, Destination, Level, Shipper};

use crate::backlog::quick;

/// What each look at it gives; in the end it is gone.
struct Broken(VecDeque<Option<&'static str>>);

impl Backlog for Broken {
    fn next_batch(&mut self, _: u64, _: usize) -> io::Result<Option<Batch>> {
        match self.0.pop_front() {
            Some(Some(what)) => Err(io::Error::other(what)),
            Some(None) => Ok(None),
            None => Err(io::Error::new(ErrorKind::NotFound, "gone")),
        }
    }

    fn done(&mut self, _: &Batch) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_is_said_until_it_is_another_one_and_a_backlog_that_is_gone_ends_it() {
    let (stop, options) = (Stop::new(), quick());
    let sender = ship::open(&Destination::parse("http://127.0.0.1:9/").unwrap(), &options, &stop).unwrap();
    let broken = Broken([Some("one"), Some("one"), Some("two"), None, Some("two")].into());
    let said: Arc<Mutex<Vec<(Level, String)>>> = Arc::default();
    let log = Arc::clone(&said);
    let shipper = Shipper::new(broken, sender, options)
        .log(move |level, what| log.lock().unwrap().push((level, what.to_owned())));
    assert_eq!(shipper.run(&stop).unwrap_err().kind(), ErrorKind::NotFound);
    let expected = ["one", "two", "two"].map(|what| (Level::Error, format!("the spool: {what}")));
    assert_eq!(*said.lock().unwrap(), expected);
}
