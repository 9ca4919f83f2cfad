#!/usr/bin/env python3
"""Writes the captures that are made and not recorded: `synthetic.py` writes all into ../captures,
`synthetic.py --check` compares what lies there with what it would write. Each function below is one capture; its
docstring says what the capture holds. The bytes are the same on every run."""

import hashlib
import pathlib
import struct
import sys
import tempfile

from frames import *

SECOND = 10**9
MILLI = 10**6
START = 1_700_000_000 * SECOND
CAPTURES = {}


def capture(function):
    title = function.__name__ + (".pcapng" if function.__name__.startswith("ng_") else ".pcap")
    CAPTURES[title] = function
    return function


class Tcp:
    """One TCP connection: keeps numbers and clock, collects (time, frame)."""

    def __init__(self, start=START, client=(A, 40000), server=(B, 80), step=10 * MILLI, isn=(1000, 9000), wrap=ethernet):
        self.packets, self.time, self.step, self.wrap = [], start, step, wrap
        self.ends = {"c": client, "s": server}
        self.next = dict(zip("cs", isn))

    def send(self, side, flags, payload=b"", back=0, skip=0, step=None, keep=True, **more):
        """`back` sends from before the next number (a retransmission); `skip` leaves a hole in front."""
        other = "s" if side == "c" else "c"
        seq = self.next[side] - back + skip
        ack = self.next[other] if flags & ACK else 0
        packet = tcp(*self.ends[side], *self.ends[other], flags, seq, ack, payload, **more)
        self.time += self.step if step is None else step
        self.packets.append((self.time, self.wrap(packet)))
        if keep and not back and not skip:
            self.next[side] += len(payload) + bool(flags & SYN) + bool(flags & FIN)
        return self

    def open(self):
        mss = struct.pack("!BBH", 2, 4, 1460) + b"\1\3\3\7"
        return self.send("c", SYN, options=mss).send("s", SYN | ACK, options=mss, window=65160).send("c", ACK)

    def close(self):
        return self.send("c", FIN | ACK).send("s", FIN | ACK).send("c", ACK)


def text(length, start=0):
    return bytes(97 + (start + i) % 26 for i in range(length))


def noise(length, seed):
    """Bytes that look random and are the same on every run."""
    blocks = (hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def query_and_answer(ident=7, title="www.example.com", sport=53000, src=A, dst=B):
    asked = question(title, 1)
    query = dns(ident, 0x0100, [asked])
    response = dns(ident, 0x8180, [asked], [answer(pointer(12), 1, 300, packed("203.0.113.7"))])
    return udp(src, sport, dst, 53, query), udp(dst, 53, src, sport, response)


def every(step, frames, start=START):
    return [(start + i * step, frame) for i, frame in enumerate(frames)]


@capture
def tcp_whole(path):
    """A handshake, a request, an answer of three segments, an orderly close."""
    flow = Tcp().open().send("c", PSH | ACK, text(120)).send("s", ACK)
    for part in range(3):
        flow.send("s", PSH | ACK, text(1000, part))
    pcap(path, flow.send("c", ACK).close().packets)


@capture
def tcp_loss(path):
    """Retransmission, a hole and the segment that fills it, a keep-alive, a zero window; numbers pass 2^32."""
    flow = Tcp(isn=(2**32 - 150, 2**32 - 1500)).open().send("c", PSH | ACK, text(200))
    flow.send("c", PSH | ACK, text(200), back=200, step=SECOND).send("s", ACK)
    flow.send("s", ACK, text(700), skip=700).send("c", ACK).send("s", ACK, text(700), keep=False)
    flow.next["s"] += 1400
    flow.send("c", ACK, window=0).send("s", ACK, b"\0", back=1, step=5 * SECOND).send("c", ACK)
    pcap(path, flow.close().packets)


@capture
def tcp_ends(path):
    """A refused SYN, a SYN without answer, a SYN-ACK never acknowledged, a reset from each side, a half close."""
    packets = Tcp(client=(A, 41001)).send("c", SYN).send("s", RST | ACK).packets
    packets += Tcp(client=(A, 41002)).send("c", SYN).send("c", SYN, back=1, step=SECOND).send("c", SYN, back=1, step=2 * SECOND).packets
    packets += Tcp(client=(A, 41003)).send("c", SYN).send("s", SYN | ACK).packets
    packets += Tcp(client=(A, 41004)).open().send("c", PSH | ACK, text(50)).send("c", RST | ACK).packets
    packets += Tcp(client=(A, 41005)).open().send("c", PSH | ACK, text(50)).send("s", RST, payload=b"go away").packets
    half = Tcp(client=(A, 41006)).open().send("c", FIN | ACK).send("s", ACK)
    packets += half.send("s", PSH | ACK, text(500)).send("c", ACK).send("s", FIN | ACK).send("c", ACK).packets
    pcap(path, sorted(packets, key=lambda packet: packet[0]))


@capture
def tcp_reuse(path):
    """One five-tuple, three connections: closed, again after 1 s, left alone, again after 20 s."""
    first = Tcp().open().send("c", PSH | ACK, text(10)).close()
    second = Tcp(start=first.time + SECOND, isn=(500_000, 900_000)).open().send("c", PSH | ACK, text(20))
    third = Tcp(start=second.time + 20 * SECOND, isn=(5_000_000, 9_000_000)).open().send("c", PSH | ACK, text(30)).close()
    pcap(path, first.packets + second.packets + third.packets)


@capture
def tcp_midstream(path):
    """No handshake; the server's end is seen first, and only its port tells that it is one."""
    flow = Tcp(server=(B, 443)).send("s", PSH | ACK, noise(900, 1)).send("c", ACK).send("c", PSH | ACK, noise(200, 2))
    pcap(path, flow.send("s", ACK).packets)


@capture
def tcp_long(path):
    """A connection of 25 minutes with a packet every 30 s: the active timeout cuts it."""
    flow = Tcp(server=(B6, 5432), client=(A6, 40000)).open()
    for part in range(50):
        flow.send("cs"[part % 2], PSH | ACK, text(40, part), step=30 * SECOND)
    pcap(path, flow.close().packets)


@capture
def tcp_scan(path):
    """One SYN to each of 60 ports; every tenth is refused."""
    packets = []
    for port in range(1, 61):
        flow = Tcp(start=START + port * MILLI, client=(A, 50000), server=(B, port)).send("c", SYN)
        packets += (flow.send("s", RST | ACK) if port % 10 == 0 else flow).packets
    pcap(path, sorted(packets, key=lambda packet: packet[0]))


@capture
def udp_idle(path):
    """One five-tuple with gaps of 59 s, 60 s and 60 s + 1 us: only the last is greater than the idle timeout."""
    times = [0, 59 * SECOND, 119 * SECOND, 179 * SECOND + 1000, 180 * SECOND]
    frame = ethernet(udp(A, 5000, B, 6000, text(32)))
    pcap(path, [(START + time, frame) for time in times])


@capture
def udp_entropy(path):
    """Payloads of known entropy: every byte value once (8 bits), one value (0), two values (1), none."""
    payloads = {7001: bytes(range(256)), 7002: b"a" * 100, 7003: b"ab" * 50, 7004: b""}
    pcap(path, every(MILLI, [ethernet(udp(A, port, B, 9999, payload)) for port, payload in payloads.items()]))


@capture
def udp_direction(path):
    """Who asked: a service's port, a multicast address, the first packet; one end to itself; port 0."""
    pcap(path, every(MILLI, [
        ethernet(udp(B, 123, A, 40123, text(48))), ethernet(udp(A, 40123, B, 123, text(48))),
        ethernet(udp(A, 40001, "239.1.2.3", 40002, text(20))), ethernet(udp(A6, 40001, "ff02::1234", 40002, text(20))),
        ethernet(udp(A, 40001, B, 40002, text(20))), ethernet(udp(B, 40002, A, 40001, text(20))),
        ethernet(udp(A, 40003, A, 40003, text(20))), ethernet(udp(A, 0, B, 0, text(20))),
        ethernet(udp(A, 68, "255.255.255.255", 67, text(300))),
    ]))


@capture
def dns_udp(path):
    """A, AAAA, CNAME, MX, TXT, SRV, SOA, HTTPS, an unknown type, NXDOMAIN, a repeated query, names that need escapes."""
    frames = []

    def ask(ident, title, kind, flags=0x8180, answers=(), authority=(), repeat=1, respond=True):
        asked = question(title, kind)
        frames.extend([ethernet(udp(A, 53000 + ident, B, 53, dns(ident, 0x0100, [asked])))] * repeat)
        if respond:
            message = dns(ident, flags, [asked], answers, authority)
            frames.append(ethernet(udp(B, 53, A, 53000 + ident, message)))

    at = pointer(12)
    ask(1, "example.com", 1, answers=[answer(at, 1, 300, packed("203.0.113.7")), answer(at, 1, 300, packed("203.0.113.8"))])
    ask(2, "example.com", 28, answers=[answer(at, 28, 300, packed("2001:db8::7"))])
    alias = answer(at, 5, 60, b"\x05alias" + pointer(16))
    ask(3, "www.example.com", 1, answers=[alias, answer(pointer(12 + 21 + 12), 1, 60, packed("203.0.113.9"))])
    ask(4, "example.com", 15, answers=[answer(at, 15, 60, struct.pack("!H", 10) + b"\x04mail" + at)])
    ask(5, "example.com", 16, answers=[answer(at, 16, 60, b"\x05v=1;\x20\x0bsecond text")])
    ask(6, "_sip._tcp.example.com", 33, answers=[answer(at, 33, 60, struct.pack("!HHH", 1, 2, 5060) + name("sip.example.com"))])
    soa = name("ns.example.com") + name("admin.example.com") + struct.pack("!5I", 2024, 3600, 600, 86400, 300)
    ask(7, "no-such-name.example.com", 1, flags=0x8183, authority=[answer(name("example.com"), 6, 900, soa)])
    ask(8, "example.com", 65, answers=[answer(at, 65, 60, struct.pack("!H", 1) + b"\0" + struct.pack("!HH", 1, 3) + b"\x02h2")])
    ask(9, "example.com", 65280, answers=[answer(at, 65280, 60, b"\1\2\3")])
    ask(10, "Slow.Example.COM", 1, repeat=3, answers=[answer(at, 1, 5, packed("203.0.113.10"))])
    ask(11, "unanswered.example.com", 1, respond=False)
    odd = b"\x06a.b\\c \x03\xc3\xa4!\0"
    asked = odd + struct.pack("!HH", 1, 1)
    frames.append(ethernet(udp(A, 53012, B, 53, dns(12, 0x0100, [asked]))))
    ask(13, "", 2, answers=[answer(b"\0", 2, 518400, name("a.root-servers.net"))])
    pcap(path, every(5 * MILLI, frames))


@capture
def dns_tcp(path):
    """DNS over TCP: two queries in one segment, the first answer split over two segments."""
    asked = question("example.com", 16)
    queries = [dns(ident, 0x0100, [asked]) for ident in (1, 2)]
    answers = [dns(ident, 0x8180, [asked], [answer(pointer(12), 16, 60, b"\xc8" + text(200))]) for ident in (1, 2)]
    framed = [struct.pack("!H", len(message)) + message for message in queries + answers]
    flow = Tcp(server=(B, 53)).open().send("c", PSH | ACK, framed[0] + framed[1]).send("s", ACK)
    flow.send("s", ACK, framed[2][:90]).send("s", PSH | ACK, framed[2][90:] + framed[3]).send("c", ACK)
    pcap(path, flow.close().packets)


@capture
def dns_multicast(path):
    """mDNS over IPv4 and IPv6 with a UTF-8 name, LLMNR."""
    asked = question("büro._ipp._tcp.local", 33, unicast=True)
    host = answer(name("printer.local"), 1, 120, packed("192.0.2.44"), rrclass=0x8001)
    pcap(path, every(20 * MILLI, [
        ethernet(udp(A, 5353, "224.0.0.251", 5353, dns(0, 0, [asked]))),
        ethernet(udp("192.0.2.44", 5353, "224.0.0.251", 5353, dns(0, 0x8400, [], [host]))),
        ethernet(udp(A6, 5353, "ff02::fb", 5353, dns(0, 0, [question("printer.local", 28)]))),
        ethernet(udp(A, 49152, "224.0.0.252", 5355, dns(9, 0, [question("fileserver", 1)]))),
    ]))


@capture
def dns_damaged(path):
    """Bytes on port 53 that are no whole message: pointer loops, counts beyond the end, a cut header, no DNS at all."""
    loop = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + pointer(12) + struct.pack("!HH", 1, 1)
    forward = struct.pack("!6H", 2, 0x0100, 1, 0, 0, 0) + pointer(200) + struct.pack("!HH", 1, 1)
    many = struct.pack("!6H", 3, 0x8180, 1, 500, 0, 0) + question("example.com", 1) + answer(pointer(12), 1, 1, packed(A))
    long_name = struct.pack("!6H", 4, 0x0100, 1, 0, 0, 0) + (b"\x3f" + b"x" * 63) * 5 + b"\0\0\1\0\1"
    payloads = [loop, forward, many, long_name, b"\0\1\1\0\0", b"GET / HTTP/1.1\r\n\r\n", b""]
    pcap(path, every(MILLI, [ethernet(udp(A, 54000 + i, B, 53, payload)) for i, payload in enumerate(payloads)]))


@capture
def icmp_messages(path):
    """Echo over IPv4 and IPv6, an unreachable that quotes a UDP packet, neighbour discovery."""
    echo = struct.pack("!HH", 99, 1) + text(56)
    quoted = b"\0" * 4 + ip4(A, B, 17, struct.pack("!HHHH", 40000, 33434, 12, 0) + text(4))
    pcap(path, every(10 * MILLI, [
        ethernet(icmp(A, B, 8, 0, echo)), ethernet(icmp(B, A, 0, 0, echo)),
        ethernet(icmp(A6, B6, 128, 0, echo)), ethernet(icmp(B6, A6, 129, 0, echo)),
        ethernet(udp(A, 40000, B, 33434, text(4))), ethernet(icmp(B, A, 3, 3, quoted)),
        ethernet(icmp("fe80::1", "ff02::1:ff00:20", 135, 0, b"\0" * 4 + packed("fe80::20"), hops=255)),
    ]))


@capture
def vlan_tags(path):
    """802.1Q, QinQ, a priority tag (VID 0 is no tag), three tags: the same five-tuple in each."""
    packet = udp(A, 6001, B, 6002, text(40))
    tags = [(), ((0x8100, 0),), ((0x8100, 7),), ((0x88A8, 100), (0x8100, 7)), ((0x8100, 1), (0x8100, 2), (0x8100, 3))]
    pcap(path, every(MILLI, [vlan(packet, *stack) for stack in tags]))


@capture
def tunnels(path):
    """A query and its answer in GRE, GRE with key, VXLAN, GENEVE, GTP-U, IPIP, 6in4, MPLS, PPPoE, and GRE in VXLAN."""
    query, response = query_and_answer()
    outer = "10.9.0.1", "10.9.0.2"

    def both(wrap):
        return [wrap(query, *outer, 0), wrap(response, *reversed(outer), 1)]

    def gre(packet, src, dst, way, key=None):
        head = struct.pack("!HH", 0x2000 if key else 0, 0x0800) + (struct.pack("!I", key) if key else b"")
        return ethernet(ip4(src, dst, 47, head + packet))

    def vxlan(packet, src, dst, way, frame=None):
        return ethernet(udp(src, 50000 + way, dst, 4789, struct.pack("!II", 0x08000000, 42 << 8) + (frame or ethernet(packet))))

    def geneve(packet, src, dst, way):
        return ethernet(udp(src, 50000 + way, dst, 6081, struct.pack("!HHI", 0, 0x6558, 43 << 8) + ethernet(packet)))

    def gtp(packet, src, dst, way):
        return ethernet(udp(src, 2152, dst, 2152, struct.pack("!BBHI", 0x30, 255, len(packet), 1000 + way) + packet))

    def mpls(packet, src, dst, way):
        labels = struct.pack("!II", 16 << 12 | 64, 17 << 12 | 1 << 8 | 64)
        return ethernet(labels + packet, ethertype=0x8847)

    def pppoe(packet, src, dst, way):
        return ethernet(struct.pack("!BBHHH", 0x11, 0, 5, len(packet) + 2, 0x21) + packet, ethertype=0x8864)

    query6 = ip6(A6, B6, 17, with_checksum(A6, B6, 17, struct.pack("!HHHH", 1111, 2222, 18, 0) + text(10), 6))
    frames = both(gre) + both(lambda *a: gre(*a, key=77)) + both(vxlan) + both(geneve) + both(gtp)
    frames += both(lambda packet, src, dst, way: ethernet(ip4(src, dst, 4, packet)))
    frames += [ethernet(ip4(*outer, 41, query6))] + both(mpls) + both(pppoe)
    frames += both(lambda *a: vxlan(*a, frame=gre(*a)))
    pcap(path, every(MILLI, frames))


@capture
def fragments(path):
    """IPv4 and IPv6 datagrams in pieces: in order, the first piece last, an overlap, a first piece that never comes."""
    payload = text(3000)
    datagram = struct.pack("!HHHH", 3000, 4000, 3008, 0) + payload
    pieces4 = [ip4(A, B, 17, datagram[at : at + 1480], ident=5, fragment=at // 8 | (0x2000 if at + 1480 < len(datagram) else 0))
               for at in range(0, len(datagram), 1480)]
    late = [ip4(A, B, 17, datagram[at : at + 1480], ident=6, fragment=at // 8 | (0x2000 if at + 1480 < len(datagram) else 0))
            for at in range(0, len(datagram), 1480)]
    overlap = [ip4(A, B, 17, datagram[0:1480], ident=7, fragment=0x2000), ip4(A, B, 17, datagram[1472:3008], ident=7, fragment=184)]
    orphan = [ip4(B, A, 17, datagram[1480:2960], ident=8, fragment=185)]
    pieces6 = [ip6(A6, B6, 44, struct.pack("!BBHI", 17, 0, at | (1 if at + 1448 < len(datagram) else 0), 9) + datagram[at : at + 1448])
               for at in range(0, len(datagram), 1448)]
    frames = [ethernet(piece) for piece in pieces4 + late[::-1] + overlap + orphan + pieces6]
    pcap(path, every(MILLI, frames))


@capture
def ip_headers(path):
    """IPv4 options, DSCP, IPv6 extension headers, an authentication header, protocols without ports."""
    def extension(following, length=8):
        return struct.pack("!BB", following, length // 8 - 1) + b"\1" + bytes([length - 4]) + b"\0" * (length - 4)

    segment = with_checksum(A6, B6, 17, struct.pack("!HHHH", 1000, 2000, 18, 0) + text(10), 6)
    header = struct.pack("!BBHII", 17, 4, 0, 1, 1) + b"\0" * 12
    pcap(path, every(MILLI, [
        ethernet(udp(A, 1000, B, 2000, text(10), options=b"\x94\x04\0\0" * 3, dscp=46, ttl=3)),
        ethernet(ip6(A6, B6, 0, extension(60) + extension(17, 16) + segment, hops=9, dscp=10)),
        ethernet(ip6(A6, B6, 51, header + segment)),
        ethernet(ip4(A, B, 132, struct.pack("!HHII", 5001, 5002, 1, 0) + text(20))),
        ethernet(ip4(A, B, 89, text(44))), ethernet(ip4(A, B, 253, text(12))),
    ]))


@capture
def malformed(path):
    """Headers that are cut or contradict themselves, and frames that carry no IP."""
    whole = udp(A, 1000, B, 2000, text(10))
    frames = [
        ethernet(b"\0\1\x08\0\6\4\0\1" + b"\0" * 20, ethertype=0x0806), ethernet(text(46), ethertype=0x88CC),
        MAC_B + MAC_A + b"\0\x26" + b"\x42\x42\3" + b"\0" * 35, b"\2\0\0", ethernet(whole[:12], pad=False),
        ethernet(b"\x41" + whole[1:]), ethernet(b"\x65" + whole[1:], ethertype=0x0800), ethernet(whole[:24], pad=False),
        ethernet(udp(A, 1000, B, 2000, text(10), total=2000)), ethernet(udp(A, 1000, B, 2000, text(10), total=19)),
        ethernet(ip4(A, B, 17, struct.pack("!HHHH", 1000, 2000, 3, 0) + text(10))),
        ethernet(ip4(A, B, 6, struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 0x20, ACK, 5, 0, 0))),
        ethernet(ip6(A6, B6, 0, b"\x11\xff" + b"\0" * 6)),
    ]
    pcap(path, every(MILLI, frames))


@capture
def time_backwards(path):
    """Times that stand still, step back by 100 ms and 30 s, and at the end by a day."""
    steps = [0, SECOND, SECOND, 900 * MILLI, 40 * SECOND, 10 * SECOND, 41 * SECOND, 41 * SECOND - 86400 * SECOND]
    frame = ethernet(udp(A, 5000, B, 6000, text(16)))
    pcap(path, [(START + step, frame) for step in steps])


@capture
def nanoseconds_big_endian(path):
    """A pcap of the other byte order, in nanoseconds."""
    query, response = query_and_answer()
    pcap(path, [(START + 1, ethernet(query)), (START + 1_234_567, ethernet(response))], order=">", nanoseconds=True)


@capture
def snaplen(path):
    """Packets of which 96 bytes were captured: lengths count whole, entropy only what is there."""
    frames = [ethernet(udp(A, 5000, B, 6000, text(size))) for size in (20, 500, 1400)]
    pcap(path, every(MILLI, frames), snaplen=96)


@capture
def cut_short(path):
    """A file that ends inside its third packet."""
    frames = [ethernet(frame) for frame in query_and_answer()]
    whole = struct.pack("<IIII", 1_700_000_001, 0, 200, 200) + text(50)
    pcap(path, every(MILLI, frames), append=whole)


@capture
def link_raw(path):
    """Packets without any link header."""
    pcap(path, every(MILLI, query_and_answer()), link=RAW)


@capture
def link_sll(path):
    """The cooked header of Linux's `any` device."""
    cooked = [struct.pack("!HHH8sH", way, 1, 6, MAC_A + b"\0\0", 0x0800) + packet for way, packet in zip((4, 0), query_and_answer())]
    pcap(path, every(MILLI, cooked), link=LINUX_SLL)


@capture
def ng_interfaces(path):
    """Three interfaces with names, link types and time units of their own, and packets without a time."""
    query, response = query_and_answer()
    file = PcapNg()
    file.interface(ETHERNET, "eth0")
    file.interface(RAW, "tun0", resolution=9)
    file.interface(ETHERNET, "eth1", resolution=0x80 | 10, offset=1_700_000_000)
    file.packet(0, START // 1000, ethernet(query))
    file.packet(0, START // 1000 + 2500, ethernet(response))
    file.packet(1, START + 3_000_001, udp(A, 5000, B, 6000, text(30)))
    file.packet(2, 512, ethernet(udp(A, 5001, B, 6001, text(30))))
    file.simple_packet(ethernet(udp(A, 5002, B, 6002, text(30))))
    path.write_bytes(file.data)


@capture
def ng_sections(path):
    """Two sections, the second big-endian; a block of a type that nobody knows."""
    query, response = query_and_answer()
    file = PcapNg()
    file.interface(ETHERNET, "left")
    file.packet(0, START // 1000, ethernet(query))
    file.block(0x7654321, text(10))
    file.section(">")
    file.interface(ETHERNET, "right")
    file.packet(0, START // 1000 + 900, ethernet(response))
    path.write_bytes(file.data)


def main():
    here = pathlib.Path(__file__).resolve().parent.parent / "captures"
    if sys.argv[1:] == ["--list"]:
        for title, make in CAPTURES.items():
            print(f"| {title} | {' '.join(make.__doc__.split())} |")
    elif sys.argv[1:] == ["--check"]:
        with tempfile.TemporaryDirectory() as folder:
            for title, make in CAPTURES.items():
                make(pathlib.Path(folder) / title)
                if (pathlib.Path(folder) / title).read_bytes() != (here / title).read_bytes():
                    sys.exit(f"testdata/captures/{title} is not what testdata/make/synthetic.py writes")
        print(f"{len(CAPTURES)} captures are what testdata/make/synthetic.py writes")
    else:
        for title, make in CAPTURES.items():
            make(here / title)


if __name__ == "__main__":
    main()
