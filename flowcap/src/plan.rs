//! What is to be done, checked as far as that goes without opening anything.

mod outputs;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flowcore::decode::DecodeOptions;
use flowcore::feature::FeatureOptions;
use flowcore::record::Column;
use flowcore::sink::{FileOptions, HostRecords};
use flowcore::table::TableOptions;

use crate::apart;
use crate::args::{Args, Command, named_twice};
use crate::conf::{Beside, OutputKeys, ServerKeys, is_server};
use crate::events::EventsArgs;
use crate::log;
use crate::sandbox::Mode;
use crate::shippers::spool_folder;
use crate::sockets::SocketsArgs;

pub(crate) use outputs::{Output, Stats};

use outputs::{check_files, check_stats, check_watched, file_options};

/// A checked plan.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Lists the interfaces.
    ListInterfaces,
    /// Runs a meter.
    Meter(Box<MeterPlan>),
    /// Watches sockets.
    Sockets(Box<SocketsArgs>),
    /// Follows connections.
    Events(EventsArgs),
    /// Writes manual pages and completions into a folder.
    Generate(PathBuf),
    /// Looks sockets up for another process.
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    Lookups(crate::lookups::LookupsArgs),
    /// Watches sockets or events for another process.
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    Watch(Box<crate::watchers::WatchArgs>),
    /// Sends what waits in a spool.
    #[cfg(feature = "ship")]
    Ship(Box<crate::shippers::ShipArgs>),
}

/// What a meter is to read, how, and where its records go.
#[derive(Debug)]
pub(crate) struct MeterPlan {
    /// Where packets come from.
    pub(crate) input: Input,
    /// Only packets that match this tcpdump filter expression.
    pub(crate) filter: Option<String>,
    /// Where flow records go, at least one.
    pub(crate) outputs: Vec<Output>,
    /// How files are made, changed and kept.
    pub(crate) files: FileOptions,
    /// Where stats records go.
    pub(crate) stats: Option<Stats>,
    /// Settings of the flow table.
    pub(crate) table: TableOptions,
    /// Settings of the decoder.
    pub(crate) decode: DecodeOptions,
    /// Settings of the per-flow numbers.
    pub(crate) features: FeatureOptions,
    /// Threads for flows; `None` leaves it to the meter.
    pub(crate) shards: Option<usize>,
    /// Stop after so many packets.
    pub(crate) packet_limit: Option<u64>,
    /// Stop after so long.
    pub(crate) duration: Option<Duration>,
    /// Where the processes of flows are known from.
    pub(crate) owners: Owners,
    /// What is watched beside the capture.
    pub(crate) watched: Vec<Alongside>,
    /// How the process is to behave.
    pub(crate) running: Running,
    /// No progress and no summary.
    pub(crate) quiet: bool,
}

/// What is watched beside the capture.
#[derive(Debug)]
pub(crate) struct Alongside {
    /// What it is.
    pub(crate) what: Watch,
    /// What the section says, as flags of the subcommand.
    pub(crate) flags: Vec<OsString>,
    /// The file that it is compared with.
    pub(crate) baseline: Option<String>,
    /// Its own outputs; none: its records go to those of the flows.
    pub(crate) outputs: Vec<Output>,
}

/// What can be watched beside a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Watch {
    /// `[sockets]`.
    Sockets,
    /// `[events]`.
    Events,
}

impl Watch {
    /// Returns the word of the section, and of the subcommand.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Watch::Sockets => "sockets",
            Watch::Events => "events",
        }
    }

    /// Returns which records a destination is opened for.
    pub(crate) fn records(self, destination: &str) -> HostRecords {
        match self {
            Watch::Sockets => HostRecords::named(destination),
            Watch::Events => HostRecords::Events,
        }
    }
}

/// How the process is to behave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    /// The user to become.
    pub(crate) user: Option<String>,
    /// Whether it is to confine itself; `None` leaves it to the rights it has.
    pub(crate) sandbox: Option<Mode>,
    /// Where its counters are offered.
    pub(crate) metrics: Option<SocketAddr>,
    /// What is logged.
    pub(crate) log_level: log::Level,
}

/// Where the processes of flows are known from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// They are not asked for.
    Unknown,
    /// A recording of sockets.
    Recorded(String),
    /// This machine, which is asked while it captures; what it says is recorded where a file is named.
    Machine {
        /// The file.
        record: Option<String>,
    },
}

/// Where packets come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Capture files, one after the other; `-` is standard input.
    Files(Vec<String>),
    /// Interfaces.
    Live(Live),
}

/// How to capture live.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// The interfaces by name.
    pub(crate) interfaces: Vec<String>,
    /// Bytes captured of each packet; `None` is the library's default.
    pub(crate) snaplen: Option<u32>,
    /// Whether packets for other machines are captured as well.
    pub(crate) promiscuous: bool,
    /// Bytes that the kernel holds; `None` is the library's default.
    pub(crate) buffer_bytes: Option<u32>,
}

/// Why the arguments make no plan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Neither an interface nor a file was named.
    NothingToRead,
    /// What is wrong.
    Usage(String),
}

impl Plan {
    /// Makes a plan of the arguments.
    ///
    /// # Errors
    /// [`Refusal`] for arguments that contradict each other or are out of range.
    pub(crate) fn new(args: Args) -> Result<Plan, Refusal> {
        match args.command {
            Some(Command::Sockets(sockets)) => return Ok(Plan::Sockets(Box::new(sockets))),
            Some(Command::Events(events)) => return Ok(Plan::Events(events)),
            Some(Command::Generate { folder }) => return Ok(Plan::Generate(folder)),
            #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
            Some(Command::Lookups(lookups)) => return Ok(Plan::Lookups(lookups)),
            #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
            Some(Command::Watch(watch)) => return Ok(Plan::Watch(watch)),
            #[cfg(feature = "ship")]
            Some(Command::Ship(ship)) => return Ok(Plan::Ship(ship)),
            None => {}
        }
        if !args.words.is_empty() {
            return Err(usage(advice(&args.words)));
        }
        if args.list_interfaces {
            return Ok(Plan::ListInterfaces);
        }
        if args.interface.is_empty() && args.read.is_empty() {
            return Err(Refusal::NothingToRead);
        }
        MeterPlan::new(args).map(|plan| Plan::Meter(Box::new(plan)))
    }
}

impl MeterPlan {
    fn new(args: Args) -> Result<MeterPlan, Refusal> {
        let owners = Owners::new(&args);
        let output = |keys: &OutputKeys| Output::new(keys, &args, &owners, args.format);
        let outputs = match args.outputs.as_slice() {
            [] => args.output.iter().map(|to| Output::typed(to, &args, &owners)).collect(),
            keys => keys.iter().map(output).collect::<Result<Vec<_>, _>>(),
        }?;
        let mut watched = Vec::new();
        let beside = |keys: &[OutputKeys], format| {
            keys.iter().map(|keys| Output::new(keys, &args, &owners, format)).collect::<Result<Vec<_>, _>>()
        };
        if let Some(Beside { args, flags, outputs }) = &args.watched {
            watched.push(Alongside {
                what: Watch::Sockets,
                flags: watching(args, flags),
                baseline: args.baseline.clone(),
                outputs: beside(outputs, args.format)?,
            });
        }
        if let Some(Beside { args, flags, outputs }) = &args.followed {
            watched.push(Alongside {
                what: Watch::Events,
                flags: flags.clone(),
                baseline: None,
                outputs: beside(outputs, args.format)?,
            });
        }
        check_watched(&watched, &outputs)?;
        let interval = args.stats_interval.0.unwrap_or(NEVER);
        let stats = args.stats.clone().map(|destination| Stats { destination, interval });
        check_stats(&outputs, stats.as_ref())?;
        check_files(&args, &outputs)?;
        if args.metrics.is_some() && args.interface.is_empty() {
            return Err(usage("--metrics: of a live capture only"));
        }
        if args.read.iter().filter(|file| *file == "-").count() > 1 {
            return Err(usage("-r -: standard input can be read once only"));
        }
        let plan = MeterPlan {
            files: file_options(&args),
            outputs,
            stats,
            watched,
            running: Running {
                user: args.user.clone(),
                sandbox: args.sandbox,
                metrics: args.metrics,
                log_level: args.log_level.unwrap_or_default(),
            },
            table: table_options(&args),
            decode: decode_options(&args),
            features: FeatureOptions { entropy_bytes: args.entropy_bytes, splt: args.splt },
            shards: args.shards,
            packet_limit: args.count,
            duration: args.duration.and_then(|limit| limit.0),
            owners,
            quiet: args.quiet,
            filter: args.filter.clone(),
            input: Input::new(args),
        };
        if let Some(destination) = named_twice(plan.all_outputs().map(|output| output.destination.as_str())) {
            return Err(usage(format!("{destination}: named twice as an output")));
        }
        let servers = plan.all_outputs().filter(|output| is_server(&output.destination));
        let spools = servers.map(|output| spool_folder(&output.destination, &output.server));
        let spools: Vec<String> = spools.map(|folder| folder.display().to_string()).collect();
        match named_twice(spools.iter().map(String::as_str)) {
            Some(folder) => {
                Err(usage(format!("{folder}: two servers cannot share a spool; give each its own")))
            }
            None => Ok(plan),
        }
    }

    /// Returns the outputs of flows and those of what runs beside them.
    pub(crate) fn all_outputs(&self) -> impl Iterator<Item = &Output> {
        self.outputs.iter().chain(self.watched.iter().flat_map(|watched| &watched.outputs))
    }

    /// Refuses files that would be read and written, or be written twice, under whatever names.
    ///
    /// # Errors
    /// [`Error::Option`](flowcore::Error::Option), which names both.
    pub(crate) fn check_files(&self) -> Result<(), flowcore::Error> {
        let captures = match &self.input {
            Input::Files(files) => files.as_slice(),
            Input::Live(_) => &[],
        };
        let (recorded, record) = match &self.owners {
            Owners::Recorded(file) => (Some(file), None),
            Owners::Machine { record } => (None, record.as_ref()),
            Owners::Unknown => (None, None),
        };
        let read = captures.iter().chain(recorded).map(String::as_str).chain(self.files_read());
        let stats = self.stats.as_ref().map(|stats| &stats.destination);
        let outputs = self.all_outputs().map(|output| &output.destination).filter(|to| !is_server(to));
        apart::check(read, outputs.chain(stats).chain(record).map(String::as_str))
    }

    /// Returns the files that settings name to be read, apart from the input.
    pub(crate) fn files_read(&self) -> impl Iterator<Item = &str> {
        let baseline = self.watched.iter().filter_map(|watched| watched.baseline.as_deref());
        let of_servers = self.all_outputs().flat_map(|output| {
            let ServerKeys { token_file, ca_file, client_cert, client_key, .. } = &output.server;
            [token_file, ca_file, client_cert, client_key].into_iter().filter_map(Option::as_deref)
        });
        baseline.chain(of_servers)
    }
}

impl Owners {
    fn new(args: &Args) -> Self {
        match &args.sockets {
            Some(file) => Owners::Recorded(file.clone()),
            None if args.interface.is_empty() || args.no_process => Owners::Unknown,
            None => Owners::Machine { record: args.write_sockets.clone() },
        }
    }

    /// Reads a list of fields; where owners are asked for, they belong to the ready-made lists.
    fn columns(&self, list: &str) -> Result<Vec<Column>, flowcore::Error> {
        match self {
            Owners::Unknown => Column::parse(list),
            Owners::Recorded(_) | Owners::Machine { .. } => Column::parse_with_owners(list),
        }
    }
}

impl Input {
    fn new(args: Args) -> Input {
        if args.interface.is_empty() {
            return Input::Files(args.read);
        }
        Input::Live(Live {
            interfaces: args.interface,
            // tcpdump's 0 means the default.
            snaplen: args.snaplen.filter(|&bytes| bytes > 0),
            promiscuous: !args.no_promiscuous,
            buffer_bytes: args.buffer,
        })
    }
}

/// A service is not served by one snapshot.
fn watching(args: &SocketsArgs, flags: &[OsString]) -> Vec<OsString> {
    let interval = (args.interval.is_none() && !args.changes).then(|| "--interval=5s".into());
    flags.iter().cloned().chain(interval).collect()
}

fn table_options(args: &Args) -> TableOptions {
    TableOptions {
        idle: args.idle_timeout,
        active: args.active_timeout.0,
        max_flows: args.max_flows,
        max_memory: args.max_memory,
        ..TableOptions::default()
    }
}

fn decode_options(args: &Args) -> DecodeOptions {
    DecodeOptions { decap: !args.no_decap, checksums: args.checksums, ..DecodeOptions::default() }
}

/// Says what was meant by words that are no flags.
fn advice(words: &[String]) -> String {
    let all = words.join(" ");
    match words {
        [file] if [".pcap", ".pcapng", ".cap", ".gz", ".zst"].iter().any(|end| file.ends_with(end)) => {
            format!("unexpected '{file}': to read a capture file use -r '{file}'")
        }
        _ => format!("unexpected '{all}': to filter packets use -f '{all}'"),
    }
}

fn usage(what: impl Into<String>) -> Refusal {
    Refusal::Usage(what.into())
}

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests;
