use super::*;
use crate::feature::maker::{Made, field, fields, flow, packet, tcp};
use crate::feature::{FeatureOptions, Features};
use crate::packet::Fragment;

/// A packet of the initiator.
fn src(flags: &str, seq: u32, ack: u32) -> Made {
    tcp(Dir::Fwd, flags, seq, ack)
}

/// A packet of the responder.
fn dst(flags: &str, seq: u32, ack: u32) -> Made {
    tcp(Dir::Rev, flags, seq, ack)
}

fn values(packets: &[Made]) -> TcpValues {
    flow(packets).tcp
}

fn story(packets: &[Made]) -> (String, &'static str) {
    let values = values(packets);
    (values.history().unwrap_or_default().to_owned(), values.tcp.unwrap().state)
}

fn history(packets: &[Made]) -> String {
    story(packets).0
}

fn count(packets: &[Made], name: &str) -> String {
    field(&values(packets), name)
}

/// SYN 100, SYN-ACK 500, ACK.
fn open() -> Vec<Made> {
    vec![src("S", 100, 0), dst("SA", 500, 101), src("A", 101, 501)]
}

fn opened_and(more: &[Made]) -> Vec<Made> {
    [&open()[..], more].concat()
}

#[test]
fn every_state() {
    let open_and = |more: &[Made]| story(&opened_and(more));
    let is = |got: (String, &'static str), text: &str, state: &str| {
        assert_eq!((got.0.as_str(), got.1), (text, state));
    };
    is(story(&[src("S", 100, 0)]), "S", "S0");
    is(story(&[src("S", 100, 0), dst("SA", 500, 101)]), "Sh", "S1");
    is(open_and(&[]), "ShA", "S1");
    is(story(&[src("S", 100, 0), dst("RA", 0, 101)]), "Sr", "REJ");
    let reset = [src("R", 101, 0)];
    is(story(&[src("S", 100, 0), dst("SA", 500, 101), reset[0].clone()]), "ShR", "RSTO");
    is(open_and(&reset), "ShAR", "RSTO");
    is(open_and(&[dst("R", 501, 0)]), "ShAr", "RSTR");
    is(story(&[src("S", 100, 0), src("R", 101, 0)]), "SR", "RSTOS0");
    is(story(&[dst("SA", 500, 101), dst("R", 501, 0)]), "^hr", "RSTRH");
    is(story(&[src("S", 100, 0), src("F", 101, 0)]), "SF", "SH");
    is(story(&[dst("SA", 500, 101), dst("F", 501, 0)]), "^hf", "SHR");
    let close = [src("FA", 101, 501), dst("FA", 501, 102), src("A", 102, 502)];
    is(open_and(&close), "ShAFf", "SF");
    is(open_and(&close[..1]), "ShAF", "S2");
    is(open_and(&[dst("FA", 501, 101)]), "ShAf", "S3");
    is(story(&[src("A", 101, 501).data(5), dst("A", 501, 106)]), "Da", "OTH");
}

#[test]
fn finer_points_of_the_states() {
    let state = |packets: &[Made]| story(packets).1;
    let (syn, syn_ack) = (src("S", 100, 0), dst("SA", 500, 101));
    // Both reset: a refusal without payload, otherwise a reset.
    assert_eq!(state(&opened_and(&[src("R", 101, 0), dst("R", 501, 0)])), "REJ");
    let data = src("PA", 101, 501).data(5);
    assert_eq!(state(&opened_and(&[data, src("R", 106, 0), dst("R", 501, 0)])), "RSTR");
    // A reset after both FINs changes nothing; after one it does, until the other FIN comes.
    let fins = [src("FA", 101, 501), dst("FA", 501, 102)];
    assert_eq!(state(&opened_and(&[&fins[..], &[src("R", 102, 0)]].concat())), "SF");
    let early = [fins[0].clone(), src("R", 102, 0)];
    assert_eq!(state(&opened_and(&early)), "RSTO");
    assert_eq!(state(&opened_and(&[&early[..], &fins[1..]].concat())), "SF");
    // Anything but SYN and RST of the initiator, and it is no aborted attempt.
    assert_eq!(state(&[syn.clone(), src("A", 101, 0), src("R", 101, 0)]), "OTH");
    assert_eq!(state(&[syn.clone(), syn.clone(), src("S", 200, 0), src("R", 101, 0)]), "RSTOS0");
    assert_eq!(state(&[syn.clone(), dst("A", 7, 9), src("R", 9, 0)]), "RSTOS0");
    assert_eq!(state(&[src("A", 100, 1), src("R", 100, 0)]), "OTH");
    // An ACK before the SYN-ACK does not count, data does.
    assert_eq!(state(&[syn.clone(), dst("A", 7, 9)]), "S0");
    assert_eq!(state(&[syn.clone(), dst("A", 7, 9), syn_ack.clone()]), "S1");
    assert_eq!(state(&[syn.clone(), dst("A", 7, 9).data(3)]), "OTH");
    // The SYN was missed, or came late.
    assert_eq!(state(std::slice::from_ref(&syn_ack)), "OTH");
    assert_eq!(state(&[syn_ack.clone(), src("A", 101, 501)]), "S1");
    assert_eq!(state(&[syn_ack.clone(), syn.clone()]), "S1");
    assert_eq!(state(&[src("A", 101, 501), syn.clone(), syn_ack]), "S1");
    // Simultaneous open.
    assert_eq!(state(&[syn, dst("S", 500, 0), src("SA", 100, 501), dst("SA", 500, 101)]), "S1");
    // Halves of a connection.
    assert_eq!(state(&[src("A", 1, 1).data(1), src("FA", 2, 1)]), "SH");
    assert_eq!(state(&[dst("A", 1, 1).data(1), dst("FA", 2, 1)]), "SHR");
    assert_eq!(state(&[dst("A", 1, 1).data(1), dst("R", 2, 1)]), "RSTRH");
    assert_eq!(state(&[src("A", 1, 1), dst("A", 1, 1), src("FA", 2, 1), dst("FA", 1, 3)]), "SF");
}

#[test]
fn letters_of_flags_and_payload() {
    assert_eq!(history(&opened_and(&[src("A", 101, 501), dst("A", 501, 101)])), "ShAa");
    assert_eq!(history(&opened_and(&[src("PA", 101, 501).data(9), dst("A", 501, 110).data(1)])), "ShADd");
    assert_eq!(history(&[src("S", 100, 0).data(10)]), "S", "only the letter of the SYN");
    assert_eq!(history(&[src("FA", 100, 1).data(10)]), "F");
    assert_eq!(history(&[src("FR", 1, 0), src("FR", 1, 0), dst("SFR", 2, 0)]), "Ii");
    assert_eq!(history(&[src("SF", 1, 0), dst("SR", 2, 0), dst("SF", 2, 0)]), "Qq");
    assert_eq!(history(&[src("P", 1, 0)]), "", "no flag that tells anything");
}

#[test]
fn numbers_that_differ_are_news() {
    let syns = [src("S", 100, 0), src("S", 100, 0), src("SA", 100, 5), src("S", 101, 0), src("SA", 100, 5)];
    assert_eq!(history(&syns), "SSH", "S and H share one number");
    assert_eq!(history(&[src("R", 7, 0), src("R", 7, 0), src("RA", 8, 0), src("R", 7, 0)]), "RRR");
    // By the end of the data: 100 + 10 and 105 + 5 are the same FIN.
    let fins = [src("FA", 100, 1).data(10), src("FA", 105, 1).data(5), src("FA", 110, 1), src("FA", 111, 1)];
    assert_eq!(history(&fins), "FF");
    assert_eq!(history(&[src("F", 0, 0), src("R", 0, 0), src("S", 0, 0)]), "FRS", "0 is a number too");
}

#[test]
fn letters_at_powers_of_ten() {
    let data = src("PA", 101, 501).data(50);
    for (times, text) in [(0, "ShAD"), (1, "ShADT"), (9, "ShADT"), (10, "ShADTT"), (100, "ShADTTT")] {
        let again = vec![data.clone(); times + 1];
        assert_eq!(history(&opened_and(&again)), text, "{times}");
        assert_eq!(count(&opened_and(&again), "src_retransmits"), times.to_string());
    }
    let shut = vec![dst("A", 501, 101).window(0); 10];
    assert_eq!(history(&opened_and(&shut)), "ShAaww");
    let bad = vec![dst("PA", 9, 9).data(1).bad_checksum(); 10];
    assert_eq!(history(&opened_and(&bad)), "ShAcc", "and nothing else of a packet that is dropped");
}

#[test]
fn a_gap_is_the_senders_letter() {
    // 111..121 is missing, and the peer acknowledges it, twice.
    let sent = [src("A", 101, 501).data(10), src("A", 121, 501).data(10)];
    let reached = |ack| opened_and(&[&sent[..], &[dst("A", 501, ack), dst("A", 501, ack + 1)]].concat());
    assert_eq!(history(&reached(110)), "ShADa");
    assert_eq!(history(&reached(111)), "ShADaG", "the second reaches into the hole");
    assert_eq!(history(&reached(130)), "ShADaG");
    let closing = opened_and(&[&sent[..], &[dst("FA", 501, 131)]].concat());
    assert_eq!(history(&closing), "ShADf", "a FIN adds only its letter");
}

#[test]
fn a_history_has_an_end() {
    let syns: Vec<Made> = (0..100).map(|seq| src("S", seq * 1000, 0)).collect();
    assert_eq!(history(&syns), "S".repeat(31));
    let answers: Vec<Made> = (0..100).map(|seq| dst("SA", seq * 1000, 1)).collect();
    assert_eq!(history(&answers), format!("^{}", "h".repeat(31)));
}

#[test]
fn turned_round() {
    let mut features = Features::default();
    let options = FeatureOptions::default();
    let data = src("A", 101, 501).data(5);
    features.update(&data.packet(), Dir::Fwd, &options);
    features.turn();
    features.update(&src("S", 700, 0).packet(), Dir::Fwd, &options);
    let text = |features: &Features| features.finish().tcp.history().unwrap().to_owned();
    assert_eq!(text(&features), "^dS");
    features.next_slice();
    assert_eq!(features.finish().tcp.history(), None, "no letter, no history");
    features.update(&dst("R", 1, 0).packet(), Dir::Rev, &options);
    assert_eq!(text(&features), "^r", "it stands in front as long as it holds");
    features.next_slice();
    features.turn();
    assert_eq!(features.finish().tcp.history(), None);
    assert_eq!(story(&[dst("A", 1, 1), src("A", 1, 1)]).0, "^aA");
}

#[test]
fn retransmits_and_order() {
    let numbers = |more: &[Made]| {
        let all = opened_and(more);
        (count(&all, "src_retransmits"), count(&all, "src_out_of_order"))
    };
    let data = |seq, len| src("PA", seq, 501).data(len);
    let is = |more: &[Made], retransmits: &str, out_of_order: &str| {
        assert_eq!(numbers(more), (retransmits.to_owned(), out_of_order.to_owned()), "{more:?}");
    };
    is(&[data(101, 10), data(111, 10)], "0", "0");
    is(&[data(101, 10), data(101, 10)], "1", "0");
    is(&[data(101, 10), data(103, 5)], "1", "0");
    is(&[data(101, 10), data(105, 10)], "0", "0");
    is(&[data(101, 10), data(121, 10), data(111, 10)], "0", "1");
    is(&[data(101, 10), data(121, 10), data(111, 10), data(111, 10)], "1", "1");
    is(&[data(101, 10), data(121, 10), data(111, 20)], "0", "1");
    // SYN and FIN count one.
    is(&[src("S", 100, 0)], "1", "0");
    is(&[src("FA", 101, 501), src("FA", 101, 501)], "1", "0");
    is(&[src("FA", 101, 501), data(101, 1)], "0", "0");
    // Keep-alives: at most one byte just before the next, and no flag.
    is(&[data(101, 10), src("A", 110, 501), data(110, 1)], "0", "0");
    is(&[data(101, 10), data(109, 1)], "1", "0");
    is(&[data(101, 10), data(109, 2)], "1", "0");
    // A pure ACK shows that bytes are missing; a bare reset shows nothing.
    is(&[src("A", 121, 501), data(101, 20)], "0", "1");
    is(&[src("R", 5000, 0), data(101, 20)], "0", "0");
    // Another SYN starts anew.
    is(&[data(101, 10), src("S", 9000, 0), data(9001, 5), data(9001, 5)], "1", "0");
    assert_eq!(history(&opened_and(&[src("S", 100, 0)])), "ShA", "a repeated SYN adds no T");
    let reused = [src("A", 101, 501).data(5), src("S", 9000, 0), dst("SA", 700, 9001), dst("A", 701, 9001)];
    assert_eq!(history(&reused), "DSha", "no gap up to the SYN of another connection");
    let overtaken = [src("A", 121, 501).data(5), src("S", 100, 0), src("A", 101, 501).data(20)];
    assert_eq!(count(&overtaken, "src_out_of_order"), "1");
    assert_eq!(count(&overtaken, "src_retransmits"), "0");
}

#[test]
fn sequence_numbers_wrap() {
    let top = u32::MAX - 4;
    let all = [
        src("S", top, 0),
        dst("SA", u32::MAX, top + 1),
        src("A", top + 1, 0),
        src("PA", top + 1, 0).data(10),
        src("PA", 6, 0).data(10).at(5),
        src("PA", top + 1, 0).data(10),
        src("FA", 16, 0),
        dst("FA", 0, 17),
    ];
    assert_eq!(story(&all), ("ShADTFf".to_owned(), "SF"));
    assert_eq!(count(&all, "src_retransmits"), "1");
    assert_eq!(count(&all, "src_out_of_order"), "0");
    assert_eq!(count(&all, "rtt_us"), "0");
}

#[test]
fn fragmented_segments() {
    // 1000 bytes and FIN, of which the first fragment has 400; then the next segment in order.
    let first = src("FA", 101, 501).data(400).fragment(Fragment::First);
    let rest = src("FA", 0, 0).data(600).fragment(Fragment::Later).message(&[0; 1000], 101);
    let after = src("A", 1102, 501);
    let all = opened_and(&[first.clone(), rest.clone(), after.clone(), dst("A", 501, 1102)]);
    assert_eq!(history(&all), "ShAFa");
    assert_eq!(count(&all, "fin_count"), "1");
    let never_whole = opened_and(&[first, after, dst("A", 501, 1102)]);
    assert_eq!(history(&never_whole), "ShAFaG", "what was never put together is a hole");
    let alone = flow(&[rest]);
    assert_eq!(field(&alone.tcp, "flags"), "------");
    assert_eq!(field(&alone.tcp, "tcp_state"), "OTH");
}

#[test]
fn zero_windows() {
    let zero = |more: &[Made]| {
        let all = opened_and(more);
        (count(&all, "src_zero_windows"), count(&all, "dst_zero_windows"))
    };
    let is = |more: &[Made], src: &str, dst: &str| {
        assert_eq!(zero(more), (src.to_owned(), dst.to_owned()), "{more:?}");
    };
    is(&[src("A", 101, 501).window(0), dst("A", 501, 101).window(0).data(4)], "1", "1");
    is(&[src("R", 101, 0).window(0)], "0", "0");
    is(&[dst("FA", 501, 101), src("A", 101, 502).window(0)], "0", "0");
    is(&[src("FA", 101, 501).window(0), src("A", 102, 501).window(0)], "2", "0");
    is(&[src("R", 101, 0), src("A", 101, 501).window(0)], "0", "0");
    let quiet = [src("S", 100, 0), dst("SA", 500, 101).window(0)];
    assert_eq!((history(&quiet), count(&quiet, "dst_zero_windows")), ("Sh".to_owned(), "1".to_owned()));
}

#[test]
fn handshake_times() {
    let times = |packets: &[Made]| ["rtt_us", "synack_us", "ack_us"].map(|name| count(packets, name));
    let none = ["absent"; 3].map(str::to_owned);
    let (syn, answer, ack) = (src("S", 100, 0), dst("SA", 500, 101), src("A", 101, 501));
    let is = |packets: &[Made], expected: [&str; 3]| {
        assert_eq!(times(packets), expected.map(str::to_owned), "{packets:?}");
    };
    let at = |made: &Made, time| made.clone().at(time);
    is(&[at(&syn, 1000), at(&answer, 21_000), at(&ack, 26_500)], ["25500", "20000", "5500"]);
    // From the last SYN; data with the ACK will do; what does not acknowledge the SYN-ACK will not.
    is(
        &[at(&syn, 0), at(&syn, 3000), at(&answer, 4000), at(&ack.clone().data(3), 6000)],
        ["3000", "1000", "2000"],
    );
    is(&[at(&syn, 0), at(&answer, 1), at(&src("A", 101, 500), 2), at(&ack, 7)], ["7", "1", "6"]);
    assert_eq!(times(&[at(&syn, 0), at(&answer, 1)]), none);
    assert_eq!(times(&[at(&answer, 1), at(&ack, 2)]), none);
    assert_eq!(times(&[at(&syn, 0), at(&dst("SA", 500, 99), 1), at(&ack, 2)]), none);
    // Repeated SYN-ACK, before the ACK or after.
    assert_eq!(times(&[at(&syn, 0), at(&answer, 1), at(&answer, 2), at(&ack, 3)]), none);
    assert_eq!(times(&[at(&syn, 0), at(&answer, 1), at(&ack, 2), at(&answer, 3)]), none);
    assert_eq!(times(&[at(&answer, 0), at(&syn, 1), at(&answer, 2), at(&ack, 3)]), none);
    assert_eq!(times(&[at(&syn, 0), at(&answer, 1), at(&src("R", 101, 0), 2)]), none);
    // Time that runs backwards is no negative duration.
    is(&[at(&syn, 50), at(&answer, 40), at(&ack, 60)], ["20", "0", "20"]);
}

#[test]
fn windows_and_options() {
    let packets = [
        src("S", 100, 0).window(64_240).options(1460, 7),
        dst("SA", 500, 101).window(28_960).options(1400, 0),
        src("A", 101, 501).window(502).options(9, 9),
        src("S", 100, 0).window(1).options(500, 1),
    ];
    let names = ["window_init", "mss", "window_scale"];
    let of = |side: &str| names.map(|name| count(&packets, &format!("{side}_{name}")));
    assert_eq!(of("src"), ["64240", "1460", "7"]);
    assert_eq!(of("dst"), ["28960", "1400", "0"]);
    assert_eq!(count(&packets[..1], "dst_window_init"), "absent");
    assert_eq!(count(&[src("A", 1, 1).options(9, 9)], "src_mss"), "absent", "no SYN");
}

#[test]
fn flags() {
    let all = [src("S", 1, 0), dst("SAE", 1, 2), src("PAU", 2, 2), dst("FAC", 2, 2), dst("R", 2, 2)];
    let got = fields(&values(&all));
    let expected = [
        "flags=SAPRUF",
        "src_flags=SAP-U-",
        "dst_flags=SA-R-F",
        "syn_count=2",
        "ack_count=3",
        "psh_count=1",
        "rst_count=1",
        "urg_count=1",
        "fin_count=1",
        "ece_count=1",
        "cwr_count=1",
    ];
    assert_eq!(got[..11], expected);
}

#[test]
fn flag_counts_do_not_overflow() {
    let mut tcp = Tcp::default();
    let ack = src("A", 1, 1);
    for _ in 0..200_000 {
        tcp.update(&ack.packet(), Dir::Fwd, &FeatureOptions::default());
    }
    assert_eq!(field(&tcp.finish(), "ack_count"), "200000");
    tcp.next_slice();
    assert_eq!(field(&tcp.finish(), "ack_count"), "0");
}

#[test]
fn other_protocols() {
    let udp = |dir| packet(Proto::UDP, dir);
    let history = |packets: &[Made]| values(packets).history().map(str::to_owned);
    let data = [udp(Dir::Fwd).data(3), udp(Dir::Rev).data(3), udp(Dir::Fwd).data(3)];
    assert_eq!(history(&data).as_deref(), Some("Dd"));
    assert_eq!(history(&[udp(Dir::Rev).data(3), udp(Dir::Fwd).data(3)]).as_deref(), Some("^dD"));
    assert_eq!(history(&[udp(Dir::Fwd)]), None, "no payload, no letter");
    let bad = vec![udp(Dir::Rev).data(1).bad_checksum(); 10];
    assert_eq!(history(&[&data[..], &bad].concat()).as_deref(), Some("Ddcc"));
    assert_eq!(history(&[&bad[..], &data].concat()).as_deref(), Some("^ccDd"));
    assert_eq!(fields(&values(&[&data[..], &bad].concat())), ["history=Ddcc"], "nothing but the history");
    assert!(fields(&values(&[packet(Proto::ICMP, Dir::Fwd).data(8)])).is_empty());
    let mut tcp = Tcp::default();
    tcp.update(&data[0].packet(), Dir::Fwd, &FeatureOptions::default());
    assert_eq!(tcp.heap_bytes(), 0);
}

#[test]
fn slices_go_on_where_the_last_one_ended() {
    let options = FeatureOptions::default();
    let mut features = Features::default();
    let show = |features: &mut Features, packets: &[Made]| {
        for made in packets {
            features.update(&made.packet(), made.dir, &options);
        }
    };
    let data = src("PA", 101, 501).data(10);
    let syn = src("S", 100, 0).options(1460, 7);
    show(&mut features, &[&[syn], &open()[1..], &[data.clone(), src("A", 121, 501).data(5)]].concat());
    let first = features.finish().tcp;
    assert_eq!((first.history(), first.tcp.unwrap().state), (Some("ShAD"), "S1"));
    assert_eq!(field(&first, "rtt_us"), "0");
    assert_eq!(field(&first, "src_mss"), "1460");

    features.next_slice();
    let empty = features.finish().tcp;
    assert_eq!((empty.history(), empty.tcp.unwrap().state), (None, "S1"));
    for name in ["rtt_us", "synack_us", "ack_us", "src_mss", "src_window_init", "src_window_scale"] {
        assert_eq!(field(&empty, name), "absent", "{name}");
    }
    assert_eq!(field(&empty, "flags"), "------");
    let fill = src("PA", 111, 501).data(10);
    show(&mut features, &[data, fill, dst("PA", 501, 126).data(1), src("S", 100, 0), src("FA", 126, 502)]);
    let second = features.finish().tcp;
    assert_eq!((second.history(), second.tcp.unwrap().state), (Some("TdF"), "S2"));
    assert_eq!(field(&second, "src_retransmits"), "2", "the data and the SYN");
    assert_eq!(field(&second, "src_out_of_order"), "1");
    assert_eq!(field(&second, "src_flags"), "SAP--F");

    features.next_slice();
    show(&mut features, &[src("FA", 126, 502), dst("FA", 502, 127)]);
    let third = features.finish().tcp;
    assert_eq!((third.history(), third.tcp.unwrap().state), (Some("f"), "SF"));
}

#[test]
fn an_aborted_attempt_is_known_over_slices() {
    let options = FeatureOptions::default();
    let mut features = Features::default();
    features.update(&src("S", 100, 0).packet(), Dir::Fwd, &options);
    features.next_slice();
    features.update(&src("R", 101, 0).packet(), Dir::Fwd, &options);
    let values = features.finish().tcp;
    assert_eq!((values.history(), values.tcp.unwrap().state), (Some("R"), "RSTOS0"));
}

#[test]
fn memory_is_counted() {
    let options = FeatureOptions::default();
    let mut tcp = Tcp::default();
    let mut held = |made: Made| {
        tcp.update(&made.packet(), made.dir, &options);
        tcp.heap_bytes()
    };
    assert_eq!(held(src("S", 100, 0)), 0);
    assert_eq!(held(dst("SA", 500, 101)), 0);
    assert!(held(dst("SA", 500, 101)) > 0, "a retransmission has to be counted");
}
