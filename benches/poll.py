"""Reads the socket table with psutil, as a poller does: every second until it is stopped, or so many times.

    poll.py every SECONDS FILE     appends each reading to FILE as a JSON line, as judge.judge_polls takes them
    poll.py times COUNT            prints what each reading took: {"rows", "cpu"} with seconds of processor time
"""
import ipaddress
import json
import signal
import socket
import sys
import time

import psutil


def main():
    mode, number, *more = sys.argv[1:]
    if mode == "times":
        # The first reading fills what psutil keeps.
        psutil.net_connections("inet")
        for _ in range(int(number)):
            begin = time.process_time()
            rows = len(psutil.net_connections("inet"))
            print(json.dumps({"rows": rows, "cpu": time.process_time() - begin}), flush=True)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with open(more[0], "w", encoding="utf-8") as out:
        due = time.time()
        while True:
            begin = time.time()
            sockets = [line(connection) for connection in psutil.net_connections("inet")]
            print(json.dumps({"begin": begin, "end": time.time(), "sockets": sockets}), file=out, flush=True)
            due += float(number)
            time.sleep(max(0, due - time.time()))


def line(connection):
    protocol = "TCP" if connection.type == socket.SOCK_STREAM else "UDP"
    return [protocol, *end(connection.laddr), *end(connection.raddr), connection.pid]


def end(address):
    if not address:
        return None, None
    ip = ipaddress.ip_address(address.ip)
    return str(getattr(ip, "ipv4_mapped", None) or ip), address.port


if __name__ == "__main__":
    main()
