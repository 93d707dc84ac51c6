"""One partition's records → parts, by event time; and hours closed, by watermark or by decision.

This is the heart of the promise "right hour, exactly once": a pure function of the log. What is read goes
in as columns, what to keep and where comes out as steps, and ``cut`` turns what is due into a Round for
the ledger. Times are ms UTC, ``now`` is the wall clock in ms, ``mono`` a monotonic clock in seconds.

The dual offset: an hour closes at its boundary B the moment the watermark passes its end plus the
lateness; C is the first offset of the oldest part still open, or the position when none is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from operator import sub

from logflume.core.ledger import Closing, State
from logflume.errors import LedgerError
from logflume.model import HOUR_MS, Kind, OffsetSet, Reason

#: the start of 9999: a later time has no directory name, and no clock is wrong by that much, but some units are
END_OF_TIME_MS = 253_370_764_800_000
#: more parts than this close at the next chance: each is an open file in the spool
OPEN_PARTS = 256
#: up to so many hours in a batch are picked out by a pass for each
FEW_HOURS = 8
#: what a person is told of a log that was truncated below what was decided (K9)
TRUNCATED_HINT = "records that were written to HDFS are not in Kafka any more; find out why before going on"
#: a watermark that no record brings
NEVER_MS = 1 << 62


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
    #: the watermark that makes it due: for an hour's part the middle of the lateness, unless it was opened after that
    due_ms: int
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
        self.leader_epoch = self._claimed_epoch = state.leader_epoch
        # Behind the last record of that epoch: what is not delivered (a transaction's marker) may be of a later one.
        self._delivered = state.committed
        self.finished_until = state.finished_until
        self.closed: list[Closing] = []
        self.gaps = OffsetSet()
        self.dropped = OffsetSet()
        self.repeats = 0
        self._waiting: float | None = None
        self._serial = first_serial
        # Offsets from here on were never read before, so none of them can be decided.
        self._fresh_from = state.decided.last + 1 if state.decided else 0
        self._unseen = any(blind.until is None for blind in state.blind)

    # -- records in -------------------------------------------------------------------------------

    def route(self, rows: Rows, *, now: int, mono: float) -> list[Keep]:
        """Give every row its fate. Raises LedgerError if a record contradicts a closed hour."""
        fits = self._fits_one_hour(rows, now)
        if fits is None:
            kept = self._route_each(rows, now, mono)
        else:
            hour, low, high = fits
            first, n = rows.offsets[0], len(rows.offsets)
            self._gap(self.position, first)
            part = self._part(Kind.HOUR, hour, first, mono, self.watermark)
            part.offsets.add_run(first, first + n)
            self._widen(part, low, high)
            part.size += rows.size
            self.watermark = high if self.watermark is None else max(self.watermark, high)
            self.position = first + n
            kept = [Keep(part.serial, Kind.HOUR, slice(0, n))]
        self.caught_up(rows.next_offset)
        self.leader_epoch = max(self.leader_epoch, rows.leader_epoch)
        self._delivered = max(self._delivered, rows.offsets[-1] + 1)
        return kept

    def _fits_one_hour(self, rows: Rows, now: int) -> tuple[int, int, int] | None:
        """(hour, lowest, highest time) when all rows are new, in one run, in time, in one hour, and close nothing."""
        rules, first = self.rules, rows.offsets[0]
        if rows.rejects or self.frontier is None or self._unseen or first < max(self.position, self._fresh_from):
            return None
        if rows.offsets[-1] - first != len(rows.offsets) - 1:
            return None
        low, high = min(rows.times), max(rows.times)
        hour = low - low % rules.window_ms
        if high >= hour + rules.window_ms or hour + rules.window_ms <= self.frontier or low < rules.min_time_ms:
            return None
        if high >= self._closes_next() or not self._none_future(rows, high, now):
            return None
        return hour, low, high

    def _none_future(self, rows: Rows, high: int, now: int) -> bool:
        """Whether every row is early enough, ``high`` being the latest; False may also mean: look at each."""
        latest = self.rules.max_future_ms
        if high >= END_OF_TIME_MS:
            return False
        if self.rules.future_against != "kafka":
            return high <= now + latest
        lowest = min(rows.kafka_times)
        # A single record without a Kafka time (−1) fails this, and then each is looked at.
        return high <= lowest + latest or (lowest >= 0 and max(map(sub, rows.times, rows.kafka_times)) <= latest)

    def _route_each(self, rows: Rows, now: int, mono: float) -> list[Keep]:
        """The general case: stretches of ordinary rows, between rows that need a look of their own."""
        i, n = bisect_left(rows.offsets, self.position), len(rows.offsets)
        self.repeats += i
        if i == n:
            return []
        self._pass(rows.offsets[i:])
        odd = self._odd(rows, i, now)
        kept: dict[int, Keep] = {}
        for stop in (*sorted(odd), n):
            while i < stop:
                i = self._stretch(rows, i, stop, now, mono, kept)
            if stop < n:
                self._one(rows, stop, odd[stop], now, mono, kept)
                i = stop + 1
        return list(kept.values())

    def _pass(self, offsets: Sequence[int]) -> None:
        """Move the position past these offsets; what is missing before and between them are gaps."""
        first, end = offsets[0], offsets[-1] + 1
        self._gap(self.position, first)
        if end - first != len(offsets):
            self.gaps = self.gaps | (OffsetSet.run(first, end) - OffsetSet(offsets) - self.state.decided)
        self.position = end

    def _odd(self, rows: Rows, start: int, now: int) -> dict[int, Reason | None]:
        """The rows from ``start`` on that are rejected, and why, or (replay, None) have their fate already."""
        rules, n = self.rules, len(rows.offsets)
        odd: dict[int, Reason | None] = {i: reason for i, reason in rows.rejects.items() if i >= start}
        if min(rows.times) < rules.min_time_ms or not self._none_future(rows, max(rows.times), now):
            for i in range(start, n):
                if rows.times[i] < rules.min_time_ms:
                    odd.setdefault(i, Reason.ANCIENT)
                elif rows.times[i] > self._latest(rows.kafka_times[i], now):
                    odd.setdefault(i, Reason.FUTURE)
        if rows.offsets[start] < self._fresh_from:
            again = {i: None for i in range(start, n) if rows.offsets[i] in self.state.decided}
            if again and rows.leader_epoch > self._claimed_epoch >= 0:
                # All that was decided had been read from this leader or earlier ones.
                raise LedgerError(
                    f"offset {rows.offsets[min(again)]} was decided, and another record of a later leader "
                    f"({rows.leader_epoch} after {self._claimed_epoch}) is there now: the log was truncated",
                    hint=TRUNCATED_HINT,
                )
            odd |= again
        return odd

    def _latest(self, kafka_time: int, now: int) -> int:
        """The latest event time to accept."""
        # A record without a Kafka time (the broker's oldest format) has only the clock to be held against.
        against = kafka_time if self.rules.future_against == "kafka" and kafka_time >= 0 else now
        return min(against + self.rules.max_future_ms, END_OF_TIME_MS - 1)

    def _one(self, rows: Rows, i: int, reason: Reason | None, now: int, mono: float, kept: dict[int, Keep]) -> None:
        """A row that is rejected, or decided before."""
        offset = rows.offsets[i]
        if reason is None:
            # It has its fate, but an accepted one moves the watermark again as it did then. A later time than any that
            # was seen is not the one of then: the setting of the time has changed, and this one may be any.
            self.repeats += 1
            then = self.state.seen is not None and rows.times[i] <= self.state.seen
            if then and offset not in self.state.rejected and i not in rows.rejects:
                self._accept(rows.times[i], offset, now)
            return
        time = rows.kafka_times[i] if 0 <= rows.kafka_times[i] < END_OF_TIME_MS else 0
        part = self._part(Kind.QUARANTINE, time - time % self.rules.window_ms, offset, mono, self.watermark)
        part.reasons[reason] = part.reasons.get(reason, 0) + 1
        self._widen(part, time, time)
        self._keep(part, rows, [i], kept, reason)

    def _stretch(self, rows: Rows, i: int, stop: int, now: int, mono: float, kept: dict[int, Keep]) -> int:
        """Route accepted rows from ``i`` up to ``stop`` or to the next closing; returns where it ended."""
        before, times = self.watermark, rows.times[i:stop]
        if times[0] >= self._closes_next() or self._unseen:
            times = times[:1]
            self._accept(times[0], rows.offsets[i], now)
        else:
            closes, high = self._closes_next(), max(times)
            if high >= closes:
                times = times[: next(k for k, time in enumerate(times) if time >= closes)]
                high = max(times)
            self.watermark = high if before is None else max(before, high)
        for hour, picks in self._by_hour(times).items():
            offset = rows.offsets[i + picks[0]]
            kind = Kind.LATE if self._is_late(hour, offset) else Kind.HOUR
            chosen = picks if i == 0 else [i + k for k in picks]
            if kind is Kind.LATE and self.rules.late == "drop":
                self.dropped.add_all([rows.offsets[k] for k in chosen])
                continue
            earlier = times[: picks[0]] if before is None else (before, *times[: picks[0]])
            part = self._part(kind, hour, offset, mono, max(earlier, default=None))
            own = times if len(picks) == len(times) else [times[k] for k in picks]
            self._widen(part, min(own), max(own))
            self._keep(part, rows, chosen, kept)
        return i + len(times)

    def _by_hour(self, times: Sequence[int]) -> dict[int, Sequence[int]]:
        """Hour → indexes; hours in the order of their first record."""
        window = self.rules.window_ms
        low = min(times)
        if max(times) < low - low % window + window:
            return {low - low % window: range(len(times))}
        hours = [time - time % window for time in times]
        found: dict[int, Sequence[int]] = {}
        if len(different := set(hours)) <= FEW_HOURS:
            # one pass in C for each hour: mostly there are two, alternating
            for hour in sorted(different, key=hours.index):
                found[hour] = list(compress(range(len(hours)), map(hour.__eq__, hours)))
            return found
        lists: dict[int, list[int]] = {}
        for k, hour in enumerate(hours):
            lists.setdefault(hour, []).append(k)
        return dict(lists)

    @staticmethod
    def _keep(
        part: OpenPart, rows: Rows, chosen: Sequence[int], kept: dict[int, Keep], reason: Reason | None = None
    ) -> None:
        keep = kept.get(part.serial)
        if keep is None:
            keep = kept[part.serial] = Keep(part.serial, part.kind, [], None if reason is None else [])
        if isinstance(keep.rows, list):
            keep.rows.extend(chosen)
        if keep.reasons is not None and reason is not None:
            keep.reasons.append(reason)
        part.offsets.add_all([rows.offsets[k] for k in chosen])
        part.size += rows.size // len(rows.offsets) * len(chosen)

    def _accept(self, time: int, offset: int, now: int) -> None:
        """Move the watermark by an accepted record and close what it closes at this offset."""
        # A late one is out of order by more than the lateness: it says nothing about what was not seen.
        if self._unseen and (self.frontier is None or time >= self.frontier):
            self._see(time)
        self.watermark = time if self.watermark is None else max(time, self.watermark)
        if offset < self._fresh_from:
            # What it closed then is in the ledger. A lateness that was made shorter since would close more here, below
            # offsets that were decided into those hours.
            return
        until = self._closes_until(self.watermark)
        if self.frontier is None or until > self.frontier:
            self.closed.append(Closing(self.frontier, until, offset, "watermark", now))
            self.frontier = until

    def _see(self, time: int) -> None:
        """The first accepted record after a beginning says from when on hours are known whole."""
        knows = time + self.rules.lateness_ms + 1
        self.blind = tuple(replace(blind, until=knows) if blind.until is None else blind for blind in self.blind)
        self._unseen = False

    def _closes_next(self) -> int:
        """The event time at and above which a record closes an hour."""
        if self.frontier is None:
            return self.rules.min_time_ms
        return self.frontier + self.rules.window_ms + self.rules.lateness_ms

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
                    hint="the ledger and the log disagree: run 'logflume reconcile'. If [topic.timestamp] was changed "
                    "since: set it back, start, stop in good order once all is read, and change it then",
                )
        return True

    # -- parts ------------------------------------------------------------------------------------

    def _part(self, kind: Kind, hour: int, offset: int, mono: float, before: int | None) -> OpenPart:
        part = self.open.get((kind, hour))
        if part is None:
            middle = hour + self.rules.window_ms + self.rules.lateness_ms // 2
            waits = kind is not Kind.HOUR or (before is not None and before >= middle)
            part = OpenPart(self._serial, kind, hour, offset, before, mono, NEVER_MS if waits else middle)
            self._serial += 1
            self.open[kind, hour] = part
        return part

    @staticmethod
    def _widen(part: OpenPart, low: int, high: int) -> None:
        part.min_time = min(part.min_time, low)
        part.max_time = max(part.max_time, high)

    def _gap(self, start: int, end: int) -> None:
        if start >= self._fresh_from:
            self.gaps.add_run(start, end)
        elif end > start:
            self.gaps = self.gaps | (OffsetSet.run(start, end) - self.state.decided)

    def caught_up(self, position: int) -> None:
        """The broker says there is nothing below ``position``: offsets not delivered until there are gaps."""
        if position > self.position:
            self._gap(self.position, position)
            self.position = position

    def know_finished(self, until: int | None) -> None:
        """Hours that end at or before ``until`` are finished. It never goes back: entries that led to those hours
        are no longer named, and a process that had the partition before may know less than the ledger.
        """
        if until is not None and (self.finished_until is None or until > self.finished_until):
            self.finished_until = until

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
        """Whether a round is worth cutting: an hour closed, a part is due, or there are too many."""
        if self.closed or len(self.open) > OPEN_PARTS:
            return True
        if not self.open and (self.gaps or self.dropped):
            # No part grows old here, and C has to move on all the same.
            self._waiting = mono if self._waiting is None else self._waiting
            return mono - self._waiting >= self.rules.roll_every_s
        return any(self._is_old(part, mono) or self._is_whole(part) for part in self.open.values())

    def _is_old(self, part: OpenPart, mono: float) -> bool:
        return mono - part.opened >= self.rules.roll_every_s

    def _is_whole(self, part: OpenPart) -> bool:
        """Whether a part is large enough, or its hour as good as over.

        What an hour's part holds in the middle of the lateness is decided then, and the closing has only the
        stragglers to upload. They open one more part, which waits for the closing.
        """
        return part.size >= self.rules.roll_bytes or (self.watermark is not None and self.watermark >= part.due_ms)

    def cut(self, mono: float, *, seq: int, everything: bool = False) -> Round:
        """Close the parts that are due and say what the next entry, number ``seq``, will hold.

        Together with a closing go the last part of that hour and all late and quarantined ones: a record
        rejected by the clock must not be judged anew below a boundary that is already written. An idle
        closing, an old part, and too many parts take everything along, so that C arrives at the position.
        """
        everything = everything or len(self.open) > OPEN_PARTS
        idle = any(closing.reason == "idle" for closing in self.closed)
        aged = any(self._is_old(part, mono) for part in self.open.values())
        take = [
            part
            for (kind, hour), part in self.open.items()
            if everything
            or idle
            or aged
            or self._is_whole(part)
            or (kind is Kind.HOUR and self.frontier is not None and hour + self.rules.window_ms <= self.frontier)
            or (kind is not Kind.HOUR and self.closed)
        ]
        for part in take:
            del self.open[part.kind, part.hour]
        round_ = Round(tuple(take), tuple(self.closed), self.gaps, self.dropped, self._state_after(take, seq))
        self.state, self.closed, self.gaps, self.dropped = round_.state, [], OffsetSet(), OffsetSet()
        self._waiting = None
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
            leader_epoch=self.leader_epoch if committed <= self._delivered else -1,
            late=old.late + sum(len(part.offsets) for part in take if part.kind is Kind.LATE),
            quarantined=old.quarantined + sum(len(part.offsets) for part in take if part.kind is Kind.QUARANTINE),
            dropped=old.dropped + len(self.dropped),
        )
