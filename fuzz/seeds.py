#!/usr/bin/env python3
"""Fills fuzz/corpus with seeds for each target, taken from testdata/captures. Standard library only."""

import pathlib
import shutil
import struct

HERE = pathlib.Path(__file__).resolve().parent
LINKS = [1, 0, 9, 12, 50, 101, 104, 105, 107, 108, 109, 113, 127, 138, 228, 229, 239, 276]  # as in frames.rs


def frames(data):
    """Yields the link type and each frame of a little-endian pcap."""
    link, offset = struct.unpack_from("<I", data, 20)[0], 24
    while offset + 16 <= len(data):
        length = struct.unpack_from("<I", data, offset + 8)[0]
        yield link, data[offset + 16 : offset + 16 + length]
        offset += 16 + length


def main():
    for target in ("capture", "frames", "dns", "records"):
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
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
