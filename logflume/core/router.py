"""One partition's records → parts, by event time; and hours closed, by watermark or by decision.

This is the heart of the promise "right hour, exactly once": a pure function of the log. What is read goes
in as columns, what to keep and where comes out as steps, and ``cut`` turns what is due into a Round for
the ledger. Times are ms UTC, ``now`` is the wall clock in ms, ``mono`` a monotonic clock in seconds.

The dual offset: an hour closes at its boundary B the moment the watermark passes its end plus the
lateness; C is the first offset of the oldest part still open, or the position when none is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from logflume.core.ledger import Blind, Closing, State
from logflume.errors import LedgerError
from logflume.model import HOUR_MS, Kind, OffsetSet, Reason


@dataclass(frozen=True, slots=True)
class Rules:
    """The part of a topic's configuration that decides about records. All times in ms, sizes in bytes."""

    window_ms: int = HOUR_MS
    lateness_ms: int = 600_000
    idle_grace_ms: int = 60_000
    max_future_ms: int = 600_000
    min_time_ms: int = 946_684_800_000
    late: str = "side"
    future_against: str = "kafka"
    roll_every_s: float = 600.0
    roll_bytes: int = 128 << 20


@dataclass(slots=True)
class Rows:
    """What the core needs to know of a batch: parallel columns of n ≥ 1 records.

    ``times[i]`` is the event time, of no meaning where ``i`` is in ``rejects``. ``sizes`` is the total of
    the values in bytes (not per record: rolling needs no more). ``next_offset`` as in Batch.
    """

    offsets: Sequence[int]
    times: Sequence[int]
    kafka_times: Sequence[int]
    rejects: dict[int, Reason]
    size: int
    next_offset: int
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True)
class Keep:
    """Append these rows of the batch to an open part. ``rows`` is a slice or a list of indexes."""

    part: int
    kind: Kind
    rows: slice | list[int]
    reasons: list[Reason] | None = None


@dataclass(slots=True)
class OpenPart:
    """A part that still takes records; ``serial`` names it within this process."""

    serial: int
    kind: Kind
    hour: int
    first: int
    watermark_before: int | None
    opened: float
    offsets: OffsetSet = field(default_factory=OffsetSet)
    size: int = 0
    min_time: int = 1 << 62
    max_time: int = -(1 << 62)
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Round:
    """What one decision will say: the parts to upload, the hours closed, and the state after it."""

    parts: tuple[OpenPart, ...]
    closed: tuple[Closing, ...]
    gaps: OffsetSet
    dropped: OffsetSet
    state: State


class Router:
    """The open parts, watermark and frontier of one partition since its claim."""

    def __init__(self, rules: Rules, state: State, *, first_serial: int = 0) -> None:
        self.rules = rules
        self.state = state
        self.position = state.committed
        self.watermark = state.watermark
        self.frontier = state.frontier
        self.blind = state.blind
        self.open: dict[tuple[Kind, int], OpenPart] = {}
        self.leader_epoch = state.leader_epoch
        self.finished_until = state.finished_until
        self.closed: list[Closing] = []
        self.gaps = OffsetSet()
        self.dropped = OffsetSet()
        self.repeats = 0
        self._serial = first_serial
        # Offsets from here on were never read before, so none of them can be decided.
        self._fresh_from = state.decided.last + 1 if state.decided else 0
        self._unseen = any(blind.until is None for blind in state.blind)

    # -- records in -------------------------------------------------------------------------------

    def route(self, rows: Rows, *, now: int, mono: float) -> list[Keep]:
        """Give every row its fate. Raises LedgerError if a record contradicts a closed hour."""
        first, n = rows.offsets[0], len(rows.offsets)
        kept: list[Keep]
        whole = first >= self.position and rows.offsets[-1] - first == n - 1
        fits = self._fits_one_hour(rows, now) if whole and not rows.rejects else None
        if fits is not None:
            if first > self.position:
                self._gap(self.position, first)
            part = self._part(Kind.HOUR, fits[0], first, mono, self.watermark)
            part.offsets.add_run(first, first + n)
            self._widen(part, fits[1], fits[2])
            part.size += rows.size
            self.watermark = fits[2] if self.watermark is None else max(self.watermark, fits[2])
            kept = [Keep(part.serial, Kind.HOUR, slice(0, n))]
        else:
            kept = self._route_each(rows, now, mono)
        self.position = max(self.position, rows.next_offset)
        self.leader_epoch = max(self.leader_epoch, rows.leader_epoch)
        return kept

    def _fits_one_hour(self, rows: Rows, now: int) -> tuple[int, int, int] | None:
        """(hour, lowest, highest time) when all rows are new, in time, in one hour, and close nothing."""
        rules = self.rules
        if self.frontier is None or self._unseen or rows.offsets[0] < self._fresh_from:
            return None
        low, high = min(rows.times), max(rows.times)
        hour = low - low % rules.window_ms
        if high >= hour + rules.window_ms or hour + rules.window_ms <= self.frontier or low < rules.min_time_ms:
            return None
        against = min(rows.kafka_times) if rules.future_against == "kafka" else now
        if high > against + rules.max_future_ms or self._closes_until(high) > self.frontier:
            return None
        return hour, low, high

    def _route_each(self, rows: Rows, now: int, mono: float) -> list[Keep]:
        groups: dict[int, tuple[OpenPart, list[int], list[Reason]]] = {}
        rules = self.rules
        average = rows.size // len(rows.offsets)
        for i, offset in enumerate(rows.offsets):
            if offset < self.position:
                self.repeats += 1
                continue
            if offset > self.position:
                self._gap(self.position, offset)
            self.position = offset + 1
            time, reason = rows.times[i], rows.rejects.get(i)
            if reason is None:
                # A record without a Kafka time (the broker's oldest format) has only the clock to be held against.
                against = rows.kafka_times[i] if rules.future_against == "kafka" else now
                against = against if against >= 0 else now
                if time < rules.min_time_ms:
                    reason = Reason.ANCIENT
                elif time > against + rules.max_future_ms:
                    reason = Reason.FUTURE
            if offset < self._fresh_from and offset in self.state.decided:
                # Replay: it has its fate, but an accepted one moves the watermark again as it did then.
                if offset not in self.state.rejected and rows.rejects.get(i) is None:
                    self._accept(time, offset, now)
                continue
            before = self.watermark
            if reason is not None:
                time = max(rows.kafka_times[i], 0)
                kind, hour = Kind.QUARANTINE, time - time % rules.window_ms
            else:
                self._accept(time, offset, now)
                hour = time - time % rules.window_ms
                kind = Kind.LATE if self._is_late(hour, offset) else Kind.HOUR
                if kind is Kind.LATE and rules.late == "drop":
                    self.dropped.add_run(offset, offset + 1)
                    continue
            part = self._part(kind, hour, offset, mono, before)
            group = groups.get(part.serial)
            if group is None:
                group = groups[part.serial] = (part, [], [])
            group[1].append(i)
            if reason is not None:
                group[2].append(reason)
                part.reasons[reason] = part.reasons.get(reason, 0) + 1
            self._widen(part, time, time)
        kept = []
        for part, picks, reasons in groups.values():
            part.offsets.add_all([rows.offsets[i] for i in picks])
            part.size += average * len(picks)
            kept.append(Keep(part.serial, part.kind, picks, reasons or None))
        return kept

    def _accept(self, time: int, offset: int, now: int) -> None:
        """Move the watermark by an accepted record and close what it closes at this offset."""
        if self._unseen:
            self._see(time)
        if self.watermark is not None and time <= self.watermark:
            return
        self.watermark = time
        until = self._closes_until(self.watermark)
        if self.frontier is None or until > self.frontier:
            self.closed.append(Closing(self.frontier, until, offset, "watermark", now))
            self.frontier = until

    def _see(self, time: int) -> None:
        """The first accepted record after a beginning says from when on hours are known whole."""
        knows = time + self.rules.lateness_ms
        self.blind = tuple(replace(blind, until=knows) if blind.until is None else blind for blind in self.blind)
        self._unseen = False

    def _closes_until(self, watermark: int) -> int:
        passed = watermark - self.rules.lateness_ms
        return passed - passed % self.rules.window_ms

    def _is_late(self, hour: int, offset: int) -> bool:
        end = hour + self.rules.window_ms
        if self.frontier is None or end > self.frontier:
            return False
        for closing in self.state.boundaries:
            if offset < closing.boundary and closing.covers(end):
                raise LedgerError(
                    f"offset {offset} belongs to an hour that entry closed at {closing.boundary} without it",
                    hint="the ledger and the log disagree; run 'logflume reconcile'",
                )
        return True

    # -- parts ------------------------------------------------------------------------------------

    def _part(self, kind: Kind, hour: int, offset: int, mono: float, before: int | None) -> OpenPart:
        part = self.open.get((kind, hour))
        if part is None:
            part = OpenPart(self._serial, kind, hour, offset, before, mono)
            self._serial += 1
            self.open[kind, hour] = part
        return part

    @staticmethod
    def _widen(part: OpenPart, low: int, high: int) -> None:
        if low < part.min_time:
            part.min_time = low
        if high > part.max_time:
            part.max_time = high

    def _gap(self, start: int, end: int) -> None:
        gap = OffsetSet.run(start, end)
        self.gaps = self.gaps | (gap - self.state.decided if self.state.decided else gap)

    def caught_up(self, position: int) -> None:
        """The broker says there is nothing below ``position``: offsets not delivered until there are gaps."""
        if position > self.position:
            self._gap(self.position, position)
            self.position = position

    @property
    def serials(self) -> int:
        """The next free serial, for a successor within the same process."""
        return self._serial

    @property
    def committed(self) -> int:
        """C as it would be if everything closed until now were decided."""
        return min((part.first for part in self.open.values()), default=self.position)

    # -- decisions --------------------------------------------------------------------------------

    def idle_until(self, now: int) -> int:
        """Until when the clock allows an idle partition to close hours."""
        passed = now - self.rules.lateness_ms - self.rules.idle_grace_ms
        return passed - passed % self.rules.window_ms

    def close_idle(self, now: int) -> bool:
        """Close by the clock what an idle partition would hold back; False when there is nothing to close.

        The caller has made sure that the broker's end offset is the position. What closes is written
        down, since a replay has no such clock.
        """
        until = self.idle_until(now)
        if self.frontier is not None and until <= self.frontier:
            return False
        # Nothing unseen can be later than the clock allows, so knowledge begins here at the latest.
        if self._unseen:
            self._see(now + self.rules.max_future_ms)
        self.closed.append(Closing(self.frontier, until, self.position, "idle", now))
        self.frontier = until
        return True

    def due(self, mono: float) -> bool:
        """Whether a round is worth cutting: an hour closed, or a part is old or large enough."""
        if self.closed:
            return True
        return any(
            mono - part.opened >= self.rules.roll_every_s or part.size >= self.rules.roll_bytes
            for part in self.open.values()
        )

    def cut(self, mono: float, *, seq: int, everything: bool = False) -> Round:
        """Close the parts that are due and say what the next entry, number ``seq``, will hold.

        Together with a closing go the last part of that hour and all late and quarantined ones: a record
        rejected by the clock must not be judged anew below a boundary that is already written. An idle
        closing and an old part take everything along, so that C arrives at the position.
        """
        idle = any(closing.reason == "idle" for closing in self.closed)
        aged = any(mono - part.opened >= self.rules.roll_every_s for part in self.open.values())
        take = [
            part
            for (kind, hour), part in self.open.items()
            if everything
            or idle
            or aged
            or part.size >= self.rules.roll_bytes
            or (kind is Kind.HOUR and self.frontier is not None and hour + self.rules.window_ms <= self.frontier)
            or (kind is not Kind.HOUR and self.closed)
        ]
        for part in take:
            del self.open[part.kind, part.hour]
        round_ = Round(tuple(take), tuple(self.closed), self.gaps, self.dropped, self._state_after(take, seq))
        self.state, self.closed, self.gaps, self.dropped = round_.state, [], OffsetSet(), OffsetSet()
        return round_

    def _unfinished(self, hours: list[int], seq: int) -> dict[int, int]:
        """From which entry on a finisher has to read for each hour it may still have to finish."""
        window, done = self.rules.window_ms, self.finished_until
        # by the last hour it closes: until that one is finished the closing has to be found
        closed = [closing.until - window for closing in self.closed]
        first = dict(self.state.unfinished)
        for hour in [*hours, *closed]:
            first.setdefault(hour, seq)
        return {hour: entry for hour, entry in first.items() if done is None or hour + window > done}

    def _state_after(self, take: list[OpenPart], seq: int) -> State:
        old = self.state
        oldest = min(self.open.values(), key=lambda part: part.first, default=None)
        committed = self.position if oldest is None else oldest.first
        decided = old.decided | self.gaps | self.dropped
        rejected = old.rejected.copy()
        for part in take:
            decided = decided | part.offsets
            if part.kind is Kind.QUARANTINE:
                rejected = rejected | part.offsets
        decided.remove_below(committed)
        rejected.remove_below(committed)
        hours = [part.hour for part in take if part.kind is Kind.HOUR]
        first_hours = hours + ([] if old.first_hour is None else [old.first_hour])
        boundaries = (*old.boundaries, *self.closed)
        return replace(
            old,
            position=max(self.position, old.position),
            committed=committed,
            watermark=self.watermark if oldest is None else oldest.watermark_before,
            seen=max((time for time in (self.watermark, old.seen) if time is not None), default=None),
            frontier=self.frontier,
            boundaries=tuple(closing for closing in boundaries if closing.boundary > committed),
            decided=decided,
            rejected=rejected,
            first_hour=min(first_hours, default=None),
            unfinished=self._unfinished(hours, seq),
            finished_until=self.finished_until,
            blind=self.blind,
            leader_epoch=self.leader_epoch,
            late=old.late + sum(len(part.offsets) for part in take if part.kind is Kind.LATE),
            quarantined=old.quarantined + sum(len(part.offsets) for part in take if part.kind is Kind.QUARANTINE),
            dropped=old.dropped + len(self.dropped),
        )
