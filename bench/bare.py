"""The yardstick: a process that reads a topic with consume() and looks at value, offset, time and partition.

``python -m bench.bare BOOTSTRAP TOPIC PARTITIONS RECORDS`` prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

BATCH = 10_000
#: at least so many batches: what comes in the first one is not counted
BATCHES = 50


def measure(bootstrap: str, topic: str, partitions: int, records: int) -> dict[str, Any]:
    """In a process of its own, as logflume is."""
    command = [sys.executable, "-m", "bench.bare", bootstrap, topic, str(partitions), str(records)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def _main(bootstrap: str, topic: str, partitions: int, records: int) -> dict[str, Any]:
    settings = {"bootstrap.servers": bootstrap, "group.id": "bench", "fetch.queue.backoff.ms": 10, "log_level": 0}
    consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    began, cpu, count, size = 0.0, 0.0, 0, 0
    batch = max(1, min(BATCH, records // BATCHES))
    while count < records:
        messages = consumer.consume(batch, 0.2)
        if messages and not began:
            # what came first is not counted: the clock starts when it is there
            began, cpu, first = time.perf_counter(), time.process_time(), len(messages)
        values = [message.value() for message in messages]
        offsets = [message.offset() for message in messages]
        times = [message.timestamp() for message in messages]
        parts = [message.partition() for message in messages]
        size += sum(len(value or b"") for value in values)
        count += min(len(offsets), len(times), len(parts))
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    return {
        "records_s": (count - first) / wall,
        "cpu_us": used / (count - first) * 1e6,
        "cpu_whole_us": time.process_time() / count * 1e6,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1),
        "bytes": size,
    }


if __name__ == "__main__":
    print(json.dumps(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))  # noqa: T201
