//! A sink that takes a part of the records.

use super::{Sink, SinkCounts};
use crate::error::Error;
use crate::filter::Filter;
use crate::record::Record;
use crate::time::Timestamp;

/// Passes the records on that a filter lets through, and counts the others as `filtered`.
pub struct Filtered {
    sink: Box<dyn Sink>,
    filter: Filter,
    filtered: u64,
}

impl Filtered {
    /// Puts a filter in front of a sink; one that lets everything through is left out.
    pub fn wrap(sink: Box<dyn Sink>, filter: Filter) -> Box<dyn Sink> {
        if filter.is_open() { sink } else { Box::new(Filtered { sink, filter, filtered: 0 }) }
    }
}

impl Sink for Filtered {
    fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
        if self.filter.passes(record) {
            return self.sink.write(record);
        }
        self.filtered += 1;
        Ok(())
    }

    fn takes(&self, record: Record<'_>) -> bool {
        self.sink.takes(record)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.sink.finish()
    }

    fn advance(&mut self, now: Timestamp) -> Result<(), Error> {
        self.sink.advance(now)
    }

    fn reopen(&mut self) -> Result<(), Error> {
        self.sink.reopen()
    }

    fn counts(&self) -> SinkCounts {
        let counts = self.sink.counts();
        SinkCounts { filtered: counts.filtered + self.filtered, ..counts }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::{sample, sample_host};
    use super::*;

    /// Keeps the types of what it takes.
    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<&'static str>>>);

    impl Sink for Taken {
        fn write(&mut self, record: Record<'_>) -> Result<(), Error> {
            self.0.lock().unwrap().push(record.type_name());
            Ok(())
        }

        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }

        fn finish(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    /// Writes a TCP flow, an ICMPv6 flow, a UDP flow over IPv6 and an IPv6 event; returns what passed and the count.
    fn passed(types: &str, only: &str) -> (Vec<&'static str>, u64) {
        let taken = Taken::default();
        let filter = Filter { types: types.parse().unwrap(), only: only.parse().unwrap() };
        let mut sink = Filtered::wrap(Box::new(taken.clone()), filter);
        for flow in [sample::tcp(), sample::icmp6(), sample::udp6()] {
            sink.write(Record::Flow(&flow)).unwrap();
        }
        sink.write(Record::Event(&sample_host::event())).unwrap();
        let counts = sink.counts();
        (taken.0.lock().unwrap().clone(), counts.filtered)
    }

    #[test]
    fn what_does_not_pass_is_counted() {
        assert_eq!(passed("", ""), (vec!["flow", "flow", "flow", "NetworkEvent"], 0));
        assert_eq!(passed("NetworkEvent", ""), (vec!["NetworkEvent"], 3));
        assert_eq!(passed("flow", "ipv6"), (vec!["flow", "flow"], 2));
        assert_eq!(passed("flow", "raw"), (vec!["flow"], 3));
        assert_eq!(passed("", "udp"), (vec!["flow"], 3));
        assert_eq!(passed("", "tcp,udp,ipv4"), (vec!["flow"], 3));
        assert_eq!(passed("", "tcp,ipv6"), (vec!["NetworkEvent"], 3));
        assert_eq!(passed("", "rdma"), (vec![], 4));
    }

    #[test]
    fn rdma_is_udp_as_well() {
        let mut flow = sample::udp6();
        flow.app = Some(crate::l7::App::Roce);
        for only in ["rdma", "udp", "udp,ipv6", "rdma,ipv6"] {
            let filter = Filter { only: only.parse().unwrap(), ..Filter::default() };
            assert!(filter.passes(Record::Flow(&flow)), "{only}");
        }
    }
}
