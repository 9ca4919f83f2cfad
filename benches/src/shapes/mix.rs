//! A site's uplink: web, names, calls, terminals and what else is on a wire, with heavy-tailed sizes and pauses.
//!
//! Of the packets, 28 % are full segments and half are below 160 bytes; 15 % of the flows go over IPv6 and 4 %
//! have a VLAN tag.

use crate::flow::{Carriage, Flow, Options};
use crate::pools::Content;
use crate::rng::Rng;
use crate::script::{Said, Side, Writer, flags};
use crate::shapes::places::{Place, ends, known};
use crate::wire::Ends;
use crate::words::{self, Question};

/// Writes one flow.
pub(super) fn write(index: u32, rng: &mut Rng, flow: &mut Flow) {
    let place = Place::new(index);
    let (kind, carriage, port, script) = kind_of(rng.below(1000));
    let ipv6 = carriage != Carriage::Arp && rng.chance(150);
    let mut ends = ends_of(place, rng, kind, ipv6, port);
    ends.vlan = rng.chance(40).then(|| 100 + rng.below(4) as u16);
    if kind == "arp" {
        ends.vlan = None;
    }
    let server = if kind == "refused" { 0 } else { rng.bits() as u32 };
    flow.renew(kind, ends, carriage, [rng.bits() as u32, server]);
    let rtt = rng.heavy(2_000, 6);
    script(&mut Writer::new(flow, rng, rtt));
}

/// Returns kind, carriage, server port and script for a number below 1000.
const fn kind_of(drawn: u32) -> (&'static str, Carriage, u16, fn(&mut Writer<'_>)) {
    const TCP: Carriage = Carriage::Tcp(Options::Stamps);
    match drawn {
        0..210 => ("tls", TCP, 443, tls),
        210..320 => ("http", TCP, 80, http),
        320..330 => ("terminal", TCP, 22, terminal),
        330..350 => ("mail", TCP, 25, mail),
        350..390 => ("refused", TCP, 8080, refused),
        390..770 => ("dns", Carriage::Udp, 53, dns),
        770..840 => ("quic", Carriage::Udp, 443, quic),
        840..844 => ("call", Carriage::Udp, 4000, call),
        844..890 => ("ntp", Carriage::Udp, 123, ntp),
        890..940 => ("ping", Carriage::Echo, 0, ping),
        940..978 => ("discovery", Carriage::Udp, 1900, discovery),
        978..980 => ("esp", Carriage::Esp, 0, sealed),
        _ => ("arp", Carriage::Arp, 0, arp),
    }
}

fn ends_of(place: Place, rng: &mut Rng, kind: &str, ipv6: bool, port: u16) -> Ends {
    let server = match kind {
        "dns" | "ntp" | "arp" => known(rng.between(1, 8) as u8, ipv6),
        "discovery" if ipv6 => std::net::Ipv6Addr::new(0xFF02, 0, 0, 0, 0, 0, 0, 0xC).into(),
        "discovery" => std::net::Ipv4Addr::new(239, 255, 255, 250).into(),
        "ping" | "esp" => place.server_of_port(ipv6),
        _ => Place::new(rng.heavy(1, 20)).server(ipv6),
    };
    ends(place.client(ipv6), place.port, server, port)
}

fn tls(script: &mut Writer<'_>) {
    let name = words::host_name(script.rng());
    let (hello, answer) = (words::client_hello(script.rng(), &name), words::server_hello(script.rng()));
    script.handshake();
    script.say(Side::Client, 400, &hello);
    let (gap, at) = (script.round_trip(), script.rng().bits() as u32);
    script.say(Side::Server, gap, &answer);
    let certificate = script.rng().between(1_200, 4_200);
    script.stream(Side::Server, 60, Content::Tls, at, certificate);
    script.stream(Side::Client, 800, Content::Tls, at, 80);
    for _ in 0..script.rng().between(1, 3) {
        exchange(script, Content::Tls, (120, 3), (800, 13));
    }
    let orderly = script.rng().chance(850);
    script.close(orderly);
}

fn http(script: &mut Writer<'_>) {
    let host = words::host_name(script.rng());
    script.handshake();
    for _ in 0..script.rng().between(1, 4) {
        let (request, body, at) = (
            words::http_request(script.rng(), &host),
            script.rng().heavy(300, 13),
            script.rng().bits() as u32,
        );
        let head = words::http_response(script.rng(), body);
        let gap = think(script);
        script.say(Side::Client, gap, &request);
        let gap = script.round_trip();
        script.say(Side::Server, gap, &head);
        let content = script.rng().pick(&[Content::Text, Content::Text, Content::Random, Content::Base64]);
        script.stream(Side::Server, 30, content, at, body);
    }
    let orderly = script.rng().chance(850);
    script.close(orderly);
}

fn terminal(script: &mut Writer<'_>) {
    script.handshake();
    script.say(Side::Server, 3_000, b"SSH-2.0-OpenSSH_9.2p1\r\n");
    script.say(Side::Client, 900, b"SSH-2.0-OpenSSH_9.6\r\n");
    for _ in 0..script.rng().heavy(4, 3) {
        exchange(script, Content::Random, (36, 1), (36, 4));
    }
    script.close(true);
}

fn mail(script: &mut Writer<'_>) {
    let (from, to) = (words::host_name(script.rng()), words::host_name(script.rng()));
    script.handshake();
    script.say(Side::Server, 20_000, format!("220 {to} ESMTP\r\n").as_bytes());
    for (line, answer) in [
        (format!("EHLO {from}\r\n"), "250-PIPELINING\r\n250 8BITMIME\r\n"),
        (format!("MAIL FROM:<news@{from}>\r\n"), "250 2.1.0 Ok\r\n"),
        (format!("RCPT TO:<post@{to}>\r\n"), "250 2.1.5 Ok\r\n"),
        ("DATA\r\n".to_owned(), "354 End data with <CR><LF>.<CR><LF>\r\n"),
    ] {
        let gap = script.pause(2_000);
        script.say(Side::Client, gap, line.as_bytes());
        let gap = script.round_trip();
        script.say(Side::Server, gap, answer.as_bytes());
    }
    let (body, at) = (script.rng().heavy(1_500, 9), script.rng().bits() as u32);
    script.stream(Side::Client, 800, Content::Base64, at, body);
    script.say(Side::Server, 9_000, b"250 2.0.0 Ok: queued\r\n");
    script.close(true);
}

fn refused(script: &mut Writer<'_>) {
    script.step(0, Side::Client, flags::SYN, Said::NOTHING);
    if script.rng().chance(500) {
        let gap = script.round_trip();
        script.step(gap, Side::Server, flags::RST | flags::ACK, Said::NOTHING);
    } else {
        [1_000_000, 2_000_000, 4_000_000].into_iter().for_each(|gap| script.again(gap));
    }
}

fn dns(script: &mut Writer<'_>) {
    let name = words::host_name(script.rng());
    let (question, length) = script.rng().pick(&[(Question::A, 4), (Question::A, 4), (Question::Aaaa, 16)]);
    let query = words::dns_query(script.rng().bits() as u16, &name, question);
    let mut address = [0x20; 16];
    script.rng().fill(&mut address[4..]);
    let found = script.rng().chance(900).then_some(&address[..length]);
    let response = words::dns_response(&query, found, script.rng().below(3600));
    script.say(Side::Client, 0, &query);
    let gap = script.round_trip();
    script.say(Side::Server, gap, &response);
}

fn quic(script: &mut Writer<'_>) {
    let (hello, answer) = (words::quic_initial(script.rng(), 1200), words::quic_initial(script.rng(), 1200));
    script.say(Side::Client, 0, &hello);
    let gap = script.round_trip();
    script.say(Side::Server, gap, &answer);
    let random = |at, len| Said { content: Content::Random, at, len };
    for _ in 0..script.rng().between(1, 4) {
        let (gap, length, at) = (think(script), script.rng().between(60, 600), script.rng().bits() as u32);
        script.datagram(Side::Client, gap, random(at, length as u16));
        let mut gap = script.round_trip();
        for number in 1..=script.rng().heavy(2, 9) {
            script.datagram(Side::Server, gap, random(at.wrapping_add(number * 1252), 1252));
            if number % 2 == 0 {
                script.datagram(Side::Client, 9, random(at, 35));
            }
            gap = if number % 32 == 0 { script.round_trip() } else { 40 };
        }
    }
}

fn call(script: &mut Writer<'_>) {
    for _ in 0..script.rng().heavy(50, 3) {
        for by in [Side::Client, Side::Server] {
            let at = script.rng().bits() as u32;
            let gap = 9_900 + script.rng().below(200);
            script.datagram(by, gap, Said { content: Content::Records, at, len: 172 });
        }
    }
}

fn ntp(script: &mut Writer<'_>) {
    let (question, answer) = (words::ntp(script.rng(), false), words::ntp(script.rng(), true));
    script.say(Side::Client, 0, &question);
    let gap = script.round_trip();
    script.say(Side::Server, gap, &answer);
}

fn ping(script: &mut Writer<'_>) {
    for _ in 0..script.rng().heavy(1, 3) {
        let said = Said { content: Content::Records, at: 32 * 64, len: 56 };
        script.datagram(Side::Client, 1_000_000, said);
        let gap = script.round_trip();
        script.datagram(Side::Server, gap, said);
    }
}

fn discovery(script: &mut Writer<'_>) {
    let search = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\
                   ST: urn:schemas-upnp-org:device:MediaServer:1\r\n\r\n";
    [0, 1_000_000, 1_000_000].into_iter().for_each(|gap| script.say(Side::Client, gap, search));
}

fn sealed(script: &mut Writer<'_>) {
    for _ in 0..script.rng().heavy(10, 4) {
        let (at, blocks, gap) = (script.rng().bits() as u32, script.rng().heavy(4, 4), script.pause(200_000));
        let by = script.rng().pick(&[Side::Client, Side::Server]);
        script.datagram(by, gap, Said { content: Content::Random, at, len: (blocks * 16).min(1_440) as u16 });
    }
}

fn arp(script: &mut Writer<'_>) {
    script.datagram(Side::Client, 0, Said::NOTHING);
    script.datagram(Side::Server, 300, Said::NOTHING);
}

/// Adds a request and its response, each with a heavy-tailed size (least bytes, doublings).
fn exchange(script: &mut Writer<'_>, content: Content, request: (u32, u32), response: (u32, u32)) {
    let (asked, answered) =
        (script.rng().heavy(request.0, request.1), script.rng().heavy(response.0, response.1));
    let at = script.rng().bits() as u32;
    let gap = think(script);
    script.stream(Side::Client, gap, content, at, asked);
    let gap = script.round_trip();
    script.stream(Side::Server, gap, content, at, answered);
}

/// Returns how long a person or a program does nothing.
fn think(script: &mut Writer<'_>) -> u32 {
    script.rng().heavy(40_000, 9)
}
