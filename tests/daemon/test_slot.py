"""A slot whose calls are answered when nobody waits for them any more."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import Any

from logflume import commit
from logflume.config import TopicConfig
from logflume.core.partition import RETRY_FIRST_S, Phase
from logflume.daemon.calls import Calls
from logflume.daemon.slot import Slot, Tools
from logflume.errors import Unreadable
from logflume.kafka.topics import Topic
from logflume.model import Batch, PartitionId
from logflume.spool.spool import Spool
from logflume.store import open_store
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, configuration


class Answers:
    """The brokers, for a topic of one partition that the group has never read."""

    def topic(self, name: str, since: float) -> Topic:
        return Topic(name, TOPIC_ID, [0])

    def start(self, part: object) -> int:
        return 0

    def end(self, part: object) -> int:
        return 100

    def confirm(self, topic: str, topic_id: str, since: float) -> None:
        """It was not re-created."""

    def stop(self, topic: str, partition: int) -> None:
        """Nothing is read here."""

    def commit_async(self, offsets: object) -> None:
        """Only a hint, and nobody asks for it."""


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


def reading(tools: Tools, config: TopicConfig) -> Slot:
    """A slot that has claimed its partition and read one record of it."""
    slot = Slot(tools, TOPIC, 0, config)
    slot.begin(None)
    answered(tools)
    value = b'{"ts":%d}' % FIRST_HOUR
    slot.records(Batch(TOPIC, 0, [value], [0], [FIRST_HOUR], 1, 0, [b""], [1]))
    # what is closed before that
    slot.tick(full=False)
    answered(tools)
    return slot


def phase(slot: Slot) -> Phase:
    return slot.machine.phase


def answered(tools: Tools) -> None:
    deadline = time.monotonic() + 60
    while tools.calls.open:
        assert time.monotonic() < deadline
        tools.calls.settle(1.0)


def test_a_part_whose_file_is_gone_is_read_again(tmp_path: Path) -> None:
    """Its upload was tried again for ever, and its partition was not read until somebody restarted the worker."""
    config = configuration(f"file://{tmp_path}/out", tmp_path / "spool")
    with ThreadPoolExecutor(1) as pool:
        it = tools(tmp_path, config.output.root, "it", pool)
        slot = reading(it, config.topics[0])
        (tmp_path / "out").rename(tmp_path / "away")
        (tmp_path / "out").touch()
        slot.tick(full=True)
        answered(it)
        assert phase(slot) is Phase.RETRYING
        # somebody makes room by hand, and then the store comes back
        for path in (tmp_path / "it").iterdir():
            path.unlink()
        (tmp_path / "out").unlink()
        (tmp_path / "away").rename(tmp_path / "out")
        time.sleep(RETRY_FIRST_S)
        slot.tick(full=False)
        answered(it)
        assert phase(slot) is Phase.STOPPED
        assert isinstance(slot.machine.error, Unreadable)
        assert it.spool.disk_bytes == 0


def test_a_spool_that_cannot_be_written_is_no_sign_of_another_owner(tmp_path: Path) -> None:
    config = configuration(f"file://{tmp_path}/out", tmp_path / "spool")
    with ThreadPoolExecutor(1) as pool:
        it = tools(tmp_path, config.output.root, "it", pool)
        slot = reading(it, config.topics[0])
        rmtree(tmp_path / "it")
        slot.tick(full=True)
        answered(it)
        assert phase(slot) is Phase.WAITING
        assert it.counters[("retries", TOPIC, "")] == 1
        assert ("fenced", TOPIC, "") not in it.counters
