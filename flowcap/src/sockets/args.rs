//! The flags of `flowcap sockets`.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use flowcore::record::Only;
use flowcore::watch::{Allow, SocketFilter};

use crate::args::{Format, Limit, limit, positive};

/// Shows the sockets of this machine: who is listening, who is connected, and which process owns each.
///
/// One snapshot; with --interval one after the other, with --changes what has changed. Against a baseline, or with
/// rules for listeners, it says what is new and what is gone, and ends with 1 if anything is.
#[derive(Args, Clone, Debug)]
#[command(max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct SocketsArgs {
    /// Show these saved sockets (.jsonl or .csv of 'flowcap sockets') instead of this machine's; needs no privileges.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["once", "interval", "changes"], help_heading = "Input")]
    pub(crate) read: Option<String>,

    /// Show one snapshot and exit; the default.
    #[arg(long, conflicts_with_all = ["interval", "changes"], help_heading = "Input")]
    pub(crate) once: bool,

    /// Show a snapshot this often, until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = positive, help_heading = "Input")]
    pub(crate) interval: Option<Duration>,

    /// After the first snapshot show only what was opened, closed or changed [interval: 5s].
    #[arg(long, help_heading = "Input")]
    pub(crate) changes: bool,

    /// Stop after this long.
    #[arg(long, value_name = "TIME", value_parser = limit, conflicts_with = "once", help_heading = "Input")]
    pub(crate) duration: Option<Limit>,

    /// Look into this network namespace only, or into all that may be looked into.
    #[arg(long, value_enum, default_value_t, conflicts_with = "read", help_heading = "Input")]
    pub(crate) netns: Netns,

    #[command(flatten)]
    pub(crate) which: Which,

    /// Say what is new or gone since these saved sockets (.jsonl or .csv).
    #[arg(long, value_name = "FILE", help_heading = "Baseline")]
    pub(crate) baseline: Option<String>,

    /// Expect this listener: 'tcp/22 sshd', 'udp/53', '*/443 nginx'; others are unexpected; may repeat.
    #[arg(long, value_name = "RULE", help_heading = "Baseline")]
    pub(crate) allow: Vec<Allow>,

    /// Write records to this file; '-' is standard output; may repeat.
    ///
    /// The extension picks the format: .jsonl, .csv, .log (#Fields: text), with .gz or .zst behind it to compress.
    #[arg(short, long, value_name = "DEST", default_value = "-", help_heading = "Output")]
    pub(crate) output: Vec<String>,

    /// Write this format where the extension names none.
    #[arg(short = 'T', long, value_enum, default_value = "table", help_heading = "Output")]
    pub(crate) format: Format,

    /// Write these records as well.
    #[arg(
        long,
        value_name = "LIST",
        value_enum,
        value_delimiter = ',',
        conflicts_with = "read",
        help_heading = "Output"
    )]
    pub(crate) with: Vec<With>,

    /// Overwrite files that exist; otherwise they are added to.
    #[arg(long, help_heading = "Output")]
    pub(crate) force: bool,

    /// Say nothing on standard error but errors.
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Which sockets are shown; the letters of `ss`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// Only IPv4.
    #[arg(short = '4', long, help_heading = "Which sockets")]
    pub(crate) ipv4: bool,

    /// Only IPv6.
    #[arg(short = '6', long, help_heading = "Which sockets")]
    pub(crate) ipv6: bool,

    /// Only TCP.
    #[arg(short, long, help_heading = "Which sockets")]
    pub(crate) tcp: bool,

    /// Only UDP.
    #[arg(short, long, help_heading = "Which sockets")]
    pub(crate) udp: bool,

    /// Only listeners, and UDP sockets that are not connected.
    #[arg(short, long, help_heading = "Which sockets")]
    pub(crate) listening: bool,

    /// Leave out sockets without a remote address.
    #[arg(long, alias = "omit-self-conns", help_heading = "Which sockets")]
    pub(crate) no_self: bool,

    /// Leave out connections to private networks: RFC 1918, unique local, link-local.
    #[arg(long, alias = "omit-privnet-conns", help_heading = "Which sockets")]
    pub(crate) no_private: bool,

    /// Accepted for the habit of ss's -n, -a and -p: all of that is the default.
    #[arg(short = 'n', short_aliases = ['a', 'p'], hide = true, action = ArgAction::Count)]
    pub(crate) habit: u8,
}

/// Further records.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum With {
    /// Processes that own sockets, when first seen and when gone.
    Process,
    /// Counters of protocols and interfaces.
    Stats,
    /// Routes.
    Routes,
}

/// Which network namespaces are looked into.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Netns {
    /// That of this program.
    #[default]
    Current,
    /// All in which a process runs, as far as that is permitted.
    All,
}

impl Which {
    /// Returns the filter that lets these sockets through.
    pub(crate) fn filter(&self) -> SocketFilter {
        SocketFilter {
            only: Only { ipv4: self.ipv4, ipv6: self.ipv6, tcp: self.tcp, udp: self.udp, ..Only::default() },
            listening: self.listening,
            no_self: self.no_self,
            no_private: self.no_private,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  flowcap sockets                                   who is listening, who is connected
  flowcap sockets -tl                               who is listening on TCP
  flowcap sockets -o before.jsonl                   a snapshot to compare with later
  flowcap sockets --baseline before.jsonl           what is new and what is gone since
  flowcap sockets -r after.jsonl --baseline before.jsonl
  flowcap sockets --interval 5s --changes --with process,stats,routes -o sockets.jsonl
  flowcap sockets --allow 'tcp/22 sshd' --allow 'tcp/443 nginx'

Other users' processes are named to root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH:
  sudo setcap cap_sys_ptrace,cap_dac_read_search=eip PATH_OF_FLOWCAP
--netns all takes CAP_SYS_ADMIN too.
Exit codes: 0 done, 1 something is new or gone, 2 wrong usage, 65 damaged input, 66 no such input,
74 output failed, 77 no permission.";
