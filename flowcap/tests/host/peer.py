"""What the programs of these tests have in common; what each does is appended. Its argument is a folder.

Standard library only. It ends after a minute, whatever happens."""

import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

signal.alarm(60)
SO_TIMESTAMPNS = 35


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(address, port, only_v6=False, backlog=16):
    listener = socket.socket(family(address), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if only_v6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


def connect(address, port, source=None):
    connection = socket.socket(family(address), socket.SOCK_STREAM)
    connection.settimeout(20)
    if source:
        connection.bind(source)
    connection.connect((address, port))
    return connection


def meet(listener, address):
    """Both ends of a connection to a listener of this process."""
    near = connect(address, listener.getsockname()[1])
    return near, listener.accept()[0]


def udp(address, port=0, to=None):
    one = socket.socket(family(address), socket.SOCK_DGRAM)
    one.bind((address, port))
    if to:
        one.connect(to)
    return one


def receive(connection, size):
    """So many bytes, or what comes before the end."""
    count = 0
    while count < size and (piece := connection.recv(min(65536, size - count))):
        count += len(piece)
    return count


def port(one):
    return one.getsockname()[1]


def call_me(name):
    """Takes a name of its own, or all programs of the tests had python's."""
    Path("/proc/self/comm").write_text(name)


def record(interface, path, end):
    """Records what goes over an interface, until the test says so."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    packets.bind((interface, 0))
    packets.settimeout(0.05)
    say()
    with open(path, "wb") as file:
        file.write(struct.pack("=IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        while True:
            try:
                frame, extra, _, whence = packets.recvmsg(262144, 64)
            except TimeoutError:
                if Path(sys.argv[1], end).exists():
                    break
                continue
            # What goes out over lo comes in, too.
            if interface != "lo" or whence[2] != socket.PACKET_OUTGOING:
                seconds, nanos = struct.unpack("=qq", extra[0][2])
                file.write(struct.pack("=IIII", seconds, nanos, len(frame), len(frame)) + frame)


def say(**facts):
    """Prints a line for the test: who this is, and some facts."""
    name = Path("/proc/self/comm").read_text().strip()
    exe = os.readlink("/proc/self/exe")
    print(json.dumps({"pid": os.getpid(), "name": name, "exe": exe, **facts}), flush=True)


def wait(name):
    """Waits until the test says so, which is a file in the folder."""
    while not Path(sys.argv[1], name).exists():
        time.sleep(0.005)


# What follows is the test's.
