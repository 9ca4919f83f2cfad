#!/usr/bin/env python3
"""Traffic whose owners are known: each end of a connection on the machine is written down with its process.

    owned.py machine --here 10.77.0.1,fd77::1 --there 10.77.0.2,fd77::2 --begin EPOCH --truth FILE
    owned.py peer    --here 10.77.0.2,fd77::2 --there 10.77.0.1,fd77::1 --begin EPOCH

Both are started with the same plan (--flows, --seconds, --seed, --kinds, --lives) before BEGIN, each in a network
namespace of its own, and end by themselves. The machine appends a JSON line to FILE for each end that one of its
processes holds: flow, kind, life_ms, role ("out" opened it, "in" was asked), protocol, local, remote (addresses with
ports as they are on the wire), pid, name, process_start and start in seconds since 1970. Standard library only."""

import argparse
import collections
import contextlib
import gc
import heapq
import ipaddress
import json
import os
import random
import selectors
import signal
import socket
import struct
import sys
import time

Kind = collections.namedtuple("Kind", "name protocol family form port")
Flow = collections.namedtuple("Flow", "number kind life at source_port")

V4, V6, MAPPED = "4", "6", "4-mapped"
# Forms of what the machine opens: one process, one process per connection, a port that others had before, ends that
# are both on the machine, a socket that is not connected. Of what it is asked: how many workers, and who listens.
OUT = ("one", "each", "port-reuse", "loopback", "unconnected")
WORKERS = {"accept": 1, "prefork": 4, "reuseport": 4, "served": 1, "loopback": 1}
PEER_PORT = 8001


def kinds():
    forms = {
        "TCP": {"one": (V4, V6, MAPPED), "each": (V4, V6), "port-reuse": (V4,), "loopback": (V4, V6),
                "accept": (V4, V6, MAPPED), "prefork": (V4, V6), "reuseport": (V4,)},
        "UDP": {"one": (V4, V6, MAPPED), "each": (V4, V6), "unconnected": (V4, V6),
                "served": (V4, V6), "reuseport": (V4,)},
    }
    port = PEER_PORT
    for protocol, some in forms.items():
        for form, families in some.items():
            for family in families:
                # Every kind that is served has a port of its own; what the machine opens goes to the peer's one port.
                port += 1
                served = form in WORKERS
                yield Kind(f"{protocol} {form} {family}", protocol, family, form, port if served else PEER_PORT)


KINDS = {kind.name: kind for kind in kinds()}
LIVES = {"TCP": (1, 10, 100, 1000), "UDP": (0.5, 1, 10, 100, 1000)}


def plan(options):
    """Returns the flows in the order of their beginnings: every kind with every life equally often.

    Without an IPv6 address only those of plain IPv4.
    """
    wanted = [KINDS[name] for name in options.kinds] if options.kinds else KINDS.values()
    wanted = [kind for kind in wanted if kind.family == V4 or 6 in options.here]
    sorts = [(kind, life) for kind in wanted for life in LIVES[kind.protocol]
             if not options.lives or life in options.lives]
    chance = random.Random(options.seed)
    drawn = [sorts[number % len(sorts)] for number in range(options.flows)]
    chance.shuffle(drawn)
    flows, ports = [], []
    for number, (kind, life) in enumerate(drawn):
        at = (number + chance.random()) * options.seconds / options.flows
        port = 0
        if kind.form == "port-reuse":
            port = reused_port(ports, at, life)
        elif kind.protocol == "UDP":
            # Chosen by the kernel, a port may come twice, and both exchanges would be one flow.
            port = 10000 + number % 10000
        flows.append(Flow(number, kind, life, at, port))
    return flows


def reused_port(ports, at, life):
    """Takes a source port that has been free for a while, or the next one; `ports` holds until when each is taken."""
    until = at + life / 1000 + 0.2
    for nth, taken in enumerate(ports):
        if taken < at:
            ports[nth] = until
            return 20000 + nth
    ports.append(until)
    return 20000 + len(ports) - 1


class Truth:
    """Where the ends of a process are written down."""

    def __init__(self, path, name):
        with open("/proc/self/comm", "w", encoding="ascii") as comm:
            comm.write(name)
        # A line is written by one call, so that those of several processes do not mix.
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        with open("/proc/self/stat", encoding="ascii") as stat:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        self.process = {"pid": os.getpid(), "name": name,
                        "process_start": round(boot + ticks / os.sysconf("SC_CLK_TCK"), 2)}

    def write(self, flow, role, local, remote, start):
        line = {"flow": flow.number, "kind": flow.kind.name, "life_ms": flow.life, "role": role,
                "protocol": flow.kind.protocol, "local": local, "remote": remote, "start": start, **self.process}
        os.write(self.file, json.dumps(line).encode() + b"\n")


def on_wire(address):
    """An address with port as packets have it: IPv4 where a socket says ::ffff:10.0.0.1."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    return [str(getattr(ip, "ipv4_mapped", None) or ip), address[1]]


def new_socket(kind):
    family = socket.AF_INET if kind.family == V4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM if kind.protocol == "TCP" else socket.SOCK_DGRAM)
    made.settimeout(5)
    return made


def talk(flow, here, there, truth):
    """One flow from its opening end: opens, yields while it lives, closes. Without truth nothing is written down."""
    kind = flow.kind
    version = 6 if kind.family == V6 else 4
    if kind.form == "loopback":
        here = there = {4: "127.0.0.1", 6: "::1"}
    # What the peer opens towards a listener for both versions is plain IPv4.
    mapped = kind.family == MAPPED and truth is not None
    remote = ("::ffff:" if mapped else "") + there[version]
    begun = time.time()
    with new_socket(kind if mapped or kind.family != MAPPED else kind._replace(family=V4)) as mine:
        if flow.source_port and kind.protocol == "UDP":
            mine.bind(("", flow.source_port))
        elif flow.source_port:
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Closed by a reset: the port is free for the next process at once.
            mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            mine.bind((here[version], flow.source_port))
        said = b"flow %d\n" % flow.number
        if kind.form == "unconnected":
            mine.sendto(said, (remote, kind.port))
        else:
            mine.connect((remote, kind.port))
            mine.send(said)
        if truth:
            local = [here[version], mine.getsockname()[1]]
            truth.write(flow, "out", local, [there[version], kind.port], begun)
        yield begun + flow.life / 1000
        # What came is read, or it would be closed by a reset.
        mine.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            mine.recv(100)


def talk_all(flows, here, there, truth, begin):
    """One process with all these flows, each opened and closed at its time."""
    due = [(begin + flow.at, flow.number, talk(flow, here, there, truth)) for flow in flows]
    heapq.heapify(due)
    while due:
        at, number, talking = heapq.heappop(due)
        time.sleep(max(0, at - time.time()))
        with contextlib.suppress(StopIteration):
            heapq.heappush(due, (next(talking), number, talking))


def talk_each(flows, here, there, path, begin):
    """A process for each flow, which ends with it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for flow in flows:
        time.sleep(max(0, begin + flow.at - time.time()))
        spawn(lambda: talk_all([flow], here, there, Truth(path, f"owned-{flow.number}"), begin))
    longest = max(flow.life for flow in flows) / 1000
    time.sleep(longest + 0.5)


def listen(kind):
    """A socket that is asked: a listener, or a UDP socket."""
    made = new_socket(kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind.form == "reuseport":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(kind.family == V6))
    made.bind(("" if made.family == socket.AF_INET else "::", kind.port))
    if kind.protocol == "TCP":
        made.listen(1024)
    made.setblocking(False)
    return made


def serve(listener, kind, flows, here, truth):
    """Answers for ever; each connection or datagram says of which flow it is."""
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ)
    numbers = {flow.number: flow for flow in flows}

    def note(said, local, remote):
        if truth:
            truth.write(numbers[int(said.split()[1])], "in", local, remote, time.time())

    while True:
        for ready, _ in watched.select():
            one = ready.fileobj
            # Another worker was faster, or the other end has gone already.
            with contextlib.suppress(OSError):
                if kind.protocol == "UDP":
                    said, sender = one.recvfrom(100)
                    local = [here[6 if ":" in on_wire(sender)[0] else 4], kind.port]
                    note(said, local, on_wire(sender))
                    one.sendto(said, sender)
                elif one is listener:
                    connection, _ = listener.accept()
                    watched.register(connection, selectors.EVENT_READ)
                else:
                    answer(one, watched, note)


def answer(connection, watched, note):
    """Reads once: the first words of a connection, or its end."""
    said = b""
    with contextlib.suppress(ConnectionError):
        said = connection.recv(100)
    if not said:
        watched.unregister(connection)
        connection.close()
        return
    # A connection that was reset has no other end any more.
    with contextlib.suppress(OSError):
        note(said, on_wire(connection.getsockname()), on_wire(connection.getpeername()))
        connection.send(said)


def spawn(work):
    """Runs this in a child; returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # The child must not return into what its parent was doing.
        print(f"owned.py: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def servers(served, flows, here, path):
    """Starts the workers of all kinds that are served; without a path they write nothing down."""
    for nth, kind in enumerate(served):
        shared = None if kind.form == "reuseport" else listen(kind)
        for worker in range(WORKERS.get(kind.form, 1)):
            listener = shared or listen(kind)
            name = f"owned-{kind.form[:5]}{nth}-{worker}"
            yield spawn(lambda: serve(listener, kind, flows, here, Truth(path, name) if path else None))
            if not shared:
                listener.close()
        if shared:
            shared.close()


def machine(options, flows):
    path, begin, here, there = options.truth, options.begin, options.here, options.there
    served = {flow.kind: None for flow in flows if flow.kind.form in WORKERS}
    asked = list(servers(served, flows, here, path))
    opens = [flow for flow in flows if flow.kind.form in OUT]
    crowd = [flow for flow in opens if flow.kind.form in ("each", "port-reuse")]
    alone = [flow for flow in opens if flow not in crowd]
    work = []
    if crowd:
        work.append(spawn(lambda: talk_each(crowd, here, there, path, begin)))
    if alone:
        work.append(spawn(lambda: talk_all(alone, here, there, Truth(path, "owned-one"), begin)))
    return asked, work


def peer(options, flows):
    begin, here, there = options.begin, options.here, options.there
    asks = [flow for flow in flows if flow.kind.form in WORKERS and flow.kind.form != "loopback"]
    family = MAPPED if 6 in here else V4
    both = [Kind("peer", protocol, family, "peer", PEER_PORT) for protocol in ("TCP", "UDP")]
    asked = list(servers(both, flows, here, None))
    return asked, [spawn(lambda: talk_all(asks, here, there, None, begin))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    addresses = lambda text: {6 if ":" in address else 4: address for address in text.split(",")}  # noqa: E731
    parser.add_argument("side", choices=("machine", "peer"))
    parser.add_argument("--here", type=addresses, required=True)
    parser.add_argument("--there", type=addresses, required=True)
    parser.add_argument("--begin", type=float, required=True, help="when, in seconds since 1970")
    parser.add_argument("--truth", help="the file of the machine's owners")
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", type=lambda text: text.split(","), help=f"of {', '.join(KINDS)} [all]")
    parser.add_argument("--lives", type=lambda text: [float(life) for life in text.split(",")],
                        help="of 0.5 (UDP) 1 10 100 1000, in milliseconds [all]")
    options = parser.parse_args()
    if options.side == "machine" and not options.truth:
        parser.error("the machine needs --truth")
    flows = plan(options)
    # Children share the memory of this process; a collection in each of them would copy it.
    gc.freeze()
    gc.disable()
    asked, work = (machine if options.side == "machine" else peer)(options, flows)
    # Only now: the children end by a signal at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    try:
        if time.time() > options.begin:
            raise SystemExit("it was not ready when it should have begun")
        failed = [child for child in work if os.waitpid(child, 0)[1] != 0]
        # What the other side still has to say.
        last = max(options.begin + flow.at + flow.life / 1000 for flow in flows)
        time.sleep(max(0, last + 0.5 - time.time()))
    except BaseException:
        for child in work:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        raise
    finally:
        for child in asked:
            os.kill(child, signal.SIGTERM)
    for child in asked:
        # 15: by the signal above; anything else ended before its time.
        if os.waitpid(child, 0)[1] != signal.SIGTERM:
            failed.append(child)
    if failed:
        raise SystemExit(f"{len(failed)} of the processes did not end well")


if __name__ == "__main__":
    main()
