"""What compare, live and memory stand on: the programs built, captures made, runs measured, reports written."""
import contextlib
import datetime
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
RELEASE = REPOSITORY / "target" / "release"


class Run:
    """A measured run: seconds of wall clock and of processor, peak resident MB."""

    def __init__(self, wall, processor, resident):
        self.wall, self.processor, self.resident = wall, processor, resident


class Failure(Exception):
    """A program that did not end well, and what it said last."""


class Report:
    """Lines of Markdown, printed as they come."""

    def __init__(self, title):
        self.lines = []
        self.say(f"# {title}, {datetime.date.today()}\n")
        load = os.getloadavg()[0]
        self.say(f"{machine()}; load before: {load:.2f}")
        if load > 1:
            self.say("The machine was busy: the times say little, the ratios of CPU seconds more.")

    def say(self, line=""):
        self.lines.append(line)
        print(line, flush=True)

    def judge(self, rows, judged=True):
        """Says which targets are met; rows of (what, sign, bound, found)."""
        self.say("\n## Targets\n\n| what | target | found | |\n|---|---:|---:|---|")
        for what, sign, bound, found in rows:
            met = found >= bound if sign == "≥" else found <= bound
            verdict = ("met" if met else "MISSED") if judged else "not judged"
            self.say(f"| {what} | {sign} {bound:,} | {found:,.2f} | {verdict} |")

    def save(self, name):
        """Writes it to results/DATE-NAME.md."""
        results = REPOSITORY / "benches" / "results"
        results.mkdir(exist_ok=True)
        path = results / f"{datetime.date.today()}-{name}.md"
        path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        print(f"written to {path}", file=sys.stderr)


@contextlib.contextmanager
def folder():
    """A folder for captures and outputs, on a memory file system, for as long as it is used."""
    place = os.environ.get("FLOWCAP_BENCH_DIR", "/dev/shm")
    with tempfile.TemporaryDirectory(prefix="flowcap-bench-", dir=place) as name:
        yield pathlib.Path(name)


def build(*packages):
    """Builds in release, quietly: what the compiler says is shown if it fails."""
    wanted = [word for package in packages for word in ("-p", package)]
    print(f"building {', '.join(packages)} …", file=sys.stderr)
    done = subprocess.run(["cargo", "build", "--release", *wanted], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def make_capture(shape, scale, where):
    """Makes a capture; returns its path and what is in it."""
    capture = where / f"{shape}.pcap"
    done = subprocess.run([RELEASE / "traffic", shape, "--scale", str(scale), "-o", capture],
                          check=True, capture_output=True, text=True)
    return capture, json.loads(done.stdout)["totals"]


def measure(command):
    """Runs a command to its end and returns what it took."""
    with tempfile.NamedTemporaryFile("r") as resident, tempfile.TemporaryFile() as said:
        # A program of its own counts the memory: a child of this script would begin with the script's own peak.
        begin = time.perf_counter()
        child = subprocess.Popen(["/usr/bin/time", "-f", "%M", "-o", resident.name, *map(str, command)],
                                 stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            text = said.read().decode(errors="replace")[-2000:]
            raise Failure(f"it ended with {child.returncode}: {' '.join(map(str, command))}\n{text}")
        return Run(seconds, usage.ru_utime + usage.ru_stime, int(resident.read().split()[-1]) / 1024)


def progress(text):
    """Tells somebody who is watching."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def python_with(package):
    """Returns a Python that has this package: this one, or one of the user's cache folder; "" if there is none."""
    if importlib.util.find_spec(package):
        return sys.executable
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    place = cache / "flowcap-bench" / package
    python = place / "bin" / "python"
    has_it = [python, "-c", f"import {package}"]
    if not python.exists() or subprocess.run(has_it, capture_output=True).returncode != 0:
        print(f"installing {package} into {place} …", file=sys.stderr)
        for command in ([sys.executable, "-m", "venv", place], [python, "-m", "pip", "install", "--quiet", package]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                print((done.stdout + done.stderr)[-1000:], file=sys.stderr)
                break
    return str(python) if python.exists() and subprocess.run(has_it, capture_output=True).returncode == 0 else ""


def machine():
    """Kernel, processor and cores."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    kernel = ".".join(os.uname().release.split("-")[0].split(".")[:2])
    return f"{next(models, 'unknown processor')}, {os.cpu_count()} cores, Linux {kernel}"
