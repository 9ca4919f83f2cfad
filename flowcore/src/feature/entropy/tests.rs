use super::*;
use crate::feature::maker::{features, field, flow, packet};
use crate::key::Proto;

fn of(payload: &[u8]) -> EntropyValues {
    flow(&[packet(Proto::UDP, Dir::Fwd).payload(payload)]).entropy
}

fn all_bytes(times: usize) -> Vec<u8> {
    (0..=255).flat_map(|byte| vec![byte; times]).collect()
}

#[test]
fn vectors() {
    assert_eq!(of(&all_bytes(1)).both, Some(8.0));
    assert_eq!(of(b"ab").both, Some(1.0));
    let one = of(b"aaaa");
    assert_eq!((one.both, one.src, one.dst, one.bytes), (Some(0.0), Some(0.0), None, 4));
    assert!(one.both.unwrap().is_sign_positive());
    assert!(of(b"aaaaa").both.unwrap().to_bits() == 0, "no rounding left of five");
    // 1/2, 1/4, 1/4
    assert_eq!(of(b"aabc").both, Some(1.5));
}

#[test]
fn nothing_without_payload() {
    let values = flow(&[packet(Proto::UDP, Dir::Fwd)]).entropy;
    assert_eq!(values, EntropyValues::default());
    assert_eq!(field(&values, "entropy"), "absent");
    assert_eq!(field(&values, "entropy_bytes"), "0");
}

#[test]
fn merged_from_both_histograms() {
    let packets =
        [packet(Proto::UDP, Dir::Fwd).payload(b"aaaa"), packet(Proto::UDP, Dir::Rev).payload(b"bbbb")];
    let values = flow(&packets).entropy;
    assert_eq!((values.both, values.src, values.dst), (Some(1.0), Some(0.0), Some(0.0)));
    assert_eq!(values.bytes, 8);
}

#[test]
fn announced_bytes_do_not_count() {
    let packets = [packet(Proto::UDP, Dir::Fwd).payload(b"ab").data(1000)];
    assert_eq!(flow(&packets).entropy.bytes, 2);
}

/// However payload is cut into packets and wherever the histogram begins, the numbers are the same.
#[test]
fn few_and_many_bytes_agree() {
    let payload: Vec<u8> = (0..140_001u32).map(|n| (n % 1000 * n % 97) as u8).collect();
    let direct = |bytes: &[u8]| {
        let mut counts = [0u64; 256];
        bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        let total = bytes.len() as f64;
        let parts = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
        -parts.map(|p| p * p.log2()).sum::<f64>()
    };
    for total in [1, 126, 127, 253, 254, 255, 500, 2000, 140_001] {
        for piece in [1, 7, 64, 126, 254, 1000] {
            let packets: Vec<_> = payload[..total]
                .chunks(piece)
                .enumerate()
                .map(|(nth, bytes)| {
                    let dir = if nth % 3 == 0 { Dir::Rev } else { Dir::Fwd };
                    packet(Proto::UDP, dir).payload(bytes)
                })
                .collect();
            let of_dir = |dir| -> Vec<u8> {
                packets.iter().filter(|made| made.dir == dir).flat_map(|made| made.payload.clone()).collect()
            };
            let values = flow(&packets).entropy;
            let close = |got: Option<f64>, bytes: &[u8]| match got {
                Some(got) => (got - direct(bytes)).abs() < 1e-9,
                None => bytes.is_empty(),
            };
            assert!(close(values.both, &payload[..total]), "{total} {piece}");
            assert!(close(values.src, &of_dir(Dir::Fwd)), "{total} {piece}");
            assert!(close(values.dst, &of_dir(Dir::Rev)), "{total} {piece}");
            assert_eq!(values.bytes, total as u64);
        }
    }
}

#[test]
fn limit_for_each_direction() {
    let mut options = FeatureOptions { entropy_bytes: 4, ..FeatureOptions::default() };
    let packets = [
        packet(Proto::UDP, Dir::Fwd).payload(b"aab"),
        packet(Proto::UDP, Dir::Fwd).payload(b"bccccccc"),
        packet(Proto::UDP, Dir::Rev).payload(&all_bytes(1)),
        packet(Proto::UDP, Dir::Rev).payload(b"zz"),
    ];
    let values = features(&packets, &options).finish().entropy;
    assert_eq!(values.bytes, 8);
    assert_eq!(values.src, Some(1.0), "aabb");
    assert_eq!(values.dst, Some(2.0), "0 1 2 3");
    options.entropy_bytes = 1000;
    let values = features(&packets, &options).finish().entropy;
    assert_eq!(values.bytes, 11 + 258);
}

#[test]
fn memory_is_counted() {
    let held = |payload: &[u8]| {
        let made = packet(Proto::UDP, Dir::Fwd).payload(payload);
        features(&[made], &FeatureOptions::default()).entropy.heap_bytes()
    };
    const SMALL: usize = 32 + 2 * 256 * 4;
    const PARTED: usize = 32 + 4 * 2 * 256 * 4;
    assert_eq!(held(b""), 0);
    assert_eq!((held(b"a"), held(&[0; 126])), (128, 128));
    assert_eq!((held(&[0; 127]), held(&[0; 254])), (256, 256));
    assert_eq!(held(&[0; 255]), SMALL);
    assert_eq!(held(&[0; 65_537]), PARTED);
}
