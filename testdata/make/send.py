#!/usr/bin/env python3
"""send.py INTERFACE CAPTURE [GAP]: sends the frames of an Ethernet pcap file, GAP seconds apart (0.001), and prints
how many. Needs CAP_NET_RAW. Standard library only."""

import pathlib
import socket
import struct
import sys
import time


def frames(data):
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    if struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF != 1:
        sys.exit("send.py: only Ethernet captures can be sent")
    offset = 24
    while offset + 16 <= len(data):
        captured, wire = struct.unpack_from(order + "II", data, offset + 8)
        yield data[offset + 16 : offset + 16 + captured].ljust(wire, b"\0")
        offset += 16 + captured


def main():
    interface, path = sys.argv[1:3]
    gap = float(sys.argv[3]) if len(sys.argv) > 3 else 0.001
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
        link.bind((interface, 0))
        for frame in frames(pathlib.Path(path).read_bytes()):
            link.send(frame)
            sent += 1
            time.sleep(gap)
    print(sent)


if __name__ == "__main__":
    main()
