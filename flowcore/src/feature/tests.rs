use proptest::prelude::*;

use super::maker::{Made, features, field, fields, flow, packet, tcp};
use super::*;
use crate::field::PacketRow;
use crate::key::Proto;
use crate::packet::Fragment;

fn udp(dir: Dir, time: i64) -> Made {
    packet(Proto::UDP, dir).at(time)
}

#[test]
fn volume_and_lengths() {
    // IP lengths 40 60 100 forward: mean 200/3, squares of deviations 6400/9 + 400/9 + 10000/9 = 16800/9.
    let packets =
        [udp(Dir::Fwd, 0), udp(Dir::Fwd, 0).data(20), udp(Dir::Rev, 0).data(1460), udp(Dir::Fwd, 0).data(60)];
    let expected = [
        "bytes=1756",
        "packets=4",
        "src_packets=3",
        "dst_packets=1",
        "src_bytes=242",
        "dst_bytes=1514",
        "src_ip_bytes=200",
        "dst_ip_bytes=1500",
        "src_payload_bytes=80",
        "dst_payload_bytes=1460",
        "src_len_min=40",
        "src_len_mean=66.666667",
        "src_len_max=100",
        "src_len_std=30.550505",
        "dst_len_min=1500",
        "dst_len_mean=1500.000000",
        "dst_len_max=1500",
    ];
    assert_eq!(fields(&flow(&packets).volume), expected);
    let one_way = flow(&packets[..1]).volume;
    assert_eq!(field(&one_way, "dst_len_min"), "absent");
    assert_eq!(field(&one_way, "dst_len_mean"), "absent");
}

#[test]
fn jumbograms() {
    let mut made = udp(Dir::Fwd, 0);
    made.facts.ip_len = u64::from(u32::MAX) + 40;
    let values = flow(&[made.clone(), made]).volume;
    assert_eq!(field(&values, "src_ip_bytes"), "8589934670");
    assert_eq!(field(&values, "src_len_max"), "4294967295");
    assert_eq!(field(&values, "src_len_std"), "0.000000");
}

#[test]
fn inter_arrival_times() {
    // src at 0 10 40, dst at 15 25: flow gaps 10 5 10 15, src 10 30, dst 10.
    let times = [(Dir::Fwd, 0), (Dir::Fwd, 10), (Dir::Rev, 15), (Dir::Rev, 25), (Dir::Fwd, 40)];
    let packets: Vec<Made> = times.iter().map(|&(dir, time)| udp(dir, 1000 * time)).collect();
    let expected = [
        "iat_min_us=5000",
        "iat_mean_us=10000",
        "iat_max_us=15000",
        // mean 10, deviations 0 5 0 5: sqrt(50 / 3)
        "iat_std_us=4082",
        "src_iat_min_us=10000",
        "src_iat_mean_us=20000",
        "src_iat_max_us=30000",
        // sqrt(200)
        "src_iat_std_us=14142",
        "dst_iat_min_us=10000",
        "dst_iat_mean_us=10000",
        "dst_iat_max_us=10000",
        "iat_negative=0",
        "src_iat_negative=0",
        "dst_iat_negative=0",
    ];
    assert_eq!(fields(&flow(&packets).iat), expected);
    let one = ["iat_negative=0", "src_iat_negative=0", "dst_iat_negative=0"];
    assert_eq!(fields(&flow(&packets[..1]).iat), one);
}

#[test]
fn time_that_runs_backwards() {
    // src 100, dst 90, src 95, src 120, dst 110. Flow: 0 0 20 0, of which three negative.
    // src: 95 − 100 → 0 (negative), 120 − 100 = 20. dst: 110 − 90 = 20.
    let times = [(Dir::Fwd, 100), (Dir::Rev, 90), (Dir::Fwd, 95), (Dir::Fwd, 120), (Dir::Rev, 110)];
    let packets: Vec<Made> = times.iter().map(|&(dir, time)| udp(dir, time)).collect();
    let expected = [
        "iat_min_us=0",
        "iat_mean_us=5",
        "iat_max_us=20",
        "iat_std_us=10",
        "src_iat_min_us=0",
        "src_iat_mean_us=10",
        "src_iat_max_us=20",
        "src_iat_std_us=14",
        "dst_iat_min_us=20",
        "dst_iat_mean_us=20",
        "dst_iat_max_us=20",
        "iat_negative=3",
        "src_iat_negative=1",
        "dst_iat_negative=0",
    ];
    assert_eq!(fields(&flow(&packets).iat), expected);
}

#[test]
fn a_slice_starts_anew() {
    let mut features = features(&[udp(Dir::Fwd, 0), udp(Dir::Fwd, 10)], &FeatureOptions::default());
    features.next_slice();
    let later = [udp(Dir::Fwd, 1000), udp(Dir::Rev, 1007)];
    for made in &later {
        features.update(&made.packet(), made.dir, &FeatureOptions::default());
    }
    assert_eq!(field(&features.finish().iat, "iat_mean_us"), "7");
    assert_eq!(field(&features.finish().iat, "src_iat_mean_us"), "absent");
    assert_eq!(field(&features.finish().volume, "src_packets"), "1");
}

#[test]
fn times_at_the_ends_of_the_scale() {
    let packets = [udp(Dir::Fwd, i64::MIN), udp(Dir::Fwd, i64::MAX), udp(Dir::Fwd, i64::MIN)];
    let values = flow(&packets).iat;
    assert_eq!(field(&values, "iat_max_us"), u64::MAX.to_string());
    assert_eq!(field(&values, "iat_negative"), "1");
}

#[test]
fn ttl() {
    let with = |dir, ttl| {
        let mut made = udp(dir, 0);
        made.facts.ttl = ttl;
        made
    };
    let values = flow(&[with(Dir::Fwd, 64), with(Dir::Fwd, 0), with(Dir::Fwd, 63)]).ttl;
    assert_eq!(fields(&values), ["src_ttl_min=0", "src_ttl_max=64"]);
    let values = flow(&[with(Dir::Rev, 255)]).ttl;
    assert_eq!(fields(&values), ["dst_ttl_min=255", "dst_ttl_max=255"]);
}

#[test]
fn list_of_packets() {
    let packets = [udp(Dir::Rev, 50).data(10), udp(Dir::Fwd, 40), udp(Dir::Fwd, 75), udp(Dir::Rev, 80)];
    assert_eq!(fields(&flow(&packets).splt), [""; 0], "off by default");
    let options = FeatureOptions { splt: 3, ..FeatureOptions::default() };
    let mut features = features(&packets, &options);
    let row = |ip_len, iat_nanos, dir| PacketRow { ip_len, iat_nanos, dir };
    let expected = [row(50, 0, Dir::Rev), row(40, 0, Dir::Fwd), row(40, 25, Dir::Fwd)];
    assert_eq!(features.finish().splt.packets, expected);
    features.turn();
    assert_eq!(features.finish().splt.packets[0].dir, Dir::Fwd);
    assert!(features.splt.heap_bytes() >= 3 * size_of::<PacketRow>());
    features.next_slice();
    assert!(features.finish().splt.packets.is_empty());
}

#[test]
fn no_field_has_two_owners() {
    let mut names: Vec<&str> = FEATURE_FIELDS.iter().copied().flatten().map(|field| field.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    let values = flow(&[]);
    for (feature, fields) in FEATURE_FIELDS.iter().enumerate() {
        assert_eq!(values.value(feature, fields.len()), Scalar::Absent);
    }
}

/// The memory that a flow costs here; the limits keep it from growing unnoticed.
#[test]
fn sizes() {
    let bytes = |packets: &[Made]| {
        let features = features(packets, &FeatureOptions::default());
        size_of::<Features>() + features.heap_bytes()
    };
    let syn = tcp(Dir::Fwd, "S", 1, 0);
    let one = bytes(std::slice::from_ref(&syn));
    let two = bytes(&[syn.clone(), tcp(Dir::Rev, "SA", 5, 2)]);
    assert!(one <= 112 && two == one, "{one} {two}");
    let three = bytes(&[syn.clone(), tcp(Dir::Rev, "SA", 5, 2), tcp(Dir::Fwd, "A", 2, 6)]);
    assert!(three <= 600, "{three}");
}

/// Every field of a flow's values.
fn all_fields(values: &FeatureValues) -> Vec<String> {
    let FeatureValues { volume, iat, ttl, tcp, entropy, splt } = values;
    let parts = [fields(volume), fields(iat), fields(ttl), fields(tcp), fields(entropy), fields(splt)];
    parts.concat()
}

/// The fields that count something, in which the slices of a flow add up to the flow.
fn counters(values: &FeatureValues) -> Vec<(&'static str, u64)> {
    let mut found = Vec::new();
    for (feature, fields) in FEATURE_FIELDS.iter().enumerate() {
        for (index, field) in fields.iter().enumerate() {
            let name = field.name;
            let counts = ["bytes", "packets", "_count", "_retransmits", "_out_of_order", "_zero_windows"];
            if counts.iter().any(|end| name.ends_with(end)) {
                let value = values.value(feature, index);
                assert!(matches!(value, Scalar::U64(_) | Scalar::Absent), "{name}");
                found.push((name, if let Scalar::U64(number) = value { number } else { 0 }));
            }
        }
    }
    found
}

fn any_dir() -> impl Strategy<Value = Dir> {
    prop_oneof![Just(Dir::Fwd), Just(Dir::Rev)]
}

/// TCP packets with few flags, numbers and lengths, so that they meet.
fn any_tcp() -> impl Strategy<Value = Made> {
    let flags = proptest::sample::subsequence(b"FSRPAUEC".to_vec(), 0..4);
    let numbers = (0..40u32, 0..40u32, any::<bool>(), 0..12usize);
    (any_dir(), flags, numbers, -50..1000i64, 0..3u16, 0..20u8).prop_map(
        |(dir, flags, (seq, ack, high, len), time, window, ttl)| {
            let flags = String::from_utf8(flags).unwrap();
            let base = if high { 0u32.wrapping_sub(20) } else { 0 };
            let made = tcp(dir, &flags, base.wrapping_add(seq), base.wrapping_add(ack));
            let mut made = made.at(time).payload(&vec![ttl; len * 20]).window(window);
            made.facts.ttl = ttl;
            match ttl {
                0 => made.bad_checksum(),
                1 => made.fragment(Fragment::First),
                2 => made.fragment(Fragment::Later),
                3 => made.fragment(Fragment::Later).message(&[1; 50], seq),
                4 => made.options(1460, 7),
                _ => made,
            }
        },
    )
}

fn any_udp() -> impl Strategy<Value = Made> {
    (any_dir(), 0..1000i64, 0..12usize, any::<bool>()).prop_map(|(dir, time, len, bad)| {
        let made = packet(Proto::UDP, dir).at(time).payload(&vec![7; len * 20]);
        if bad { made.bad_checksum() } else { made }
    })
}

fn any_flow() -> impl Strategy<Value = Vec<Made>> {
    prop_oneof![
        4 => proptest::collection::vec(any_tcp(), 1..30),
        1 => proptest::collection::vec(any_udp(), 1..30),
    ]
}

fn listing() -> FeatureOptions {
    FeatureOptions { splt: 5, ..FeatureOptions::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Packets that were kept and shown to the features later say what they would have said at once.
    #[test]
    fn keeping_packets_changes_nothing(packets in any_flow(), turn in 0..4usize, cut in 0..4usize) {
        let (mut kept, mut states) = (Features::default(), Box::new(States::default()));
        for (nth, made) in packets.iter().take(4).enumerate() {
            kept.update(&made.packet(), made.dir, &listing());
            states.update(&made.packet(), made.dir);
            if nth == turn {
                kept.turn();
                states.turn();
            }
            if nth == cut {
                kept.next_slice();
                states.next_slice();
            }
            let at_once = Features { headers: Headers::Counted(states), ..Features::default() };
            let (got, expected) = (kept.finish(), at_once.finish());
            prop_assert_eq!(fields(&got.volume), fields(&expected.volume));
            prop_assert_eq!(kept.volume(), expected.volume);
            prop_assert_eq!(fields(&got.iat), fields(&expected.iat));
            prop_assert_eq!(fields(&got.ttl), fields(&expected.ttl));
            prop_assert_eq!(fields(&got.tcp), fields(&expected.tcp));
            let Headers::Counted(again) = at_once.headers else { panic!() };
            states = again;
        }
    }

    /// Turning twice, at once or with packets in between, gives back the start.
    #[test]
    fn turning_twice_is_nothing(packets in any_flow(), once in 0..30usize, again in 0..30usize, cut in 0..30usize) {
        let mut straight = features(&packets[..packets.len().min(cut)], &listing());
        straight.next_slice();
        let mut turning = Features::default();
        let mut turned = false;
        for (nth, made) in packets.iter().enumerate() {
            for at in [once, again] {
                if at == nth {
                    turning.turn();
                    turned = !turned;
                }
            }
            if nth == cut {
                turning.next_slice();
            }
            if nth >= cut {
                straight.update(&made.packet(), made.dir, &listing());
            }
            turning.update(&made.packet(), if turned { made.dir.flip() } else { made.dir }, &listing());
        }
        if packets.len() <= cut {
            turning.next_slice();
        }
        if turned {
            turning.turn();
        }
        prop_assert_eq!(all_fields(&straight.finish()), all_fields(&turning.finish()));
    }

    /// A flow that turns round at its end is the flow that went the other way from the start.
    #[test]
    fn turned_is_as_if_it_had_always_been(packets in any_flow()) {
        let mut turned = features(&packets, &listing());
        turned.turn();
        let other: Vec<Made> = packets.iter().map(|made| Made { dir: made.dir.flip(), ..made.clone() }).collect();
        let always = features(&other, &listing());
        prop_assert_eq!(all_fields(&turned.finish()), all_fields(&always.finish()));
        prop_assert_eq!(turned.heap_bytes(), always.heap_bytes());
    }

    /// The slices of a flow add up to the flow uncut, in every counter.
    #[test]
    fn slices_add_up(packets in any_flow(), cuts in proptest::collection::vec(0..30usize, 0..4)) {
        let whole = counters(&flow(&packets));
        let mut sums: Vec<(&str, u64)> = whole.iter().map(|&(name, _)| (name, 0)).collect();
        let mut add = |features: &Features| {
            for (sum, (_, number)) in sums.iter_mut().zip(counters(&features.finish())) {
                sum.1 += number;
            }
        };
        let mut sliced = Features::default();
        for (nth, made) in packets.iter().enumerate() {
            if cuts.contains(&nth) {
                add(&sliced);
                sliced.next_slice();
            }
            sliced.update(&made.packet(), made.dir, &FeatureOptions::default());
        }
        add(&sliced);
        prop_assert_eq!(whole, sums);
    }

    /// Mean, standard deviation, smallest and largest gap are those of the list of gaps.
    #[test]
    fn gaps_by_definition(packets in any_flow()) {
        let values = flow(&packets).iat;
        let of = |wanted: Option<Dir>| {
            let mine = packets.iter().filter(|made| wanted.is_none_or(|dir| made.dir == dir));
            let times: Vec<i64> = mine.map(|made| made.facts.time.as_nanos()).collect();
            let mut newest = times.first().copied().unwrap_or(0);
            let mut gaps = Vec::new();
            for &time in times.iter().skip(1) {
                gaps.push((time - newest).max(0) as f64);
                newest = newest.max(time);
            }
            gaps
        };
        for (wanted, got) in [(None, values.flow), (Some(Dir::Fwd), values.src), (Some(Dir::Rev), values.dst)] {
            let gaps = of(wanted);
            let n = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / n;
            let std = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            prop_assert_eq!(got.mean().is_some(), !gaps.is_empty());
            prop_assert!(got.mean().is_none_or(|got| (got - mean).abs() < 1e-9 * (1.0 + mean)));
            prop_assert_eq!(got.std().is_some(), gaps.len() > 1);
            prop_assert!(got.std().is_none_or(|got| (got - std).abs() < 1e-6 * (1.0 + std)));
            prop_assert_eq!(got.min().map(|gap| gap as f64), gaps.iter().copied().reduce(f64::min));
            prop_assert_eq!(got.max().map(|gap| gap as f64), gaps.iter().copied().reduce(f64::max));
        }
    }
}
