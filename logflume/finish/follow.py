"""Which hours are due: the ledgers of all partitions of a topic, followed entry by entry.

The owner of the topic's lowest partition finishes its hours. That is no lock, only a way not to do the
same work twice: an hour needs that partition to be closed anyway, so whoever can close it can finish it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from logflume import commit
from logflume.config import TopicConfig
from logflume.core.ledger import Closing, Entry, Head, Part
from logflume.errors import LedgerError, Missing
from logflume.finish.plan import PartitionHour, Plan, make_plan
from logflume.model import Kind, PartitionId
from logflume.store.base import Store


@dataclass(slots=True)
class _Chain:
    head: Head
    parts: dict[int, list[Part]] = field(default_factory=dict)
    closings: list[Closing] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        for part in entry.parts:
            if part.kind is Kind.HOUR:
                self.parts.setdefault(part.hour, []).append(part)
        self.closings.extend(entry.closed)

    def forget(self, until: int, window_ms: int) -> None:
        """Drop what belongs to hours that end at or before ``until``."""
        self.parts = {hour: parts for hour, parts in self.parts.items() if hour + window_ms > until}
        self.closings = [closing for closing in self.closings if closing.until > until]


class TopicFollower:
    """All chains of one topic id. ``feed`` from any thread; everything else from one thread at a time."""

    def __init__(self, store: Store, topic: str, topic_id: str, config: TopicConfig, pool: Executor) -> None:
        self.topic, self.topic_id = topic, topic_id
        self.finished_until: int | None = None
        self._store, self._config, self._pool = store, config, pool
        self._chains: dict[int, _Chain] = {}
        self._finished: set[int] = set()
        self._fed: dict[int, list[Head]] = {}
        self._lock = threading.Lock()

    def feed(self, heads: Iterable[Head]) -> None:
        """Entries this process wrote itself: they need not be read. A partition's first may be any one of its chain."""
        with self._lock:
            for head in heads:
                self._fed.setdefault(head.entry.pid.partition, []).append(head)

    def heads(self) -> dict[int, Head]:
        return {number: chain.head for number, chain in self._chains.items()}

    # -- following --------------------------------------------------------------------------------

    def refresh(self, progress: Callable[[], None] = lambda: None) -> None:
        """Read what was appended to the chains. Raises store errors, LedgerError, and Stopped for a chain whose window
        is another.

        ``progress`` is called with each entry that was read: after a weekend on which a partition waited for a person,
        those of all others are many.
        """
        with self._lock:
            fed, self._fed = self._fed, {}
        known: list[PartitionId] = []
        # A partition that is added closes what the others had closed *after* its chain was there to be listed.
        # So the chains are listed again after all were read: one that is not seen then cannot add to what
        # was closed in what was read.
        while (now := commit.chains(self._store, self.topic, self.topic_id)) != known:
            known = now
            looks = self._pool.map(lambda pid: self._look(pid, fed, progress), known)
            for pid, (chain, later) in zip(known, looks, strict=True):
                if chain is None:
                    continue
                commit.check_window(pid, self._config.window_ms, chain.head.state.window_ms)
                self._chains[pid.partition] = chain
                for head in later:
                    chain.take(head.entry)
                    chain.head = head

    def _look(
        self, pid: PartitionId, fed: dict[int, list[Head]], progress: Callable[[], None]
    ) -> tuple[_Chain | None, list[Head]]:
        """A chain and what was appended to it, for ``refresh`` to take.

        Changes nothing: where one partition's look fails, the others' go on beside the next refresh.
        """
        own = {head.entry.seq: head for head in fed.get(pid.partition, ())}
        chain = self._chains.get(pid.partition)
        if chain is None:
            newest = own[max(own)] if own else commit.read_head(self._store, pid)
            if newest is None:
                return None, []
            chain = self._load(pid, newest, progress)
        head, later = chain.head, list[Head]()
        while True:
            after = own.get(head.entry.seq + 1)
            if after is None or after.entry.prev != head.sha256:
                after = None if own and head.entry.seq >= max(own) else commit.next_entry(self._store, head)
            if after is None:
                return chain, later
            later.append(after)
            head = after
            progress()

    def _load(self, pid: PartitionId, head: Head, progress: Callable[[], None]) -> _Chain:
        """A chain with what hours that are not finished need of it."""
        chain = _Chain(head)
        for seq in range(min(head.state.unfinished.values(), default=head.entry.seq), head.entry.seq):
            chain.take(commit.read_entry(self._store, pid, seq).entry)
            progress()
        chain.take(head.entry)
        return chain

    # -- what is due ------------------------------------------------------------------------------

    @property
    def closed_until(self) -> int | None:
        """Hours that end at or before this are closed by every partition; None while one has closed none."""
        try:
            first = commit.first_partitions(self._store, self.topic, self.topic_id)
        except Missing:
            return None
        if any(number not in self._chains for number in range(first)):
            return None
        frontiers = [chain.head.state.frontier for chain in self._chains.values()]
        known = [frontier for frontier in frontiers if frontier is not None]
        return min(known) if known and len(known) == len(frontiers) else None

    def due(self, limit: int) -> list[Plan]:
        """Plans of at most ``limit`` hours that every partition closed and that are not known to be finished.

        Those with records come first: a jump of a year leaves thousands of empty hours to be marked.
        """
        until = self.closed_until
        firsts = [chain.head.state.first_hour for chain in self._chains.values()]
        begins = [hour for hour in firsts if hour is not None]
        if until is None:
            return []
        if not begins:
            # No record yet: what is closed has nothing to be finished. Said, so that entries stop to name those hours.
            self.finished_until = max(until, self.finished_until or until)
            return []
        window = self._config.window_ms
        start = max(min(begins), self._start_of_unfinished() or min(begins))
        held = {hour for chain in self._chains.values() for hour in chain.parts if start <= hour < until}
        held -= self._finished
        empty = (hour for hour in range(start, until, window) if hour not in held and hour not in self._finished)
        return [self._plan(hour) for hour in itertools.islice(itertools.chain(sorted(held), empty), limit)]

    def _start_of_unfinished(self) -> int | None:
        # The furthest any partition knows: what that one took for finished, its newest entry leads to no more.
        known = [chain.head.state.finished_until for chain in self._chains.values()]
        self.finished_until = max((one for one in (self.finished_until, *known) if one is not None), default=None)
        return self.finished_until

    def _plan(self, hour: int) -> Plan:
        end = hour + self._config.window_ms
        partitions = {}
        for number, chain in self._chains.items():
            state = chain.head.state
            closing = next((closing for closing in chain.closings if closing.covers(end)), None)
            if closing is None:
                raise LedgerError(f"{chain.head.entry.pid}: no entry says where {hour} was closed")
            partitions[number] = PartitionHour(
                parts=tuple(chain.parts.get(hour, ())),
                closing=closing,
                unknown=tuple(blind.reason for blind in state.blind if blind.covers(hour)),
                late=state.late,
                quarantined=state.quarantined,
                dropped=state.dropped,
            )
        return make_plan(
            self.topic,
            self.topic_id,
            hour,
            self._config.window_ms,
            partitions,
            target_bytes=self._config.target_bytes,
            reveal=self._config.reveal,
        )

    @property
    def waits(self) -> bool:
        """Whether some partition has closed an hour that another one still holds back."""
        frontiers = [chain.head.state.frontier for chain in self._chains.values()]
        known = [frontier for frontier in frontiers if frontier is not None]
        return bool(known) and (len(known) < len(frontiers) or min(known) < max(known))

    def finished(self, hour: int) -> None:
        """The hour is marked: forget it, and move ``finished_until`` over all that are done in a row."""
        window = self._config.window_ms
        self._finished.add(hour)
        begins = [
            chain.head.state.first_hour for chain in self._chains.values() if chain.head.state.first_hour is not None
        ]
        at = max(min(begins, default=hour), self.finished_until or 0)
        while at in self._finished:
            at += window
        self.finished_until = at
        self._finished = {hour for hour in self._finished if hour >= at}
        for chain in self._chains.values():
            chain.forget(at, window)
