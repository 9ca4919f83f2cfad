//! Whatever the times are: where the lives of the sockets at a tuple do not overlap, no flow gets another's owner.

use proptest::prelude::*;

use super::super::{Attribution, FlowEnd, IndexLimits, IndexWriter, LocalAddresses, SocketIndex};
use super::*;
use crate::host::{Query, Socket, SocketKind, SocketState};
use crate::record::Who;

/// A socket at the tuple: when it was opened and closed, and what of that was seen.
#[derive(Clone, Debug)]
struct Life {
    opened: i64,
    closed: i64,
    /// When it was first and last seen to be there, if ever.
    seen: Option<(i64, i64)>,
    /// Whether its end was seen.
    end_seen: bool,
    /// Whether the first sight was the answer to a packet of this age.
    asked: Option<i64>,
}

/// Lives one after the other, with a gap between.
fn lives() -> impl Strategy<Value = Vec<Life>> {
    let one = (
        1..400i64,
        1..400i64,
        prop::option::of((0.0..1.0f64, 0.0..1.0f64)),
        any::<bool>(),
        prop::option::of(0.0..1.0f64),
    );
    prop::collection::vec(one, 1..6).prop_map(|parts| {
        let mut now = 0;
        let life =
            |(gap, length, seen, end_seen, asked): (i64, i64, Option<(f64, f64)>, bool, Option<f64>)| {
                let opened = now + gap;
                let closed = opened + length;
                now = closed;
                let within = |share: f64| opened + (share * length as f64) as i64;
                let seen = seen.map(|(a, b)| (within(a.min(b)), within(a.max(b))));
                // The packet that asks is the socket's own: it was sent while the socket was there.
                let asked = seen
                    .zip(asked)
                    .map(|((first, _), share)| opened + (share * (first - opened) as f64) as i64);
                Life { opened, closed, seen, end_seen, asked }
            };
        parts.into_iter().map(life).collect()
    })
}

/// What an honest observer has written down: the end is known, or taken to be where the socket was last seen.
fn recorded(lives: &[Life], proto: Proto, is: SightedAs) -> Vec<SightedSocket> {
    let sockets = lives.iter().zip(1u32..).map(|(life, number)| {
        let unseen = SightedSocket {
            proto,
            is,
            asked: None,
            answered: None,
            valid_from: Timestamp::MIN,
            seen: at(life.closed),
            valid_to: Some(at(life.closed)),
            owner: None,
            ..connection(number.into(), Owner::NoProcess)
        };
        match life.seen {
            None => life.end_seen.then_some(unseen),
            Some((first, last)) => Some(SightedSocket {
                asked: life.asked.map(at),
                answered: life.asked.map(|_| at(first)),
                valid_from: at(first),
                seen: at(last),
                valid_to: Some(at(if life.end_seen { life.closed } else { last })),
                owner: Some(process(number, "owner")),
                ..unseen
            }),
        }
    });
    sockets.flatten().collect()
}

/// What is told of the socket `number` of connections that begin with each life, by when it is told: at most one
/// answer or sight, and the notice of its end, late by up to `lag`.
fn tellings(lives: &[Life], lags: &[i64]) -> Vec<(i64, usize, bool)> {
    let mut told = Vec::new();
    for (nth, (life, lag)) in lives.iter().zip(lags).enumerate() {
        told.extend(life.seen.map(|(first, _)| (first, nth, true)));
        told.extend(life.end_seen.then_some((life.closed + lag, nth, false)));
    }
    told.sort();
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn late_notices_give_no_connection_to_another(
        lives in lives(),
        lags in prop::collection::vec(0..900i64, 6),
    ) {
        let (local, remote) = (end("192.0.2.1:40000"), end("198.51.100.2:443"));
        let query = Query { proto: Proto::TCP, local, remote, interface: 0 };
        let mut writer = IndexWriter::new(IndexLimits::default());
        for (now, nth, is_there) in tellings(&lives, &lags) {
            let socket = Socket {
                kind: SocketKind::Tcp,
                local,
                remote: Some(remote),
                state: SocketState::Established,
                uid: 0,
                inode: nth as u64 + 100,
                cookie: nth as u64 + 1,
                netns: 0,
                interface: 0,
                cgroup: None,
            };
            let owner = Some(process(nth as u32 + 1, "owner"));
            match (is_there, lives[nth].asked) {
                (false, _) => writer.closed(&socket, at(now), at(now)),
                (true, None) => writer.seen(&socket, at(now), owner),
                (true, Some(_)) => {
                    writer.answered(&query, &socket, SightedAs::Exact, at(lives[nth].opened), at(now), owner);
                }
            }
            // Whatever was told until now.
            for (number, life) in lives.iter().enumerate() {
                for last in [life.opened, life.closed] {
                    let (first, last) = (at(life.opened), at(last));
                    let flow = FlowEnd {
                        proto: Proto::TCP, local, remote, opened: true, begun: Some(first), first, last,
                    };
                    let named = Attribution::live(writer.index(), LocalAddresses::default()).owner(&flow);
                    if let Ok(owner) = named {
                        let Who::Process(process) = &owner.who else { panic!("{owner:?}") };
                        prop_assert_eq!(process.pid, number as u32 + 1, "{:?} of {:?} {:?}", life, lives, lags);
                    } else {
                        // What answered for its first packet is named from then on.
                        let answered = life.seen.filter(|_| life.asked.is_some());
                        let came_late = |told: i64| told >= now || at(told) > last;
                        prop_assert!(answered.is_none_or(|(told, _)| came_late(told)), "{:?} of {:?} {:?}", life, lives, lags);
                    }
                }
            }
        }
    }

    #[test]
    fn no_flow_gets_the_owner_of_another(
        lives in lives(),
        nth in any::<prop::sample::Index>(),
        times in (0.0..1.0f64, 0.0..1.0f64),
        order in any::<u64>(),
    ) {
        let (life, number) = (nth.get(&lives), nth.index(lives.len()) as u32 + 1);
        let within = |share: f64| at(life.opened + (share * (life.closed - life.opened) as f64) as i64);
        let (first, last) = (within(times.0.min(times.1)), within(times.0.max(times.1)));
        let mut sockets = recorded(&lives, Proto::TCP, SightedAs::Exact);
        let turn = order as usize % sockets.len().max(1);
        sockets.rotate_left(turn);
        let flow = FlowEnd {
            proto: Proto::TCP,
            local: end("192.0.2.1:40000"),
            remote: end("198.51.100.2:443"),
            opened: true,
            begun: None,
            first,
            last,
        };
        let index = SocketIndex::recorded(sockets);
        let named = Attribution::live(index, LocalAddresses::default()).owner(&flow);
        if let Ok(owner) = &named {
            let Who::Process(process) = &owner.who else { panic!("{owner:?}") };
            prop_assert_eq!(process.pid, number, "{:?} in {:?}", flow, lives);
        }
        // Where it was seen at the flow's first packet or asked for by it, it is named.
        let seen = life.seen.is_some_and(|(from, to)| at(from) <= first && first <= at(to));
        prop_assert!(!seen || named.is_ok(), "{:?} in {:?}", flow, lives);
    }

    #[test]
    fn datagrams_too_where_every_end_is_seen(
        mut lives in lives(),
        nth in any::<prop::sample::Index>(),
        times in (0.0..1.0f64, 0.0..1.0f64),
    ) {
        lives.iter_mut().for_each(|life| life.end_seen = true);
        let (life, number) = (nth.get(&lives), nth.index(lives.len()) as u32 + 1);
        let within = |share: f64| at(life.opened + (share * (life.closed - life.opened) as f64) as i64);
        let (first, last) = (within(times.0.min(times.1)), within(times.0.max(times.1)));
        let flow = FlowEnd {
            proto: Proto::UDP,
            local: end("192.0.2.1:40000"),
            remote: end("198.51.100.2:443"),
            opened: true,
            begun: None,
            first,
            last,
        };
        let index = SocketIndex::recorded(recorded(&lives, Proto::UDP, SightedAs::Local));
        if let Ok(owner) = Attribution::live(index, LocalAddresses::default()).owner(&flow) {
            let Who::Process(process) = &owner.who else { panic!("{owner:?}") };
            prop_assert_eq!(process.pid, number, "{:?} in {:?}", flow, lives);
        }
    }
}
