"""A slot whose calls are answered when nobody waits for them any more."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from logflume import commit
from logflume.core.partition import Phase
from logflume.daemon.calls import Calls
from logflume.daemon.slot import Slot, Tools
from logflume.kafka.topics import Topic
from logflume.model import PartitionId
from logflume.spool.spool import Spool
from logflume.store import open_store
from tests.reconcile.tree import TOPIC, TOPIC_ID, configuration


class Answers:
    """The brokers, for a topic of one partition that the group has never read."""

    def topic(self, name: str, since: float) -> Topic:
        return Topic(name, TOPIC_ID, [0])

    def start(self, part: object) -> int:
        return 0

    def end(self, part: object) -> int:
        return 100

    def stop(self, topic: str, partition: int) -> None:
        """Nothing is read here."""


def tools(directory: Path, root: str, name: str, pool: ThreadPoolExecutor) -> Tools:
    spool = Spool(directory / name, pool, buffer_bytes=1 << 20, limit_bytes=1 << 30)
    anything: Any = Answers()
    return Tools(open_store(root), anything, anything, Calls(1), spool, name, True, True, lambda _: None)


def test_a_claim_that_waited_for_a_thread_until_its_partition_was_revoked_claims_nothing(tmp_path: Path) -> None:
    """It fenced the new owner, who had to read everything again."""
    config = configuration(f"file://{tmp_path}/out", tmp_path / "spool")
    root, busy = config.output.root, threading.Event()
    with ThreadPoolExecutor(1) as pool:
        old, new = (tools(tmp_path, root, name, pool) for name in ("old", "new"))
        old.calls.submit("another claim", lambda: busy.wait(30), lambda _: None)
        revoked = Slot(old, TOPIC, 0, config.topics[0])
        revoked.begin(None)
        revoked.revoke()
        owner = Slot(new, TOPIC, 0, config.topics[0])
        owner.begin(None)
        deadline = time.monotonic() + 60
        while owner.machine.phase is Phase.CLAIMING and time.monotonic() < deadline:
            new.calls.settle(1.0)
        busy.set()
        while old.calls.open and time.monotonic() < deadline:
            old.calls.settle(1.0)
        assert time.monotonic() < deadline
        newest = commit.read_head(new.store, PartitionId(TOPIC, TOPIC_ID, 0))
        assert newest == owner.machine.head
        assert newest is not None
        assert newest.entry.owner.startswith("new")
