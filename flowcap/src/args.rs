//! The flags: what a person can type, and nothing that happens.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Parser, Subcommand, ValueEnum};
use flowcore::meter::MOST_SHARDS;
use flowcore::record::Column;
use flowcore::sink;
use flowcore::table::IdleTimeouts;

use crate::conf::{Beside, OutputKeys};
use crate::events::EventsArgs;
use crate::log;
use crate::sandbox::Mode;
use crate::sockets::SocketsArgs;

/// Turns network packets into flow records: who talked to whom, when, how much, and about what.
///
/// Records go to standard output as JSON lines, everything else to standard error.
#[derive(Parser, Clone, Debug)]
#[command(name = "flowcap", version, override_usage = USAGE, after_help = EXAMPLES, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
#[command(disable_help_subcommand = true)]
#[command(group = ArgGroup::new("source").args(["interface", "read", "list_interfaces"]))]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Capture on this interface, or on 'any'; may repeat.
    #[arg(short, long, value_name = "NAME", help_heading = "Input")]
    pub(crate) interface: Vec<String>,

    /// Read this capture file (pcap or pcapng, also .gz and .zst); '-' is standard input; may repeat.
    #[arg(short, long, value_name = "FILE", help_heading = "Input")]
    pub(crate) read: Vec<String>,

    /// List the interfaces that one can capture on, and exit.
    #[arg(short = 'D', long, help_heading = "Input")]
    pub(crate) list_interfaces: bool,

    /// Use only the packets that match this tcpdump filter expression.
    #[arg(short, long, value_name = "EXPRESSION", help_heading = "Input")]
    pub(crate) filter: Option<String>,

    /// Capture this many bytes of each packet [default: 262144].
    #[arg(short, long, value_name = "BYTES", conflicts_with = "read", help_heading = "Input")]
    pub(crate) snaplen: Option<u32>,

    /// Stop after this many packets.
    #[arg(short, long, value_name = "PACKETS", help_heading = "Input")]
    pub(crate) count: Option<u64>,

    /// Stop after this long.
    #[arg(long, value_name = "TIME", value_parser = limit, help_heading = "Input")]
    pub(crate) duration: Option<Limit>,

    /// Do not capture packets for other machines.
    #[arg(short = 'p', long, conflicts_with = "read", help_heading = "Input")]
    pub(crate) no_promiscuous: bool,

    /// Let the kernel hold this much per interface [default: 64MiB].
    #[arg(long, value_name = "SIZE", value_parser = buffer, conflicts_with = "read", help_heading = "Input")]
    pub(crate) buffer: Option<u32>,

    /// Name the processes of a replay by these sockets, recorded by --write-sockets.
    #[arg(long, value_name = "FILE", conflicts_with = "interface", help_heading = "Input")]
    pub(crate) sockets: Option<String>,

    /// Record the sockets of the flows and their processes in this file, for --sockets.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["read", "no_process"], help_heading = "Input")]
    pub(crate) write_sockets: Option<String>,

    /// Do not ask which processes own the flows.
    #[arg(long, help_heading = "Flows")]
    pub(crate) no_process: bool,

    /// Write records to this file; '-' is standard output; may repeat.
    ///
    /// The extension picks the format: .jsonl or .csv, with .gz or .zst behind it to compress.
    #[arg(short, long, value_name = "DEST", default_value = "-", help_heading = "Output")]
    pub(crate) output: Vec<String>,

    /// Write this format where the extension names none.
    #[arg(short = 'T', long, value_enum, default_value_t, help_heading = "Output")]
    pub(crate) format: Format,

    /// Write these fields: names separated by commas, or @core, @stats, @all; @core is the default.
    #[arg(long, value_name = "LIST", value_parser = fields, help_heading = "Output")]
    pub(crate) fields: Option<Fields>,

    /// Begin a new file after this time, beyond this size, or both: 1h,256MB.
    ///
    /// File names may have %Y %m %d %H %M %S %j %s in them, the parts of the time in UTC.
    #[arg(long, value_name = "WHEN", value_parser = read::<sink::Rotate>, help_heading = "Output")]
    pub(crate) rotate: Option<sink::Rotate>,

    /// Delete the oldest files beyond this age, this size of all together or this number: 7d,10GB.
    #[arg(long, value_name = "LIMIT", value_parser = read::<sink::Keep>, help_heading = "Output")]
    pub(crate) keep: Option<sink::Keep>,

    /// Compress files once they are closed: zstd or gzip.
    #[arg(long, value_name = "HOW", value_parser = read::<sink::Compress>, help_heading = "Output")]
    pub(crate) compress: Option<sink::Compress>,

    /// Let the disk have what was written after this time of live capture, or 'always' at once, or 'off'.
    #[arg(
        long,
        value_name = "WHEN",
        value_parser = read::<sink::SyncPolicy>,
        default_value = "500ms",
        help_heading = "Output"
    )]
    pub(crate) sync: sink::SyncPolicy,

    /// Overwrite files that exist.
    ///
    /// Otherwise a replay refuses to, and live capture adds to them.
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    /// Write flowcap's own counters to this file as JSON lines; '-' puts them among the flows.
    #[arg(long, value_name = "DEST", help_heading = "Output")]
    pub(crate) stats: Option<String>,

    /// Write the counters this often while capturing live; off = only at the end.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = limit,
        default_value = "60s",
        requires = "stats",
        help_heading = "Output"
    )]
    pub(crate) stats_interval: Limit,

    /// End a flow that is silent for longer than this.
    ///
    /// One time for all, or some of tcp, udp, icmp and other.
    #[arg(
        long,
        value_name = "TIME",
        value_parser = idle_timeouts,
        default_value = "tcp=300s,udp=60s,icmp=30s,other=60s",
        help_heading = "Flows"
    )]
    pub(crate) idle_timeout: IdleTimeouts,

    /// Write a long flow in slices of this length; off = never.
    #[arg(long, value_name = "TIME", value_parser = limit, default_value = "300s", help_heading = "Flows")]
    pub(crate) active_timeout: Limit,

    /// Hold this many flows at most.
    #[arg(long, value_name = "N", value_parser = max_flows, default_value = "1000000", help_heading = "Flows")]
    pub(crate) max_flows: usize,

    /// Use this many threads for flows [default: number of cores].
    #[arg(long, value_name = "N", value_parser = shards, help_heading = "Flows")]
    pub(crate) shards: Option<usize>,

    /// Let flows take this much memory at most.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2GB", help_heading = "Flows")]
    pub(crate) max_memory: u64,

    /// Measure entropy over the first N payload bytes of each direction; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Flows")]
    pub(crate) entropy_bytes: u64,

    /// List length, time and direction of the first N packets of a flow (field splt).
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Flows")]
    pub(crate) splt: usize,

    /// Key flows on the outermost IP header and leave tunnels closed.
    #[arg(long, help_heading = "Flows")]
    pub(crate) no_decap: bool,

    /// Verify checksums.
    #[arg(long, help_heading = "Flows")]
    pub(crate) checksums: bool,

    /// Read settings from this file; flags win over it.
    ///
    /// Its keys are the long flags, `_` for `-`: see flowcap.example.toml.
    #[arg(short = 'C', long, value_name = "FILE", env = CONFIG, hide_env_values = true, help_heading = "Running")]
    pub(crate) config: Option<String>,

    /// Print every setting and where it came from, try permissions and destinations, and exit.
    #[arg(long, conflicts_with = "list_interfaces", help_heading = "Running")]
    pub(crate) check: bool,

    /// Become this user once all is open; USER is a name or UID:GID.
    #[arg(short = 'Z', long, value_name = "USER", help_heading = "Running")]
    pub(crate) user: Option<String>,

    /// Give up what is not needed before the first packet is read [default: require as root, else auto].
    #[arg(long, value_enum, value_name = "WHEN", help_heading = "Running")]
    pub(crate) sandbox: Option<Mode>,

    /// Offer the counters to Prometheus at this address, as 127.0.0.1:9464; live capture only.
    #[arg(long, value_name = "ADDR", help_heading = "Running")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Say on standard error what is at least this important [default: warn].
    #[arg(long, value_enum, value_name = "LEVEL", env = log::variable(), help_heading = "Running")]
    pub(crate) log_level: Option<log::Level>,

    /// Show no progress and no summary.
    #[arg(short, long, help_heading = "Running")]
    pub(crate) quiet: bool,

    /// Accepted for the habit of tcpdump's -n: names are never looked up.
    #[arg(short = 'n', hide = true, action = ArgAction::Count)]
    pub(crate) numeric: u8,

    /// What tcpdump would take for a filter: refused with advice.
    #[arg(hide = true)]
    pub(crate) words: Vec<String>,

    /// The outputs of a configuration file; -o replaces them.
    #[arg(skip)]
    pub(crate) outputs: Vec<OutputKeys>,

    /// Sockets that are watched beside the capture.
    #[arg(skip)]
    pub(crate) watched: Option<Beside<SocketsArgs>>,

    /// Events that are followed beside the capture.
    #[arg(skip)]
    pub(crate) followed: Option<Beside<EventsArgs>>,
}

/// What else flowcap does than flows.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// Writes manual pages and completions into a folder.
    #[command(hide = true)]
    Generate {
        /// The folder.
        folder: PathBuf,
    },
    /// Sockets of this machine and the processes that own them: snapshots, changes, baselines.
    Sockets(SocketsArgs),
    /// TCP connections as they are opened, accepted, closed and refused, with their processes.
    Events(EventsArgs),
    /// Looks sockets up for a capture that may not.
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    #[command(hide = true)]
    Lookups(crate::lookups::LookupsArgs),
    /// Watches sockets or events for a capture that may not.
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    #[command(hide = true)]
    Watch(Box<crate::watchers::WatchArgs>),
    /// Sends what waits in a spool to a server.
    #[cfg(feature = "ship")]
    #[command(hide = true)]
    Ship(Box<crate::shippers::ShipArgs>),
}

/// How records are written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// Comma-separated values.
    Csv,
    /// Aligned columns for people.
    Table,
}

impl From<Format> for sink::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => sink::Format::Jsonl,
            Format::Csv => sink::Format::Csv,
            Format::Table => sink::Format::Table,
        }
    }
}

/// A list of fields, all of them known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fields(pub(crate) String);

/// A time that can be switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

/// Returns a destination that is named twice: each is written by one sink.
pub(crate) fn named_twice<'a>(destinations: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    destinations.into_iter().find(|destination| !seen.insert(*destination))
}

/// Reads what the library reads.
pub(crate) fn read<T: FromStr<Err = flowcore::Error>>(text: &str) -> Result<T, String> {
    let of_it = format!("'{text}': ");
    // What was given is named already by who says this.
    text.parse().map_err(|error: flowcore::Error| error.to_string().replace(&of_it, ""))
}

/// Reads a time that may be `off` or 0.
pub(crate) fn limit(text: &str) -> Result<Limit, String> {
    if text == "off" {
        return Ok(Limit(None));
    }
    let time = time(text)?;
    Ok(Limit(Some(time).filter(|time| !time.is_zero())))
}

/// Reads a time longer than 0.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    Some(time(text)?)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a time longer than 0 is needed".to_owned())
}

/// Reads `90s`, `10m`, `1h30m`, `500ms` or, in seconds, `90`.
fn time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "a time is written 90s, 10m, 1h30m, 500ms, or as a number of seconds".to_owned())?,
    };
    if time > LONGEST {
        return Err("a time is at most 100 years".to_owned());
    }
    Ok(time)
}

/// Reads a list of fields.
pub(crate) fn fields(list: &str) -> Result<Fields, String> {
    match Column::parse_with_owners(list) {
        Ok(columns) if columns.is_empty() => Err("no field is named".to_owned()),
        Ok(_) => Ok(Fields(list.to_owned())),
        Err(error) => Err(error.to_string()),
    }
}

fn max_flows(text: &str) -> Result<usize, String> {
    let flows = number(text)?.try_into().ok().filter(|&flows| flows > 0);
    flows.ok_or_else(|| "at least one flow must fit".to_owned())
}

fn shards(text: &str) -> Result<usize, String> {
    let shards = number(text)?.try_into().ok().filter(|shards| (1..=MOST_SHARDS).contains(shards));
    shards.ok_or_else(|| format!("1 to {MOST_SHARDS} shards can be had"))
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow => "this number is too large".to_owned(),
        _ => "a whole number is needed".to_owned(),
    })
}

/// Reads the size of the kernel's buffer, which libpcap takes as a C int.
fn buffer(text: &str) -> Result<u32, String> {
    let bytes = i32::try_from(size(text)?).map_err(|_| format!("at most {} bytes", i32::MAX))?;
    Ok(bytes.unsigned_abs())
}

/// Reads `256MB`, `64MiB` or a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => Err("a size is written 256MB, 64MiB, or as a number of bytes".to_owned()),
    }
}

/// Reads one time for all protocols, or `tcp=300s,udp=60s,icmp=30s,other=60s` in parts.
fn idle_timeouts(text: &str) -> Result<IdleTimeouts, String> {
    let above_zero = |text| match time(text)? {
        Duration::ZERO => Err("an idle timeout is longer than 0".to_owned()),
        time => Ok(time),
    };
    if !text.contains('=') {
        return above_zero(text).map(IdleTimeouts::all);
    }
    let mut timeouts = IdleTimeouts::default();
    for part in text.split(',') {
        let (protocol, time) = part.split_once('=').unwrap_or((part, ""));
        let place = match protocol.trim() {
            "tcp" => &mut timeouts.tcp,
            "udp" => &mut timeouts.udp,
            "icmp" => &mut timeouts.icmp,
            "other" => &mut timeouts.other,
            unknown => return Err(format!("'{unknown}' is none of tcp, udp, icmp, other")),
        };
        *place = above_zero(time.trim())?;
    }
    Ok(timeouts)
}

/// The variable that names a configuration file where no flag does.
pub(crate) const CONFIG: &str = "FLOWCAP_CONFIG";

/// The longest time that is taken.
const LONGEST: Duration = Duration::from_secs(36_525 * 86_400);

const USAGE: &str = "flowcap [OPTIONS] -i <NAME>...\n       flowcap [OPTIONS] -r <FILE>...\n       flowcap sockets|events [OPTIONS]";

const EXAMPLES: &str = "\
Examples:
  flowcap -i eth0                        flows of eth0 as JSON lines, until Ctrl-C
  flowcap -r file.pcap -T table          flows of a capture file, for people
  flowcap -r file.pcap -o flows.csv      the extension picks the format: .jsonl .csv, .gz .zst
  flowcap -i any -f 'not port 22' -o flows.jsonl --stats stats.jsonl
  flowcap -i eth0 -o 'flows-%Y%m%d-%H.jsonl' --rotate 1h,256MB --compress zstd --keep 7d,10GB
  tcpdump -w - | flowcap -r - | jq .dst_ip

Times are 90s, 10m, 1h30m, 500ms or a number of seconds; sizes 256MB, 64MiB or a number of bytes.
Exit codes: 0 done, 2 wrong usage, 65 damaged input, 66 no such input, 70 internal error,
74 output failed, 77 no permission, 78 bad configuration; --check also has 69 server gone.";

#[cfg(test)]
mod tests;
