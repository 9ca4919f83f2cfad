//! What is to be done, checked as far as that goes without opening anything.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flowcore::decode::DecodeOptions;
use flowcore::feature::FeatureOptions;
use flowcore::filter::Filter;
use flowcore::record::Column;
use flowcore::sink::{Existing, FileOptions, Format, HostRecords};
use flowcore::table::TableOptions;

use crate::args::{self, Args, Command, named_twice};
use crate::conf::{Beside, FileKeys, OutputKeys, ServerKeys, is_server};
use crate::events::EventsArgs;
use crate::log;
use crate::sandbox::Mode;
use crate::shippers::spool_folder;
use crate::sockets::SocketsArgs;

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

/// A destination of records.
#[derive(Debug)]
pub(crate) struct Output {
    /// A file, `-`, or the address of a server.
    pub(crate) destination: String,
    /// How records are written there.
    pub(crate) format: Format,
    /// The fields; `None` leaves them to the format.
    pub(crate) columns: Option<Vec<Column>>,
    /// Which records it takes.
    pub(crate) filter: Filter,
    /// How files are named anew, kept and compressed.
    pub(crate) files: FileOptions,
    /// How a server is reached.
    pub(crate) server: ServerKeys,
}

/// Where stats records go, and how often.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    /// A file, or `-`.
    pub(crate) destination: String,
    /// Time between two records of live capture.
    pub(crate) interval: Duration,
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
                flags: flags.clone(),
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

impl Output {
    /// Makes one of a destination alone.
    fn typed(to: &str, args: &Args, owners: &Owners) -> Result<Output, Refusal> {
        let keys = OutputKeys::plain(to);
        match keys.fault() {
            Some((_, what)) => Err(usage(format!("-o: {what}"))),
            None => Output::new(&keys, args, owners, args.format),
        }
    }

    /// Makes one of its keys, and of what holds where they say nothing.
    fn new(keys: &OutputKeys, args: &Args, owners: &Owners, format: args::Format) -> Result<Output, Refusal> {
        let given = keys.format.unwrap_or(format).into();
        // Servers are sent lines.
        let format = if is_server(&keys.to) { Format::Jsonl } else { Format::of(&keys.to, given) };
        let list = keys.fields.as_ref().or(args.fields.as_ref()).map(|fields| fields.0.as_str());
        // A table makes a choice of its own, for people.
        let list = list.or((format != Format::Table).then_some("@core"));
        let columns = list.map(|list| owners.columns(list)).transpose();
        Ok(Output {
            destination: keys.to.clone(),
            format,
            columns: columns.map_err(|error| usage(format!("fields: {error}")))?,
            filter: Filter {
                types: keys.types.clone().unwrap_or_default(),
                only: keys.only.unwrap_or_default(),
            },
            files: {
                let FileKeys { rotate, keep, compress, sync } = keys.file;
                let of_flags = file_options(args);
                FileOptions {
                    rotate: rotate.or(of_flags.rotate),
                    keep: keep.unwrap_or(of_flags.keep),
                    compress: compress.or(of_flags.compress),
                    sync: sync.unwrap_or(of_flags.sync),
                    ..of_flags
                }
            },
            server: keys.server.clone(),
        })
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

fn file_options(args: &Args) -> FileOptions {
    FileOptions {
        existing: match (args.force, args.interface.is_empty()) {
            (true, _) => Existing::Overwrite,
            (false, true) => Existing::Refuse,
            (false, false) => Existing::Append,
        },
        rotate: args.rotate,
        keep: args.keep.unwrap_or_default(),
        compress: args.compress,
        sync: args.sync,
        live: !args.interface.is_empty(),
        now: None,
        owner: None,
    }
}

/// Standard output and servers have no names to change, to compress or to keep.
fn check_files(args: &Args, outputs: &[Output]) -> Result<(), Refusal> {
    let flags = [
        ("--rotate", args.rotate.is_some()),
        ("--keep", args.keep.is_some()),
        ("--compress", args.compress.is_some()),
    ];
    let given = flags.into_iter().find(|(_, is_given)| *is_given);
    let is_file = |output: &Output| output.destination != "-" && !is_server(&output.destination);
    match given.filter(|_| !outputs.iter().any(is_file)) {
        Some((flag, _)) => Err(usage(format!("{flag}: name a file with -o"))),
        None => Ok(()),
    }
}

/// What has no output of its own goes to those of flows, where JSON lines alone hold several types of records.
fn check_watched(watched: &[Alongside], outputs: &[Output]) -> Result<(), Refusal> {
    let homeless =
        watched.iter().find(|watched| watched.outputs.is_empty()).map(|watched| watched.what.word());
    match homeless.filter(|_| outputs.iter().all(|output| output.format != Format::Jsonl)) {
        Some(word) => Err(usage(format!(
            "[{word}]: no output takes its records, which only JSON lines hold beside flows; name one of its own with \
             [[{word}.output]]"
        ))),
        None => Ok(()),
    }
}

/// Stats records are JSON lines, also among flows.
fn check_stats(outputs: &[Output], stats: Option<&Stats>) -> Result<(), Refusal> {
    let Some(Stats { destination, .. }) = stats else { return Ok(()) };
    let shared = outputs.iter().find(|output| output.destination == *destination);
    if shared.is_some_and(|_| destination != "-") {
        return Err(usage(format!(
            "--stats {destination}: flow records go there; name another file, or '-'"
        )));
    }
    if Format::of(destination, Format::Jsonl) != Format::Jsonl
        || shared.is_some_and(|output| output.format != Format::Jsonl)
    {
        return Err(usage(format!("--stats {destination}: counters are written as JSON lines only")));
    }
    Ok(())
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
mod tests {
    use clap::Parser;
    use flowcore::sink::{Compress, SyncPolicy};

    use super::*;

    fn plan(line: &str) -> Result<Plan, Refusal> {
        let args = Args::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
        Plan::new(args)
    }

    fn meter(line: &str) -> MeterPlan {
        match plan(line) {
            Ok(Plan::Meter(plan)) => *plan,
            other => panic!("{other:?}"),
        }
    }

    fn refused(line: &str) -> String {
        match plan(line) {
            Err(Refusal::Usage(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_and_interfaces() {
        assert_eq!(meter("flowcap -r a -r -").input, Input::Files(vec!["a".into(), "-".into()]));
        let live =
            Live { interfaces: vec!["any".into()], snaplen: None, promiscuous: true, buffer_bytes: None };
        assert_eq!(meter("flowcap -i any -s 0 -n").input, Input::Live(live));
        let live = Live {
            interfaces: vec!["a".into(), "b".into()],
            snaplen: Some(96),
            promiscuous: false,
            buffer_bytes: Some(1_000_000),
        };
        assert_eq!(meter("flowcap -i a -i b -s 96 -p --buffer 1MB").input, Input::Live(live));
        assert!(matches!(plan("flowcap -D"), Ok(Plan::ListInterfaces)));
        assert!(matches!(plan("flowcap -T csv"), Err(Refusal::NothingToRead)));
        assert!(refused("flowcap -r - -r -").contains("once only"));
    }

    #[test]
    fn replay_keeps_what_is_there_and_live_capture_adds_to_it() {
        assert_eq!(meter("flowcap -r a").files.existing, Existing::Refuse);
        assert_eq!(meter("flowcap -i a").files.existing, Existing::Append);
        assert_eq!(meter("flowcap -r a --force").files.existing, Existing::Overwrite);
    }

    #[test]
    fn files_are_rotated_and_kept() {
        let files =
            meter("flowcap -i a -o x --rotate 1h,256MB --keep 7d,10GB --compress zstd --sync always").files;
        assert_eq!(files.rotate, Some("1h,256MB".parse().unwrap()));
        assert_eq!((files.keep, files.live), ("7d,10GB".parse().unwrap(), true));
        assert_eq!((files.compress, files.sync), (Some(Compress::Zstd), SyncPolicy::Always));
        assert!(!meter("flowcap -r a").files.live);
        assert_eq!(meter("flowcap -r a").files.sync, SyncPolicy::default());
        assert!(refused("flowcap -i a --keep 3").starts_with("--keep"));
        assert!(refused("flowcap -i a -o - --rotate 1h").starts_with("--rotate"));
    }

    #[test]
    fn the_extension_picks_the_format() {
        let plan = meter("flowcap -r a -T table -o - -o x.csv.gz -o y.jsonl -o z");
        let formats: Vec<_> = plan.outputs.iter().map(|output| output.format).collect();
        assert_eq!(formats, [Format::Table, Format::Csv, Format::Jsonl, Format::Table]);
        assert_eq!(meter("flowcap -r a").outputs[0].destination, "-");
        assert!(refused("flowcap -r a -o x -o x").contains("twice"));
    }

    #[test]
    fn stats_are_json_lines_of_their_own_or_among_flows() {
        let stats = meter("flowcap -i a --stats - --stats-interval 10s").stats;
        assert_eq!(stats, Some(Stats { destination: "-".into(), interval: Duration::from_secs(10) }));
        assert_eq!(meter("flowcap -i a -o x.csv --stats -").stats.unwrap().destination, "-");
        assert_eq!(meter("flowcap -i a --stats s --stats-interval off").stats.unwrap().interval, NEVER);
        for line in ["-T csv --stats -", "--stats s.csv", "-o x.jsonl --stats x.jsonl"] {
            assert!(refused(&format!("flowcap -r a {line}")).starts_with("--stats"));
        }
    }

    #[test]
    fn settings_arrive_where_they_belong() {
        let plan = meter(
            "flowcap -r a -f tcp -c 7 --duration 9 --idle-timeout 5s --active-timeout off --max-flows 10 \
             --max-memory 1MB --shards 3 --entropy-bytes 64 --splt 8 --no-decap --checksums -q",
        );
        assert_eq!(plan.filter.as_deref(), Some("tcp"));
        assert_eq!((plan.packet_limit, plan.duration), (Some(7), Some(Duration::from_secs(9))));
        assert_eq!(plan.table.idle.tcp, Duration::from_secs(5));
        assert_eq!(plan.table.active, None);
        assert_eq!((plan.table.max_flows, plan.table.max_memory), (10, 1_000_000));
        assert_eq!(plan.shards, Some(3));
        assert_eq!((plan.features.entropy_bytes, plan.features.splt), (64, 8));
        assert!(!plan.decode.decap && plan.decode.checksums && plan.quiet);
    }

    #[test]
    fn fields_are_known_ones() {
        let columns = meter("flowcap -r a --fields src_ip,bytes").outputs.remove(0).columns.unwrap();
        let names: Vec<_> = columns.iter().map(|column| column.field.name).collect();
        assert_eq!(names, ["src_ip", "bytes"]);
    }

    #[test]
    fn words_get_advice() {
        assert_eq!(
            refused("flowcap -i eth0 port 53"),
            "unexpected 'port 53': to filter packets use -f 'port 53'"
        );
        assert_eq!(
            refused("flowcap file.pcap"),
            "unexpected 'file.pcap': to read a capture file use -r 'file.pcap'"
        );
    }
}
