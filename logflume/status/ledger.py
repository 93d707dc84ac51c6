"""How far every topic is, read from the ledgers, and from Kafka where it answers: the daemon may be down.

``gather`` reads; ``hours_of`` and ``waits_of`` say what it means, and are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from logflume import commit
from logflume.commit import LogFacts
from logflume.config import Config, TopicConfig
from logflume.core import layout
from logflume.core.ledger import Closing, Entry, Head
from logflume.errors import LedgerError, LogflumeError, Missing, Stopped
from logflume.finish import plan as plans
from logflume.finish.plan import Plan
from logflume.model import PartitionId
from logflume.store import Store, open_store
from logflume.units import show_instant

#: one question to a server
CALL_S = 10.0
#: entries read backwards to find where an hour was closed; the marker of a finished hour tells it at once
LOOK_BACK = 200


@dataclass(frozen=True, slots=True)
class Log:
    """A topic as Kafka has it now: its id, per partition the first and the end offset, or why one is not known."""

    topic_id: str
    starts: Mapping[int, int]
    ends: Mapping[int, int]
    silent: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition by its newest entry. Times in ms UTC; None where not known, ``end`` without Kafka.

    ``boundary`` is B of the last closed hour. ``open_hours`` have decided records and are not closed.
    ``trouble`` is why the next claim would stop, as far as ledger and log tell, and ``hint`` what to do.
    """

    partition: int
    committed: int | None = None
    boundary: int | None = None
    position: int | None = None
    watermark: int | None = None
    closed_until: int | None = None
    end: int | None = None
    open_hours: tuple[int, ...] = ()
    owner: str = ""
    decided_at: int | None = None
    trouble: str = ""
    hint: str = ""

    @property
    def lag(self) -> int | None:
        return None if self.end is None or self.position is None else max(0, self.end - self.position)


class Cause(StrEnum):
    """Why a partition has not closed an hour; the gravest first."""

    STOPPED = "stopped"
    NO_LEDGER = "no ledger"
    WATERMARK = "watermark"


@dataclass(frozen=True, slots=True)
class Wait:
    """One partition that has not closed an hour, and why in words."""

    partition: int
    cause: Cause
    why: str


@dataclass(frozen=True, slots=True)
class HourStatus:
    """``state``: complete, incomplete (``reasons`` say what may miss), finishing (closed by every partition, not
    marked yet), waiting (``waits``) or unreadable (``reasons`` say which marker).
    """

    hour: int
    state: str
    records: int | None = None
    files: int | None = None
    reasons: tuple[str, ...] = ()
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic id of a topic; ``notes`` are for people."""

    topic: str
    topic_id: str
    window_ms: int
    lateness_ms: int
    partitions: tuple[PartitionStatus, ...] = ()
    hours: tuple[HourStatus, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """``kafka_error`` is empty where Kafka answered."""

    topics: tuple[TopicStatus, ...]
    kafka_error: str = ""


def gather(config: Config, only: str | None, hours: int) -> Status:
    """The state of all topics, or ``only`` of one, also without a ledger, with so many recent hours.

    Raises LogflumeError.
    """
    output = config.output
    store = open_store(
        output.root, namenode_http=output.namenode_http, user=output.user, options=output.options, timeout_s=CALL_S
    )
    names = _names(store, config) if only is None else [only]
    logs: dict[str, Log] = {}
    kafka_error = ""
    with ThreadPoolExecutor(config.daemon.store_threads) as pool:
        reader = Reader(store, pool)
        for name in names:
            # before Kafka is asked: an end that is older than what was decided looks like a truncated log
            reader.heads(name)
        try:
            logs = read_logs(config, names)
        except LogflumeError as error:
            kafka_error = str(error)
        found = []
        for name in names:
            topic = config.topic_for(name)
            if topic is not None:
                found.append(topic_status(reader, topic, name, logs.get(name), hours))
    store.close()
    return Status(tuple(found), kafka_error)


def _names(store: Store, config: Config) -> list[str]:
    """Topics that the configuration names, and those with ledgers that its patterns mean."""
    named = {topic.name for topic in config.topics if topic.name is not None}
    with_ledgers = {status.name for status in store.list(f"{store.root}/{layout.LEDGER_ROOT}") if status.is_dir}
    return sorted(named | {name for name in with_ledgers if config.topic_for(name) is not None})


def read_logs(config: Config, names: Iterable[str]) -> dict[str, Log]:
    """The topics as Kafka has them; one it does not know is left out. Raises Unreachable, Refused."""
    from logflume.kafka.topics import Topics  # noqa: PLC0415  # a reader of ledgers alone does not load it

    topics = Topics(config.kafka.options, timeout_s=CALL_S)
    known = set(topics.list_topics(["^.*"]))
    logs = {}
    for name in names:
        if name in known:
            topic = topics.topic(name)
            parts = [(name, number) for number in topic.partitions]
            bounds, silent = topics.bounds(parts, read_committed=config.kafka.read_committed)
            logs[name] = Log(
                topic.topic_id,
                {number: start for (_, number), (start, _) in bounds.items()},
                {number: end for (_, number), (_, end) in bounds.items()},
                {number: str(error) for (_, number), error in silent.items()},
            )
    return logs


# -- reading the ledgers --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads ledgers and markers, several at a time, and each once. A marker is None where there is none, and an error
    where it cannot be read.
    """

    store: Store
    pool: ThreadPoolExecutor
    markers: dict[tuple[str, int], Plan | LedgerError | None] = field(default_factory=dict)
    ledgers: dict[str, dict[str, dict[int, Head]]] = field(default_factory=dict)

    def heads(self, topic: str) -> dict[str, dict[int, Head]]:
        """The newest entry of each partition, by topic id; without ids that have none."""
        if topic not in self.ledgers:
            by_id = {topic_id: self._heads(topic, topic_id) for topic_id in commit.ids_of(self.store, topic)}
            self.ledgers[topic] = {topic_id: heads for topic_id, heads in by_id.items() if heads}
        return self.ledgers[topic]

    def _heads(self, topic: str, topic_id: str) -> dict[int, Head]:
        pids = commit.chains(self.store, topic, topic_id)
        read = self.pool.map(lambda pid: commit.read_head(self.store, pid), pids)
        return {head.entry.pid.partition: head for head in read if head is not None}

    def first_partitions(self, topic: str, topic_id: str) -> int:
        try:
            return commit.first_partitions(self.store, topic, topic_id)
        except Missing:
            return 0

    def load_markers(self, topic: str, hours: Iterable[int], window_ms: int) -> None:
        wanted = [hour for hour in hours if (topic, hour) not in self.markers]
        read = self.pool.map(lambda hour: self._marker(layout.hour_path(topic, hour, window_ms)), wanted)
        self.markers.update(zip([(topic, hour) for hour in wanted], read, strict=True))

    def _marker(self, directory: str) -> Plan | LedgerError | None:
        for name in (layout.SUCCESS, layout.INCOMPLETE):
            try:
                return plans.decode(self.store.read(f"{self.store.root}/{directory}/{name}"))
            except Missing:
                continue
            except LedgerError as error:
                # somebody else's, such as an empty file
                return LedgerError(f"{directory}/{name}: {error}")
        return None

    def boundary(self, head: Head) -> int | None:
        """B of the last hour that was closed."""
        state, pid = head.state, head.entry.pid
        if state.frontier is None:
            return None
        closing = _closing(head.entry, state.frontier)
        hour = state.frontier - state.window_ms
        if closing is None:
            self.load_markers(pid.topic, [hour], state.window_ms)
            plan = self.markers[pid.topic, hour]
            if isinstance(plan, Plan) and plan.topic_id == pid.topic_id and pid.partition in plan.partitions:
                return int(plan.partitions[pid.partition]["boundary"])
            closing = self._closing_before(head)
        return None if closing is None else closing.boundary

    def _closing_before(self, head: Head) -> Closing | None:
        pid, frontier = head.entry.pid, head.state.frontier
        for seq in range(head.entry.seq - 1, max(-1, head.entry.seq - LOOK_BACK), -1):
            try:
                entry = commit.read_entry(self.store, pid, seq).entry
            except Missing:
                return None  # older than the ledger's retention
            closing = None if frontier is None else _closing(entry, frontier)
            if closing is not None:
                return closing
        return None


def _closing(entry: Entry, frontier: int) -> Closing | None:
    known = (*entry.closed, *entry.state.boundaries)
    return next((closing for closing in known if closing.covers(frontier)), None)


def topic_status(reader: Reader, config: TopicConfig, topic: str, log: Log | None, hours: int) -> TopicStatus:
    """One topic: the topic id that Kafka has, else the one whose ledgers were written last."""
    by_id = reader.heads(topic)
    notes = []
    if log is not None and (log.topic_id in by_id or not by_id):
        topic_id = log.topic_id
    else:
        newest = {one: max(head.entry.at for head in heads.values()) for one, heads in by_id.items()}
        topic_id = max(newest, key=lambda one: (newest[one], one), default="")
        if log is not None:
            notes.append(f"Kafka has it with another id, {log.topic_id}: it was deleted and re-created")
    others = sorted(by_id.keys() - {topic_id})
    if others:
        notes.append(f"there are ledgers of earlier topics of this name: {', '.join(others)}")
    if log is not None and log.topic_id != topic_id:
        log = None
    heads = by_id.get(topic_id, {})
    if not heads:
        notes.append("no ledger yet: nothing was read")
    first = reader.first_partitions(topic, topic_id) if heads else 0
    if log is not None and log.silent:
        silent = ", ".join(map(str, sorted(log.silent)))
        notes.append(f"Kafka does not tell the lag of partitions {silent}: {log.silent[min(log.silent)]}")
    numbers = sorted({*range(first), *heads, *((*log.ends, *log.silent) if log is not None else ())})
    partitions = tuple(_partition(reader, heads.get(n), config, topic, topic_id, n, log) for n in numbers)
    needed = {*range(first), *heads}
    recent = recent_hours(heads, config.window_ms, hours)
    reader.load_markers(topic, recent, config.window_ms)
    marked = {hour: reader.markers[topic, hour] for hour in recent}
    rows = hours_of(config, [one for one in partitions if one.partition in needed], marked)
    return TopicStatus(topic, topic_id, config.window_ms, config.lateness_ms, partitions, rows, tuple(notes))


def _partition(
    reader: Reader, head: Head | None, config: TopicConfig, topic: str, topic_id: str, number: int, log: Log | None
) -> PartitionStatus:
    end = log.ends.get(number) if log is not None else None
    if head is None:
        return PartitionStatus(number, end=end)
    state, window = head.state, config.window_ms
    hours = {hour for hour in state.unfinished if state.frontier is None or hour >= state.frontier}
    if state.seen is not None:
        hours.add(state.seen - state.seen % window)
    trouble = hint = ""
    if log is not None and end is not None:
        facts = LogFacts(log.starts[number], end, None, len(log.ends) + len(log.silent))
        try:
            commit.check_log(PartitionId(topic, topic_id, number), head, facts, window)
        except Stopped as stopped:
            trouble, hint = str(stopped), stopped.hint
    return PartitionStatus(
        partition=number,
        committed=state.committed,
        boundary=reader.boundary(head),
        position=state.position,
        watermark=state.seen,
        closed_until=state.frontier,
        end=end,
        open_hours=tuple(sorted(hour for hour in hours if state.frontier is None or hour >= state.frontier)),
        owner=head.entry.owner,
        decided_at=head.entry.at,
        trouble=trouble,
        hint=hint,
    )


# -- what it means --------------------------------------------------------------------------------


def recent_hours(heads: Mapping[int, Head], window_ms: int, limit: int) -> list[int]:
    """The newest ``limit`` hours that any partition has reached, in order, back to the first with records."""
    states = [head.state for head in heads.values()]
    seen = [state.seen - state.seen % window_ms for state in states if state.seen is not None]
    closed = [state.frontier - window_ms for state in states if state.frontier is not None]
    firsts = [state.first_hour for state in states if state.first_hour is not None]
    if not firsts:
        return []
    newest = max([*seen, *closed, *firsts])
    return list(range(max(min(firsts), newest - (limit - 1) * window_ms), newest + 1, window_ms))


def hours_of(
    config: TopicConfig, partitions: Iterable[PartitionStatus], marked: Mapping[int, Plan | LedgerError | None]
) -> tuple[HourStatus, ...]:
    """What became of each hour, or what it waits for. ``partitions`` are those that have to close it."""
    rows = []
    needed = list(partitions)
    for hour, plan in sorted(marked.items()):
        if isinstance(plan, LedgerError):
            rows.append(HourStatus(hour, "unreadable", reasons=(str(plan),)))
            continue
        if plan is not None:
            records = sum(part.count for file in plan.files for part in file.parts)
            state = "incomplete" if plan.incomplete else "complete"
            rows.append(HourStatus(hour, state, records, len(plan.files), plan.incomplete))
            continue
        waits = waits_of(hour, config, needed)
        rows.append(HourStatus(hour, "waiting" if waits else "finishing", waits=waits))
    return tuple(rows)


def waits_of(hour: int, config: TopicConfig, partitions: Iterable[PartitionStatus]) -> tuple[Wait, ...]:
    end = hour + config.window_ms
    open_ = [one for one in partitions if one.closed_until is None or one.closed_until < end]
    return tuple(_wait(one, end + config.lateness_ms) for one in open_)


def _wait(one: PartitionStatus, needs: int) -> Wait:
    if one.committed is None:
        return Wait(one.partition, Cause.NO_LEDGER, "no ledger yet")
    if one.trouble:
        return Wait(one.partition, Cause.STOPPED, one.trouble)
    at = "not known yet" if one.watermark is None else f"at {show_instant(one.watermark)}"
    return Wait(one.partition, Cause.WATERMARK, f"watermark {at}, needs {show_instant(needs)} or silence")
