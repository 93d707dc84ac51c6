"""A month of ledger, made straight into HDFS: what a start meets after a long life, without the life.

Every hour's entry is there by name. The last two of each chain are real; the older ones are empty files, since a start
lists them and never reads them (every entry carries the whole state), and 720,000 written blocks would take hours.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hdfs_native import Client, WriteOptions

from bench.daemon import Place
from bench.topic import HOUR_MS
from logflume.core import codec, layout, ledger
from logflume.core.ledger import Closing, Entry, Head
from logflume.kafka.topics import Topics
from logflume.model import PartitionId

THREADS = 32


def write(here: Place, topic: str, partitions: int, entries: int, threads: int = THREADS) -> float:
    """Chains of ``entries`` entries that end with the hour before last, nothing read yet; seconds that it took."""
    began = time.monotonic()
    known = Topics({"bootstrap.servers": here.stack.bootstrap}).topic(topic)
    end = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS - HOUR_MS
    client = Client(f"hdfs://{here.stack.namenode_rpc}")
    root = f"{here.path}/{layout.topic_directory(topic, known.topic_id)}"
    client.mkdirs(root, create_parent=True)
    # a new worker's first question; the daemon's own user must be able to go on in all of it
    _put(client, f"{here.path}/{layout.topic_path(topic, known.topic_id)}", _first(topic, known.topic_id, partitions))

    def chain(partition: int) -> None:
        pid = PartitionId(topic, known.topic_id, partition)
        directory = f"{here.path}/{layout.chain_directory(pid)}"
        client.mkdirs(directory, create_parent=True)
        for seq in range(entries - 2):
            client.inner.create(f"{here.path}/{layout.entry_path(pid, seq)}", WriteOptions()).close()
        for entry, data in _newest(pid, entries, end):
            _put(client, f"{here.path}/{layout.entry_path(pid, entry.seq)}", data)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(chain, range(partitions)):
            pass
    return round(time.monotonic() - began, 1)


def _newest(pid: PartitionId, entries: int, end: int) -> list[tuple[Entry, bytes]]:
    """The last two entries: hours closed by the clock, all finished."""
    first = ledger.genesis(pid, window_ms=HOUR_MS, start=0, owner="month", at=end, config="")
    found: list[tuple[Entry, bytes]] = []
    head = Head(replace(first, seq=entries - 3), hashlib.sha256(b"").hexdigest())
    for until in (end - HOUR_MS, end):
        closing = Closing(until - HOUR_MS, until, 0, "idle", until)
        state = replace(
            head.state, frontier=until, first_hour=end - entries * HOUR_MS, finished_until=until, unfinished={}
        )
        entry = replace(
            head.entry, seq=head.entry.seq + 1, prev=head.sha256, what="decide", state=state, closed=(closing,)
        )
        data = codec.encode(entry)
        found.append((entry, data))
        head = Head(entry, hashlib.sha256(data).hexdigest())
    return found


def _first(topic: str, topic_id: str, partitions: int) -> bytes:
    return b'{"topic": "%s", "topic_id": "%s", "partitions": %d}\n' % (topic.encode(), topic_id.encode(), partitions)


def _put(client: Client, path: str, data: bytes) -> None:
    writer = client.inner.create(path, WriteOptions())
    writer.write(data)
    writer.close()
