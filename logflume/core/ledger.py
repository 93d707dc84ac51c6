"""What an entry of the ledger says; ``codec`` has how it is spelled on disk.

Per topic id and partition there is a chain of entries, numbered from 0 without holes; each holds the
SHA-256 of the one before. An entry is never changed. **Every entry carries the state after it**, so a
restart reads the newest entry alone, whatever the length of the chain; and an entry is decided only
after the parts of the one before were published, so the newest is also the only one that can have
parts left in tmp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from logflume.errors import LedgerError
from logflume.model import Kind, OffsetSet, PartitionId


@dataclass(frozen=True, slots=True)
class Part:
    """One closed file of one partition and hour, with the exact set of its offsets.

    ``path`` is the final one, ``tmp`` where it was uploaded, both relative to the root. ``size`` in bytes as
    stored, ``raw`` before compression. Times are the lowest and highest event time (for quarantine: Kafka
    time) in ms. ``reasons`` counts records by reason, for quarantine only.
    """

    kind: Kind
    hour: int
    path: str
    tmp: str
    size: int
    raw: int
    count: int
    sha256: str
    offsets: OffsetSet
    min_time: int
    max_time: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's name as it was decided."""
        return self.path.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class Closing:
    """All hours that end in (since, until] closed at offset ``boundary``: B(p,h) of each of them.

    ``since`` is None for "all before". ``reason`` is ``watermark`` (a pure function of the log) or ``idle``
    (decided by the clock, which is why it has to be written down); ``at`` is the wall clock in ms.
    """

    since: int | None
    until: int
    boundary: int
    reason: str
    at: int

    def covers(self, end: int) -> bool:
        """Whether the hour that ends at ``end`` was closed by this."""
        return end <= self.until and (self.since is None or end > self.since)


@dataclass(frozen=True, slots=True)
class Blind:
    """Where knowledge begins: hours that start in [since, until) may have records this ledger never saw.

    ``offset`` is the first one seen. None means unbounded; ``until`` stays None until a record is accepted.
    """

    since: int | None
    until: int | None
    offset: int
    reason: str

    def covers(self, hour: int) -> bool:
        return (self.since is None or hour >= self.since) and (self.until is None or hour < self.until)


@dataclass(frozen=True, slots=True)
class State:
    """What holds after an entry: all a successor needs to go on exactly.

    ``committed`` is C: a restart reads from there. ``watermark`` is the watermark *at C* (the largest accepted
    event time below it), so a replay from C meets the same watermark at every offset and computes the same B.
    ``seen`` is the watermark at ``position``, for people. ``frontier``: every hour that ends at or before it is
    closed. ``boundaries`` keeps the closings with a boundary above C, for a replay to tell late from in time.
    ``decided`` has the offsets ≥ C that need no second fate; ``rejected``, a subset, those that were quarantined
    and so must not move the watermark again. ``unfinished`` maps an hour to the first entry that has
    a part of it or closes it, until it is known to be finished. ``finished_until``: hours that end at or
    before it are finished, as far as this owner knows (the owner of partition 0 does it).
    """

    window_ms: int
    start: int
    position: int
    committed: int
    watermark: int | None = None
    seen: int | None = None
    frontier: int | None = None
    boundaries: tuple[Closing, ...] = ()
    decided: OffsetSet = field(default_factory=OffsetSet)
    rejected: OffsetSet = field(default_factory=OffsetSet)
    first_hour: int | None = None
    blind: tuple[Blind, ...] = ()
    unfinished: Mapping[int, int] = field(default_factory=dict)
    finished_until: int | None = None
    leader_epoch: int = -1
    late: int = 0
    quarantined: int = 0
    dropped: int = 0

    @property
    def reached(self) -> int:
        """The offset behind all that was decided: a log that ends before it was truncated."""
        return max(self.committed, self.decided.last + 1) if self.decided else self.committed


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision. ``what`` is ``claim``, ``join``, ``decide`` or ``gap``; ``gaps`` are offsets the broker did
    not deliver (transaction markers, aborted or compacted records), ``dropped`` late records under
    ``late = "drop"``.
    """

    pid: PartitionId
    seq: int
    prev: str
    what: str
    owner: str
    epoch: int
    at: int
    config: str
    state: State
    parts: tuple[Part, ...] = ()
    closed: tuple[Closing, ...] = ()
    gaps: OffsetSet = field(default_factory=OffsetSet)
    dropped: OffsetSet = field(default_factory=OffsetSet)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a chain with the hash that its successor must name."""

    entry: Entry
    sha256: str

    @property
    def state(self) -> State:
        return self.entry.state


def genesis(pid: PartitionId, *, window_ms: int, start: int, owner: str, at: int, config: str) -> Entry:
    """The first entry of a chain. Above offset 0 the ledger cannot vouch for what came before."""
    blind = (Blind(None, None, start, f"the ledger starts at offset {start}"),) if start > 0 else ()
    state = State(window_ms=window_ms, start=start, position=start, committed=start, blind=blind)
    return Entry(pid, 0, "", "claim", owner, 1, at, config, state)


def claim(head: Head, *, owner: str, at: int, config: str) -> Entry:
    """The entry by which a new owner fences the one before; the state does not change."""
    old = head.entry
    return Entry(old.pid, old.seq + 1, head.sha256, "claim", owner, old.epoch + 1, at, config, old.state)


def join(head: Head, *, until: int, at: int) -> Entry:
    """The entry by which a partition that was added to a topic takes its place: hours that the others closed
    are closed here too, before a record is read (K11).
    """
    closing = Closing(None, until, head.state.position, "joined", at)
    state = replace(
        head.state,
        frontier=until,
        boundaries=(closing,) if closing.boundary > head.state.committed else (),
        unfinished={until - head.state.window_ms: head.entry.seq + 1},
    )
    old = head.entry
    return replace(old, seq=old.seq + 1, prev=head.sha256, what="join", at=at, state=state, closed=(closing,), parts=())


def check_follows(before: Head, after: Entry) -> None:
    """Raises LedgerError unless ``after`` may follow ``before``: the rules every reader can re-check."""
    old, new = before.state, after.state
    problems = []
    if after.seq != before.entry.seq + 1 or after.prev != before.sha256 or after.pid != before.entry.pid:
        problems.append("it does not link to the entry before")
    if new.committed < old.committed or new.position < old.position:
        problems.append(f"C goes back from {old.committed} to {new.committed}")
    if old.frontier is not None and (new.frontier is None or new.frontier < old.frontier):
        problems.append("a closed hour is open again")
    frontier = old.frontier
    for closing in after.closed:
        if closing.since != frontier:
            problems.append(f"the closing until {closing.until} does not begin where the one before ended")
        frontier = closing.until
    if new.frontier != frontier:
        problems.append("hours are closed without a closing")
    problems += [
        f"{part.path} adds to a closed hour"
        for part in after.parts
        if part.kind is Kind.HOUR and old.frontier is not None and part.hour + old.window_ms <= old.frontier
    ]
    problems += _offset_problems(old, after)
    if problems:
        raise LedgerError(f"entry {after.seq} of {after.pid} breaks the chain: {'; '.join(problems)}")


def _offset_problems(old: State, after: Entry) -> list[str]:
    """Every offset has one fate, and C is past none without."""
    problems = []
    decided = old.decided
    fates = [(part.path, part.offsets) for part in after.parts]
    for name, offsets in [*fates, ("the gaps", after.gaps), ("what was dropped", after.dropped)]:
        if offsets and (decided & offsets or offsets.first < old.committed):
            problems.append(f"{name}: offsets that were decided before")
        decided = decided | offsets
    problems += [f"{path}: no offsets" for path, offsets in fates if not offsets]
    committed = after.state.committed
    if OffsetSet.run(old.committed, committed) - decided:
        problems.append(f"C passes undecided offsets below {committed}")
    if after.state.decided != _above(decided, committed):
        problems.append("the decided offsets of its state are others")
    return problems


def lose(head: Head, *, until: int, owner: str, at: int, config: str, note: str) -> Entry:
    """The operator's signature under lost offsets: reading goes on at ``until``, and hours that may have had
    records in between are never called complete (K8).

    A log that is not that of C's leader any more (K9) is part of what is signed, see ``forgets_leader``.

    Raises LedgerError when ``until`` is below C, or C and nothing would change.
    """
    old = head.entry.state
    if until < old.committed or (until == old.committed and not forgets_leader(old, until)):
        raise LedgerError(f"{head.entry.pid}: nothing is lost below {until}, reading goes on at {old.committed}")
    gap = OffsetSet.run(old.committed, until) - old.decided
    blind = Blind(old.frontier, None, until, note)
    state = replace(
        old,
        position=max(until, old.position),
        committed=until,
        watermark=old.seen,
        boundaries=tuple(closing for closing in old.boundaries if closing.boundary > until),
        decided=_above(old.decided, until),
        rejected=_above(old.rejected, until),
        blind=(*old.blind, blind),
        leader_epoch=-1 if forgets_leader(old, until) else old.leader_epoch,
    )
    entry = claim(head, owner=owner, at=at, config=config)
    return replace(entry, what="gap", state=state, gaps=gap, note=note)


def forgets_leader(state: State, until: int) -> bool:
    """Whether reading on at ``until`` asks the broker no more if the log is that of C's leader. Where something above
    was decided it is asked: new records at those offsets would be taken for repeated ones.
    """
    return state.leader_epoch >= 0 and not _above(state.decided, until)


def _above(offsets: OffsetSet, bound: int) -> OffsetSet:
    kept = offsets.copy()
    kept.remove_below(bound)
    return kept
