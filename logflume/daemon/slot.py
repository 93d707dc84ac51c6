"""One assigned partition in a worker: its state machine, and the carrying out of its actions.

The machine (core/partition.py) says what to do; this does it, with the spool on the worker's thread and
everything that may block in ``Calls``.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from logflume import commit
from logflume.commit import Decision, LogFacts, Owner
from logflume.config import TopicConfig
from logflume.core import layout
from logflume.core.events import (
    Action,
    CaughtUp,
    Claim,
    Claimed,
    Commit,
    ConfirmEnd,
    Decide,
    Decided,
    Drain,
    EndConfirmed,
    Event,
    Failed,
    Forget,
    Overtaken,
    Records,
    Report,
    Revoke,
    Start,
    Tick,
    Trouble,
    Write,
)
from logflume.core.ledger import Head
from logflume.core.partition import Partition, Phase
from logflume.core.router import Keep, Rules
from logflume.daemon.calls import Calls
from logflume.daemon.questions import Questions
from logflume.daemon.report import CounterName
from logflume.daemon.steps import Steps
from logflume.errors import Fenced, LedgerError, LogflumeError, Stopped
from logflume.kafka.consumer import Source
from logflume.kafka.topics import Topic
from logflume.log import get
from logflume.model import Batch, Kind, PartitionId
from logflume.records import RecordReader, pieces_of
from logflume.spool.encoders import encoder
from logflume.spool.spool import Spool, SpoolFile
from logflume.store.base import Store

log = get(__name__)

#: seconds between two looks for entries that may go; each partition begins somewhere in it
TRIM_EVERY_S = 6 * 3600.0

Counters = dict[tuple[str, str, str], int]

#: between two questions whether a silent partition is at its end
ASK_END_S = 1.0


def rules_of(topic: TopicConfig) -> Rules:
    """What the core needs of a topic's configuration."""
    return Rules(
        window_ms=topic.window_ms,
        lateness_ms=topic.lateness_ms,
        idle_grace_ms=topic.idle_grace_ms,
        max_future_ms=topic.max_future_ms,
        min_time_ms=topic.min_time_ms,
        late=topic.late,
        # a producer's own time stamp has nothing but the clock to be held against
        future_against="clock" if topic.timestamp.source == "create" else "kafka",
        roll_every_s=topic.roll_every_ms / 1000,
        roll_bytes=topic.roll_bytes,
    )


@dataclass(slots=True)
class Tools:
    """What all slots of a worker share."""

    store: Store
    source: Source
    questions: Questions
    calls: Calls
    spool: Spool
    owner_name: str
    read_committed: bool
    grouped: bool
    decided: Callable[[Head], None]
    starts: list[tuple[Slot, int, int]] = field(default_factory=list)
    counters: Counters = field(default_factory=dict)
    firsts: dict[tuple[str, str], commit.TopicSeen] = field(default_factory=dict)

    def count(self, name: CounterName, topic: str, label: str = "", by: int = 1) -> None:
        key = (name, topic, label)
        self.counters[key] = self.counters.get(key, 0) + by


class Slot:
    """A partition from assignment to release. Every method runs on the worker's thread."""

    def __init__(self, tools: Tools, topic: str, partition: int, config: TopicConfig) -> None:
        self.topic, self.partition, self.config = topic, partition, config
        self.machine = Partition(rules_of(config))
        self.end: int | None = None
        self.boundary: int | None = None
        self._tools = tools
        self._reader = RecordReader(config)
        self._encode = encoder(config.compression)
        self._extension = layout.extension(config.format, config.compression)
        self._quarantine_extension = layout.extension("json", config.compression)
        self._owner = self._new_owner()
        self._batch: tuple[Batch, Sequence[bytes]] | None = None
        self._decision: Decision | None = None
        self._closing: dict[int, Future[SpoolFile]] = {}
        self._ask_end_at = 0.0
        self._next_trim = time.monotonic() + random.uniform(60.0, TRIM_EVERY_S)

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"

    # -- events -----------------------------------------------------------------------------------

    def begin(self, committed: tuple[int, int, str] | LogflumeError | None) -> None:
        """Claim. ``committed`` is what Kafka has for the group: offset, leader epoch, metadata."""
        self._claim(committed)

    def start(self, life: int, offset: int) -> None:
        """Read from the claimed offset on, unless the claim is void meanwhile."""
        if self.machine.life != life:
            return
        epoch = self.machine.head.state.leader_epoch if self.machine.head else -1
        try:
            self._tools.source.start(self.topic, self.partition, offset, epoch)
        except LogflumeError as error:
            self.trouble(error)
            return
        log.info("reading", partition=str(self), offset=offset)

    def records(self, batch: Batch) -> None:
        router = self.machine.router
        if router is None:
            return
        rows, lines = self._reader.read(batch)
        self._batch, repeats = (batch, lines), router.repeats
        self.handle(Records(rows, now_ms(), time.monotonic()))
        self._batch = None
        if router.repeats > repeats:
            self._tools.count("records", self.topic, "repeated", router.repeats - repeats)

    def caught_up(self, position: int) -> None:
        self.end = position
        self.handle(CaughtUp(position, time.monotonic()))

    def tick(self, *, full: bool) -> None:
        mono = time.monotonic()
        self.handle(Tick(now_ms(), mono, full))
        if mono >= self._next_trim and self.machine.router is not None and self.machine.head is not None:
            self._next_trim = mono + TRIM_EVERY_S
            self._trim(self.machine.head)

    def drain(self) -> None:
        self.handle(Drain(time.monotonic()))

    def revoke(self) -> None:
        self.handle(Revoke())

    def trouble(self, error: LogflumeError) -> None:
        self.handle(Trouble(error, time.monotonic()))

    def spool_failed(self, error: LogflumeError) -> None:
        """The disk did not take a part: what is held is not whole, so it is read again."""
        if self.machine.phase in (Phase.READING, Phase.RETRYING):
            self.trouble(error)

    def handle(self, event: Event) -> None:
        try:
            actions = self.machine.handle(event)
        except LedgerError as error:
            # a record that contradicts the ledger: nothing more of this partition can be trusted
            actions = self.machine.handle(Trouble(error, time.monotonic()))
        for action in actions:
            self._perform(action)

    def _answer(self, life: int, event: Event) -> None:
        if self.machine.life == life:
            self.handle(event)

    # -- actions ----------------------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Claim():
                self._claim(self._ask_committed())
            case Start(offset):
                # the answer may come while a revocation is served, inside the client's callback
                self._tools.starts.append((self, self.machine.life, offset))
            case Write(keeps):
                for keep in keeps:
                    self._write(keep)
            case Decide():
                self._decide(action)
            case ConfirmEnd():
                self._confirm_end()
            case Commit():
                if self._tools.grouped:
                    self._tools.source.commit_async(
                        {(self.topic, self.partition): (action.offset, action.leader_epoch, action.metadata)}
                    )
            case Forget():
                self._tools.source.stop(self.topic, self.partition)
                self._tools.spool.remove_all(self)
                self._decision, self._closing = None, {}
            case Report(error, stopped):
                say = log.error if stopped else log.warning
                event = "partition stopped" if stopped else "partition waits, and tries again"
                say(event, partition=str(self), error=str(error), hint=error.hint, phase=self.machine.phase.value)
                self._tools.count("stopped" if stopped else "retries", self.topic)

    def _ask_committed(self) -> tuple[int, int, str] | LogflumeError | None:
        part = (self.topic, self.partition)
        try:
            return self._tools.source.committed([part], 5.0).get(part) if self._tools.grouped else None
        except LogflumeError as error:
            return error

    def _claim(self, committed: tuple[int, int, str] | LogflumeError | None) -> None:
        tools, part = self._tools, (self.topic, self.partition)
        life, since = self.machine.life, time.monotonic()
        if isinstance(committed, LogflumeError):
            self.handle(Failed(committed, time.monotonic()))
            return
        config, topic, partition = self.config, self.topic, self.partition
        owner = self._owner = self._new_owner()
        title = f"claim {self}"

        def check_wanted() -> None:
            if self.machine.life != life:
                # by now the partition may be another worker's, which would be fenced
                raise Fenced(f"{self} was given up before it was claimed")

        def facts(known: Topic) -> LogFacts:
            check_wanted()
            return LogFacts(
                start=tools.questions.start(part),
                end=tools.questions.end(part),
                committed=None if committed is None else committed[0],
                partitions=len(known.partitions),
            )

        def call() -> Event:
            try:
                check_wanted()
                known = tools.questions.topic(topic, since)
                pid = PartitionId(topic, known.topic_id, partition)
                return Claimed(
                    commit.claim(
                        tools.store,
                        pid,
                        owner,
                        window_ms=config.window_ms,
                        ask=lambda: facts(known),
                        latest=config.start == "latest",
                        firsts=tools.firsts,
                        progress=lambda _: tools.calls.progress(title),
                    )
                )
            except LogflumeError as error:
                return event_of(error)

        tools.calls.submit(title, call, lambda event: self._claimed(life, event))

    def _new_owner(self) -> Owner:
        """One for each claim: a claim that hung would take the next one's entry for its own."""
        return Owner(f"{self._tools.owner_name}:{uuid.uuid4().hex[:8]}", now_ms, self.config.hash)

    def _claimed(self, life: int, event: Event) -> None:
        self._answer(life, event)
        if isinstance(event, Claimed) and self.machine.life == life:
            self._tools.decided(event.head)

    def _write(self, keep: Keep) -> None:
        if self._batch is None:
            raise AssertionError("rows are written while their batch is in hand")
        batch, lines = self._batch
        tools = self._tools
        pieces, count, size = pieces_of(batch, lines, keep)
        for why in keep.reasons or ():
            tools.count("records", self.topic, f"quarantine:{why.value}")
        if keep.kind is not Kind.QUARANTINE:
            tools.count("records", self.topic, keep.kind.value, count)
        tools.count("bytes", self.topic, keep.kind.value, size)
        tools.spool.write(self, keep.part, self._encode, pieces, count, size)

    def _decide(self, action: Decide) -> None:
        tools, decision = self._tools, self._decision
        if decision is None or decision.round is not action.round:
            decision = self._decision = Decision(action.head, action.round, self._names(action), {})
            self._closing = {part.serial: tools.spool.close(self, part.serial) for part in action.round.parts}
        closing, owner, life, since = self._closing, self._owner, self.machine.life, time.monotonic()
        pid, steps = action.head.entry.pid, Steps()
        title = f"decide {self}"

        def progress(step: str) -> None:
            tools.calls.progress(title)
            steps(step)

        def call() -> Event:
            steps("thread")
            try:
                decision.files = files_of(closing)
                steps("files")
                tools.questions.confirm(pid.topic, pid.topic_id, since)
                steps("confirm")
                head = commit.decide(tools.store, decision, owner, progress=progress)
                log.debug("decided", partition=str(pid), until=head.state.frontier, **steps.seconds)
                return Decided(head)
            except SpoolBroken as broken:
                return Overtaken(broken.error, time.monotonic())
            except LogflumeError as error:
                return event_of(error)

        tools.calls.submit(title, call, lambda event: self._decided(life, decision, event))

    def _names(self, action: Decide) -> dict[int, str]:
        pid, config = action.head.entry.pid, self.config
        # An hour before the first one is never finished: what is added to it would stay hidden for good.
        first_hour = action.round.state.first_hour
        return {
            part.serial: layout.part_path(
                pid,
                part.kind,
                part.hour,
                part.first,
                config.window_ms,
                self._quarantine_extension if part.kind is Kind.QUARANTINE else self._extension,
                early=config.reveal == "early",
                append=config.late == "append" and first_hour is not None and part.hour >= first_hour,
            )
            for part in action.round.parts
        }

    def _decided(self, life: int, decision: Decision, event: Event) -> None:
        tools = self._tools
        if isinstance(event, Decided):
            tools.count("decisions", self.topic)
            tools.count("records", self.topic, "dropped", len(decision.round.dropped))
            # also when the partition was given up meanwhile: what is decided, is
            tools.decided(event.head)
        elif isinstance(event, Overtaken) and isinstance(event.error, Fenced):
            tools.count("fenced", self.topic)
        if self.machine.life != life:
            return
        if isinstance(event, Decided):
            for part in decision.round.parts:
                tools.spool.remove(self, part.serial)
            self._decision, self._closing = None, {}
        self._answer(life, event)

    def _trim(self, head: Head) -> None:
        tools, older_than = self._tools, now_ms() - self.config.ledger_retention_ms

        title = f"trim {self}"

        def call() -> int | LogflumeError:
            try:
                return commit.trim(tools.store, head, older_than, progress=lambda: tools.calls.progress(title))
            except LogflumeError as error:
                return error

        def then(found: int | LogflumeError) -> None:
            if isinstance(found, LogflumeError):
                log.warning("old entries stay for now", partition=str(self), error=str(found))
            elif found:
                log.info("old entries removed", partition=str(self), entries=found)

        tools.calls.submit(title, call, then)

    def _confirm_end(self) -> None:
        tools, part, life = self._tools, (self.topic, self.partition), self.machine.life
        if time.monotonic() < self._ask_end_at:
            self._answer(life, EndConfirmed(None, now_ms(), time.monotonic()))
            return
        self._ask_end_at = time.monotonic() + ASK_END_S

        def call() -> Event:
            try:
                end = tools.questions.end(part)
                # An open transaction hides what is behind it: whoever waits for that is not idle (K13).
                hidden = tools.read_committed and tools.questions.last(part) > end
            except LogflumeError:
                # not confirmed, so not idle; the partition asks again
                return EndConfirmed(None, now_ms(), time.monotonic())
            return EndConfirmed(None if hidden else end, now_ms(), time.monotonic())

        tools.calls.submit(f"end offset of {self}", call, lambda event: self._answer(life, event))


class SpoolBroken(Exception):
    """A spooled part is not whole: its records have to be read again."""

    def __init__(self, error: LogflumeError) -> None:
        super().__init__(str(error))
        self.error = error


def files_of(closing: Mapping[int, Future[SpoolFile]]) -> dict[int, SpoolFile]:
    """The closed files; waits until the last chunk is compressed. Raises SpoolBroken."""
    try:
        return {serial: future.result() for serial, future in closing.items()}
    except LogflumeError as error:
        raise SpoolBroken(error) from error


def event_of(error: LogflumeError) -> Event:
    """What a failed claim or decision means for the partition."""
    mono = time.monotonic()
    if isinstance(error, Fenced):
        return Overtaken(error, mono)
    if isinstance(error, Stopped) or not error.retry:
        return Trouble(error, mono)
    return Failed(error, mono)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
