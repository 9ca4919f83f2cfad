#!/usr/bin/env python3
"""Makes sockets of every kind and copies the kernel's tables of them: unshare --net python3 sockets.py FOLDER

Every run gives other inodes, so the tables of testdata/proc/net were made once. Needs root.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_ICMP, IPPROTO_ICMPV6, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM

UDPLITE = 136
TABLES = ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"]
held = []


def make(family, kind, protocol=0, bind=None, connect=None, options=()):
    one = socket.socket(family, kind, protocol)
    for option in options:
        one.setsockopt(*option, 1)
    if bind:
        one.bind(bind)
    if connect:
        one.connect(connect)
    held.append(one)
    return one


def listen(family, address, options=()):
    reuse = (socket.SOL_SOCKET, socket.SO_REUSEADDR)
    one = make(family, SOCK_STREAM, bind=address, options=[reuse, *options])
    one.listen()
    return one


def meet(listener, family, here, there):
    near = make(family, SOCK_STREAM, bind=here, connect=there)
    far = listener.accept()[0]
    held.append(far)
    return near, far


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    only_v6 = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    share = (socket.SOL_SOCKET, socket.SO_REUSEPORT)

    web = listen(AF_INET, ("127.0.0.1", 80))
    both = listen(AF_INET6, ("::", 8080))
    listen(AF_INET6, ("::1", 22), [only_v6])
    os.seteuid(1000)
    for _ in range(2):
        listen(AF_INET, ("0.0.0.0", 9000), [share])
    os.seteuid(0)
    meet(web, AF_INET, ("127.0.0.1", 40001), ("127.0.0.1", 80))
    meet(both, AF_INET, ("127.0.0.1", 40002), ("127.0.0.1", 8080))
    meet(both, AF_INET6, ("::1", 40003), ("::1", 8080))
    near, far = meet(web, AF_INET, ("127.0.0.1", 40004), ("127.0.0.1", 80))
    near.close()
    far.close()  # TIME_WAIT on the near side
    near, far = meet(web, AF_INET, ("127.0.0.1", 40005), ("127.0.0.1", 80))
    near.shutdown(socket.SHUT_WR)  # FIN_WAIT2 and CLOSE_WAIT

    reuse = (socket.SOL_SOCKET, socket.SO_REUSEADDR)
    for address in ["0.0.0.0", "127.0.0.1"]:
        make(AF_INET, SOCK_DGRAM, bind=(address, 53), options=[reuse])
    make(AF_INET, SOCK_DGRAM, bind=("127.0.0.1", 40006), connect=("127.0.0.1", 53))
    make(AF_INET6, SOCK_DGRAM, bind=("::", 5353))
    make(AF_INET6, SOCK_DGRAM, bind=("::1", 40007), connect=("::1", 5353))
    make(AF_INET, SOCK_DGRAM, UDPLITE, bind=("127.0.0.1", 7000))
    make(AF_INET6, SOCK_DGRAM, UDPLITE, bind=("::1", 7001))
    make(AF_INET, SOCK_RAW, IPPROTO_ICMP)
    make(AF_INET, SOCK_RAW, 89, connect=("127.0.0.2", 0))
    make(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
    make(AF_INET, SOCK_DGRAM, IPPROTO_ICMP, bind=("127.0.0.1", 77))
    make(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, bind=("::1", 78))

    time.sleep(0.2)  # until FINs are acknowledged
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        (folder / name).write_bytes(Path("/proc/self/net", name).read_bytes())


main()
