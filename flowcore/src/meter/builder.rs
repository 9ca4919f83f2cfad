//! What a meter is made of.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::Duration;

use super::{Aides, Progress, Reopen, Watched};
use crate::decode::DecodeOptions;
use crate::enrich::{Attribution, Requests};
use crate::error::Error;
use crate::feature::FeatureOptions;
use crate::record::HostNews;
use crate::sink::Sink;
use crate::table::TableOptions;

/// The whole pipeline: decoding, flow tables and sinks, ready to run.
///
/// ```
/// # use flowcore::{Meter, Stop, capture::FileSource};
/// # fn main() -> Result<(), flowcore::Error> {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/captures/http.pcap");
/// let source = FileSource::open(&[path])?;
/// let summary = Meter::builder().build()?.run(Box::new(source), &Stop::new());
/// println!("{} packets in {} flows", summary.stats.packets, summary.stats.flows_opened);
/// # Ok(())
/// # }
/// ```
pub struct Meter {
    pub(super) decode: DecodeOptions,
    pub(super) table: TableOptions,
    pub(super) shards: usize,
    pub(super) sinks: Vec<NamedSink>,
    pub(super) besides: Vec<Beside>,
    pub(super) stats_sink: Option<NamedSink>,
    pub(super) stats_interval: Option<Duration>,
    pub(super) attribution: Option<Attribution>,
    pub(super) requests: Option<Requests>,
    pub(super) watched: Option<Watched>,
    pub(super) aides: Aides,
    pub(super) packet_limit: Option<u64>,
    pub(super) duration: Option<Duration>,
    pub(super) reopen: Reopen,
    pub(super) progress: Arc<Progress>,
}

/// Records of this machine that are written beside those of flows.
pub struct Beside {
    pub(super) news: Receiver<HostNews>,
    pub(super) wanted: Box<dyn Send>,
    pub(super) sinks: Vec<NamedSink>,
}

impl Beside {
    /// Makes it of where the records come from. `wanted` is dropped when no more are, at the end of the meter, which then
    /// takes what comes until all senders are gone.
    ///
    /// Records go to the sinks of flows that take them, unless there are sinks of their own.
    pub fn new(news: Receiver<HostNews>, wanted: Box<dyn Send>) -> Self {
        Beside { news, wanted, sinks: Vec::new() }
    }

    /// Adds a sink for these records alone; its counters stand under `name`.
    pub fn sink(mut self, name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        self.sinks.push(NamedSink { name: name.into(), sink });
        self
    }
}

/// A sink, and the name its counters stand under.
pub(super) struct NamedSink {
    pub(super) name: String,
    pub(super) sink: Box<dyn Sink>,
}

impl Meter {
    /// Starts to describe a meter; all settings have the defaults that `flowcap --help` names.
    pub fn builder() -> MeterBuilder {
        MeterBuilder(Meter {
            decode: DecodeOptions::default(),
            table: TableOptions::default(),
            shards: *CORES,
            sinks: Vec::new(),
            besides: Vec::new(),
            stats_sink: None,
            stats_interval: None,
            attribution: None,
            requests: None,
            watched: None,
            aides: Aides::new(),
            packet_limit: None,
            duration: None,
            reopen: Reopen::new(),
            progress: Arc::default(),
        })
    }
}

/// How many shards a meter may have.
pub const MOST_SHARDS: usize = 256;

/// How many shards a meter has unless it is told: asked once, since the answer is read from a dozen files.
static CORES: LazyLock<usize> =
    LazyLock::new(|| available_parallelism().map_or(1, usize::from).min(MOST_SHARDS));

/// Describes a [`Meter`].
pub struct MeterBuilder(Meter);

impl MeterBuilder {
    /// Sets how frames are decoded; its `jump` is set to the table's largest idle timeout.
    pub fn decode(mut self, options: DecodeOptions) -> Self {
        self.0.decode = options;
        self
    }

    /// Sets timeouts and limits of the flow table; the limits are shared by all shards.
    pub fn table(mut self, options: TableOptions) -> Self {
        self.0.table = options;
        self
    }

    /// Sets what can be set about per-flow numbers.
    pub fn features(mut self, options: FeatureOptions) -> Self {
        self.0.table.features = options;
        self
    }

    /// Sets the number of shards, each a thread with a table of its own. Default: the number of cores, at most
    /// [`MOST_SHARDS`].
    pub fn shards(mut self, count: usize) -> Self {
        self.0.shards = count;
        self
    }

    /// Adds a sink that takes all flow records; its counters stand under `name`.
    pub fn sink(mut self, name: impl Into<String>, sink: Box<dyn Sink>) -> Self {
        self.0.sinks.push(NamedSink { name: name.into(), sink });
        self
    }

    /// Writes records of this machine as well.
    pub fn beside(mut self, beside: Beside) -> Self {
        self.0.besides.push(beside);
        self
    }

    /// Sets the sink that takes the stats records: every `interval` in live capture, and one at the end.
    pub fn stats(mut self, name: impl Into<String>, sink: Box<dyn Sink>, interval: Duration) -> Self {
        self.0.stats_sink = Some(NamedSink { name: name.into(), sink });
        self.0.stats_interval = Some(interval);
        self
    }

    /// Counts in stats records how often processes beside it were started again.
    pub fn aides(mut self, aides: Aides) -> Self {
        self.0.aides = aides;
        self
    }

    /// Names the processes at the ends of flows; without this, the columns for them stay empty.
    pub fn attribution(mut self, attribution: Attribution) -> Self {
        self.0.attribution = Some(attribution);
        self
    }

    /// Adds what a thread of lookups counts to the stats records of attribution.
    pub fn lookups(mut self, requests: Requests) -> Self {
        self.0.requests = Some(requests);
        self
    }

    /// Lets another thread see what the meter counts, every second, and ask for stats records.
    pub fn watched(mut self, watched: Watched) -> Self {
        self.0.watched = Some(watched);
        self
    }

    /// Stops after so many packets.
    pub fn packet_limit(mut self, packets: Option<u64>) -> Self {
        self.0.packet_limit = packets;
        self
    }

    /// Stops after so long.
    pub fn duration(mut self, duration: Option<Duration>) -> Self {
        self.0.duration = duration;
        self
    }

    /// Sets the handle by which sinks are told to open their files again.
    pub fn reopen(mut self, reopen: Reopen) -> Self {
        self.0.reopen = reopen;
        self
    }

    /// Makes the meter.
    ///
    /// # Errors
    /// [`Error::Option`] for a setting out of its range.
    pub fn build(mut self) -> Result<Meter, Error> {
        if !(1..=MOST_SHARDS).contains(&self.0.shards) {
            return Err(Error::Option(format!("shards: {} is not in 1 to {MOST_SHARDS}", self.0.shards)));
        }
        if self.0.table.max_flows == 0 {
            return Err(Error::Option("max_flows: at least one flow must fit".into()));
        }
        self.0.decode.jump = self.0.table.idle.largest();
        Ok(self.0)
    }
}
