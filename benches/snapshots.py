"""Holds so many sockets open in the network namespace that it runs in, and has everybody read the table.

    snapshots.py COUNT --rounds N --flowcap PROGRAM --python PYTHON_WITH_PSUTIL

Prints a JSON line for each program: its rows, and the processor and wall seconds of each reading.
"""
import argparse
import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from cable import processor

POLL = pathlib.Path(__file__).with_name("poll.py")
# Of ten sockets eight are TCP connections with both ends here, and two are UDP.
CONNECTED = 0.8


def hold(nth, count, ready):
    """A process with its part of the sockets, on an address of its own."""
    address = f"127.0.0.{nth + 1}"
    listener = socket.create_server((address, 7000), backlog=64)
    kept = [listener]
    for _ in range(int(count * CONNECTED) // 2):
        kept.append(socket.create_connection((address, 7000)))
        kept.append(listener.accept()[0])
    while len(kept) < count:
        kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        kept[-1].bind((address, 0))
    os.write(ready, b".")
    signal.pause()


@contextlib.contextmanager
def held(count):
    """The sockets, spread over some processes, for as long as this is used."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    holders = max(4, -(-count // (most - 100)))
    pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000", encoding="ascii")
    ready, tell = os.pipe()
    children = []
    try:
        for nth in range(holders):
            child = os.fork()
            if child == 0:
                try:
                    os.close(ready)
                    hold(nth, -(-count // holders), tell)
                finally:
                    os._exit(1)
            children.append(child)
        os.close(tell)
        for _ in children:
            if os.read(ready, 1) != b".":
                raise SystemExit("the sockets could not be opened")
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def once(command):
    """Runs a program to its end; returns the lines it printed, processor and wall seconds."""
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        rows = sum(1 for _ in said)
        return child.returncode, rows, usage.ru_utime + usage.ru_stime, wall


def each_time(program, command, count, rounds):
    """A program that reads the table once."""
    if shutil.which(str(command[0])) is None:
        return {"program": program, "left_out": "not installed"}
    runs = [once(command) for _ in range(rounds + 1)][1:]
    code, rows, _, _ = runs[0]
    # Whatever is measured is also checked: a short table is no table.
    if code != 0 or rows < count:
        return {"program": program, "left_out": f"it ended with {code} after {rows} rows"}
    return {"program": program, "rows": rows, "cpu": [run[2] for run in runs], "wall": [run[3] for run in runs]}


def steadily(flowcap, count, rounds):
    """flowcap while it reads every second: what each second took, once it has begun."""
    with tempfile.TemporaryDirectory() as where:
        out = pathlib.Path(where) / "sockets.csv"
        command = [flowcap, "sockets", "--interval", "1s", "--changes", "-o", out]
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            time.sleep(2.5)
            used = []
            for _ in range(rounds + 1):
                used.append(processor(child.pid) if child.poll() is None else 0)
                time.sleep(1)
            rows = out.read_text(encoding="utf-8").count("\n") if out.exists() else 0
            if child.poll() is not None or rows < count:
                return {"program": "flowcap, each further", "left_out": f"code {child.poll()}, {rows} rows"}
            cpu = [after - before for before, after in zip(used, used[1:])]
            return {"program": "flowcap, each further", "rows": rows, "cpu": cpu, "wall": []}
        finally:
            child.kill()
            child.wait()


def psutil(python, rounds):
    done = subprocess.run([python, "-B", POLL, "times", str(rounds)], capture_output=True, text=True, check=True)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    return {"program": "psutil", "rows": runs[0]["rows"], "cpu": [run["cpu"] for run in runs], "wall": []}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flowcap", default="")
    parser.add_argument("--python", default="")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    count, rounds = options.count, options.rounds
    with held(count):
        if options.flowcap:
            show(each_time("flowcap, once", [options.flowcap, "sockets", "--once", "-T", "csv"], count, rounds))
            show(steadily(options.flowcap, count, rounds))
        if options.python:
            show(psutil(options.python, rounds))
        show(each_time("ss -tunap", ["ss", "-tunap"], count, rounds))
        show(each_time("lsof -nP -i", ["lsof", "-nP", "-i"], count, rounds))


def show(line):
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
