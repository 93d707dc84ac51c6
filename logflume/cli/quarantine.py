"""``logflume quarantine``"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from logflume import config, log
from logflume.cli import jobs
from logflume.cli.options import config_option, json_option
from logflume.core import layout
from logflume.errors import UsageError
from logflume.model import Reason
from logflume.quarantine.read import Quarantined, for_people, records
from logflume.quarantine.reinject import Result, reinject
from logflume.quarantine.summary import Group, by_reason
from logflume.reconcile.lock import only_one


@click.command("quarantine")
@click.argument("topic")
@config_option
@click.option("--from", "since", type=jobs.hour, metavar="HOUR", help="No hours (of Kafka's time) before this one.")
@click.option("--to", "until", type=jobs.hour, metavar="HOUR", help="Only hours before this one.")
@click.option(
    "--reason", "reasons", type=click.Choice([*map(str, Reason)]), multiple=True, help="Only this one; may be repeated."
)
@click.option("--samples", type=click.IntRange(0, 1000), default=3, show_default=True, help="Shown of each reason.")
@click.option("--reinject", "again", is_flag=True, help="Run them again through the configuration, into the late tree.")
@click.option("--into", metavar="URL", help="With --reinject: into the late tree of this root, which counts by itself.")
@click.option("--dry-run", is_flag=True, help="With --reinject: say what would become of them; change nothing.")
@jobs.deadline_option
@json_option
def command(
    topic: str,
    path: str,
    since: int | None,
    until: int | None,
    reasons: tuple[str, ...],
    samples: int,
    again: bool,
    into: str | None,
    dry_run: bool,
    deadline: int,
    as_json: bool,
) -> None:
    """List what could not be placed, by reason, or run it again.

    Without --reinject it counts the records of the topic's quarantine by reason and shows samples, as text with
    everything unprintable escaped; nothing is changed.

    --reinject gives each record to the configuration as it is now: with another field or unit of time, a larger
    max_future or max_record_bytes. Those that it accepts are written into the late tree of their own hour, each
    exactly once however often this is run or killed; which ones is on record beside the ledger. Those that
    fail again stay. What lies in the quarantine is never changed.

    \b
    Exit codes:
      0   done, also if all failed again
      6   a file in the quarantine is damaged
      8   a file that an earlier run wrote has another length now, or the window is not that of the ledger
      12  another run is at work
      3, 4, 5  the store does not answer, or refuses

    \b
    Examples:
      logflume quarantine app -c logflume.toml --from 2026-11-22T00
      logflume quarantine app -c logflume.toml --reason bad_time --json | jq '.reasons[].samples[].value'
      logflume quarantine app -c logflume.toml --reason future --reinject --dry-run
      logflume quarantine app -c logflume.toml --reinject --into hdfs://namenode:8020/logs-mended
    """
    settings = config.load(path)
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    configured = settings.topic_for(topic)
    if configured is None:
        raise UsageError(f"no [[topic]] of {path} means {topic!r}")
    if (into is not None or dry_run) and not again:
        raise UsageError("--into and --dry-run belong to --reinject")
    store = jobs.open_root(settings)
    filtered = bool(reasons) or since is not None or until is not None

    def read() -> Iterator[Quarantined]:
        return records(store, topic, configured.window_ms, since_ms=since, until_ms=until)

    def wanted(found: Iterable[Quarantined]) -> Iterator[Quarantined]:
        return (one for one in found if not reasons or one.reason in reasons)

    with jobs.job("quarantine", deadline, topic=topic, reinject=again, dry_run=dry_run) as result:
        if not again:
            jobs.topic_ids(store, topic)  # raises for a mistyped topic that a pattern means
            groups = by_reason(wanted(read()), samples)
            result |= {"records": sum(group.count for group in groups)}
            click.echo(
                _groups_json(topic, groups, configured.window_ms)
                if as_json
                else _groups_text(groups, configured.window_ms, filtered=filtered)
            )
            return
        with only_one(Path(settings.daemon.spool), settings.output.root, settings.daemon.zookeeper):
            target = store if into is None else jobs.open_root(settings, into)
            ids, done, now_ms = jobs.topic_ids(store, topic), Result(), time.time_ns() // 1_000_000
            for topic_id in ids:
                own = wanted(_of_id(read(), topic_id, ids))
                done += reinject(target, topic, topic_id, configured, own, now_ms=now_ms, dry_run=dry_run)
        result |= {"taken": done.taken, "failed_again": sum(done.again.values())}
    click.echo(_result_json(topic, done, dry_run=dry_run) if as_json else _result_text(done, dry_run=dry_run))


def _of_id(found: Iterable[Quarantined], topic_id: str, ids: Sequence[str]) -> Iterator[Quarantined]:
    """Records of one id: of a topic that was re-created, the names of their files tell."""
    marks = {layout.id_mark(one) for one in ids}
    for one in found:
        mark = layout.mark_of(one.path.rsplit("/", 1)[1])
        if len(ids) > 1 and mark not in marks:
            raise UsageError(
                f"{one.path} does not say of which id of the topic it is; there are {', '.join(ids)}",
                hint="move it away, and put it back when the others are reinjected",
            )
        if len(ids) == 1 or mark == layout.id_mark(topic_id):
            yield one


def _groups_json(topic: str, groups: Sequence[Group], window_ms: int) -> str:
    """A contract: keys are added, never changed. Hours are those of Kafka's time."""
    body = {
        "topic": topic,
        "records": sum(group.count for group in groups),
        "reasons": [
            {
                "reason": group.reason,
                "records": group.count,
                "partitions": sorted(group.partitions),
                "first_hour": layout.hour_name(group.first_hour, window_ms),
                "last_hour": layout.hour_name(group.last_hour, window_ms),
                "samples": [
                    {
                        "partition": one.partition,
                        "offset": one.offset,
                        "timestamp": one.time,
                        "key": None if one.key is None else for_people(one.key, 10_000),
                        "value": None if one.value is None else for_people(one.value, 10_000),
                        "path": one.path,
                    }
                    for one in group.samples
                ],
            }
            for group in groups
        ],
    }
    return json.dumps(body, indent=2)


def _groups_text(groups: Sequence[Group], window_ms: int, *, filtered: bool) -> str:
    if not groups:
        return "nothing is quarantined" + (" that these options mean" if filtered else "")
    lines = []
    for group in groups:
        first, last = (layout.hour_name(hour, window_ms) for hour in (group.first_hour, group.last_hour))
        partitions = len(group.partitions)
        lines.append(f"{group.reason:<16} {group.count:>9} records of {partitions} partitions, {first} to {last}")
        lines += [f"    {one.partition}:{one.offset}  {for_people(one.value)}" for one in group.samples]
    return "\n".join(lines)


def _result_json(topic: str, done: Result, *, dry_run: bool) -> str:
    """A contract: keys are added, never changed."""
    body = {
        "topic": topic,
        "dry_run": dry_run,
        "reinjected": done.taken,
        "reinjected_before": done.before,
        "failed_again": dict(done.again),
        "files": done.files,
        "files_of_a_run_that_died": done.resumed,
    }
    return json.dumps(body, indent=2)


def _result_text(done: Result, *, dry_run: bool) -> str:
    verb = "would be run again" if dry_run else "were run again"
    lines = [f"{done.taken} records {verb}" + (f", into {len(done.files)} files" if done.files else "")]
    if done.before:
        lines.append(f"{done.before} were so by an earlier run")
    lines += [f"{count} fail again: {reason}" for reason, count in done.again.most_common()]
    return "\n".join(lines)
