//! Many small flows: 40 % DNS exchanges, 30 % SYN scans, 30 % short TCP conversations; a fifth of DNS and TCP over IPv6.

use crate::flow::{Carriage, Flow, Options};
use crate::pools::Content;
use crate::rng::Rng;
use crate::script::{Said, Side, Writer, flags};
use crate::shapes::places::{Place, ends, known};
use crate::words::{Question, dns_query, dns_response, host_name};

/// Writes one flow; no frame of it is longer than 100 bytes.
pub(super) fn write(index: u32, rng: &mut Rng, flow: &mut Flow) {
    let place = Place::new(index);
    match rng.below(1000) {
        0..400 => dns(place, rng, flow),
        400..430 => scan(place, rng, flow, "scan open"),
        430..577 => scan(place, rng, flow, "scan closed"),
        577..700 => scan(place, rng, flow, "scan filtered"),
        _ => conversation(place, rng, flow),
    }
}

fn dns(place: Place, rng: &mut Rng, flow: &mut Flow) {
    let ipv6 = rng.chance(200);
    let (kind, question) = if ipv6 { ("dns6", Question::Aaaa) } else { ("dns4", Question::A) };
    let server = known(rng.between(1, 8) as u8, ipv6);
    flow.renew(kind, ends(place.client(ipv6), place.port, server, 53), Carriage::Udp, [0, 0]);
    let query = dns_query(rng.bits() as u16, &host_name(rng), question);
    let found = !ipv6 && rng.chance(800);
    let address = (rng.bits() as u32).to_be_bytes();
    let response = dns_response(&query, found.then_some(&address), 300);
    let rtt = rng.between(1_000, 60_000);
    let mut script = Writer::new(flow, rng, rtt);
    script.say(Side::Client, 0, &query);
    let gap = script.round_trip();
    script.say(Side::Server, gap, &response);
}

fn scan(place: Place, rng: &mut Rng, flow: &mut Flow, kind: &'static str) {
    let scanner = known(rng.between(200, 207) as u8, false);
    let port = rng.between(1, 10_000) as u16;
    let server = if kind == "scan closed" { 0 } else { rng.bits() as u32 };
    let carriage = Carriage::Tcp(Options::Scanner);
    flow.renew(
        kind,
        ends(scanner, place.port, place.server(false), port),
        carriage,
        [rng.bits() as u32, server],
    );
    let rtt = rng.between(5_000, 80_000);
    let mut script = Writer::new(flow, rng, rtt);
    script.step(0, Side::Client, flags::SYN, Said::NOTHING);
    let gap = script.round_trip();
    match kind {
        "scan open" => {
            script.step(gap, Side::Server, flags::SYN | flags::ACK, Said::NOTHING);
            script.step(300, Side::Client, flags::RST, Said::NOTHING);
        }
        "scan closed" => script.step(gap, Side::Server, flags::RST | flags::ACK, Said::NOTHING),
        _ => script.again(1_000_000),
    }
}

fn conversation(place: Place, rng: &mut Rng, flow: &mut Flow) {
    let ipv6 = rng.chance(200);
    let (kind, most) = if ipv6 { ("tcp6", 26) } else { ("tcp4", 46) };
    let port = rng.pick(&[22, 80, 443, 3306, 5432, 6379]);
    let server = Place::new(rng.bits() as u32).server(ipv6);
    let seq = [rng.bits() as u32, rng.bits() as u32];
    flow.renew(kind, ends(place.client(ipv6), place.port, server, port), Carriage::Tcp(Options::Short), seq);
    let rtt = rng.between(1_000, 60_000);
    let mut script = Writer::new(flow, rng, rtt);
    script.handshake();
    for _ in 0..script.rng().between(1, 4) {
        let (gap, at, length) =
            (script.pause(40_000), script.rng().bits() as u32, script.rng().between(2, most));
        let flags = flags::PSH | flags::ACK;
        script.step(gap, Side::Client, flags, Said { content: Content::Random, at, len: length as u16 });
        let (gap, at, length) =
            (script.round_trip(), script.rng().bits() as u32, script.rng().between(2, most));
        script.step(gap, Side::Server, flags, Said { content: Content::Text, at, len: length as u16 });
        let gap = script.pause(10_000);
        script.acknowledge(Side::Client, gap);
    }
    let orderly = script.rng().chance(850);
    script.close(orderly);
}
