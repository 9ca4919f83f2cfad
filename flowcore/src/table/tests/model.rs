//! A naive model of the table: a list of flows, looked through from end to end for each packet.
//!
//! It follows the text of definitions.md rule by rule, shares no code with the table, and is compared with
//! it on random packet sequences.

use proptest::prelude::*;

use super::*;
use crate::time::TableTime;

const SECOND: i64 = 1_000;

#[derive(Clone, Copy)]
struct Timeouts {
    idle: i64,
    active: i64,
}

/// A flow as a list of its packets; the slices already written are cut off.
struct ModelFlow {
    packets: Vec<Shot>,
    /// The newest packet time and the latest table time of the whole flow.
    newest: i64,
    touched: i64,
    slice: u32,
    closed: Option<(&'static str, i64)>,
    fins: [bool; 2],
    last_syn: Option<u32>,
    src: u8,
    rule: usize,
    turned: bool,
}

/// What is compared: due, reason, src, rule, slice, final, first, last, and packets and bytes each way.
type Line = (u64, i64, &'static str, u8, u16, &'static str, u32, bool, i64, i64, [u64; 4]);

const RULES: [&str; 7] = ["syn", "syn_ack", "carried", "app", "port", "multicast", "first"];

fn is_syn(shot: &Shot) -> bool {
    shot.flags.is_some_and(|flags| flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK))
}

fn is_syn_ack(shot: &Shot) -> bool {
    shot.flags.is_some_and(|flags| flags.contains(TcpFlags::SYN) && flags.contains(TcpFlags::ACK))
}

impl ModelFlow {
    fn end_by(&self, now: i64, timeouts: Timeouts) -> Option<(&'static str, i64)> {
        let idle_due = (self.newest + timeouts.idle).max(self.touched);
        let mut due = idle_due;
        if let Some((_, at)) = self.closed {
            due = due.min(at + 5 * SECOND);
        }
        let idle = now - self.newest > timeouts.idle;
        let lingered = self.closed.is_some_and(|(_, at)| now - at > 5 * SECOND);
        (idle || lingered).then(|| (self.closed.map_or("idle", |closed| closed.0), due))
    }

    fn line(&self, epoch: u64, due: i64, reason: &'static str) -> Line {
        let mut sums = [0; 4];
        for shot in &self.packets {
            let back = usize::from(shot.from != self.src);
            sums[back] += 1;
            sums[2 + back] += u64::from(shot.wire_len);
        }
        let first = self.packets.iter().map(|shot| shot.millis).min().unwrap();
        let last = self.packets.iter().map(|shot| shot.millis).max().unwrap();
        let port = self.packets.iter().map(|shot| shot.sport.min(shot.dport)).min().unwrap();
        let is_final = reason != "active";
        (epoch, due, reason, self.src, port, RULES[self.rule], self.slice, is_final, first, last, sums)
    }

    fn orient(&mut self, shot: &Shot, opens: bool) {
        let (rule, src) = if is_syn(shot) {
            (0, shot.from)
        } else if is_syn_ack(shot) {
            (1, shot.to)
        } else {
            return;
        };
        if rule >= self.rule {
            return;
        }
        if src != self.src {
            if !opens && (self.turned || self.slice > 0) {
                return;
            }
            self.src = src;
            self.turned |= !opens;
        }
        self.rule = rule;
    }
}

fn model(shots: &[Shot], timeouts: Timeouts) -> Vec<Line> {
    let mut flows: Vec<ModelFlow> = Vec::new();
    let mut lines = Vec::new();
    let (mut now, mut epoch) = (shots.first().map_or(0, |shot| shot.millis), 0);
    for shot in shots {
        if now - shot.millis > timeouts.idle {
            for flow in flows.drain(..) {
                let (reason, due) =
                    flow.end_by(now, timeouts).unwrap_or((flow.closed.map_or("eof", |closed| closed.0), now));
                lines.push(flow.line(epoch, due, reason));
            }
            now = shot.millis;
            epoch += 1;
        }
        now = now.max(shot.millis);
        // Whoever is silent for too long ends, whether a packet of his comes or not.
        flows.retain(|flow| match flow.end_by(now, timeouts) {
            Some((reason, due)) => {
                lines.push(flow.line(epoch, due, reason));
                false
            }
            None => true,
        });
        let ports = (shot.sport.min(shot.dport), shot.proto);
        let same = |flow: &ModelFlow| {
            let first = &flow.packets[0];
            (first.sport.min(first.dport), first.proto) == ports
        };
        let mut found = flows.iter().position(same);
        if let Some(nth) = found {
            let flow = &flows[nth];
            if is_syn(shot) && flow.last_syn != Some(shot.seq) {
                let reason = match flow.closed {
                    Some((reason, _)) => Some(reason),
                    None => (now - flow.newest >= 5 * SECOND).then_some("reuse"),
                };
                if let Some(reason) = reason {
                    lines.push(flow.line(epoch, now, reason));
                    flows.remove(nth);
                    found = None;
                }
            }
        }
        let opens = found.is_none();
        let nth = found.unwrap_or_else(|| {
            flows.push(ModelFlow {
                packets: Vec::new(),
                newest: shot.millis,
                touched: now,
                slice: 0,
                closed: None,
                fins: [false; 2],
                last_syn: None,
                src: shot.from,
                rule: 6,
                turned: false,
            });
            flows.len() - 1
        });
        let flow = &mut flows[nth];
        if !opens && now - flow.packets[0].millis > timeouts.active {
            lines.push(flow.line(epoch, now, "active"));
            flow.packets.clear();
            flow.slice += 1;
            flow.rule = flow.rule.min(2);
        }
        flow.orient(shot, opens);
        flow.packets.push(shot.clone());
        flow.newest = flow.newest.max(shot.millis);
        flow.touched = now;
        if is_syn(shot) {
            flow.last_syn = Some(shot.seq);
        }
        if let Some(flags) = shot.flags {
            flow.fins[usize::from(shot.from == SERVER)] |= flags.contains(TcpFlags::FIN);
            if flow.closed.is_none() {
                if flags.contains(TcpFlags::RST) {
                    flow.closed = Some(("rst", now));
                } else if flow.fins == [true; 2] {
                    flow.closed = Some(("fin", now));
                }
            }
        }
    }
    for flow in flows {
        let (reason, due) =
            flow.end_by(now, timeouts).unwrap_or((flow.closed.map_or("eof", |closed| closed.0), now));
        lines.push(flow.line(epoch, due, reason));
    }
    lines.sort();
    lines
}

/// The same lines from the table; `sweep` is told the time in steps of so many milliseconds between packets.
fn table(shots: &[Shot], timeouts: Timeouts, sweep: Option<i64>) -> Vec<Line> {
    let seconds = |millis: i64| Duration::from_millis(millis as u64);
    let mut bench = Bench::new(TableOptions {
        idle: IdleTimeouts::all(seconds(timeouts.idle)),
        active: Some(seconds(timeouts.active)),
        ..TableOptions::default()
    });
    for shot in shots {
        if let Some(step) = sweep {
            let now = bench.clock.now();
            for millis in (now.time.as_nanos() / 1_000_000..=shot.millis).step_by(step as usize) {
                let now = TableTime { time: at(millis), ..now };
                bench.table.expire(now, |record| bench.out.push(record));
            }
        }
        bench.shoot(shot);
    }
    let millis = |time: Timestamp| time.as_nanos() / 1_000_000;
    let mut lines: Vec<Line> = bench
        .end()
        .iter()
        .map(|record| {
            let volume = &record.features.volume;
            let (src, dst) = (record.key.endpoint(record.src), record.key.endpoint(record.src.other()));
            let host = match src.addr {
                std::net::IpAddr::V4(addr) => addr.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            };
            (
                record.due.epoch,
                millis(record.due.time),
                record.end_reason.name(),
                host,
                src.port.min(dst.port).unwrap(),
                record.orientation.name(),
                record.slice,
                record.is_final,
                millis(record.first),
                millis(record.last),
                [volume.src.packets, volume.dst.packets, volume.src.bytes, volume.dst.bytes],
            )
        })
        .collect();
    lines.sort();
    lines
}

fn any_shot() -> impl Strategy<Value = (i64, Shot)> {
    let flags = prop_oneof![
        4 => Just(TcpFlags::ACK),
        2 => Just(TcpFlags::SYN),
        1 => Just(SYN_ACK),
        1 => Just(FIN_ACK),
        1 => Just(TcpFlags::RST),
    ];
    let gap = prop_oneof![
        6 => 0..2_000i64,
        3 => -3_000..12_000i64,
        1 => -30_000..60_000i64,
        1 => prop::sample::select(vec![4_999, 5_000, 5_001, 9_999, 10_000, 10_001, 20_000, 20_001]),
    ];
    (gap, 0..3u16, any::<bool>(), prop::option::weighted(0.7, flags), 0..3u32, 60..1500u32).prop_map(
        |(gap, flow, back, flags, seq, wire_len)| {
            let proto = if flags.is_some() { Proto::TCP } else { Proto::UDP };
            let shot = Shot { sport: 2000 + flow, flags, proto, seq, wire_len, ..udp(0) };
            (gap, if back { shot.back() } else { shot })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn table_and_model_agree(
        steps in prop::collection::vec(any_shot(), 1..60),
        idle in prop::sample::select(vec![3_000, 10_000, 20_000i64]),
        active in prop::sample::select(vec![5_000, 20_000, 1_000_000i64]),
    ) {
        let mut millis = 1_000_000;
        let shots: Vec<Shot> = steps
            .into_iter()
            .map(|(gap, shot)| {
                millis += gap;
                Shot { millis, ..shot }
            })
            .collect();
        let timeouts = Timeouts { idle, active };
        let expected = model(&shots, timeouts);
        prop_assert_eq!(&table(&shots, timeouts, None), &expected);
        prop_assert_eq!(&table(&shots, timeouts, Some(97)), &expected);
    }
}
