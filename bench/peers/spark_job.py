"""Spark Structured Streaming as a peer of logflume: hourly directories by the record's own time, gzip.

Run by spark-submit, in a Python that has pyspark and nothing of ours: BOOTSTRAP TOPIC ROOT CHECKPOINT. Everything that
is in the topic goes in one trigger, which is the cheapest way there is for Spark: a stream has many, with files each.
"""

from __future__ import annotations

import sys
import time

from pyspark.sql import SparkSession, functions  # type: ignore[import-not-found,unused-ignore]


def main(bootstrap: str, topic: str, root: str, checkpoint: str) -> None:
    session = SparkSession.builder.appName("peer").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    print(f"reading {time.time()}", flush=True)  # noqa: T201 (the measuring program looks for it)
    records = (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    value = functions.col("value").cast("string")
    seconds = (functions.get_json_object(value, "$.ts").cast("long") / 1000).cast("timestamp")
    lines = records.select(
        value.alias("value"),
        functions.date_format(seconds, "yyyy-MM-dd").alias("dt"),
        functions.date_format(seconds, "HH").alias("hour"),
    )
    query = (
        lines.writeStream.format("text")
        .partitionBy("dt", "hour")
        .option("path", root)
        .option("checkpointLocation", checkpoint)
        .option("compression", "gzip")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
