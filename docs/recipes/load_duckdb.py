"""Loads flows into DuckDB: load_duckdb.py FILE, which has lines of a sensor, a TAB and a record. Needs the package duckdb."""
import sys

import duckdb

duckdb.sql("SET TimeZone = 'UTC'")
duckdb.execute("CREATE TABLE arrived (sensor VARCHAR, record JSON)")
duckdb.execute("""INSERT INTO arrived SELECT * FROM read_csv(?, delim = '\t', quote = '', escape = '', header = false,
    columns = {sensor: 'VARCHAR', record: 'JSON'}, max_line_size = 1000000)""", [sys.argv[1]])
# A key that is absent is NULL. from_json takes the types from here, whatever the first records happen to have.
duckdb.execute("""CREATE TABLE flows AS SELECT DISTINCT ON (flow.instance, flow.seq) sensor, flow.* FROM (
    SELECT sensor, from_json(record, '{
        "instance": "VARCHAR", "seq": "UBIGINT", "type": "VARCHAR", "flow_id": "UBIGINT", "community_id": "VARCHAR",
        "timestamp": "TIMESTAMP_NS", "end": "TIMESTAMP_NS", "duration": "DOUBLE",
        "src_ip": "VARCHAR", "src_port": "USMALLINT", "dst_ip": "VARCHAR", "dst_port": "USMALLINT", "protocol": "VARCHAR",
        "vlan": ["USMALLINT"], "app": "VARCHAR", "bytes": "UBIGINT", "packets": "UBIGINT", "src_bytes": "UBIGINT",
        "dst_bytes": "UBIGINT", "rtt_us": "DOUBLE", "dns_query": "VARCHAR",
        "dns": [{"query": "VARCHAR", "rcode": "VARCHAR", "rtt_us": "DOUBLE", "answers": [{"type": "VARCHAR", "data": "VARCHAR"}]}],
        "src_process": {"pid": "UINTEGER", "name": "VARCHAR", "user": "VARCHAR"}, "end_reason": "VARCHAR"}') AS flow
    FROM arrived WHERE record->>'type' = 'flow')""")


def ask(query):
    for row in duckdb.sql(query).fetchall():
        print(*row, sep="\t")


print("DuckDB", duckdb.__version__)
print("records that came:")
ask("SELECT count(*) FROM arrived")
print("sensor, flows, bytes, without repeats:")
ask("SELECT sensor, count(*), sum(bytes) FROM flows GROUP BY sensor ORDER BY sensor")
print("programs that sent the most:")
ask("""SELECT src_process.name, dst_port, sum(src_bytes) FROM flows WHERE src_process IS NOT NULL
       GROUP BY ALL ORDER BY 3 DESC, 1 LIMIT 3""")
print("answers that took longest:")
ask("""SELECT sensor, question.query, question.rcode, question.rtt_us
       FROM (SELECT sensor, unnest(dns) AS question FROM flows) ORDER BY 4 DESC NULLS LAST, 2 LIMIT 3""")
print("the last of them began:")
ask("SELECT max(timestamp)::VARCHAR FROM flows")
