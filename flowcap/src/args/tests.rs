use clap::CommandFactory;

use super::*;

#[test]
fn the_command_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn times() {
    for (text, millis) in [
        ("90s", 90_000),
        ("10m", 600_000),
        ("2h", 7_200_000),
        ("1h30m", 5_400_000),
        ("500ms", 500),
        ("90", 90_000),
        ("1d", 86_400_000),
    ] {
        assert_eq!(time(text), Ok(Duration::from_millis(millis)));
        assert_eq!(limit(text), Ok(Limit(Some(Duration::from_millis(millis)))));
    }
    for off in ["off", "0", "0s"] {
        assert_eq!(limit(off), Ok(Limit(None)));
    }
    for wrong in ["", "x", "-1", "1.5", "10 parsecs", "101y", "99999999999999999999"] {
        assert!(time(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes() {
    for (text, bytes) in
        [("256MB", 256_000_000), ("64MiB", 67_108_864), ("2GB", 2_000_000_000), ("512", 512), ("1kB", 1_000)]
    {
        assert_eq!(size(text), Ok(bytes));
    }
    for wrong in ["", "MB", "-1MB", "12 elephants"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn numbers_in_their_range() {
    assert_eq!((max_flows("1"), shards("3"), buffer("1MB")), (Ok(1), Ok(3), Ok(1_000_000)));
    for wrong in ["0", "-1", "1.5", "many", ""] {
        assert!(max_flows(wrong).is_err() && shards(wrong).is_err(), "{wrong}");
    }
    assert!(shards("100000").is_err() && buffer("3GB").is_err());
}

#[test]
fn fields_are_known_ones() {
    assert_eq!(fields("src_ip,@core"), Ok(Fields("src_ip,@core".into())));
    assert!(fields("src_ipp").unwrap_err().contains("'src_ip'"));
    assert_eq!(fields(","), Err("no field is named".into()));
}

#[test]
fn idle_timeouts_for_all_or_some() {
    let seconds = Duration::from_secs;
    assert_eq!(idle_timeouts("90s"), Ok(IdleTimeouts::all(seconds(90))));
    let some = IdleTimeouts { udp: seconds(10), icmp: seconds(5), ..IdleTimeouts::default() };
    assert_eq!(idle_timeouts("udp=10s,icmp=5"), Ok(some));
    for wrong in ["0", "off", "tcp", "tcp=", "sctp=1s", "tcp=1s,,udp=2s", "tcp=off"] {
        assert!(idle_timeouts(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_defaults_are_those_of_the_library() {
    let args = Args::parse_from(["flowcap", "-r", "a.pcap"]);
    let table = flowcore::table::TableOptions::default();
    assert_eq!(args.idle_timeout, table.idle);
    assert_eq!(args.active_timeout.0, table.active);
    assert_eq!(args.max_flows, table.max_flows);
    assert_eq!(args.max_memory, table.max_memory);
    assert_eq!(args.output, ["-"]);
    assert_eq!(args.format, Format::Jsonl);
    assert_eq!(args.stats_interval, Limit(Some(Duration::from_secs(60))));
}

#[test]
fn what_belongs_to_live_capture_is_no_option_of_a_replay() {
    for flag in ["-s100", "-p", "--buffer=1MB"] {
        assert!(Args::try_parse_from(["flowcap", "-r", "a.pcap", flag]).is_err());
        assert!(Args::try_parse_from(["flowcap", "-i", "eth0", flag]).is_ok());
    }
    assert!(Args::try_parse_from(["flowcap", "-i", "eth0", "-r", "a.pcap"]).is_err());
}
