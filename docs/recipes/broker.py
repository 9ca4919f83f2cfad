"""A Kafka broker to try things with: librdkafka's own, in memory. Prints its address, and runs until it is ended.

It keeps the last 5 MB of each of a topic's four partitions. Needs the package confluent-kafka.
"""
import time

from confluent_kafka import Producer

broker = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1})
(address,) = broker.list_topics(timeout=10).brokers.values()
print(f"{address.host}:{address.port}", flush=True)
while True:
    time.sleep(60)
