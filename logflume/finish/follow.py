"""Which hours are due: the ledgers of all partitions of a topic, followed entry by entry.

The owner of the topic's lowest partition finishes its hours. That is no lock, only a way not to do the
same work twice: an hour needs that partition to be closed anyway, so whoever can close it can finish it.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from logflume import commit
from logflume.config import TopicConfig
from logflume.core.ledger import Closing, Head, Part
from logflume.errors import LedgerError, Missing
from logflume.finish.plan import PartitionHour, Plan, make_plan
from logflume.model import Kind, PartitionId
from logflume.store.base import Store


@dataclass(slots=True)
class _Chain:
    """A chain read up to ``head``, and what unfinished hours have of it; ``newest``: when it was begun."""

    head: Head
    newest: Head
    parts: dict[int, list[Part]] = field(default_factory=dict)
    closings: list[Closing] = field(default_factory=list)
    #: not read to its end when last looked at
    left: bool = False

    def take(self, head: Head) -> None:
        for part in _parts_of(head):
            self.parts.setdefault(part.hour, []).append(part)
        self.closings.extend(head.entry.closed)
        self.head = head

    @property
    def held(self) -> int:
        return sum(map(len, self.parts.values())) + len(self.closings)

    def forget(self, until: int, window_ms: int) -> None:
        """Drop what belongs to hours that end at or before ``until``."""
        self.parts = {hour: parts for hour, parts in self.parts.items() if hour + window_ms > until}
        self.closings = [closing for closing in self.closings if closing.until > until]


def _parts_of(head: Head) -> list[Part]:
    return [part for part in head.entry.parts if part.kind is Kind.HOUR]


class TopicFollower:
    """All chains of one topic id. ``feed`` from any thread; everything else from one thread at a time.

    ``most``: parts and closings to hold, 1.5 KB each. While a partition waits for a person, all others go on: when they
    hold so many, they are not read further ahead of what every partition has closed, and so can be finished.
    """

    def __init__(self, store: Store, topic: str, topic_id: str, config: TopicConfig, *, most: float = math.inf) -> None:
        self.topic, self.topic_id = topic, topic_id
        self.finished_until: int | None = None
        self._store, self._config, self._most = store, config, most
        #: the partitions that were listed; a chain's directory is there before its first entry
        self._listed: set[int] = set()
        #: whether the next refresh would read further at once: chains were left, and every partition has closed more
        self.more = False
        #: how many partitions the topic had at first
        self._first: int | None = None
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

    def refresh(self, pool: Executor, progress: Callable[[], None] = lambda: None) -> None:
        """Read what was appended to the chains, in threads of ``pool``. Raises store errors, LedgerError, and Stopped
        for a chain whose window is another.

        ``progress`` is called with each entry that was read: after a weekend on which a partition waited for a person,
        those of all others are many.
        """
        with self._lock:
            fed, self._fed = self._fed, {}
        self.more = False
        # Where all is finished that was read of a chain, retention may take what follows: it is begun anew.
        self._chains = {number: chain for number, chain in self._chains.items() if chain.held or not chain.left}
        known: list[PartitionId] = []
        # A partition that is added closes what the others had closed *after* its chain was there to be listed.
        # So the chains are listed again after all were read: one that is not seen then cannot add to what
        # was closed in what was read.
        while (now := commit.chains(self._store, self.topic, self.topic_id)) != known:
            known = now
            self._listed = {pid.partition for pid in known}
            new = [pid for pid in known if pid.partition not in self._chains]
            for pid, begun in zip(new, pool.map(partial(self._begin, fed=fed, progress=progress), new), strict=True):
                if begun is not None:
                    commit.check_window(pid, self._config.window_ms, begun.head.state.window_ms)
                    self._chains[pid.partition] = begun
            closed_until = self.closed_until
            look = partial(self._look, fed=fed, closed_until=closed_until, progress=progress)
            followed = [pid for pid in known if pid.partition in self._chains]
            for pid, (later, left) in zip(followed, pool.map(look, followed), strict=True):
                chain = self._chains[pid.partition]
                chain.left = left
                for head in later:
                    chain.take(head)
            self.more = self.closed_until != closed_until and any(chain.left for chain in self._chains.values())

    def _begin(self, pid: PartitionId, fed: dict[int, list[Head]], progress: Callable[[], None]) -> _Chain | None:
        """A chain from the first entry on that hours need which are not finished; None while it has no entry."""
        own = fed.get(pid.partition)
        newest = max(own, key=lambda head: head.entry.seq) if own else commit.read_head(self._store, pid)
        if newest is None:
            return None
        first = min(newest.state.unfinished.values(), default=newest.entry.seq)
        oldest = newest if first >= newest.entry.seq else commit.read_entry(self._store, pid, first)
        progress()
        chain = _Chain(oldest, newest)
        chain.take(oldest)
        return chain

    def _look(
        self, pid: PartitionId, fed: dict[int, list[Head]], closed_until: int | None, progress: Callable[[], None]
    ) -> tuple[list[Head], bool]:
        """What was appended to a chain, for ``refresh`` to take, and whether it was left before its end.

        Changes nothing: where one partition's look fails, the others' go on beside the next refresh.
        """
        own = {head.entry.seq: head for head in fed.get(pid.partition, ())}
        chain = self._chains[pid.partition]
        newest = chain.newest.entry.seq
        known = {newest: chain.newest} | own
        head, later, held = chain.head, list[Head](), chain.held
        while True:
            frontier = head.state.frontier
            ahead = frontier is not None and (closed_until is None or frontier > closed_until)
            if ahead and held > self._most / len(self._chains):
                return later, True
            after = known.get(head.entry.seq + 1)
            if after is None or after.entry.prev != head.sha256:
                if own and head.entry.seq >= max(own):
                    return later, False
                after = commit.next_entry(self._store, head, known=head.entry.seq < newest)
            if after is None:
                return later, False
            later.append(after)
            held += len(_parts_of(after)) + len(after.entry.closed)
            head = after
            progress()

    # -- what is due ------------------------------------------------------------------------------

    @property
    def closed_until(self) -> int | None:
        """Hours that end at or before this are closed by every partition; None while one has closed none."""
        if self._first is None:
            try:
                self._first = commit.first_partitions(self._store, self.topic, self.topic_id)
            except Missing:
                return None
        if self._unread(self._first):
            return None
        frontiers = self._frontiers()
        known = [frontier for frontier in frontiers if frontier is not None]
        return min(known) if known and len(known) == len(frontiers) else None

    def _unread(self, first: int) -> bool:
        """Whether a partition has no entry yet. One that is listed without is about to have one, and may have asked
        already what the others closed.
        """
        return any(number not in self._chains for number in self._listed.union(range(first)))

    def _frontiers(self) -> list[int | None]:
        return [chain.head.state.frontier for chain in self._chains.values()]

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
            self._forget()
            return []
        window = self._config.window_ms
        start = max(min(begins), self._start_of_unfinished() or min(begins))
        held = {hour for chain in self._chains.values() for hour in chain.parts if start <= hour < until}
        held -= self._finished
        empty = (hour for hour in range(start, until, window) if hour not in held and hour not in self._finished)
        return [self._plan(hour) for hour in itertools.islice(itertools.chain(sorted(held), empty), limit)]

    def _start_of_unfinished(self) -> int | None:
        # The furthest any partition knows: what that one took for finished, its newest entry leads to no more.
        heads = [head for chain in self._chains.values() for head in (chain.head, chain.newest)]
        known = [head.state.finished_until for head in heads]
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
        frontiers = self._frontiers()
        known = [frontier for frontier in frontiers if frontier is not None]
        return bool(known) and (
            self._unread(self._first or 0) or len(known) < len(frontiers) or min(known) < max(known)
        )

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
            chain.parts.pop(hour, None)
        self._forget()

    def _forget(self) -> None:
        for chain in self._chains.values():
            chain.forget(self.finished_until or 0, self._config.window_ms)
