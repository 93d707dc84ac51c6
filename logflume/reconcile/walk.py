"""Reading the chains of one topic id, a stretch of time at once, so that memory stays bounded.

The first time, or with ``--full``, every retained entry is read; after that only what came since the
checkpoint, and what it left open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

from logflume import commit
from logflume.backfill import amend
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.errors import LedgerError, Missing, StoreError
from logflume.model import PartitionId
from logflume.reconcile.chain import Chain
from logflume.reconcile.findings import Finding, What
from logflume.reconcile.plan import Hour
from logflume.store.base import Store

#: the stretch of one topic's time that is held in memory
STRETCH_MS = 6 * 3_600_000
#: of hours that are not closed, so many are looked at even without a part
HOURS_BEGUN = 1000


@dataclass(frozen=True, slots=True)
class SavedChain:
    """Up to which entry a chain was proved, and earlier entries with a part that is not settled yet."""

    seq: int
    sha256: str
    pending: tuple[int, ...] = ()
    certain_from: int = -(1 << 62)


@dataclass(frozen=True, slots=True)
class SavedTopic:
    """Hours that end at or before ``until`` are settled but for ``hours``. ``watch``: files that
    nobody knows.
    """

    chains: dict[int, SavedChain]
    until: int | None
    hours: tuple[int, ...] = ()
    watch: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """``next`` is None until the first entry is read; ``listed`` are entries known to be there; ``whole``: the chain
    was listed, so that nothing but its end lies beyond them.
    """

    chain: Chain
    next: int | None = None
    listed: deque[int] = field(default_factory=deque)
    whole: bool = False
    ended: bool = False


class TopicWalk:
    """All chains of a topic id. Not for several threads; it uses ``pool`` itself."""

    def __init__(self, store: Store, topic: str, topic_id: str, pool: Executor, saved: SavedTopic | None) -> None:
        self.topic, self.topic_id = topic, topic_id
        self.findings: list[Finding] = []
        self.first_partitions: int | None = None
        self.saved = saved
        self.rolled_back: set[int] = set()
        self._amended: dict[str, Part] = {}
        self._store, self._pool = store, pool
        self._readings: dict[int, _Reading] = {}

    @property
    def chains(self) -> dict[int, Chain]:
        return {number: reading.chain for number, reading in self._readings.items()}

    # -- reading ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the chains and where to begin in each."""
        try:
            self.first_partitions = commit.first_partitions(self._store, self.topic, self.topic_id)
        except (Missing, LedgerError) as error:
            path = layout.topic_path(self.topic, self.topic_id)
            hint = "without it no hour can be finished; the daemon writes a missing one when it starts again"
            self.findings.append(self._finding(What.TOPIC_FILE, path, str(error), hint=hint))
        try:
            self._amended = amend.read(self._store, self.topic, self.topic_id)
        except LedgerError as error:
            path = amend.directory_of(self.topic, self.topic_id)
            hint = "remove it, and run the same 'logflume backfill --repair' again"
            self.findings.append(self._finding(What.TOPIC_FILE, path, str(error), hint=hint))
        self._open_chains()
        gone = set(self.saved.chains if self.saved else ()) - set(self._readings)
        for number in sorted(gone):
            pid = PartitionId(self.topic, self.topic_id, number)
            self._rolled_back(pid, "the whole chain is gone")

    def _open_chains(self) -> bool:
        found = [
            pid for pid in commit.chains(self._store, self.topic, self.topic_id) if pid.partition not in self._readings
        ]
        for reading in self._pool.map(self._open, found):
            self._readings[reading.chain.pid.partition] = reading
        return bool(found)

    def _open(self, pid: PartitionId) -> _Reading:
        reading = _Reading(Chain(pid, self._amended))
        saved = self.saved.chains.get(pid.partition) if self.saved else None
        if saved is not None and self._resume(reading, saved):
            return reading
        self._list(reading)
        return reading

    def _resume(self, reading: _Reading, saved: SavedChain) -> bool:
        """Begin at the checkpoint; False when its entry was trimmed meanwhile."""
        pid = reading.chain.pid
        try:
            head = commit.read_entry(self._store, pid, saved.seq)
            again = [commit.read_entry(self._store, pid, seq) for seq in saved.pending]
        except Missing:
            numbers = self._numbers(pid)
            newest = max(numbers, default=-1)
            if newest < saved.seq:
                self._rolled_back(pid, f"an earlier run saw entry {saved.seq}, and the newest is now {newest}")
            elif saved.seq < min(numbers):
                detail = f"entries {saved.seq + 1} to {min(numbers) - 1} were dropped before a run saw them"
                path = layout.entry_path(pid, saved.seq + 1)
                self.findings.append(self._finding(What.TRIMMED_UNSEEN, path, detail, pid.partition))
            return False
        except (LedgerError, StoreError):
            return False  # the walk from the beginning names it
        if head.sha256 != saved.sha256:
            path = layout.entry_path(pid, saved.seq)
            self._rolled_back(pid, f"{path} is not the one that an earlier run saw")
            return False
        reading.chain.resume(head, saved.certain_from)
        reading.next = saved.seq + 1
        for one in again:
            reading.chain.take_again(one, self._was_open)
        return True

    def _was_open(self, hour: int) -> bool:
        """Whether the chains have all of this hour, and not only what was read since the checkpoint."""
        saved = self.saved
        return saved is None or saved.until is None or hour >= saved.until or hour in saved.hours

    def _rolled_back(self, pid: PartitionId, detail: str) -> None:
        self.rolled_back.add(pid.partition)
        hint = "bring it back from a snapshot or the trash; reconcile --full takes the chain as it is now"
        path = layout.chain_directory(pid)
        self.findings.append(self._finding(What.CHAIN_ROLLED_BACK, path, detail, pid.partition, hint))

    def _finding(self, what: What, path: str, detail: str, partition: int | None = None, hint: str = "") -> Finding:
        return Finding(what, self.topic, path, detail, self.topic_id, partition, hint=hint)

    def _numbers(self, pid: PartitionId) -> list[int]:
        found = self._store.list(f"{self._store.root}/{layout.chain_directory(pid)}")
        numbers = [layout.parse_entry_name(status.name) for status in found]
        return sorted(number for number in numbers if number is not None)

    def _list(self, reading: _Reading) -> None:
        """Every retained entry. A chain may have lost its beginning, but nothing in between."""
        pid = reading.chain.pid
        found = self._store.list(f"{self._store.root}/{layout.chain_directory(pid)}")
        entries: list[tuple[int, int]] = []
        for status in found:
            seq = layout.parse_entry_name(status.name)
            if seq is not None:
                entries.append((seq, status.modified_ms))
            elif status.name != "tmp":
                path = f"{layout.chain_directory(pid)}/{status.name}"
                self.findings.append(self._finding(What.FILE_UNKNOWN, path, "not an entry", pid.partition))
        reading.listed = deque(self._without_strays(pid, sorted(entries)))
        reading.whole = True

    def _without_strays(self, pid: PartitionId, entries: list[tuple[int, int]]) -> list[int]:
        """Entries without those below a hole that were written *later* than what follows it: their numbers had
        been given free by retention, and nobody follows them (see ``commit.append``).
        """
        begin = 0
        for i in range(1, len(entries)):
            (seq, written), (after, after_written) = entries[i - 1], entries[i]
            if after != seq + 1 and written > after_written:
                begin = i
        for seq, _ in entries[:begin]:
            detail = f"entry {seq} was put where retention had made room; the chain goes on without it"
            self.findings.append(self._finding(What.ENTRY_STRAY, layout.entry_path(pid, seq), detail, pid.partition))
        return [seq for seq, _ in entries[begin:]]

    def advance(self, until: int | None) -> None:
        """Read on in every chain until its frontier reaches ``until``, or, with None, to its end."""
        list(self._pool.map(lambda reading: self._advance(reading, until), self._readings.values()))

    def _advance(self, reading: _Reading, until: int | None) -> None:
        chain = reading.chain
        while not reading.ended and (until is None or chain.frontier is None or chain.frontier < until):
            seq = reading.next
            if reading.listed:
                if seq is not None:
                    for missing in range(seq, reading.listed[0]):
                        chain.missing(missing)
                seq = reading.listed.popleft()
            seq = 0 if seq is None else seq
            try:
                data = self._store.read(f"{self._store.root}/{layout.entry_path(chain.pid, seq)}")
            except Missing:
                self._gone(reading, seq)
                continue
            except StoreError as error:
                # of this file alone, such as a corrupt block; a store that is away raises something else
                path, hint = layout.entry_path(chain.pid, seq), "bring the file back from a snapshot or the trash"
                # the chain's own, so that no checkpoint goes beyond it
                chain.findings.append(self._finding(What.ENTRY_DAMAGED, path, str(error), chain.pid.partition, hint))
                chain.trimmed()
            else:
                chain.take(seq, data)
            reading.next = seq + 1

    def _gone(self, reading: _Reading, seq: int) -> None:
        """An entry is not there: the end of the chain, dropped by retention just now, or missing."""
        pid = reading.chain.pid
        after = f"{self._store.root}/{layout.entry_path(pid, seq + 1)}"
        if not reading.listed and reading.whole and self._store.stat(after) is None:
            reading.ended = True
            return
        # Beyond a checkpoint several entries may be gone in a row, and only a list tells that from the end.
        numbers = self._numbers(pid)
        reading.listed, reading.whole = deque(number for number in numbers if number >= seq), True
        if reading.listed and reading.listed[0] == numbers[0]:
            # everything before is gone, too: begin at what is left
            reading.next = None
            reading.chain.trimmed()
        reading.ended = not reading.listed

    def refresh(self) -> None:
        """What came meanwhile: new entries, new partitions."""
        for reading in self._readings.values():
            reading.ended = False
        self.advance(None)
        # Listed after all were read: a partition that is not there then can only add to hours that were open.
        while self._open_chains():
            self.advance(None)

    # -- what it says -----------------------------------------------------------------------------

    def stretches(self) -> Iterator[int | None]:
        """Read on a stretch at a time; yields until when every chain has closed its hours by then."""
        self.advance(-(1 << 62))
        yield self.closed_until
        while not all(reading.ended for reading in self._readings.values()):
            # a chain that is at its end holds its hours back, whatever the others have closed
            frontiers = [r.chain.frontier for r in self._readings.values() if not r.ended]
            known = [frontier for frontier in frontiers if frontier is not None]
            self.advance(min(known) + STRETCH_MS if known else None)
            yield self.closed_until

    @property
    def window_ms(self) -> int:
        return next((c.head.state.window_ms for c in self.chains.values() if c.head is not None), 3_600_000)

    @property
    def closed_until(self) -> int | None:
        """Hours that end at or before this are closed by every partition; None while one has closed none."""
        chains = self.chains
        if self.first_partitions is None or any(number not in chains for number in range(self.first_partitions)):
            return None
        frontiers = [chain.frontier for chain in chains.values()]
        known = [frontier for frontier in frontiers if frontier is not None]
        return min(known) if known and len(known) == len(frontiers) else None

    @property
    def first_hour(self) -> int | None:
        """The first hour that has a record: from there on every hour gets a marker."""
        heads = [chain.head for chain in self.chains.values() if chain.head is not None]
        hours = [head.state.first_hour for head in heads if head.state.first_hour is not None]
        return min(hours, default=None)

    def hours_begun(self) -> range:
        """Hours that are not closed, up to the latest one with a record: they may not be marked yet."""
        heads = [chain.head for chain in self.chains.values() if chain.head is not None]
        latest = max((head.state.seen for head in heads if head.state.seen is not None), default=None)
        begin = self.closed_until if self.closed_until is not None else self.first_hour
        if latest is None or begin is None:
            return range(0)
        return range(begin, latest + 1, self.window_ms)[:HOURS_BEGUN]

    def _joins(self, number: int, chain: Chain) -> bool:
        """Whether a partition was added and has not joined yet: it will close what the others have closed by then."""
        return chain.frontier is None and number >= (self.first_partitions or 0)

    def hour(self, hour: int) -> Hour:
        """One hour as the chains say, as far as they were read."""
        chains, end = self.chains, hour + self.window_ms
        closings = {number: chain.closing_of(end) for number, chain in chains.items()}
        missing = [n for n in range(self.first_partitions or 0) if n not in chains]
        waits = missing + [
            number for number, chain in chains.items() if not chain.closes(end) and not self._joins(number, chain)
        ]
        first, closed = self.first_hour, self.closed_until
        return Hour(
            topic=self.topic,
            topic_id=self.topic_id,
            hour=hour,
            window_ms=self.window_ms,
            decided=[one for chain in chains.values() for one in chain.parts.get(hour, ())],
            boundaries={number: closing.boundary for number, closing in closings.items() if closing is not None},
            waits=waits,
            closed_ms=max((closing.at for closing in closings.values() if closing is not None), default=None),
            certain=self._was_open(hour) and all(hour >= chain.certain_from for chain in chains.values()),
            unknown=lambda partition, offset: partition in chains and chains[partition].is_unknown(offset),
            due=closed is not None and end <= closed and first is not None and hour >= first,
        )
