"""Compares who is said to own each end of a flow with who does.

A truth is a line of testdata/make/owned.py. The verdict on it is one of: "named" (the right process), "wrong" (another
one), "none" (no process is named), "unseen" (no flow record holds it).
"""
import bisect
import collections
import datetime

Verdict = collections.namedtuple("Verdict", "truth outcome word age duration said")

# How far the start of a process and that of a flow may lie from what was written down: boot time is read in whole
# seconds by some, and a server learns of a flow when its first words come.
PROCESS_SLACK, FLOW_SLACK = 1.5, 1.0


def judge_flows(truths, records):
    """Judges flow records: the `src_process` or `dst_process` of the end that the truth is about.

    `word` is how the process was matched, or the reason why none is named; `age` is the record's evidence_age_ms.
    """
    flows = collections.defaultdict(list)
    for record in records:
        if record.get("type") == "flow" and record.get("src_port") is not None:
            ends = (record["src_ip"], record["src_port"]), (record["dst_ip"], record["dst_port"])
            flows[record["protocol"], frozenset(ends)].append((seconds(record["timestamp"]), record))
    verdicts = []
    for truth in truths:
        local, remote = tuple(truth["local"]), tuple(truth["remote"])
        # The same addresses and ports may have had several owners: the flow is the one that began at that time.
        near = [(abs(start - truth["start"]), record)
                for start, record in flows[truth["protocol"], frozenset((local, remote))]]
        distance, record = min(near, key=lambda flow: flow[0], default=(FLOW_SLACK, None))
        if distance >= FLOW_SLACK:
            verdicts.append(Verdict(truth, "unseen", "unseen", None, None, None))
            continue
        end = "src" if (record["src_ip"], record["src_port"]) == local else "dst"
        said = record.get(f"{end}_process")
        if said is None or said.get("pid") is None:
            outcome = "none"
            word = (said or {}).get("match") or record.get(f"{end}_unattributed", "no word")
        else:
            outcome = "named" if is_owner(truth, said) else "wrong"
            word = said.get("match", "no word")
        verdicts.append(Verdict(truth, outcome, word, (said or {}).get("evidence_age_ms"), record["duration"], said))
    return verdicts


def is_owner(truth, said):
    """Tells whether a process object is the process of the truth: number, name and start."""
    if said["pid"] != truth["pid"] or said.get("name", truth["name"]) != truth["name"]:
        return False
    starts = []
    if "upid" in said:
        name, pid, start = said["upid"].rsplit("|", 2)
        if (name, int(pid)) != (truth["name"], truth["pid"]):
            return False
        starts.append(float(start))
    if "start_time" in said:
        starts.append(seconds(said["start_time"]))
    return all(abs(start - truth["process_start"]) <= PROCESS_SLACK for start in starts)


def judge_polls(truths, polls):
    """Judges somebody who reads the socket table now and then: a flow is named by a reading made while it lived.

    A poll is {"begin", "end", "sockets": [[protocol, local, port, remote, port, pid or null], …]}; remote and its
    port are null for a socket that is not connected.
    """
    polls = sorted(polls, key=lambda poll: poll["end"])
    ends = [poll["end"] for poll in polls]
    tables = [collections.defaultdict(set) for _ in polls]
    for table, poll in zip(tables, polls):
        for *ends_of_socket, pid in poll["sockets"]:
            table[tuple(ends_of_socket)].add(pid)
    verdicts = []
    for truth in truths:
        # A UDP socket that is asked outlives the flow on both sides.
        beside = FLOW_SLACK if (truth["protocol"], truth["role"]) == ("UDP", "in") else 0
        until = truth["start"] + truth["life_ms"] / 1000 + beside
        pid = None
        for nth in range(bisect.bisect_left(ends, truth["start"] - beside), len(polls)):
            if pid is not None or polls[nth]["begin"] > until:
                break
            pid = holder(tables[nth], truth)
        outcome = "none" if pid is None else "named" if pid == truth["pid"] else "wrong"
        verdicts.append(Verdict(truth, outcome, "poll", None, None, {"pid": pid}))
    return verdicts


def holder(table, truth):
    """Finds the process of a connection, or of the UDP socket bound to its local end; None where several may be it."""
    protocol, (address, port) = truth["protocol"], truth["local"]
    places = [(protocol, address, port, *truth["remote"])]
    if protocol == "UDP":
        places += [(protocol, bound, port, None, None) for bound in (address, "0.0.0.0", "::")]
    for place in places:
        if pids := table.get(place):
            return min(pids) if len(pids) == 1 else None
    return None


def share(verdicts):
    """The part that is named, of those that have a record; 1 where there are none."""
    seen = [verdict for verdict in verdicts if verdict.outcome != "unseen"]
    return sum(verdict.outcome == "named" for verdict in seen) / len(seen) if seen else 1.0


def quantile(values, part):
    """The smallest value that so many of them are not above."""
    values = sorted(values)
    return values[min(len(values) - 1, int(part * len(values)))]


def seconds(text):
    """RFC 3339 in UTC to seconds since 1970, to the microsecond."""
    whole, _, rest = text.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + float(f"0.{rest or 0}")
