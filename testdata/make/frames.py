"""Builds frames header by header, and writes them as pcap or pcapng. Standard library only, and no randomness."""

import ipaddress
import struct

A, B = "192.0.2.10", "198.51.100.20"  # RFC 5737
A6, B6 = "2001:db8::10", "2001:db8:1::20"  # RFC 3849
MAC_A, MAC_B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
ETHERTYPE = {4: 0x0800, 6: 0x86DD}
ETHERNET, RAW, LINUX_SLL = 1, 101, 113
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address):
    return ipaddress.ip_address(address).packed


def version(address):
    return ipaddress.ip_address(address).version


def with_checksum(src, dst, proto, segment, offset):
    """Fills in the transport checksum at `offset`, over the pseudo-header of the address family."""
    length = struct.pack("!HH", proto, len(segment)) if version(src) == 4 else struct.pack("!II", len(segment), proto)
    value = checksum(packed(src) + packed(dst) + length + segment)
    if proto == 17 and value == 0:
        value = 0xFFFF
    return segment[:offset] + struct.pack("!H", value) + segment[offset + 2 :]


def ip4(src, dst, proto, payload, ttl=64, ident=1, fragment=0, dscp=0, options=b"", total=None):
    """`fragment` is the 16-bit field of flags and offset."""
    words = 5 + len(options) // 4
    total = 4 * words + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | words, dscp << 2, total, ident, fragment, ttl, proto, 0, packed(src), packed(dst))
    head += options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(src, dst, proto, payload, hops=64, dscp=0):
    head = struct.pack("!IHBB", 6 << 28 | dscp << 22, len(payload), proto, hops)
    return head + packed(src) + packed(dst) + payload


def ip(src, dst, proto, payload, **more):
    return (ip4 if version(src) == 4 else ip6)(src, dst, proto, payload, **more)


def udp(src, sport, dst, dport, payload, **more):
    segment = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    return ip(src, dst, 17, with_checksum(src, dst, 17, segment, 6), **more)


def tcp(src, sport, dst, dport, flags, seq, ack=0, payload=b"", window=64240, options=b"", **more):
    words = 5 + len(options) // 4
    head = struct.pack("!HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, words << 4, flags, window, 0, 0)
    return ip(src, dst, 6, with_checksum(src, dst, 6, head + options + payload, 16), **more)


def icmp(src, dst, kind, code, rest, **more):
    message = struct.pack("!BBH", kind, code, 0) + rest
    if version(src) == 4:
        return ip4(src, dst, 1, message[:2] + struct.pack("!H", checksum(message)) + message[4:], **more)
    return ip6(src, dst, 58, with_checksum(src, dst, 58, message, 2), **more)


def ethernet(packet, src=MAC_A, dst=MAC_B, ethertype=None, pad=True):
    if ethertype is None:
        ethertype = ETHERTYPE[packet[0] >> 4]
    frame = dst + src + struct.pack("!H", ethertype) + packet
    return frame.ljust(60, b"\0") if pad else frame


def vlan(packet, *tags, ethertype=None):
    """`tags` are (tag protocol, VLAN id), outermost first."""
    inner = ETHERTYPE[packet[0] >> 4] if ethertype is None else ethertype
    for protocol, vid in reversed(tags):
        packet, inner = struct.pack("!HH", vid, inner) + packet, protocol
    return ethernet(packet, ethertype=inner)


def name(text):
    """A domain name in wire form, without compression."""
    wire = b""
    for label in [label.encode() for label in text.split(".") if label]:
        wire += bytes([len(label)]) + label
    return wire + b"\0"


def pointer(offset):
    return struct.pack("!H", 0xC000 | offset)


def question(text, kind, unicast=False):
    return name(text) + struct.pack("!HH", kind, 0x8001 if unicast else 1)


def answer(owner, kind, ttl, data, rrclass=1):
    return owner + struct.pack("!HHIH", kind, rrclass, ttl, len(data)) + data


def dns(ident, flags, questions=(), answers=(), authority=(), additional=()):
    counts = [len(part) for part in (questions, answers, authority, additional)]
    return struct.pack("!6H", ident, flags, *counts) + b"".join([*questions, *answers, *authority, *additional])


def pcap(path, packets, link=ETHERNET, order="<", nanoseconds=False, snaplen=262144, append=b""):
    """`packets` are (time in nanoseconds, frame) or (time, frame, original length)."""
    unit = 1 if nanoseconds else 1000
    data = struct.pack(order + "IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, link)
    for time, frame, *wire in packets:
        seconds, fraction = divmod(time, 10**9)
        kept = frame[:snaplen]
        data += struct.pack(order + "IIII", seconds, fraction // unit, len(kept), wire[0] if wire else len(frame)) + kept
    path.write_bytes(data + append)


class PcapNg:
    """Blocks of a pcapng file, in one byte order per section."""

    def __init__(self, order="<"):
        self.data = b""
        self.section(order)

    def block(self, kind, body):
        body += b"\0" * (-len(body) % 4)
        size = struct.pack(self.order + "I", 12 + len(body))
        self.data += struct.pack(self.order + "I", kind) + size + body + size

    def option(self, code, value):
        return struct.pack(self.order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)

    def section(self, order="<"):
        self.order = order
        self.block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))

    def interface(self, link, title=None, resolution=None, offset=None, snaplen=0):
        options = b""
        if title is not None:
            options += self.option(2, title.encode())
        if resolution is not None:
            options += self.option(9, bytes([resolution]))
        if offset is not None:
            options += self.option(14, struct.pack(self.order + "q", offset))
        if options:
            options += self.option(0, b"")
        self.block(1, struct.pack(self.order + "HHI", link, 0, snaplen) + options)

    def packet(self, interface, ticks, frame, wire=None):
        head = struct.pack(self.order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), wire or len(frame))
        self.block(6, head + frame)

    def simple_packet(self, frame):
        self.block(3, struct.pack(self.order + "I", len(frame)) + frame)
