"""One worker process: one consumer owned by one thread, which runs everything that does not block.

    poll → partitions' machines → spool and pool threads → answers → machines …

What blocks runs in ``Calls``; compression in a pool of its own. The parent sees the age of the oldest
call and kills a worker that hangs; nothing has to be tidied up then, since the ledger is the truth.
"""

from __future__ import annotations

import gc
import math
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from logflume import log as logging
from logflume.config import Config
from logflume.core.ledger import Head
from logflume.core.partition import Partition, Phase
from logflume.daemon import process, spooldir
from logflume.daemon.calls import AHEAD_THREADS, Calls
from logflume.daemon.finisher import Finisher
from logflume.daemon.memory import give_back
from logflume.daemon.questions import Questions
from logflume.daemon.report import FinishedHour, PartitionReport, Stop, WorkerReport
from logflume.daemon.slot import Slot, Tools
from logflume.errors import ConfigError, LogflumeError, Refused, Stopped, Unreachable
from logflume.kafka.consumer import Source
from logflume.kafka.events import (
    Assigned,
    ClientError,
    CommitResult,
    EndOfPartition,
    Event,
    Lost,
    PartitionError,
    Revoked,
    TopicPart,
)
from logflume.kafka.static import StaticMember
from logflume.kafka.topics import Topics
from logflume.model import Batch
from logflume.spool.spool import Spool
from logflume.store import open_store

log = logging.get(__name__)

#: records taken from the client at once: at 1 M/s a tenth of a second
POLL_RECORDS = 20_000
POLL_S = 0.1
TICK_S = 0.1
REPORT_S = 1.0
#: gives back 110 to 150 MB in 13 to 24 ms (measured); what is needed again costs page faults
GIVE_BACK_S = 60.0
#: objects that may come up before the cycle collector looks at them; more than one poll's, since the default
#: of 700 goes through the messages of a poll again and again: 0.5 µs a record, a third of what reading costs
GC_OBJECTS = 200_000
#: hours, and other partitions' ledgers, at once
HOUR_THREADS = 8
#: ready at the latest after this long without an assignment: a spare member may never get one
JOIN_S = 30.0
#: how long a revocation may hold up the group while parts are decided; a successor reads the rest again
REVOKE_DRAIN_S = 10.0
#: how long a group may take to answer a member whose session was lost. librdkafka was seen to ask it no more: a broker
#: restarted, and after "revoking assignment and rejoining group" came nothing for five minutes. A new process asks.
ANSWER_S = 120.0
#: errors of a partition that mean lost offsets or a topic that is not what it was
_LOST_CODES = {"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"}


def main(config: Config, index: int, spool_dir: str, conn: Connection) -> None:
    """Entry of the spawned process. Exits 0 after a stop, with an error's exit code where it cannot go on: 2 for a
    configuration it cannot use.
    """
    process.die_with_parent()
    # a terminal's Ctrl-C goes to the whole group; only the parent answers it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.configure(config.daemon.log_level, config.daemon.log_format)
    gc.freeze()  # what was imported stays
    gc.set_threshold(GC_OBJECTS)
    hold = spooldir.hold(Path(spool_dir))
    try:
        Worker(config, index, Path(spool_dir), conn).run()
    except ConfigError as error:
        log.error("cannot start", problems=error.problems)
        raise SystemExit(error.exit_code) from error
    except LogflumeError as error:
        log.error("worker gives up, and is replaced", error=str(error), hint=error.hint)
        raise SystemExit(error.exit_code) from error
    finally:
        hold.close()
    # a thread that still waits in a client's call (librdkafka's close can take 45 s) must not hold up the end
    sys.stderr.flush()
    os._exit(0)


def _member_options(options: Mapping[str, str | int | bool], index: int) -> dict[str, str | int | bool]:
    """A static group member's name is its own: with several workers each needs another one."""
    name = options.get("group.instance.id")
    return {**options} if name is None else {**options, "group.instance.id": f"{name}-{index}"}


class Worker:
    """The loop and what it owns."""

    def __init__(self, config: Config, index: int, spool_dir: Path, conn: Connection) -> None:
        daemon, kafka = config.daemon, config.kafka
        self._config, self._index, self._conn = config, index, conn
        self._slots: dict[TopicPart, Slot] = {}
        self._paused = False
        self._stopping: float | None = None
        self._ready_by = time.monotonic() + JOIN_S
        self._answer_by = math.inf
        self._next_tick = self._next_report = 0.0
        self._next_give_back = time.monotonic() + GIVE_BACK_S
        self._cores = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="encode")
        store = open_store(
            config.output.root,
            namenode_http=config.output.namenode_http,
            user=config.output.user,
            options=config.output.options,
            timeout_s=daemon.call_deadline_ms / 2000,
            threads=daemon.store_threads + AHEAD_THREADS * HOUR_THREADS,
        )
        self._calls = Calls(daemon.store_threads)
        self._finisher = Finisher(
            store, self._calls, lambda: ThreadPoolExecutor(HOUR_THREADS, thread_name_prefix="finish")
        )
        names = [topic.name if topic.name is not None else f"^({topic.pattern})$" for topic in config.topics]
        static = None if kafka.assignment == "group" else StaticMember(names, index, daemon.workers)
        # librdkafka wants a group even where nobody joins or commits
        options = _member_options({"group.id": "logflume", **kafka.options}, index)
        source = Source(options, names, static=static, on_revoke=self._revoke, on_lost=self._lose, reader=daemon.reader)
        log.info("reader chosen", worker=index, reader=source.reader)
        read_committed = kafka.read_committed
        self._tools = Tools(
            store=store,
            source=source,
            questions=Questions(Topics(kafka.options), read_committed=read_committed),
            calls=self._calls,
            spool=Spool(
                spool_dir,
                self._cores,
                buffer_bytes=daemon.buffer_bytes,
                limit_bytes=daemon.spool_bytes // daemon.workers,
            ),
            owner_name=f"{socket.gethostname()}:{os.getpid()}",
            read_committed=read_committed,
            grouped=kafka.assignment == "group",
            decided=self._decided,
        )
        self._last_finished: list[FinishedHour] = []

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Until the parent says stop, or is gone."""
        try:
            while self._stopping is None:
                # With too much in memory nothing is read for a moment; the client's own thread keeps the group.
                crowded = self._tools.spool.crowded
                if not crowded:
                    self._poll()
                self._calls.settle(0.01 if crowded else 0.0)
                self._start()
                self._tick()
                self._listen()
            self._drain(list(self._slots.values()), self._stopping)
            # an hour that shows already should not wait for its marker until the next start
            self._settle_while(lambda: self._finisher.busy, self._stopping)
            log.info(
                "stopped", worker=self._index, left=sum(s.machine.phase is not Phase.GONE for s in self._slots.values())
            )
            self._report()
        finally:
            self._calls.close()
            self._tools.source.close(5.0)
            self._cores.shutdown(wait=False, cancel_futures=True)
            shutil.rmtree(self._tools.spool.directory, ignore_errors=True)
            # threads of a client that hangs must not keep the process alive
            self._conn.close()

    def _poll(self) -> None:
        asked = time.monotonic()
        for item in self._tools.source.poll(POLL_S, POLL_RECORDS):
            self._take(item)
        # Asked for once more after the time was over: a process that was frozen meanwhile has its answer waiting.
        if asked > self._answer_by:
            raise Unreachable(f"the group has not answered for {ANSWER_S:g} s since the session was lost")

    def _start(self) -> None:
        starts, self._tools.starts = self._tools.starts, []
        for slot, life, offset in starts:
            if self._slots.get((slot.topic, slot.partition)) is slot:
                slot.start(life, offset)

    def _listen(self) -> None:
        try:
            while self._conn.poll():
                message = self._conn.recv()
                if isinstance(message, Stop):
                    self._stopping = time.monotonic() + message.deadline_s
        except EOFError:
            self._stopping = time.monotonic()

    def _take(self, item: Batch | Event) -> None:
        match item:
            case Batch():
                slot = self._slots.get((item.topic, item.partition))
                if slot is not None:
                    slot.records(item)
            case EndOfPartition(topic, partition, offset):
                if (topic, partition) in self._slots:
                    self._slots[topic, partition].caught_up(offset)
            case Assigned(partitions):
                self._ready_by, self._answer_by = 0.0, math.inf
                self._assign(partitions)
            case Revoked(partitions) | Lost(partitions):
                if isinstance(item, Lost) and not self._tools.source.owned:
                    self._answer_by = time.monotonic() + ANSWER_S
                log.info("partitions given up", partitions=[f"{t}/{p}" for t, p in partitions])
                # those that came and went within one poll: the handlers had no slot to find yet
                self._lose(partitions)
            case PartitionError():
                self._partition_error(item)
            case ClientError(code, text, fatal):
                log.warning("kafka client", code=code, text=text)
                if fatal:
                    raise Stopped(f"the kafka client gave up: {code}: {text}")
            case CommitResult(offsets, error):
                self._tools.count("commits", "", by=len(offsets))
                if error:
                    # Kafka's offset is a hint: the ledger has C, and the next commit says it again (K4, K5).
                    self._tools.count("commit_failures", "", by=len(offsets))
                    log.warning("commit rejected", error=error, partitions=[f"{t}/{p}" for t, p in offsets])

    def _assign(self, parts: list[TopicPart]) -> None:
        # what went again within the same poll must not be claimed: that would fence its new owner
        parts = [part for part in parts if part in self._tools.source.owned]
        committed: dict[TopicPart, tuple[int, int, str]] | LogflumeError = {}
        if self._tools.grouped and parts:
            try:
                # asked once for all: with a thousand partitions one by one takes seconds
                committed = self._tools.source.committed(parts, 10.0)
            except LogflumeError as error:
                committed = error
        for part in parts:
            config = self._config.topic_for(part[0])
            if config is None:
                log.error("a topic without settings was assigned", topic=part[0])
                continue
            self._slots[part] = slot = Slot(self._tools, *part, config)
            slot.begin(committed if isinstance(committed, LogflumeError) else committed.get(part))

    def _partition_error(self, error: PartitionError) -> None:
        if error.topic.startswith("^"):
            # a pattern that matches no topic yet
            log.debug("no topic matches", pattern=error.topic, text=error.text)
            return
        log.warning("partition error", partition=f"{error.topic}/{error.partition}", code=error.code, text=error.text)
        for part, slot in self._slots.items():
            if part[0] == error.topic and error.partition in (-1, part[1]):
                slot.end = None
                if error.code in _LOST_CODES or not error.passes:
                    slot.trouble(
                        Stopped(
                            f"{slot}: reading failed: {error.code}: {error.text}",
                            hint="it is looked at again every 30 s; if offsets are lost, the error will say which",
                        )
                    )

    def _tick(self) -> None:
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + TICK_S
        spool = self._tools.spool
        broken = spool.broken()
        if broken and not spool.directory.is_dir():
            # not made again here: without the lock of this process in it, the next start takes it for a killed one's
            raise Refused(f"the spool was removed: {spool.directory}", hint="the next worker makes a new one")
        for owner, error in broken:
            if isinstance(owner, Slot):
                owner.spool_failed(error)
        self._throttle()
        for slot in self._slots.values():
            if slot.machine.router is not None:
                slot.machine.router.know_finished(self._finisher.finished_until(slot.topic))
            slot.tick(full=self._paused)
        owned: dict[str, dict[int, Partition]] = {}
        for (topic, partition), slot in self._slots.items():
            owned.setdefault(topic, {})[partition] = slot.machine
        self._finisher.tick(owned)
        if now >= self._next_report:
            self._next_report = now + REPORT_S
            self._report()
        if now >= self._next_give_back:
            self._next_give_back = now + GIVE_BACK_S
            give_back()

    def _throttle(self) -> None:
        """Hold the reader back while the spool is full (P3, N1); the group is kept."""
        spool, source = self._tools.spool, self._tools.source
        if not self._paused and spool.full:
            self._paused = True
            log.warning("spool is full, reading pauses", bytes=spool.disk_bytes, limit=spool.limit_bytes)
        elif self._paused and spool.roomy:
            self._paused = False
            source.resume(list(self._slots))
            log.info("spool has room, reading goes on", bytes=spool.disk_bytes)
        if self._paused:
            # also partitions that were started meanwhile
            source.pause(list(self._slots))

    def _decided(self, head: Head) -> None:
        config = self._config.topic_for(head.entry.pid.topic)
        if config is not None:
            self._finisher.decided(head, config)

    # -- letting go -------------------------------------------------------------------------------

    def _revoke(self, parts: list[TopicPart]) -> None:
        """Inside poll: decide what is held, within a bound, so that the next owner reads little again (K1)."""
        slots = [self._slots.pop(part) for part in parts if part in self._slots]
        self._drain(slots, time.monotonic() + REVOKE_DRAIN_S)

    def _lose(self, parts: list[TopicPart]) -> None:
        """Inside poll: someone else may have these already; what is held is void (K3)."""
        for part in parts:
            slot = self._slots.pop(part, None)
            if slot is not None:
                slot.revoke()

    def _drain(self, slots: list[Slot], deadline: float) -> None:
        for slot in slots:
            slot.drain()
        self._settle_while(lambda: any(slot.machine.phase is not Phase.GONE for slot in slots), deadline)
        for slot in slots:
            slot.revoke()

    def _settle_while(self, waiting: Callable[[], bool], deadline: float) -> None:
        while waiting() and time.monotonic() < deadline:
            self._calls.settle(0.05)
            if time.monotonic() >= self._next_report:
                self._next_report = time.monotonic() + REPORT_S
                self._report()

    # -- telling the parent -----------------------------------------------------------------------

    def _report(self) -> None:
        age, name = self._calls.oldest()
        finished, self._finisher.finished = self._finisher.finished, []
        report = WorkerReport(
            worker=self._index,
            pid=os.getpid(),
            consuming=time.monotonic() >= self._ready_by
            and all(slot.machine.phase is not Phase.CLAIMING for slot in self._slots.values()),
            paused=self._paused,
            oldest_call_s=age,
            oldest_call=name,
            spool_bytes=self._tools.spool.disk_bytes,
            buffered_bytes=self._tools.spool.buffered_bytes,
            partitions=tuple(self._partition_report(slot) for slot in self._slots.values()),
            counters=dict(self._tools.counters),
            finished=tuple(finished),
            held=self._finisher.held(),
        )
        try:
            self._conn.send(report)
        except (BrokenPipeError, OSError):
            # the parent is gone, and _listen will see it
            return

    def _partition_report(self, slot: Slot) -> PartitionReport:
        machine = slot.machine
        router, state = machine.router, machine.head.state if machine.head is not None else None
        last = machine.head.entry.closed[-1].boundary if machine.head and machine.head.entry.closed else None
        if last is not None:
            slot.boundary = last
        return PartitionReport(
            topic=slot.topic,
            partition=slot.partition,
            phase=machine.phase.value,
            committed=state.committed if state is not None else None,
            position=router.position if router is not None else None,
            end=self._tools.source.high_watermark(slot.topic, slot.partition) if router is not None else slot.end,
            watermark=router.watermark if router is not None else None,
            frontier=state.frontier if state is not None else None,
            boundary=slot.boundary,
            open_parts=len(router.open) if router is not None else 0,
            error=str(machine.error) if machine.error is not None else "",
            hint=machine.error.hint if machine.error is not None else "",
        )
