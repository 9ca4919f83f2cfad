"""Takes flows from a broker into ClickHouse: load_clickhouse.py BROKER RECORDS. Needs the package chdb, its engine.

A server fetches by itself what its materialized view is made for. The engine alone has no such thread: here the same
query is asked again and again, until as many records are there or a minute is over.
"""
import pathlib
import sys
import time

from chdb import session

broker, wanted = sys.argv[1], int(sys.argv[2])
database = session.Session()


def ask(query):
    return str(database.query(query, "TSV")).rstrip("\n")


text = (pathlib.Path(__file__).parent / "clickhouse.sql").read_text().replace("{broker}", broker)
table, queue, view = text.rstrip().rstrip(";").split(";\n")
database.query(table)
try:
    database.query(queue)
except Exception as error:
    # It is made all the same.
    assert "Shutdown was called" in str(error), error
end = time.monotonic() + 60
while int(ask("SELECT count() FROM flows FINAL")) < wanted and time.monotonic() < end:
    fetch = view[view.index("SELECT"):]
    database.query(f"INSERT INTO flows {fetch} SETTINGS stream_like_engine_allow_direct_select = 1")

print("ClickHouse", ask("SELECT version()"))
print("records that came:", ask("SELECT sum(num_messages_read) FROM system.kafka_consumers"))
print("sensor, flows, bytes, without repeats:")
print(ask("SELECT sensor, count(), sum(bytes) FROM flows FINAL GROUP BY sensor ORDER BY sensor"))
print("programs that sent the most:")
print(ask("""SELECT src_process.name, dst_port, sum(src_bytes) FROM flows FINAL WHERE src_process.name IS NOT NULL
             GROUP BY ALL ORDER BY 3 DESC, 1 LIMIT 3"""))
print("answers that took longest:")
print(ask("""SELECT sensor, question.query, question.rcode, question.rtt_us FROM flows FINAL ARRAY JOIN dns AS question
             ORDER BY 4 DESC NULLS LAST, 2 LIMIT 3"""))
print("the last of them began:")
print(ask("SELECT max(timestamp) FROM flows"))
