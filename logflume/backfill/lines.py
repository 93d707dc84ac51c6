"""From batches to lines of open parts, as the daemon writes them, for the hours that are wanted."""

from __future__ import annotations

from dataclasses import replace

from logflume.backfill.model import Span
from logflume.core.router import Round, Rows, Rules
from logflume.model import Kind


def limited(rows: Rows, span: Span | None, rules: Rules, now: int) -> Rows:
    """Times behind the span as if they were just so late that they close its last hour: the records close the hours
    that were asked for where they always would, and never one behind them.

    Those that are too far in the future to be accepted stay as they are.
    """
    if span is None or not rows.times:
        return rows
    last = span.until + rules.lateness_ms
    if max(rows.times) <= last:
        return rows
    kafka = rules.future_against == "kafka"

    def at_most(time: int, kafka_time: int) -> int:
        against = kafka_time if kafka and kafka_time >= 0 else now
        return time if time <= last or time > against + rules.max_future_ms else last

    times = [at_most(time, kafka_time) for time, kafka_time in zip(rows.times, rows.kafka_times, strict=True)]
    return replace(rows, times=times)


def within(round_: Round, span: Span | None) -> Round:
    """A round without the parts of hours outside of the span; their offsets are counted as dropped."""
    if span is None:
        return round_
    outside = [part for part in round_.parts if not span.has(part.hour)]
    dropped = round_.dropped.copy()
    for part in outside:
        dropped = dropped | part.offsets
    count = {kind: sum(len(part.offsets) for part in outside if part.kind is kind) for kind in Kind}
    state = replace(
        round_.state,
        # the first hour that gets a marker, with records or without
        first_hour=span.since,
        late=round_.state.late - count[Kind.LATE],
        quarantined=round_.state.quarantined - count[Kind.QUARANTINE],
        dropped=round_.state.dropped + sum(count.values()),
    )
    return replace(
        round_, parts=tuple(part for part in round_.parts if span.has(part.hour)), dropped=dropped, state=state
    )
