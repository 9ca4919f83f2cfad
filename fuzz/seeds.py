#!/usr/bin/env python3
"""Fills fuzz/corpus with seeds for each target: taken from testdata and from the corpus of captures where it lies beside the
checkout (or FLOWCAP_CORPUS says where), or made. Standard library only."""

import gzip
import os
import pathlib
import struct
import unicodedata
import zlib

HERE = pathlib.Path(__file__).resolve().parent
TESTDATA = HERE.parent / "testdata"
CAPTURES = pathlib.Path(os.environ.get("FLOWCAP_CORPUS", HERE.parent.parent / "shared" / "corpus")) / "captures"
LONGEST = 4096  # As -max_len of smoke and campaign.


def put(target, name, seed):
    (HERE / "corpus" / target / name).write_bytes(seed[:LONGEST])


def file(which, data):
    """A file, as src/lib.rs takes them apart."""
    data = data[: LONGEST - 3]
    return struct.pack("<BH", which, len(data)) + data


def frames(data):
    """Yields the link type and each frame of a little-endian pcap."""
    link, offset = struct.unpack_from("<I", data, 20)[0], 24
    while offset + 16 <= len(data):
        length = struct.unpack_from("<I", data, offset + 8)[0]
        yield link, data[offset + 16 : offset + 16 + length]
        offset += 16 + length


def zstd(data):
    """A zstd frame of one block, as it is."""
    return b"\x28\xb5\x2f\xfd\0\x58" + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def captures():
    """Seeds of all targets that read captures or what is in them."""
    folders = [folder for folder in (TESTDATA / "captures", CAPTURES) if folder.is_dir()]
    for path in sorted(path for folder in folders for path in folder.iterdir()):
        data = path.read_bytes()
        for target in ("capture", "records"):
            put(target, path.name, data)
        if len(data) < LONGEST:
            put("capture", f"{path.name}.gz", gzip.compress(data, mtime=0))
            put("capture", f"{path.name}.zst", zstd(data))
        if data[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") or len(data) < 24:
            continue
        seed, parts = b"", 0
        for number, (link, frame) in enumerate(frames(data)):
            frame = frame[: LONGEST - 8]
            if len(seed) + len(frame) > LONGEST - 4:
                put("frames", f"{path.stem}-{parts}", seed)
                seed, parts = b"", parts + 1
            if parts == 4:
                break
            seed = seed or bytes([min(link, 255), 0])
            seed += struct.pack("<HH", len(frame), 10) + frame
            if link == 1 and frame[12:14] == b"\x08\x00" and frame[23:24] == b"\x11" and b"\x00\x35" in frame[34:38]:
                put("dns", f"{path.stem}-{number}", struct.pack("<H", 20 + number) + frame[42:])
        put("frames", f"{path.stem}-{parts}", seed)


def texts():
    """Every code point, 1000 to an input, in every output: to be run once, being slow. And short seeds."""
    letters = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) != "Cs"]
    for number, start in enumerate(range(0, len(letters), 1000)):
        start = min(start, len(letters) - 1000)  # the last is no shorter: short ones are for one output
        put("output.once", f"{number:04}", b"\xff" + "".join(letters[start : start + 1000]).encode())

    for which in range(11):
        put("output", f"one-{which}", bytes([which]) + "'=a\t\u202eb".encode())


def kernel():
    """The kernel's texts and messages."""
    net, process = TESTDATA / "proc" / "net", TESTDATA / "proc" / "4242"
    names = "tcp tcp6 udp udp6 udplite udplite6 raw raw6 icmp icmp6 snmp snmp6 netstat dev"
    for which, name in enumerate(names.split()):
        put("sockets", name, file(which, (net / name).read_bytes()))
    parts = [file(which, (process / name).read_bytes()) for which, name in enumerate("stat status cmdline cgroup loginuid".split())]
    parent = (TESTDATA / "proc" / "4200" / "stat").read_bytes()
    parts += [file(5, parent), file(7, (TESTDATA / "proc" / "passwd").read_bytes()), file(9, b"0.1 0.1 0.1 1/80 90\n")]
    put("processes", "whole", b"".join(parts))
    for part in parts:
        put("processes", f"{part[0]}", part)

    def attribute(kind, value):
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    def message(kind, body):
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body

    for family, size in ((2, 4), (10, 16)):
        ends = struct.pack(">HH", 443, 40000) + bytes([127] * size).ljust(16, b"\0") + bytes([9] * size).ljust(16, b"\0")
        socket = struct.pack("=BBBB", family, 1, 0, 0) + ends + struct.pack("=III", 2, 7, 0) + struct.pack("=IIIII", 0, 0, 0, 1000, 4711)
        extra = attribute(21, struct.pack("=Q", 99)) + attribute(10, b"\x06") + attribute(2, bytes(232))
        for way in range(6):
            put("netlink", f"socket-{family}-{way}", bytes([way]) + message(20, socket + extra) * 2)
    number = lambda kind, value: attribute(kind, struct.pack("=I", value))
    address = struct.pack("=H", 2) + struct.pack(">H", 4791) + bytes([10, 0, 0, 1])
    pair = number(20 - 1 + 2, 17) + number(22, 18) + number(28, 5) + attribute(26, b"\x02") + attribute(27, b"\x03")
    device = number(1, 1) + attribute(2, b"rxe0\0")
    ends = number(21, 17) + attribute(33, address) + attribute(34, address)
    pairs = device + attribute(19, attribute(20, pair)) + attribute(30, attribute(31, ends))
    put("netlink", "pairs", b"\x06" + message(5 << 10 | 10, pairs) * 2)
    put("netlink", "routes", b"\x07" + (TESTDATA / "netlink" / "routes.bin").read_bytes())
    for event in (1, 2, 0x80000000):
        body = struct.pack("=IIQ", event, 0, 5) + struct.pack("=IIIIII", 30, 30, 40, 40, 0, 0)
        head = struct.pack("=IHHII", 76, 3, 0, 0, 0) + struct.pack("=IIIIHH", 1, 1, 0, 0, len(body), 0)
        put("netlink", f"process-{event}", b"\x08" + head + body)


def own():
    """What this program writes and reads again."""
    process = b'{"pid":7,"name":"a","exe":"/b","args":["a"],"user":"u","uid":1,"start_time":"2026-03-02T19:45:00.470000000Z","ppid":1,"match":"exact"}'
    time = b'"timestamp":"2026-03-02T21:12:04.250000000Z"'
    socket = b'{"type":"socket",%b,"protocol":"TCP","local_ip":"::1","local_port":1,"state":"LISTEN","uid":0,"inode":3,"process":%b}\n'
    put("recorded", "json", b"\x00" + socket % (time, process) * 2)
    head = "timestamp,protocol,local_ip,local_port,remote_ip,remote_port,state,uid,process_pid,process_name,process_args,process_start_time"
    put("recorded", "csv", f"\0{head}\n2026-03-02T21:12:04Z,UDP,10.0.0.1,5,,,UNCONN,0,7,'=a,\"[\"\"x\"\"]\",2026-03-02T21:12:04Z\n".encode())
    for number, line in enumerate((TESTDATA / "owners" / "sockets.jsonl").read_bytes().splitlines()[:20]):
        put("recorded", f"sighted-{number}", b"\x01" + line + b"\n")
    end = b'{"addr":"10.0.0.1","port":5}'
    there = b'{"kind":"Tcp","local":%b,"remote":null,"state":"Listen","uid":0,"inode":1,"cookie":2,"netns":3,"interface":0,"cgroup":null}' % end
    query = b'{"proto":6,"local":%b,"remote":%b,"interface":0}' % (end, end)
    for number, news in enumerate((
        b'"Ready"', b'"Done"', b'{"Failed":{"what":"a","hint":null}}', b'{"News":{"Addresses":["10.0.0.1","::1"]}}',
        b'{"News":{"Seen":{"socket":%b,"now":5,"owner":"NoProcess"}}}' % there,
        b'{"News":{"Answered":{"query":%b,"socket":%b,"is":"exact","asked":1,"now":2,"owner":null}}}' % (query, there),
    )):
        put("recorded", f"sockets-{number}", b"\x02" + news + b"\n")
        put("recorded", f"host-{number}", b"\x03" + news.replace(b"Seen", b"Socket") + b"\n")
    example = (HERE.parent / "flowcap" / "flowcap.example.toml").read_bytes()
    for number, section in enumerate(example.split(b"\n\n")):
        # Without the signs that make examples of its lines.
        put("conf", f"{number}", bytes([number % 4]) + section.replace(b"\n#", b"\n").lstrip(b"# "))
    for flags in range(4):
        put("conf", f"whole-{flags}", bytes([flags]) + b'read = "x"\nfields = ["@core"]\n[flows]\nsplt = 3\n[running]\nquiet = true\n'
            b'[[output]]\nto = "a.csv"\nrotate = "1h"\n[[output]]\nto = "https://a.example/"\nbatch = "5s"\n[sockets]\ninterval = "5s"\n')


def summed(data):
    """Appends a CRC-32."""
    return data + struct.pack("<I", zlib.crc32(data))


def spool_frame(first_seq, lines, gap=0):
    """A frame of a spool: of lines, else of that many missing records."""
    raw = b"".join(b'{"seq":%d}\n' % (first_seq + n) for n in range(lines)) if not gap else b""
    packed = zstd(raw) if raw else b""
    lengths = struct.pack("<HHIII", 1, gap, len(raw), len(packed), zlib.crc32(packed))
    return summed(b"\xf1fcspl\x1a\n" + lengths + struct.pack("<QQQq", 7, first_seq, lines, 10**18)) + packed


def spool_note(which, count, *values):
    """A slot with a few numbers of a spool's file; the upper bit says that it is the second one."""
    slot = summed(b"\xf1fcnote\n" + struct.pack(f"<{2 + len(values)}Q", len(values), count, *values))
    return file(which | count % 2 << 7, slot)


def spools():
    """Files of spools as fuzz_targets/spool.rs names them."""
    segment = spool_frame(0, 3) + spool_frame(3, 2) + spool_frame(5, 4, gap=2)
    later = spool_frame(9, 5)
    head, mark, cursor = spool_note(5, 1, 7, 40), spool_note(4, 2, 14, 0, 0, 0), spool_note(3, 2, 2)
    for number, files in enumerate((
        [file(0, segment)],
        [file(0, segment), file(1, later), head],
        [file(0, segment[:-10]), file(1, later[3:]), file(2, segment), cursor, mark, head],
        [file(0, b"garbage" + segment), spool_note(3, 2, 2**62), spool_note(3, 3, 1), file(5, b"")],
    )):
        put("spool", f"{number}", b"".join(files))


def main():
    for target in [*(path.stem for path in (HERE / "fuzz_targets").glob("*.rs")), "output.once"]:
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
    for make in (captures, texts, kernel, own, spools):
        make()


if __name__ == "__main__":
    main()
