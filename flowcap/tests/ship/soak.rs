//! The whole command at work for a while, with everything at once that can go wrong outside it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::arrived::Arrived;
use crate::cable::{Cable, FAR, LINK, NEAR, text};
use crate::processes::{Sizes, family, kill, words};
use crate::server::{Habit, OK, Server, status};
use crate::stand::{records, unpacked};

/// So many seconds, or FLOWCAP_SOAK: files change every second and on SIGHUP, the server fails in turn, packets come in
/// floods. At the end every record is in the files, at the server or counted; memory and open files have not grown.
#[test]
fn a_soak() {
    let Some(cable) = Cable::lay() else { return };
    let length = std::env::var("FLOWCAP_SOAK").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(20);
    let length = Duration::from_secs(length);
    let place = cable.folder.path();
    let listener = inside(&cable.far, || TcpListener::bind("127.0.0.1:0").expect("a port"));
    let server = Server::on(listener, None, []);
    let socket = inside(&cable.near, || UdpSocket::bind((NEAR, 0)).expect("a socket"));
    // All of it lies behind the other end, where nobody takes it any further.
    let route = ["-n", &cable.near, "route", "add", "10.128.0.0/9", "via", FAR];
    assert!(Command::new("ip").args(route).status().expect("ip runs").success());
    for folder in ["all", "newest"] {
        fs::create_dir(place.join(folder)).unwrap();
    }
    let config = format!(
        "interface = '{LINK}'\nfilter = 'udp and dst port {PORT}'\nfields = 'type,dst_ip,packets'\n\
         stats = '{place}/s.jsonl'\nstats_interval = '1s'\n[flows]\nidle_timeout = '50ms'\n\
         [[output]]\nto = 'http://127.0.0.1:{}/'\nspool = '{place}/spool'\nbatch = '1000,100ms'\n\
         [[output]]\nto = '{place}/all/f-%j%H%M%S.jsonl'\nrotate = '1s,300kB'\ncompress = 'zstd'\n\
         [[output]]\nto = '{place}/newest/f-%j%H%M%S.csv.gz'\nrotate = '1s'\nkeep = '5,1h,10MB'\n",
        server.port,
        place = place.display(),
    );
    fs::write(place.join("f.toml"), config).unwrap();
    let flowcap = cable.listen(&["-C", text(&place.join("f.toml"))]);
    let process = flowcap.id();
    let holders: Vec<u32> =
        family(process).into_iter().filter(|&one| !packet_sockets(process, one).is_empty()).collect();
    let capturing = |one: &u32| !words(*one).iter().any(|word| word == "ship");
    assert!(holders.contains(&process) && holders.iter().all(capturing), "who sends can read packets");

    let habits = [
        None,
        Some(Habit::Say(status(500, "no"))),
        Some(Habit::Close),
        None,
        Some(Habit::Say("HTTP/1.1 429 Slowly\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_owned())),
        Some(Habit::CloseMidBody),
        None,
        Some(Habit::Cut(OK.replace("2\r\n\r\n", "9\r\n\r\n"))),
        Some(Habit::Slow),
    ];
    let (start, mut arrived, mut sizes) = (Instant::now(), Arrived::default(), Vec::new());
    let (mut sent, mut rounds, mut looked) = (0u32, 0usize, start);
    while start.elapsed() < length {
        // A flood every two seconds or so, else a trickle.
        for _ in 0..if rounds % 20 == 0 { 5_000 } else { 50 } {
            let to = Ipv4Addr::from(0x0A80_0000 | sent);
            socket.send_to(b"x", (to, PORT)).expect("it is sent");
            sent += 1;
        }
        if rounds % 3 == 0 {
            kill("HUP", &[process]);
        }
        if rounds % 7 == 0 {
            kill("USR1", &[process]);
        }
        if rounds % 10 == 0 {
            let hangs = length > Duration::from_secs(100) && rounds == 400;
            let habit = habits[rounds / 10 % habits.len()].clone();
            server.change(if hangs { Some(Habit::Hang(String::new())) } else { habit });
        }
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            sizes.push(Sizes::of(process));
            arrived.take(&server);
        }
        rounds += 1;
        sleep(Duration::from_millis(100));
    }
    server.change(None);
    let spooled = || {
        let stats = records(&whole_lines(&place.join("s.jsonl")));
        let latest = stats.into_iter().next_back().unwrap_or_default();
        (latest["sinks"][0]["spooled"].as_u64(), latest["flows_active"].as_u64())
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while spooled() != (Some(arrived.lines.len() as u64), Some(0)) {
        assert!(Instant::now() < deadline, "{:?} {}", spooled(), arrived.lines.len());
        arrived.take(&server);
        sleep(Duration::from_millis(200));
    }
    let finished = flowcap.stop("TERM");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    arrived.take(&server);

    let stats = records(&fs::read_to_string(place.join("s.jsonl")).unwrap());
    stats.iter().for_each(sums_hold);
    let last = stats.last().expect("a stats record");
    let made: u64 = counts(&last["records"]);
    let seen = last["packets"].as_u64().unwrap() - last["queue_dropped"].as_u64().unwrap();
    println!(
        "{sent} packets sent, {seen} seen, {} dropped by the kernel, {made} records, {} repeats, {} stats records",
        last["kernel_dropped"],
        arrived.repeats,
        stats.len()
    );
    assert_eq!(made, seen, "each packet is a flow");
    assert!(made > u64::from(sent) / 2, "most are seen");
    for (sink, taken) in [(0, "spooled"), (1, "written"), (2, "written")] {
        assert_eq!(last["sinks"][sink][taken].as_u64(), Some(made), "{}", last["sinks"][sink]);
    }
    // The same records, one by one, in the files and at the server.
    let in_files = flows(&place.join("all"));
    let at_server = arrived.records();
    assert_eq!(in_files.len() as u64, made);
    let addresses = |records: &[Value]| {
        let mut all: Vec<Ipv4Addr> =
            records.iter().filter_map(|record| record["dst_ip"].as_str()?.parse().ok()).collect();
        all.sort_unstable();
        all
    };
    let (in_files, at_server) = (addresses(&in_files), addresses(&at_server));
    assert!(in_files.windows(2).all(|two| two[0] < two[1]), "one flow each");
    assert_eq!(in_files.len(), at_server.len());
    assert!(in_files == at_server, "the same in both");
    assert!(arrived.gaps.is_empty() && arrived.untold().is_empty(), "{:?}", arrived.gaps);
    let kept = fs::read_dir(place.join("newest")).unwrap().count();
    assert!((1..=7).contains(&kept), "{kept} files are kept");

    assert!(finished.stderr.contains("trying again"), "the server was bad: {}", finished.stderr);
    Sizes::stay(&sizes);
}

/// The packet sockets among the open files of a process, in the network namespace of another.
fn packet_sockets(namespace_of: u32, process: u32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{namespace_of}/net/packet")).expect("a table");
    let names: Vec<String> = table
        .lines()
        .skip(1)
        .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().last()?)))
        .collect();
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let open = files.filter_map(|file| Some(fs::read_link(file.path()).ok()?.to_str()?.to_owned()));
    open.filter(|name| names.contains(name)).collect()
}

/// Does something in a network namespace; what it opens stays there.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let there = move || {
            let file = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are inside");
            work()
        };
        threads.spawn(there).join().expect("it is done")
    })
}

/// Sees to it that what a stats record counts is accounted for.
fn sums_hold(stats: &Value) {
    let number = |name: &str| stats[name].as_u64().expect("a number");
    let records = counts(&stats["records"]);
    let slices = stats["records"]["active"].as_u64().unwrap_or(0);
    let in_flows = number("flow_packets");
    assert_eq!(
        number("packets"),
        in_flows + counts(&stats["dropped"]) + number("queue_dropped") + number("fragments_held"),
        "{stats}"
    );
    assert_eq!(in_flows, number("record_packets") + number("flows_active_packets"), "{stats}");
    assert_eq!(number("flows_opened"), records - slices + number("flows_active"), "{stats}");
    for sink in stats["sinks"].as_array().expect("a list") {
        let parts =
            ["written", "filtered", "spooled", "failed"].map(|part| sink[part].as_u64().expect("a number"));
        let sum = parts.iter().sum::<u64>() + counts(&sink["dropped"]);
        assert_eq!(sink["records"].as_u64(), Some(sum), "{sink}");
    }
}

fn counts(by_reason: &Value) -> u64 {
    by_reason.as_object().expect("reasons").values().filter_map(Value::as_u64).sum()
}

fn whole_lines(path: &Path) -> String {
    let mut text = fs::read_to_string(path).unwrap_or_default();
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

/// The records of all files in a folder.
fn flows(folder: &Path) -> Vec<Value> {
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.flat_map(|file| records(&unpacked(&file))).collect()
}

const PORT: u16 = 9;
