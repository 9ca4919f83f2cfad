"""Two network namespaces with a cable (veth) between them, and programs that run in them."""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import time

from stand import Failure

WIRE = "wire0"


class Cable:
    """Two namespaces with an interface each; with addresses where they are given, (near, far) of each IP version."""

    def __init__(self, addresses=()):
        self.addresses = addresses
        self.near, self.far = (f"flowcap-bench-{os.getpid()}-{end}" for end in ("near", "far"))

    def __enter__(self):
        try:
            for name in (self.near, self.far):
                ip("netns", "add", name)
                if not self.addresses:
                    # The system's own packets (neighbours, routers) would be among ours.
                    subprocess.run(["ip", "netns", "exec", name, "sh", "-c",
                                    "for i in all default; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done"],
                                   stderr=subprocess.DEVNULL)
            ip("-n", self.near, "link", "add", WIRE, "type", "veth", "peer", "name", WIRE, "netns", self.far)
            for name in (self.near, self.far):
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "link", "set", WIRE, "up")
            for pair in self.addresses:
                for name, address in zip((self.near, self.far), pair):
                    ip("-n", name, "address", "add", address, "dev", WIRE, *(["nodad"] if ":" in address else []))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)

    def start(self, namespace, command, said):
        return subprocess.Popen(["ip", "netns", "exec", namespace, *map(str, command)],
                                stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)

    def arrived(self):
        """Counts the packets that came to the far end, and those that its interface dropped."""
        told = subprocess.run(["ip", "-n", self.far, "-s", "-j", "link", "show", WIRE], capture_output=True, check=True)
        counters = json.loads(told.stdout)[0]["stats64"]["rx"]
        return counters["packets"], counters["dropped"]


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextlib.contextmanager
def started(cable, namespace, command, said):
    """A program in a namespace; whatever happens, it does not outlive this."""
    child = cable.start(namespace, command, said)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            child.wait()


def has_packet_socket(pid):
    with contextlib.suppress(OSError):
        lines = pathlib.Path(f"/proc/{pid}/net/packet").read_text(encoding="utf-8").splitlines()
        # Before `ip` has changed over to the namespace, it sees the sockets of this one.
        mine = pathlib.Path("/proc/self/ns/net").readlink() != pathlib.Path(f"/proc/{pid}/ns/net").readlink()
        return mine and len(lines) > 1
    return False


def wait_until(child, what, text, holds):
    for _ in range(500):
        if holds():
            return
        if child.poll() is not None:
            raise Failure(f"it ended before {what}: {text.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
    raise Failure(f"{what}: not within 10 s")


def processor(pid):
    """Returns the seconds that all threads of a process have run so far."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="utf-8").split()[0]) for task in tasks) / 1e9


def rest(child):
    """Waits until a program has hardly used the processor for half a second; at most 30 s."""
    used, quiet = processor(child.pid), 0
    for _ in range(300):
        time.sleep(0.1)
        now = processor(child.pid)
        quiet = quiet + 1 if now - used < 0.005 else 0
        if quiet == 5:
            return
        used = now


def reap(child, text, codes):
    """Waits for the end of a program that was told to end; returns what it used."""
    for _ in range(600):
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode not in codes:
                raise Failure(f"it ended with {child.returncode}: {text.read_text(errors='replace')[-500:]}")
            return usage
        time.sleep(0.05)
    # T: somebody has stopped it, as one does to measure something else in peace.
    state = re.search(r"State:\s*(.*)", pathlib.Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8"))
    raise Failure(f"it does not end; its state is {state[1] if state else 'unknown'}")
