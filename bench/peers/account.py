"""What a run left on HDFS, read back line by line and compared with the topic: for every program the same."""

from __future__ import annotations

import gzip
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import Consumer, TopicPartition

from bench.daemon import Place
from bench.topic import HOUR_MS, Load, ends
from tests.stack.hadoop import webhdfs

_TS = re.compile(rb'"ts": ?(\d+)')
_HOUR = re.compile(r"dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/")
#: the records that close the last hour: one a partition, all alike
_CLOSING = b'"closing"'


@dataclass(frozen=True)
class Found:
    """A file of a run: its path below the run's directory, and when it was closed or got its last block."""

    path: str
    bytes: int
    closed_ms: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[1]

    @property
    def records(self) -> bool:
        """Whether a reader of the directory would read it: in an hour's directory, and not hidden."""
        return bool(_HOUR.search(self.path)) and not self.name.startswith(("_", ".")) and not self.stranded

    @property
    def stranded(self) -> bool:
        """An open file of Flume's, by its name."""
        return self.name.endswith(".tmp")


def data_files(here: Place, below: str) -> list[Found]:
    """All files under a directory of the run; [] where there is none."""
    found = []
    for status in here.list(below):
        path = f"{below}/{status['pathSuffix']}"
        if status["type"] == "DIRECTORY":
            found += data_files(here, path)
        else:
            found.append(Found(path, status["length"], status["modificationTime"]))
    return found


def expected(bootstrap: str, topic: str, load: Load) -> set[int]:
    """A hash of every record of the topic but the closing ones. Good within this process only."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(load.partitions)])
    left = sum(ends(bootstrap, topic).values())
    found = set()
    try:
        while left > 0:
            messages = consumer.consume(10_000, 1.0)
            for message in messages:
                if message.error():
                    raise SystemExit(f"reading {topic}: {message.error()}")
                value = message.value() or b""
                if _CLOSING not in value:
                    found.add(hash(value))
            left -= len(messages)
    finally:
        consumer.close()
    if len(found) != load.records:
        raise SystemExit(f"{topic} has {len(found)} different records instead of {load.records}")
    return found


def compare(here: Place, below: str, wanted: set[int]) -> dict[str, int]:
    """Lost, repeated, altered and misplaced records, as a plain reader of the directories would meet them."""
    seen: set[int] = set()
    repeated = misplaced = stranded = 0
    files = data_files(here, below)
    for file in files:
        if not file.records:
            continue
        start = _start_ms(file.path)
        for line in lines(here, file):
            if _CLOSING in line:
                continue
            record = hash(line)
            repeated += record in seen
            seen.add(record)
            time = _TS.search(line)
            misplaced += time is None or not start <= int(time[1]) < start + HOUR_MS
    stranded = sum(file.stranded for file in files)
    return {
        "found": len(seen) + repeated,
        "lost": len(wanted - seen),
        "repeated": repeated,
        "altered": len(seen - wanted),
        "misplaced": misplaced,
        "open_files": stranded,
    }


def lines(here: Place, file: Found) -> Iterator[bytes]:
    """Lines without their end."""
    path = urllib.parse.quote(f"{here.path}/{file.path}")
    url = f"{here.stack.namenode_http}/webhdfs/v1{path}?op=OPEN&user.name=bench"
    with urllib.request.urlopen(url, timeout=60) as reply:  # noqa: S310  # the stack's own http address
        source = gzip.GzipFile(fileobj=reply) if file.name.endswith(".gz") else reply
        for line in source:
            yield line.rstrip(b"\n")


def _start_ms(path: str) -> int:
    hour = _HOUR.search(path)
    if hour is None:
        raise ValueError(path)
    return int(datetime.fromisoformat(f"{hour[1]}T{hour[2]}:00").replace(tzinfo=UTC).timestamp()) * 1000


def make_directory(here: Place, below: str) -> None:
    """One that any user may write into: a peer's Hadoop client has its own idea of who it is."""
    webhdfs(here.stack.namenode_http, "PUT", "MKDIRS", f"{here.path}/{below}")
    webhdfs(here.stack.namenode_http, "PUT", "SETPERMISSION", f"{here.path}/{below}", permission="777")
