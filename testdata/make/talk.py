#!/usr/bin/env python3
"""Two small programs of each kind that talk to each other, for recordings and for the live tests.

    talk.py http-server ADDRESS PORT        one request, one answer, then exit
    talk.py http-client ADDRESS PORT        asks it, prints how many bytes it sent and received
    talk.py dns-server ADDRESS COUNT        answers COUNT queries over UDP, then exits
    talk.py dns-client ADDRESS NAME...      asks for the A record of each name over one socket

A server prints "ready" once it listens. Standard library only."""

import json
import socket
import struct
import sys

from frames import answer, dns, packed, pointer, question

BODY = b"".join(b"line %d of a page\n" % i for i in range(200))


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def everything(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def until_blank_line(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


def http_server(address, port):
    with socket.create_server((address, int(port)), family=family(address)) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
        with connection:
            until_blank_line(connection)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            connection.sendall(head % len(BODY) + BODY)


def http_client(address, port):
    request = b"GET /page HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
    with socket.create_connection((address, int(port)), timeout=10) as connection:
        connection.sendall(request)
        received = everything(connection)
        print(json.dumps({"port": connection.getsockname()[1], "sent": len(request), "received": len(received)}))


def dns_server(address, count):
    with socket.socket(family(address), socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print("ready", flush=True)
        for _ in range(int(count)):
            query, peer = server.recvfrom(4096)
            asked = query[12 : query.index(b"\0", 12) + 5]
            ident = struct.unpack("!H", query[:2])[0]
            server.sendto(dns(ident, 0x8580, [asked], [answer(pointer(12), 1, 300, packed("203.0.113.7"))]), peer)


def dns_client(address, *names):
    sent = received = 0
    with socket.socket(family(address), socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect((address, 53))
        for ident, title in enumerate(names, 1):
            sent += client.send(dns(ident, 0x0100, [question(title, 1)]))
            received += len(client.recv(4096))
        print(json.dumps({"port": client.getsockname()[1], "sent": sent, "received": received}))


if __name__ == "__main__":
    programs = {"http-server": http_server, "http-client": http_client, "dns-server": dns_server, "dns-client": dns_client}
    if len(sys.argv) < 3 or sys.argv[1] not in programs:
        sys.exit(__doc__)
    programs[sys.argv[1]](*sys.argv[2:])
