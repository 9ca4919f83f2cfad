"""The judge, judged: python3 -B -m unittest discover -s benches"""
import unittest

from judge import holder, judge_flows, judge_polls, quantile, seconds, share

BEGIN = "2026-01-02T03:04:05.000000000Z"
CLIENT, SERVER = ["10.0.0.1", 40000], ["10.0.0.2", 80]


def truth(**more):
    line = {"flow": 1, "kind": "TCP one 4", "life_ms": 10, "role": "out", "protocol": "TCP", "local": CLIENT,
            "remote": SERVER, "pid": 77, "name": "maker", "process_start": seconds(BEGIN) - 5, "start": seconds(BEGIN)}
    return line | more


def process(**more):
    return {"pid": 77, "name": "maker", "upid": f"maker|77|{seconds(BEGIN) - 5:.2f}",
            "start_time": "2026-01-02T03:04:00.000000000Z", "match": "exact", "evidence_age_ms": 0.4} | more


def record(timestamp=BEGIN, src=CLIENT, dst=SERVER, **more):
    return {"type": "flow", "timestamp": timestamp, "duration": 0.01, "protocol": "TCP", "src_ip": src[0],
            "src_port": src[1], "dst_ip": dst[0], "dst_port": dst[1]} | more


class Flows(unittest.TestCase):
    def outcome(self, line, *records):
        [verdict] = judge_flows([line], records)
        return verdict.outcome, verdict.word

    def test_the_owner_is_named(self):
        self.assertEqual(self.outcome(truth(), record(src_process=process())), ("named", "exact"))

    def test_another_process_is_wrong(self):
        said = process(pid=78, upid=f"maker|78|{seconds(BEGIN) - 5:.2f}")
        self.assertEqual(self.outcome(truth(), record(src_process=said)), ("wrong", "exact"))

    def test_another_name_under_the_same_number_is_wrong(self):
        said = process(name="other", upid=f"other|77|{seconds(BEGIN) - 5:.2f}")
        self.assertEqual(self.outcome(truth(), record(src_process=said))[0], "wrong")

    def test_the_next_process_with_the_number_is_wrong(self):
        later = process(upid=f"maker|77|{seconds(BEGIN):.2f}")
        self.assertEqual(self.outcome(truth(), record(src_process=later))[0], "wrong")
        later = process(start_time=BEGIN)
        self.assertEqual(self.outcome(truth(), record(src_process=later))[0], "wrong")

    def test_a_upid_of_another_process_is_wrong(self):
        said = process(upid=f"maker|78|{seconds(BEGIN) - 5:.2f}")
        self.assertEqual(self.outcome(truth(), record(src_process=said))[0], "wrong")

    def test_the_right_process_at_the_wrong_end_is_no_owner(self):
        found = self.outcome(truth(), record(dst_process=process(), src_unattributed="no_socket"))
        self.assertEqual(found, ("none", "no_socket"))

    def test_the_end_is_found_whichever_way_the_flow_is_told(self):
        turned = record(src=SERVER, dst=CLIENT, dst_process=process())
        self.assertEqual(self.outcome(truth(), turned), ("named", "exact"))

    def test_both_ends_on_the_machine_have_an_owner_each(self):
        ends = [truth(), truth(role="in", local=SERVER, remote=CLIENT, pid=78)]
        one = record(src_process=process(), dst_process=process())
        self.assertEqual([verdict.outcome for verdict in judge_flows(ends, [one])], ["named", "wrong"])

    def test_only_a_user_is_no_owner(self):
        said = {"uid": 0, "match": "uid_only"}
        self.assertEqual(self.outcome(truth(), record(src_process=said)), ("none", "uid_only"))

    def test_a_used_port_has_the_owner_of_that_time(self):
        first = record(src_process=process())
        again = "2026-01-02T03:04:05.400000000Z"
        second = record(again, src_process=process(pid=78, upid=f"maker|78|{seconds(BEGIN) - 5:.2f}"))
        lines = [truth(), truth(start=seconds(again), pid=78)]
        for records in ([first, second], [second, first]):
            self.assertEqual([verdict.outcome for verdict in judge_flows(lines, records)], ["named", "named"])
        lines[1]["pid"] = 77
        self.assertEqual([verdict.outcome for verdict in judge_flows(lines, [first, second])], ["named", "wrong"])

    def test_a_flow_without_a_record_is_unseen(self):
        self.assertEqual(self.outcome(truth())[0], "unseen")
        self.assertEqual(self.outcome(truth(), record("2026-01-02T03:04:10Z", src_process=process()))[0], "unseen")
        self.assertEqual(self.outcome(truth(), record(protocol="UDP", src_process=process()))[0], "unseen")

    def test_unseen_flows_are_no_part_of_the_share(self):
        other = ["10.0.0.1", 40001]
        verdicts = judge_flows([truth(), truth(local=other), truth(start=0)],
                               [record(src_process=process()), record(src=other)])
        self.assertEqual([verdict.outcome for verdict in verdicts], ["named", "none", "unseen"])
        self.assertEqual(share(verdicts), 0.5)


class Polls(unittest.TestCase):
    def outcome(self, line, *sockets, end=0.005):
        poll = {"begin": seconds(BEGIN) + end - 0.001, "end": seconds(BEGIN) + end, "sockets": list(sockets)}
        return judge_polls([line], [poll])[0].outcome

    def test_a_connection_by_its_addresses(self):
        self.assertEqual(self.outcome(truth(), ["TCP", *CLIENT, *SERVER, 77]), "named")
        self.assertEqual(self.outcome(truth(), ["TCP", *CLIENT, *SERVER, 78]), "wrong")
        self.assertEqual(self.outcome(truth(), ["TCP", *CLIENT, *SERVER, None]), "none")
        self.assertEqual(self.outcome(truth(), ["TCP", *CLIENT, "10.0.0.3", 80, 77]), "none")
        self.assertEqual(self.outcome(truth(), ["TCP", "0.0.0.0", 40000, None, None, 77]), "none")

    def test_a_udp_socket_by_what_it_is_bound_to(self):
        line = truth(protocol="UDP")
        self.assertEqual(self.outcome(line, ["UDP", "0.0.0.0", 40000, None, None, 77]), "named")
        self.assertEqual(self.outcome(line, ["UDP", "::", 40000, None, None, 78]), "wrong")
        self.assertEqual(self.outcome(line, ["UDP", "0.0.0.0", 40001, None, None, 77]), "none")

    def test_a_reading_from_before_says_nothing(self):
        self.assertEqual(self.outcome(truth(), ["TCP", *CLIENT, *SERVER, 77], end=-0.001), "none")
        self.assertEqual(self.outcome(truth(), ["TCP", *CLIENT, *SERVER, 77], end=2), "none")

    def test_a_udp_socket_that_is_asked_lives_on(self):
        line = truth(protocol="UDP", role="in")
        for end in (-0.5, 0.5):
            self.assertEqual(self.outcome(line, ["UDP", "0.0.0.0", 40000, None, None, 77], end=end), "named")

    def test_process_number_zero_is_a_number(self):
        table = {("UDP", "0.0.0.0", 40000, None, None): {0}, ("UDP", "::", 40000, None, None): {9}}
        self.assertEqual(holder(table, truth(protocol="UDP")), 0)

    def test_of_several_that_may_be_it_none_is_named(self):
        workers = [["UDP", "0.0.0.0", 40000, None, None, pid] for pid in (77, 78)]
        self.assertEqual(self.outcome(truth(protocol="UDP"), *workers), "none")


class Numbers(unittest.TestCase):
    def test_quantiles(self):
        self.assertEqual([quantile([3, 1, 2, 4], part) for part in (0, 0.5, 0.99, 1)], [1, 3, 4, 4])

    def test_times(self):
        self.assertEqual(seconds("1970-01-01T00:01:00.250000000Z"), 60.25)
        self.assertEqual(seconds("1970-01-01T00:01:00Z"), 60)


if __name__ == "__main__":
    unittest.main()
