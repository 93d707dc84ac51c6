"""What the ledger and finishing cost the NameNode: every request of the client counted, hour by hour.

Only ``commit`` and ``finish`` run here, on a real HDFS, and made-up batches stand for Kafka; so other work on
the servers does not change the figures. A file's first packet asks for a block (addBlock): that is ``write``. To read
a file is one request, when it is opened; the rest goes to a DataNode.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hdfs_native import FileReader

from bench import machine
from bench.daemon import Place, place
from bench.topic import BASE_MS, HOUR_MS, LATENESS_MS
from logflume import commit
from logflume.commit import Decision, LogFacts, Owner
from logflume.config import parse
from logflume.core import layout
from logflume.core.ledger import Head
from logflume.core.router import Router, Rows, Rules
from logflume.finish import run
from logflume.finish.follow import TopicFollower
from logflume.model import PartitionId
from logflume.spool.spool import SpoolFile
from logflume.store.hdfs import HdfsStore
from logflume.store.webhdfs import WebHdfsStore
from tests.stack import Stack

_P = ParamSpec("_P")
_T = TypeVar("_T")
#: of one part; their number does not matter as long as their offsets are one run, as they mostly are
RECORDS = 100


class Counted(HdfsStore):
    """Counts requests by the name of the call; ``write`` stands for the addBlock that its first packet needs."""

    calls: Counter[str]
    lock: threading.Lock

    def _call(self, what: str, path: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if what != "read":
            self._count(what)
        return super()._call(what, path, call, *args, **kwargs)

    def _open(self, path: str) -> FileReader:
        self._count("open")
        return super()._open(path)

    def concat(self, target: str, sources: Any) -> None:
        self._count("concat")
        super().concat(target, sources)

    def _count(self, what: str) -> None:
        with self.lock:
            self.calls[what] += 1


def measure(
    stack: Stack, *, partitions: list[int], hours: int, rolls: list[int], save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """For each number of partitions and of parts an hour: requests, files and bytes an hour."""
    cells: list[dict[str, Any]] = []
    found: dict[str, Any] = {"machine": machine.describe(), "hours": hours, "ledger": cells, "complete": False}
    for number in partitions:
        for parts in rolls:
            with place(stack) as here:
                cells.append(_one(stack, here, number, hours, parts))
            print(cells[-1], flush=True)  # noqa: T201
            save(found)
    found["complete"] = True
    return found


def _one(stack: Stack, here: Place, partitions: int, hours: int, parts: int) -> dict[str, Any]:
    web = WebHdfsStore(stack.namenode_http, here.path, url=stack.namenode_http, user=None, timeout_s=60, threads=32)
    store = Counted(stack.namenode_rpc, here.path, web=web, user=None, options={}, timeout_s=60)
    store.calls, store.lock = Counter(), threading.Lock()
    config = parse(
        {
            "kafka": {"bootstrap.servers": "127.0.0.1:9", "group.id": "bench"},
            "output": {"root": f"{stack.hdfs_url}{here.path}"},
            "topic": [{"name": "cost", "timestamp": {"field": "ts", "unit": "ms"}}],
        }
    ).topics[0]
    owner = Owner("bench", lambda: time.time_ns() // 1_000_000, config.hash)
    topic_id = "AAAAAAAAAAAAAAAAAAAAAA"
    with ThreadPoolExecutor(16) as pool, tempfile.TemporaryDirectory(prefix="logflume-bench-") as folder:
        local = Path(folder) / "part"
        local.write_bytes(b"x" * 1000)
        pids = [PartitionId("cost", topic_id, number) for number in range(partitions)]
        facts = LogFacts(start=0, end=0, committed=None, partitions=partitions)
        claim = partial(commit.claim, store, owner=owner, window_ms=HOUR_MS, ask=lambda: facts, latest=False)
        heads = list(pool.map(claim, pids))
        claims = _taken(store)
        routers = [Router(Rules(lateness_ms=LATENESS_MS), head.state) for head in heads]
        follower = TopicFollower(store, "cost", topic_id, config)
        hour_calls: list[Counter[str]] = []
        before = here.summary(f"_logflume/cost/{topic_id}")
        for hour in range(hours):
            for times, everything in _batches(hour, parts):
                step = partial(_decide, store, owner, local, times, everything)
                heads = list(pool.map(step, heads, routers))
                follower.feed(heads)
            follower.refresh(pool)
            for plan in follower.due(64):
                run.finish(store, plan)
                follower.finished(plan.hour)
            for router in routers:
                router.finished_until = follower.finished_until
            hour_calls.append(_taken(store))
        after = here.summary(f"_logflume/cost/{topic_id}")
    steady = hour_calls[1:]
    calls = {name: round(sum(one[name] for one in steady) / len(steady), 1) for name in sorted(set().union(*steady))}
    return {
        "partitions": partitions,
        "parts_an_hour": parts,
        "claim_calls_in_all": sum(claims.values()),
        "calls_an_hour": calls,
        "calls_an_hour_in_all": round(sum(calls.values()), 1),
        "ledger_files_an_hour": (after["files"] - before["files"]) / hours,
        "ledger_bytes_an_hour": round((after["bytes"] - before["bytes"]) / hours),
        "entry_bytes": round((after["bytes"] - before["bytes"]) / max(1, after["files"] - before["files"])),
    }


def _taken(store: Counted) -> Counter[str]:
    with store.lock:
        taken, store.calls = store.calls, Counter()
    return taken


def _batches(hour: int, parts: int) -> Iterator[tuple[list[int], bool]]:
    """The times of what each entry of an hour is decided after, and whether it takes all open parts along.

    The last part is cut in the middle of the hour's lateness, and the closing has an entry of its own.
    """
    start = BASE_MS + hour * HOUR_MS
    end = start + HOUR_MS
    for part in range(parts):
        times = [start + part * HOUR_MS // (parts + 1) + i for i in range(RECORDS)]
        last = part == parts - 1
        yield [*times, end + LATENESS_MS // 2] if last else times, not last
    yield [end + LATENESS_MS], False


def _decide(
    store: Counted, owner: Owner, local: Path, times: list[int], everything: bool, head: Head, router: Router
) -> Head:
    """One entry of one partition, after a batch of records with these times."""
    offsets = range(router.position, router.position + len(times))
    router.route(Rows(offsets, times, times, {}, 220 * len(times), offsets.stop), now=0, mono=0.0)
    round_ = router.cut(0.0, seq=head.entry.seq + 1, everything=everything)
    pid, digest = head.entry.pid, hashlib.sha256(local.read_bytes()).hexdigest()
    names = {
        one.serial: layout.part_path(pid, one.kind, one.hour, one.first, HOUR_MS, ".json.gz", early=False, append=False)
        for one in round_.parts
    }
    files = {one.serial: SpoolFile(local, 1000, 1000, len(one.offsets), digest) for one in round_.parts}
    return commit.decide(store, Decision(head, round_, names, files), owner)
