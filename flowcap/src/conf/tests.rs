use std::ffi::OsString;
use std::io::Write;

use super::*;
use crate::log::Level;
use crate::plan::{Input, MeterPlan, Plan, Refusal, Watch};
use crate::sandbox::Mode;

/// A configuration file, and flags beside it.
fn given(text: &str, flags: &str) -> Result<Given, Wrong> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let line = ["flowcap", "-C", path].into_iter().chain(flags.split_whitespace());
    read(line.map(OsString::from).collect())
}

fn args(text: &str, flags: &str) -> Args {
    given(text, flags).unwrap_or_else(|wrong| panic!("{wrong:?}")).args
}

fn plan(text: &str, flags: &str) -> MeterPlan {
    match Plan::new(args(text, flags)) {
        Ok(Plan::Meter(plan)) => *plan,
        other => panic!("{other:?}"),
    }
}

/// What is wrong with a file, without its name: `LINE: WHAT`.
fn fault(text: &str) -> String {
    match given(text, "") {
        Err(Wrong::File(fault)) => {
            let said = fault.to_string();
            said.split_once(':').unwrap().1.trim_start().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_words_of_the_flags() {
    let args = args(
        "interface = 'eth0'\nfilter = 'not port 22'\nsnaplen = 0x60\nbuffer = '1MB'\nno_promiscuous = true\n\
         stats = '-'\nstats_interval = '10s'\n[flows]\nidle_timeout = { tcp = '5s', udp = 7 }\n\
         active_timeout = 'off'\nmax_flows = 1_000\nno_decap = true\nchecksums = false\n\
         [running]\nuser = 'me'\nsandbox = 'auto'\nmetrics = '[::1]:9464'\nlog_level = 'warn'\nquiet = true\n",
        "",
    );
    let line = "flowcap -i eth0 -f x -s 96 --buffer 1MB -p --stats - --stats-interval 10s --idle-timeout \
                tcp=5s,udp=7 --active-timeout off --max-flows 1000 --no-decap -Z me --sandbox auto \
                --metrics [::1]:9464 --log-level warn -q";
    let mut typed = read(line.split_whitespace().map(OsString::from).collect()).unwrap().args;
    typed.filter = Some("not port 22".into());
    typed.config.clone_from(&args.config);
    assert_eq!(format!("{args:?}"), format!("{typed:?}"));
    assert_eq!((args.sandbox, args.log_level), (Some(Mode::Auto), Some(Level::Warn)));
}

#[test]
fn flags_win_key_by_key() {
    let text = "interface = 'eth0'\nsnaplen = 96\nfilter = 'tcp'\nfields = '@stats'\n[flows]\nshards = 3\nsplt = 5\n";
    let plan = plan(text, "--splt 7 -f udp");
    assert_eq!((plan.shards, plan.features.splt, plan.filter.as_deref()), (Some(3), 7, Some("udp")));
    // What cannot stand beside a flag gives way to it.
    let args = args(text, "-r x.pcap");
    assert_eq!((args.read, args.interface, args.snaplen), (vec!["x.pcap".into()], vec![], None));
    // Lists are replaced, not added to.
    assert_eq!(super::tests::args(text, "-i lo -i any").interface, ["lo", "any"]);
    // A flag that needs another finds it in the file.
    assert_eq!(
        super::tests::args("stats = 's'\nread = 'x'", "--stats-interval 5s").stats.as_deref(),
        Some("s")
    );
}

#[test]
fn outputs_have_settings_of_their_own() {
    let text = "read = ['a', 'b']\nfields = '@stats'\n\
        [[output]]\nto = 'x.csv'\nfields = ['src_ip', 'bytes']\nonly = ['tcp', 'ipv6']\n\
        [[output]]\nto = '-'\nformat = 'table'\ntypes = 'flow, stats'\n\
        [[output]]\nto = 'https://a.example/'\ntoken_file = 't'\nbatch = '1000,5s'\nspool = 's'\nspool_max = '2GB'\n\
        [[output]]\nto = 'f-%Y.jsonl'\nrotate = ['1h', '1MB']\nkeep = 7\ncompress = 'zstd'\nsync = 'always'\n";
    let plan = plan(text, "");
    assert_eq!(plan.input, Input::Files(vec!["a".into(), "b".into()]));
    let [csv, table, server, file] = plan.outputs.as_slice() else { panic!("{:?}", plan.outputs) };
    assert_eq!(csv.columns.as_ref().unwrap().len(), 2);
    assert!(csv.filter.only.tcp && csv.filter.only.ipv6 && !csv.filter.only.udp);
    assert!(table.format == flowcore::sink::Format::Table && table.columns.as_ref().unwrap().len() > 50);
    assert!(table.filter.types.has("stats") && !table.filter.types.has("socket"));
    assert_eq!(
        (server.server.spool_max, server.server.token_file.as_deref()),
        (Some(2_000_000_000), Some("t"))
    );
    assert_eq!(file.files.rotate, Some("1h,1MB".parse().unwrap()));
    assert_eq!(file.files.keep, "7".parse().unwrap());
    assert_eq!(plan.files_read().collect::<Vec<_>>(), ["t"]);
}

#[test]
fn an_output_that_is_typed_replaces_them() {
    let text =
        "read = 'a'\n[[output]]\nto = 'x.csv'\nfields = 'src_ip'\n[[output]]\nto = 'y'\nformat = 'csv'\n";
    let names =
        |plan: &MeterPlan| plan.outputs.iter().map(|output| output.destination.clone()).collect::<Vec<_>>();
    assert_eq!(names(&plan(text, "")), ["x.csv", "y"]);
    assert_eq!(names(&plan(text, "-o z -o -")), ["z", "-"]);
    let both = plan(text, "--fields dst_ip,bytes -T table");
    assert_eq!(both.outputs[0].columns.as_ref().unwrap().len(), 2);
    assert_eq!(both.outputs[1].format, flowcore::sink::Format::Table);
}

#[test]
fn what_holds_for_all_files_stands_above_them_and_flags_win() {
    let text = "interface = 'any'\nrotate = '1h'\ncompress = 'zstd'\n[[output]]\nto = 'a'\n[[output]]\nto = 'b'\nrotate = '5m'\n\
        [[output]]\nto = 'https://a/'\nbatch = 1000\nspool_max = 100000\n";
    let rotated = |flags: &str| -> Vec<_> {
        plan(text, flags).outputs.into_iter().take(2).map(|output| output.files.rotate.unwrap()).collect()
    };
    let at = |text: &str| text.parse().unwrap();
    assert_eq!(rotated(""), [at("1h"), at("5m")]);
    assert_eq!(rotated("--rotate 7s"), [at("7s"), at("7s")]);
    assert!(plan(text, "").outputs[0].files.compress.is_some());
}

#[test]
fn sockets_and_events_stand_beside_live_capture() {
    let text = "interface = 'any'\n[sockets]\ninterval = '5s'\nchanges = true\nallow = ['tcp/22 sshd']\nwith = ['process', 'stats']\n\
        [[sockets.output]]\nto = 'tcp6.jsonl'\nonly = ['tcp', 'ipv6']\n[events]\nsource = 'kernel'\n";
    let live = plan(text, "");
    let [watched, followed] = live.watched.as_slice() else { panic!("{:?}", live.watched) };
    assert_eq!((watched.what, followed.what), (Watch::Sockets, Watch::Events));
    let flags = ["--interval=5s", "--changes", "--allow=tcp/22 sshd", "--with=process", "--with=stats"];
    assert_eq!(watched.flags, flags);
    assert!(watched.outputs[0].filter.only.ipv6);
    assert_eq!(followed.flags, ["--source=kernel"]);
    assert!(followed.outputs.is_empty());
    // A replay that is asked for by a flag leaves them out; in one file they exclude each other.
    let replay = plan(text, "-r x.pcap");
    assert!(replay.watched.is_empty());
    assert!(fault("read = 'x'\n[sockets]\ninterval = '5s'\n").starts_with("2: stands beside live capture"));
    // As a text, `sockets` is what the flag is.
    assert_eq!(args("read = 'x'\nsockets = 's.jsonl'", "").sockets.as_deref(), Some("s.jsonl"));
}

#[test]
fn what_is_wrong_is_said_with_line_and_key() {
    for (text, said) in [
        ("interfce = 'eth0'", "1: no key is named 'interfce'; the nearest is 'interface'"),
        (
            "[flows]\n\nidel_timeout = 5",
            "3: no key of [flows] is named 'idel_timeout'; the nearest is 'idle_timeout'",
        ),
        ("max_flows = 5", "1: 'max_flows' belongs into [flows]"),
        ("[flows]\nfilter = 'tcp'", "2: 'filter' belongs above all sections"),
        ("[flow]\nsplt = 5", "1: no section is named [flow]; the nearest is [flows]"),
        ("flows = 5", "1: flows is a section: [flows]"),
        ("[output]\nto = 'x'", "1: an output begins with [[output]]: there may be several"),
        ("[[output]]\nto = 'x'\n[[output]]\nformat = 'csv'", "3: [[output]] needs a destination: to = \"…\""),
        (
            "[[output]]\nto = 'https://a/'\ntoken = 'secret'",
            "3: no key of [[output]] is named 'token'; the nearest is 'token_file'",
        ),
        ("[[output]]\nto = 'https://a/'\nkeep = 7", "3: keep is a key for files"),
        ("[[output]]\nto = 'x'\n\nspool = 's'", "4: spool is a key for servers"),
        (
            "[[output]]\nto = 'x-%Q'",
            "2: to: x-%Q: a name may have %Y %m %d %H %M %S %j %s and %% in it, and no other placeholder",
        ),
        ("[[output]]\nto = 'https://a/'\nclient_cert = 'c'", "3: client_cert: needs client_key beside it"),
        (
            "[[output]]\nto = 'https://a/'\nspool_max = 5",
            "3: spool_max: '5' is refused: at least 65536 bytes are needed",
        ),
        (
            "[[output]]\nto = 'https://a/'\nspool = ''",
            "3: spool: '' is refused: the name of a folder is needed",
        ),
        (
            "[[output]]\nto = 'ftp://a/'",
            "2: to: 'ftp://a/': what is spoken there has to be one of https http tcp tls unix syslog syslog+tcp syslog+tls",
        ),
        ("filter = 5", "1: filter: text in quotes is needed, not a number"),
        (
            "interface = ['a', 5]",
            "1: interface: text in quotes, or a list of texts, is needed, not such a list",
        ),
        (
            "[flows]\nmax_flows = true",
            "2: max_flows: text in quotes or a whole number is needed, not true or false",
        ),
        ("[flows]\nchecksums = 1", "2: checksums: true or false is needed, not a number"),
        (
            "[flows]\nsplt = 1.5",
            "2: splt: text in quotes or a whole number is needed, not a number with a fraction",
        ),
        (
            "[flows]\nmax_flows = { a = 1 }",
            "2: max_flows: text in quotes or a whole number is needed, not a section",
        ),
        (
            "\n[flows]\nactive_timeout = 'soon'",
            "3: active_timeout: 'soon' is refused: a time is written 90s, 10m, 1h30m, 500ms, or as a number of seconds",
        ),
        (
            "[flows]\nidle_timeout = { sctp = '1s' }",
            "2: idle_timeout: 'sctp=1s' is refused: 'sctp' is none of tcp, udp, icmp, other",
        ),
        ("[flows]\nmax_flows = 0", "2: max_flows: '0' is refused: at least one flow must fit"),
        ("format = 'xml'", "1: format: 'xml' is none of jsonl, csv, table"),
        (
            "fields = ['src_ipp']",
            "1: fields: 'src_ipp' is refused: no field is named 'src_ipp'; the nearest is 'src_ip'",
        ),
        (
            "[[output]]\nto = 'x'\nonly = ['tpc']",
            "3: only: 'tpc' is refused: 'tpc' is none of tcp, udp, raw, rdma, ipv4, ipv6; the nearest is 'tcp'",
        ),
        (
            "[[output]]\nto = 'x'\ntypes = ['flows']",
            "3: types: 'flows' is refused: no type is named 'flows'; the nearest is 'flow'",
        ),
        (
            "[sockets]\nintervall = 5",
            "2: no key of [sockets] is named 'intervall'; the nearest is 'interval'",
        ),
        ("[sockets]\noutput = 'x'", "2: an output begins with [[sockets.output]]"),
        ("[[sockets.output]]\nto = 'x'\nfields = '@all'", "3: 'fields' belongs above all sections"),
        (
            "[[events.output]]\nto = 'x'\nrotate = 'daily'",
            "3: rotate: 'daily' is refused: a time of at least a second, a size, or both: 1h,256MB",
        ),
        ("read = 'x'\nsnaplen = 5", "2: 'snaplen' and 'read' (line 1) exclude each other"),
        ("interface = 'a'\nread = 'x'", "2: 'read' and 'interface' (line 1) exclude each other"),
    ] {
        assert_eq!(fault(text), said, "{text}");
    }
    for text in ["interface = ", "interface = 'a", "a = 1\na = 2", "[flows\n"] {
        assert!(fault(text).starts_with(['1', '2']), "{}", fault(text));
    }
}

#[test]
fn what_a_key_needs_may_be_missing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().to_str().unwrap();
    std::fs::write(name, "read = 'x'\nstats_interval = '5s'\n").unwrap();
    match read(["flowcap", "-C", name].map(OsString::from).to_vec()) {
        Err(Wrong::File(fault)) => {
            assert_eq!(fault.to_string(), format!("{name}: 'stats' is missing, and another key needs it"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_variable_is_expanded() {
    assert_eq!(args("read = '$HOME/~/x'", "").read, ["$HOME/~/x"]);
}

#[test]
fn what_the_file_leaves_out_is_the_default() {
    let (with, without) = (plan("", "-r x"), plan("[flows]\n[running]\n", "-r x"));
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
    assert!(matches!(Plan::new(args("", "")), Err(Refusal::NothingToRead)));
}

/// The lines of the example that hold keys, without their comment sign, by section.
fn example() -> Vec<(String, String)> {
    let (mut section, mut keys) = (String::new(), Vec::new());
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if line.starts_with('[') {
            section = line.split_once("  ").map_or(line, |(section, _)| section).to_owned();
        } else if line
            .split_once(" = ")
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || "_46".contains(c)))
        {
            keys.push((section.clone(), line.to_owned()));
        }
    }
    keys
}

#[test]
fn the_example_parses_as_it_is_and_sets_nothing() {
    let plain = plan("", "-r x");
    assert_eq!(format!("{plain:?}"), format!("{:?}", plan(EXAMPLE, "-r x")));
}

#[test]
fn the_example_has_every_key_and_the_right_defaults() {
    let sections = Sections::new();
    let keys = example();
    for section in [
        &sections.top,
        &sections.flows,
        &sections.running,
        &sections.output,
        &sections.sockets,
        &sections.events,
    ] {
        for argument in section.arguments() {
            let key = section::key_of(argument);
            let line =
                keys.iter().find(|(of, line)| of == section.name && line.starts_with(&format!("{key} = ")));
            let Some((_, line)) = line else { panic!("{} {key} is missing", section.name) };
            // Each line is right by itself.
            let (of, to) = match section.name {
                "[[output]]" if key == "client_cert" => {
                    ("[[output]]", "to = 'https://a/'\nclient_key = 'k'\n")
                }
                "[[output]]" if key == "client_key" => {
                    ("[[output]]", "to = 'https://a/'\nclient_cert = 'c'\n")
                }
                "[[output]]" if argument.get_help_heading() == Some(outputs::SERVER) => {
                    ("[[output]]", "to = 'https://a/'\n")
                }
                "[[output]]" if key != "to" => ("[[output]]", "to = 'x'\n"),
                "" if key == "stats_interval" => ("", "stats = 's'\n"),
                name => (name, ""),
            };
            let text = format!("{of}\n{to}{line}\n");
            let Ok(found) = given(&text, "") else { panic!("{text}: {:?}", given(&text, "")) };
            // Where there is a default, the example shows it.
            let [default] = argument.get_default_values() else { continue };
            let shown = found.settings.iter().find(|setting| setting.is(section.name, &key)).unwrap();
            let default = default.to_string_lossy();
            assert_eq!(shown.value().replace(", ", ","), default, "{} {key}", section.name);
        }
    }
    for (section, line) in &keys {
        let key = line.split(' ').next().unwrap();
        let all = sections.all();
        let home = all.iter().find(|known| known.name == section).unwrap();
        assert!(home.find(key).is_some(), "{section} has no {key}");
    }
}

const EXAMPLE: &str = include_str!("../../flowcap.example.toml");

#[test]
fn the_readme_shows_a_configuration_that_works() {
    let readme = include_str!("../../../README.md");
    let shown = readme.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    assert_eq!(plan(shown, "").outputs.len(), 2);
}

#[test]
fn the_documentation_names_every_key() {
    let documented = include_str!("../../../docs/configuration.md");
    for section in Sections::new().all() {
        let of = if section.name.ends_with(".output]]") { "[[output]]" } else { section.name };
        let row = documented.lines().find(|line| match of {
            "" => line.starts_with("| above all"),
            name => line.starts_with(&format!("| `{name}`")),
        });
        let words: Vec<&str> = row.unwrap().split([' ', '|']).collect();
        for argument in section.arguments() {
            assert!(
                words.contains(&section::key_of(argument).as_str()),
                "{of} {}",
                section::key_of(argument)
            );
        }
    }
}
