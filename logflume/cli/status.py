"""``logflume status``"""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from logflume import config
from logflume.cli.options import config_option, json_option
from logflume.core.layout import hour_name
from logflume.daemon.process import apart
from logflume.errors import UsageError
from logflume.status.ledger import Cause, HourStatus, PartitionStatus, Status, TopicStatus, Wait, gather
from logflume.units import show_duration, show_instant

#: many partitions of a large topic on a slow NameNode; without it a server that hangs would hang this too
DEADLINE_S = 300.0
#: partitions that an hour waits for by name; the rest are counted
SHOWN = 8


@click.command("status")
@config_option
@click.option("--topic", metavar="NAME", help="Only this topic.")
@click.option(
    "--hours", type=click.IntRange(1, 1000), default=6, show_default=True, help="How many recent hours to tell."
)
@json_option
def command(path: str, topic: str | None, hours: int, as_json: bool) -> None:
    """Say how far each partition is, and what each hour waits for.

    It is read from the ledgers on the store, so it works while the daemon is down and from any host, and
    it changes nothing. Where Kafka answers, the lag is told too, and which partitions have lost offsets.
    What a daemon has read and not decided yet is not in the ledgers, nor is what else stops a partition, such
    as a file in the way: see its own page, 'daemon.http'.

    C is the offset a restart reads from, B the one at which the last closed hour was closed.

    \b
    Examples:
      logflume status -c logflume.toml
      logflume status -c logflume.toml --topic app --hours 24
      logflume status -c logflume.toml --json | jq '.topics[].hours[] | select(.state == "waiting")'
    """
    settings = config.load(path)
    if topic is not None and settings.topic_for(topic) is None:
        raise UsageError(f"no [[topic]] of {path} means {topic!r}")
    found = apart(DEADLINE_S, gather, settings, topic, hours)
    click.echo(_json(found) if as_json else _text(found, settings.output.root))


# -- for programs ---------------------------------------------------------------------------------


def _json(status: Status) -> str:
    """A contract: keys are added, never changed. Times are ms since 1970 UTC."""
    body = {
        "kafka": {"reachable": not status.kafka_error, "error": status.kafka_error},
        "topics": [
            {
                "topic": one.topic,
                "topic_id": one.topic_id,
                "window_ms": one.window_ms,
                "lateness_ms": one.lateness_ms,
                "notes": list(one.notes),
                "partitions": [_partition_json(partition, one.window_ms) for partition in one.partitions],
                "hours": [_hour_json(hour, one.window_ms) for hour in one.hours],
            }
            for one in status.topics
        ],
    }
    return json.dumps(body, indent=2)


def _partition_json(one: PartitionStatus, window_ms: int) -> dict[str, object]:
    return {
        "partition": one.partition,
        "committed": one.committed,
        "boundary": one.boundary,
        "position": one.position,
        "end": one.end,
        "lag": one.lag,
        "watermark_ms": one.watermark,
        "closed_until_ms": one.closed_until,
        "open_hours": [hour_name(hour, window_ms) for hour in one.open_hours],
        "owner": one.owner,
        "decided_at_ms": one.decided_at,
        "trouble": one.trouble,
        "hint": one.hint,
    }


def _hour_json(one: HourStatus, window_ms: int) -> dict[str, object]:
    return {
        "hour": hour_name(one.hour, window_ms),
        "start_ms": one.hour,
        "state": one.state,
        "records": one.records,
        "files": one.files,
        "reasons": list(one.reasons),
        "waits": [{"partition": wait.partition, "cause": wait.cause, "why": wait.why} for wait in one.waits],
    }


# -- for people -----------------------------------------------------------------------------------


def _text(status: Status, root: str) -> str:
    blocks = [_topic_text(one) for one in status.topics]
    if not blocks:
        hint = "is output.root right, and does the daemon run? 'logflume check -c CONFIG' names the topics it reads"
        blocks = [f"no topic has a ledger below {root} yet\nhint: {hint}"]
    if status.kafka_error:
        blocks.insert(0, f"Kafka does not answer, so lag is not known: {status.kafka_error}")
    return "\n\n".join(blocks)


def _topic_text(topic: TopicStatus) -> str:
    lines = [f"topic {topic.topic}  (id {topic.topic_id or 'unknown'})", *(f"  note: {note}" for note in topic.notes)]
    if topic.partitions:
        head = ("partition", "C", "B", "position", "lag", "watermark", "closed until", "open hours")
        rows = [_partition_row(one, topic.window_ms) for one in topic.partitions]
        lines += ["", *_table(head, rows, numbers=5)]
        for one in topic.partitions:
            lines += [f"  {one.partition} is stopped: {one.trouble}"] if one.trouble else []
            lines += [f"    hint: {one.hint}"] if one.hint else []
    if topic.hours:
        lateness = show_duration(topic.lateness_ms)
        hour = f"hour of {show_duration(topic.window_ms)} + {lateness}"
        hours = [_hour_row(one, topic.window_ms) for one in topic.hours]
        lines += ["", *_table((hour, "records", "files", "state", ""), hours, numbers=3)]
    return "\n".join(lines)


def _partition_row(one: PartitionStatus, window_ms: int) -> Sequence[str]:
    offsets = [_number(n) for n in (one.committed, one.boundary, one.position, one.lag)]
    watermark = "-" if one.watermark is None else show_instant(one.watermark)
    closed = "-" if one.closed_until is None else show_instant(one.closed_until)
    hours = " ".join(hour_name(hour, window_ms) for hour in one.open_hours[-3:])
    more = f" (of {len(one.open_hours)})" if len(one.open_hours) > 3 else ""
    return (str(one.partition), *offsets, watermark, closed, (hours + more) or "-")


def _hour_row(one: HourStatus, window_ms: int) -> Sequence[str]:
    why = "; ".join(one.reasons) if one.reasons else _waits(one.waits)
    return (hour_name(one.hour, window_ms), _number(one.records), _number(one.files), one.state, why)


def _waits(waits: Sequence[Wait]) -> str:
    """Which partitions, and in words why the first one of each cause."""
    texts = []
    for cause in Cause:
        alike = [wait for wait in waits if wait.cause is cause]
        if alike:
            numbers = " ".join(str(wait.partition) for wait in alike[:SHOWN])
            more = f" and {len(alike) - SHOWN} more" if len(alike) > SHOWN else ""
            texts.append(f"for {numbers}{more}: {alike[0].why}")
    return "; ".join(texts)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> list[str]:
    """Aligned columns; the first ``numbers`` hold numbers (all but the very first to the right)."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if 0 < i < numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return ("  " + "  ".join(cells)).rstrip()

    return [line(head), *map(line, rows)]
