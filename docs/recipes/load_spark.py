"""Reads a folder of flow records with Spark: load_spark.py FOLDER. Needs the package pyspark, and Java."""
import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, explode, to_timestamp

# Spark would find the types by itself, by reading everything twice; and a column that no record has would not be there.
# Its times have microseconds, so the texts stay as they are: they sort as the times do.
SCHEMA = """
    type STRING, flow_id BIGINT, community_id STRING, timestamp STRING, `end` STRING, duration DOUBLE,
    src_ip STRING, src_port INT, dst_ip STRING, dst_port INT, protocol STRING, vlan ARRAY<INT>, app STRING,
    tunnel ARRAY<STRUCT<type: STRING, src_ip: STRING, dst_ip: STRING, id: BIGINT>>,
    bytes BIGINT, packets BIGINT, src_bytes BIGINT, dst_bytes BIGINT, rtt_us DOUBLE, tcp_state STRING, dns_query STRING,
    dns ARRAY<STRUCT<query: STRING, qtype: STRING, rcode: STRING, rtt_us: DOUBLE,
                     answers: ARRAY<STRUCT<name: STRING, type: STRING, ttl: BIGINT, data: STRING>>>>,
    src_process STRUCT<pid: INT, name: STRING, user: STRING>, end_reason STRING, slice BIGINT, final BOOLEAN
"""

spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
spark.conf.set("spark.sql.session.timeZone", "UTC")
# Files that are still written have no .zst.
files = spark.read.schema(SCHEMA).option("pathGlobFilter", "*.jsonl.zst").json(sys.argv[1])
flows = files.where(col("type") == "flow").withColumn("time", to_timestamp("timestamp"))
flows.createOrReplaceTempView("flows")


def ask(query):
    for row in spark.sql(query).collect():
        print(*row, sep="\t")


print("Spark", spark.version)
print("sensor, flows, bytes:")
ask("SELECT sensor, count(*), sum(bytes) FROM flows GROUP BY sensor ORDER BY sensor")
print("lines that are no records:", files.where(col("type").isNull()).count())
print("programs that sent the most:")
ask("""SELECT src_process.name, dst_port, sum(src_bytes) FROM flows WHERE src_process IS NOT NULL
       GROUP BY ALL ORDER BY 3 DESC, 1 LIMIT 3""")
print("answers that took longest:")
flows.select("sensor", explode("dns").alias("question")).createOrReplaceTempView("questions")
ask("SELECT sensor, question.query, question.rcode, question.rtt_us FROM questions ORDER BY 4 DESC NULLS LAST, 2 LIMIT 3")
print("the last of them began:")
ask("SELECT max(timestamp), max(time) FROM flows")
