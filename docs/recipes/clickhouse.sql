-- Fields that are not named here are left out. Those that may be absent are Nullable, or lists, which are then empty.
CREATE TABLE flows (
    sensor LowCardinality(String),
    instance String,
    seq UInt64,
    type LowCardinality(String),
    flow_id UInt64,
    community_id String,
    timestamp DateTime64(9, 'UTC'),
    end DateTime64(9, 'UTC'),
    duration Float64,
    src_ip IPv6,
    src_port Nullable(UInt16),
    dst_ip IPv6,
    dst_port Nullable(UInt16),
    protocol LowCardinality(String),
    vlan Array(UInt16),
    tunnel Array(Tuple(type String, src_ip Nullable(IPv6), dst_ip Nullable(IPv6), id Nullable(UInt64))),
    app LowCardinality(Nullable(String)),
    bytes UInt64,
    packets UInt64,
    src_bytes UInt64,
    dst_bytes UInt64,
    rtt_us Nullable(Float64),
    tcp_state LowCardinality(Nullable(String)),
    entropy Nullable(Float64),
    dns_query Nullable(String),
    dns Array(Tuple(
        id UInt16, query Nullable(String), qtype Nullable(String), rcode Nullable(String), rtt_us Nullable(Float64),
        answers Array(Tuple(name String, type String, ttl UInt32, data String)))),
    src_process Tuple(pid Nullable(UInt32), name Nullable(String), user Nullable(String), args Array(String)),
    end_reason LowCardinality(String)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
-- What comes twice has the same timestamp, instance and seq: merging keeps one of each.
ORDER BY (timestamp, instance, seq);

CREATE TABLE flows_queue AS flows
ENGINE = Kafka
SETTINGS kafka_broker_list = '{broker}', kafka_topic_list = 'flows', kafka_group_name = 'clickhouse',
         kafka_format = 'JSONEachRow', date_time_input_format = 'best_effort', input_format_skip_unknown_fields = 1;

CREATE MATERIALIZED VIEW flows_arrive TO flows AS
SELECT * REPLACE (_key AS sensor) FROM flows_queue WHERE type = 'flow';
