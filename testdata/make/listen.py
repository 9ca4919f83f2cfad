#!/usr/bin/env python3
"""listen.py INTERFACE FILE: writes what comes in at an Ethernet interface into a pcap file, with the kernel's times in
nanoseconds, until SIGTERM. Prints a line when it listens. Needs CAP_NET_RAW. Standard library only."""

import signal
import socket
import struct
import sys

# Not in the socket module: linux/if_packet.h, linux/socket.h, asm-generic/socket.h.
SOL_PACKET, PACKET_AUXDATA, SO_TIMESTAMPNS = 263, 8, 35
VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6


def whole(frame, auxdata):
    """Puts back the VLAN tag that the kernel took out."""
    status, _, _, _, _, tag, kind = struct.unpack("=IIIHHHH", auxdata)
    if not status & VLAN_VALID:
        return frame
    return frame[:12] + struct.pack(">HH", kind if status & TPID_VALID else 0x8100, tag) + frame[12:]


def main():
    interface, path = sys.argv[1:3]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as link, open(path, "wb") as file:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        link.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        link.bind((interface, 3))
        file.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        print("listening", flush=True)
        while True:
            frame, ancillary, _, sender = link.recvmsg(1 << 18, 256)
            if sender[2] == socket.PACKET_OUTGOING:
                continue
            said = {kind: data for _, kind, data in ancillary}
            frame = whole(frame, said[PACKET_AUXDATA])
            second, nano = struct.unpack("=qq", said[SO_TIMESTAMPNS])
            file.write(struct.pack("=IIII", second, nano, len(frame), len(frame)) + frame)
            file.flush()


if __name__ == "__main__":
    main()
