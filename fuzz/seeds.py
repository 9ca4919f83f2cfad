#!/usr/bin/env python3
"""Fills fuzz/corpus with seeds for each target, taken from testdata/captures; those of spools are made. Standard library only."""

import pathlib
import shutil
import struct
import zlib

HERE = pathlib.Path(__file__).resolve().parent
LINKS = [1, 0, 9, 12, 50, 101, 104, 105, 107, 108, 109, 113, 127, 138, 228, 229, 239, 276]  # as in frames.rs


def frames(data):
    """Yields the link type and each frame of a little-endian pcap."""
    link, offset = struct.unpack_from("<I", data, 20)[0], 24
    while offset + 16 <= len(data):
        length = struct.unpack_from("<I", data, offset + 8)[0]
        yield link, data[offset + 16 : offset + 16 + length]
        offset += 16 + length


def summed(data):
    """Appends a CRC-32."""
    return data + struct.pack("<I", zlib.crc32(data))


def spool_frame(first_seq, lines, gap=0):
    """A frame of a spool: of lines, else of that many missing records."""
    raw = b"".join(b'{"seq":%d}\n' % (first_seq + n) for n in range(lines)) if not gap else b""
    # A zstd frame of one segment with one raw block, the last one.
    packed = b"\x28\xb5\x2f\xfd\x20" + bytes([len(raw)]) + struct.pack("<I", len(raw) << 3 | 1)[:3] + raw if raw else b""
    lengths = struct.pack("<HHIII", 1, gap, len(raw), len(packed), zlib.crc32(packed))
    return summed(b"\xf1fcspl\x1a\n" + lengths + struct.pack("<QQQq", 7, first_seq, lines, 10**18)) + packed


def spool_note(count, *values):
    """A file of a spool with a few numbers, in the slot of this count."""
    slot = summed(b"\xf1fcnote\n" + struct.pack(f"<{2 + len(values)}Q", len(values), count, *values))
    return slot if count % 2 == 0 else bytes(4096) + slot


def spools():
    """Yields files of spools as fuzz_targets/spool.rs takes them apart."""
    segment = spool_frame(0, 3) + spool_frame(3, 2) + spool_frame(5, 4, gap=2)
    later = spool_frame(9, 5)
    head, mark, cursor = spool_note(1, 7, 40), spool_note(2, 14, 0, 0, 0), spool_note(2, 2)
    for files in (
        [(0, segment)],
        [(0, segment), (1, later), (5, head)],
        [(0, segment[:-10]), (1, later[3:]), (2, segment), (3, cursor), (4, mark), (5, head)],
        [(0, b"garbage" + segment), (3, spool_note(2, 2**62)), (5, b"")],
    ):
        yield b"".join(struct.pack("<BH", which, len(data)) + data for which, data in files)


def main():
    for target in ("capture", "frames", "dns", "records", "spool"):
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(spools()):
        (HERE / "corpus" / "spool" / f"{number}").write_bytes(seed)
    for path in sorted((HERE.parent / "testdata" / "captures").iterdir()):
        for target in ("capture", "records"):
            shutil.copyfile(path, HERE / "corpus" / target / path.name)
        data = path.read_bytes()
        if data[:4] != b"\xd4\xc3\xb2\xa1":
            continue
        seed = b""
        for number, (link, frame) in enumerate(frames(data)):
            seed = seed or bytes([LINKS.index(link), 0])
            seed += struct.pack("<HH", len(frame), 10) + frame
            if link == 1 and path.name.startswith("dns") and frame[12:14] == b"\x08\x00" and frame[23] == 17:
                (HERE / "corpus" / "dns" / f"{path.stem}-{number}").write_bytes(frame[42:])
        (HERE / "corpus" / "frames" / path.stem).write_bytes(seed)


if __name__ == "__main__":
    main()
