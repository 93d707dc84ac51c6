"""One partition's chain, re-checked entry by entry. Pure: bytes in, findings and decided parts out.

Every entry carries the state after it, so a chain may begin anywhere: what the entries before its first
retained one decided is *unknown*, neither right nor wrong. The same holds for what a missing entry decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from logflume.backfill import amend
from logflume.core import codec, layout, ledger
from logflume.core.ledger import Closing, Entry, Head, Part
from logflume.errors import LedgerError
from logflume.model import Kind, OffsetSet, PartitionId
from logflume.reconcile.findings import Finding, Range, What


@dataclass(frozen=True, slots=True)
class Decided:
    """A part and the entry that decided it. ``config`` is the hash of the settings it was written with, ``at``
    its owner's clock in ms.
    """

    pid: PartitionId
    seq: int
    at: int
    config: str
    part: Part

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def range(self) -> Range:
        return (self.pid.partition, self.part.offsets.first, self.part.offsets.last)


class Chain:
    """What is known of a chain as far as it was read."""

    def __init__(self, pid: PartitionId, amended: dict[str, Part] | None = None) -> None:
        """``amended``: parts that backfill made again, by path; their check sums hold instead of the decided ones."""
        self.pid = pid
        self._amended = amended or {}
        self.head: Head | None = None
        #: where proof begins: C of the oldest entry that was read
        self.proven_from = 0
        #: hours from this time on are in entries that were read; earlier ones may be in some that are gone
        self.certain_from = -(1 << 62)
        #: the newest entry up to which the chain is without fault, and its hash
        self.sound: tuple[int, str] | None = None
        self.parts: dict[int, list[Decided]] = {}
        self.others: list[Decided] = []
        #: with the number of their entry
        self.closings: list[tuple[int, Closing]] = []
        self.findings: list[Finding] = []
        self.entries = 0
        self.records = 0
        self._unknown: list[tuple[int, int]] = []
        self._unknown_above = OffsetSet()
        self._hole = False

    # -- reading ----------------------------------------------------------------------------------

    @property
    def frontier(self) -> int | None:
        return None if self.head is None else self.head.state.frontier

    def resume(self, head: Head, certain_from: int) -> None:
        """Begin after an entry that an earlier run has proved."""
        self.head = head
        self.certain_from = certain_from
        self.sound = (head.entry.seq, head.sha256)
        self.proven_from = head.state.committed
        self._forget_fates(None, head.entry)

    def take_again(self, head: Head, is_open: Callable[[int], bool]) -> None:
        """What an entry before ``resume`` says of hours that an earlier run left open."""
        entry = head.entry
        parts = tuple(part for part in entry.parts if part.kind is not Kind.HOUR or is_open(part.hour))
        self._take_parts(replace(entry, parts=parts))

    def missing(self, seq: int) -> None:
        """An entry is not there, and a later one is."""
        self._fault(What.ENTRY_MISSING, seq, f"entry {seq} is gone, and later entries are there")
        self._hole = True

    def trimmed(self) -> None:
        """Retention took what comes next: a hole, and nobody's fault."""
        self._hole = True

    def take(self, seq: int, data: bytes) -> bool:
        """The next entry; False when it cannot be read."""
        try:
            head = codec.decode(data, pid=self.pid, seq=seq)
        except LedgerError as error:
            self._fault(What.ENTRY_DAMAGED, seq, str(error))
            self._hole = True
            return False
        before = self.head
        if before is None or self._hole:
            self._begin(before, head)
        else:
            try:
                ledger.check_follows(before, head.entry)
            except LedgerError as error:
                self._fault(What.CHAIN_BROKEN, seq, str(error))
                self._forget_fates(before.entry, head.entry)
        self.head = head
        self.entries += 1
        self._take_parts(head.entry)
        if not self.findings:
            self.sound = (seq, head.sha256)
        return True

    def _begin(self, before: Head | None, head: Head) -> None:
        entry, state = head.entry, head.state
        if before is None and entry.seq == 0:
            if entry.prev or entry.parts or entry.closed or entry.gaps or state.committed != state.start:
                self._fault(What.CHAIN_BROKEN, 0, "the first entry decides something")
            self.proven_from = state.start
        else:
            self._forget_fates(None if before is None else before.entry, entry)
            self.proven_from = state.committed
            self.certain_from = max(self.certain_from, _known_from(head))
        self._hole = False

    def _forget_fates(self, before: Entry | None, after: Entry) -> None:
        """Between these two entries others decided what we cannot see."""
        low = 0 if before is None else before.state.committed
        if after.state.committed > low:
            self._unknown.append((low, after.state.committed))
        self._unknown_above = self._unknown_above | after.state.decided

    def _take_parts(self, entry: Entry) -> None:
        self.closings.extend((entry.seq, closing) for closing in entry.closed)
        for part in amend.apply(entry.parts, self._amended):
            decided = Decided(self.pid, entry.seq, entry.at, entry.config, part)
            self.records += part.count
            if part.kind is Kind.HOUR:
                self.parts.setdefault(part.hour, []).append(decided)
            else:
                self.others.append(decided)

    def _fault(self, what: What, seq: int, detail: str) -> None:
        self.findings.append(
            Finding(
                what,
                self.pid.topic,
                layout.entry_path(self.pid, seq),
                detail,
                topic_id=self.pid.topic_id,
                partition=self.pid.partition,
                hint="bring the file back from a snapshot or the trash; until then this stretch proves nothing",
            )
        )

    # -- what it says -----------------------------------------------------------------------------

    def is_unknown(self, first: int) -> bool:
        """Whether an entry that we do not have may have decided this offset."""
        return any(low <= first < high for low, high in self._unknown) or first in self._unknown_above

    def closes(self, end: int) -> bool:
        return self.frontier is not None and end <= self.frontier

    def closing_of(self, end: int) -> Closing | None:
        """How the hour that ends at ``end`` was closed; None if not yet, or by an entry we do not have."""
        return next((closing for _, closing in self.closings if closing.covers(end)), None)

    def forget(self, hours: Iterable[int]) -> None:
        """Hours that were found right."""
        for hour in hours:
            self.parts.pop(hour, None)

    def forget_closings(self, until: int, kept: Sequence[int]) -> None:
        """Of hours that end at or before ``until``, but for those that end at one of ``kept``."""
        self.closings = [
            (seq, closing)
            for seq, closing in self.closings
            if closing.until > until or any(closing.covers(end) for end in kept)
        ]

    def pending(self, ends: Iterable[int]) -> list[int]:
        """Entries up to the sound one that have a part that is not settled, or close one of these hours, given
        by their ends.
        """
        wanted, last = list(ends), -1 if self.sound is None else self.sound[0]
        open_parts = [one.seq for decided in self.parts.values() for one in decided] + [one.seq for one in self.others]
        closings = [seq for seq, closing in self.closings if any(closing.covers(end) for end in wanted)]
        return sorted(seq for seq in {*open_parts, *closings} if seq <= last)


def _known_from(first: Head) -> int:
    """From which hour on every part is in this entry, the first that there is, or in a later one. Ms UTC."""
    state = first.state
    # it has the parts of what is not finished, or says in which entry they begin
    earlier = [hour + state.window_ms for hour, seq in state.unfinished.items() if seq < first.entry.seq]
    if earlier or state.unfinished:
        return max(earlier, default=min(state.unfinished))
    # what was decided before it had no later time
    return -(1 << 62) if state.seen is None else state.seen + 1
