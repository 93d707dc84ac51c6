"""``logflume backfill``"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from logflume import config, log, units
from logflume.cli.options import config_option, json_option
from logflume.config import Config, TopicConfig
from logflume.core import layout
from logflume.errors import Incomplete, UsageError

#: for the plan: a look-up by time of each partition, and some records
PLAN_DEADLINE_S = 180.0
#: for a repair's look, which reads the files of the range
LOOK_DEADLINE_S = 4 * 3600.0
#: seconds between two log lines about progress, where there is no terminal
LINE_EVERY_S = 10.0
PROCESSES = 2

Tell = Callable[[int], None]


@click.command("backfill")
@config_option
@click.option("--topic", metavar="NAME", help="The topic; needed where the configuration has more than one.")
@click.option("--from", "since", metavar="HOUR", help="First hour, UTC, such as 2026-11-20T00.")
@click.option("--to", "until", metavar="HOUR", help="The hour after the last one.")
@click.option("--hours", metavar="HOUR,…", help="These hours, as 'logflume reconcile' names them.")
@click.option(
    "--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this one; may be repeated."
)
@click.option("--offsets", metavar="A-B", help="Offsets A to B, both included, of the one --partition.")
@click.option("--into", metavar="ROOT", help="Replay: write a tree of its own below this URL, with its own ledger.")
@click.option(
    "--repair", is_flag=True, help="Bring back decided files that are gone or damaged, in the configured root."
)
@click.option(
    "--engine", type=click.Choice(["local", "spark"]), default="local", show_default=True, help="What runs the splits."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=PROCESSES,
    show_default=True,
    help="At once, with the local engine.",
)
@click.option("--margin", default="1h", show_default=True, help="How long past --to to read for late records.")
@click.option("--spool", metavar="DIR", help="Local directory of open parts; daemon.spool unless given.")
@click.option("--dry-run", is_flag=True, help="Say what would be read, and do nothing.")
@json_option
def command(path: str, as_json: bool, **options: Any) -> None:
    """Ingest a bounded range of a topic again, beside the daemon.

    Kafka is read by assignment: no group is joined, no offset is committed, and the daemon's ledger is only
    read. --into replays the range into a tree of its own, by the same rules as the daemon; hours for which
    the range cannot vouch get _INCOMPLETE. Without a range that is everything there is. --repair writes
    again what the ledger says was decided, exactly those offsets, and whose file is gone or damaged.

    Killed at any moment, the same command goes on where it was; once it is through it finds nothing
    to do. Exit code 8: a file was moved meanwhile, or its records are lost; 9: done, and an hour that was
    asked for may miss records, or something is left, or nothing is known of what was asked for; 12:
    reconcile, compact or another repair is at work, and nothing was done.

    \b
    Examples:
      logflume backfill -c logflume.toml --into hdfs://nn:8020/replay --from 2026-11-20T00 --to 2026-11-21T00
      logflume backfill -c new.toml --topic app --into file:///srv/replay --partition 3 --offsets 1000-1999
      logflume backfill -c logflume.toml --topic app --partition 3 --offsets 1000-1999 --repair
      logflume backfill -c logflume.toml --repair --hours 2026-11-20T07,2026-11-20T09 --dry-run
      logflume backfill -c logflume.toml --into hdfs://nn:8020/replay --engine spark
    """
    settings = config.load(path)
    topic = _topic(settings, options["topic"])
    if options["repair"] == (options["into"] is not None):
        raise UsageError("exactly one of --into and --repair must be given")
    if options["repair"]:
        _repair(settings, topic, as_json, options)
    else:
        _replay(settings, topic, as_json, options)


# -- replay ---------------------------------------------------------------------------------------


def _replay(settings: Config, topic: str, as_json: bool, options: dict[str, Any]) -> None:
    # loaded here, so that --help is quick
    from logflume.backfill import run  # noqa: PLC0415
    from logflume.backfill.model import Request  # noqa: PLC0415
    from logflume.daemon.process import apart  # noqa: PLC0415

    rules = _rules(settings, topic)
    root = _root(options["into"], settings)
    span = _span(options, rules)
    offsets = _offsets(options)
    if span is not None and offsets is not None:
        raise UsageError("--offsets, or hours: not both")
    try:
        margin_ms = units.parse_duration(options["margin"])
    except ValueError as error:
        raise UsageError(f"--margin {options['margin']!r}: {error}") from None
    request = Request(topic, span, tuple(sorted(set(options["partitions"]))), offsets, margin_ms)
    job = _job(settings, root, topic, options)
    plan, size = apart(PLAN_DEADLINE_S, run.prepare, job, request)
    body: dict[str, Any] = {
        "target": "replay",
        "topic": topic,
        "topic_id": plan.topic_id,
        "root": root,
        "dry_run": options["dry_run"],
        "records_expected": plan.records,
        "bytes_expected": size,
        "ranges": [[one.pid.partition, one.start, one.end - 1] for one in plan.splits if one.records],
    }
    if not as_json:
        _say_plan(body)
    if options["dry_run"]:
        if as_json:
            click.echo(json.dumps(body, indent=1))
        return
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    engine: run.Engine = run.local_engine
    if options["engine"] == "spark":
        from logflume.backfill import spark  # noqa: PLC0415

        engine = spark.engine
    with _progress(plan.records, as_json) as tell:
        done = run.replay(job, plan, engine, options["processes"], tell)
    body |= {
        "seconds": done.seconds,
        "already": all(one.already for one in done.manifests),
        "parts": sum(one.parts for one in done.manifests),
        "records": sum(one.records for one in done.manifests),
        "bytes": sum(one.bytes for one in done.manifests),
        "hours": {"complete": done.hours.complete, "incomplete": done.hours.incomplete},
    }
    if as_json:
        click.echo(json.dumps(body, indent=1))
    else:
        what = "nothing was left to do" if body["already"] else f"{body['records']} records in {body['parts']} parts"
        click.echo(f"{what}; {done.hours.complete} hours complete, {done.hours.incomplete} not, {done.seconds:g} s")
    if span is not None and done.hours.incomplete:
        raise Incomplete(
            f"{done.hours.incomplete} of the hours have _INCOMPLETE, which says why",
            hint="offsets were lost before they were read, or the hour was not over: replay later, into another root",
        )


def _say_plan(body: dict[str, Any]) -> None:
    for partition, first, last in body["ranges"]:
        click.echo(f"  partition {partition}: offsets {first} to {last}, {last - first + 1} records")
    size = units.show_size(max(body["bytes_expected"], 0) // 1024 * 1024) if body["bytes_expected"] >= 1024 else ""
    click.echo(
        f"{body['topic']} into {body['root']}: at most {body['records_expected']} records"
        + (f", about {size} before compression" if size else "")
    )


# -- repair ---------------------------------------------------------------------------------------


def _repair(settings: Config, topic: str, as_json: bool, options: dict[str, Any]) -> None:
    # loaded here, so that --help is quick
    from logflume.backfill.look import Wanted  # noqa: PLC0415
    from logflume.reconcile.lock import only_one  # noqa: PLC0415

    if options["engine"] != "local":
        raise UsageError("--repair runs with the local engine: what it writes is little")
    hours = tuple(_hours(options, _rules(settings, topic)) or ())
    wanted = Wanted(topic, hours, tuple(sorted(set(options["partitions"]))), _offsets(options))
    job = _job(settings, settings.output.root, topic, options)
    # compact and reconcile move the very files
    with only_one(Path(settings.daemon.spool), settings.output.root, settings.daemon.zookeeper):
        _repair_alone(settings, job, wanted, as_json, options)


def _repair_alone(settings: Config, job: Any, wanted: Any, as_json: bool, options: dict[str, Any]) -> None:
    from logflume.backfill import repair  # noqa: PLC0415
    from logflume.backfill.look import partition_of  # noqa: PLC0415
    from logflume.daemon.process import apart  # noqa: PLC0415

    found = apart(LOOK_DEADLINE_S, repair.look, job, wanted)
    mends = found.mends
    bad = [mend.parts[i] for mend in mends for i in mend.bad]
    body: dict[str, Any] = {
        "target": "repair",
        "topic": wanted.topic,
        "root": job.root,
        "dry_run": options["dry_run"],
        "records_expected": sum(part.count for part in bad),
        "bytes_expected": sum(part.raw for part in bad),
        "ranges": sorted([partition_of(part), part.offsets.first, part.offsets.last] for part in bad),
        "files": [mend.path for mend in mends],
        "hours_to_mark": [layout.hour_name(plan.hour, plan.window_ms) for plan in found.plans],
        "skipped": list(found.skipped),
        "looked": found.looked,
    }
    if not as_json:
        _say_repair(body)
    if options["dry_run"]:
        if as_json:
            click.echo(json.dumps(body, indent=1))
        _refuse_rest(found.skipped, ())
        return
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    with _progress(body["records_expected"], as_json) as tell:
        done = repair.repair(job, found, options["processes"], tell)
    body |= {
        "seconds": done.seconds,
        "already": not mends and not found.plans,
        "parts": sum(one.parts for one in done.mended),
        "records": sum(one.records for one in done.mended),
        "bytes": sum(one.bytes for one in done.mended),
        "amended": sum(one.amended for one in done.mended),
        "unmarked": list(done.unmarked),
    }
    if as_json:
        click.echo(json.dumps(body, indent=1))
    elif mends or found.plans:
        marked = f", {done.marked} hours marked that were left" if found.plans else ""
        click.echo(f"{len(done.mended)} files mended, {body['records']} records read again{marked}, {done.seconds:g} s")
        for path in done.unmarked:
            click.echo(f"  {path}: still without its marker")
    _refuse_rest(found.skipped, done.unmarked)


def _refuse_rest(skipped: Sequence[str], unmarked: Sequence[str]) -> None:
    if skipped:
        raise Incomplete(
            f"not looked at, since a compaction was begun and is not done: {', '.join(skipped)}",
            hint="run 'logflume reconcile --repair', then this again",
        )
    if unmarked:
        raise Incomplete(
            f"still without their marker: {', '.join(unmarked)}",
            hint="another file of the hour is wrong: run this without --partition and --offsets, or see the log",
        )


def _say_repair(body: dict[str, Any]) -> None:
    for path in body["files"]:
        click.echo(f"  {path}")
    for partition, first, last in body["ranges"]:
        click.echo(f"  partition {partition}: offsets {first} to {last}")
    for hour in body["hours_to_mark"]:
        click.echo(f"  hour {hour}: its marker is to be put, which an earlier run had left")
    for path in body["skipped"]:
        click.echo(f"  {path}: a compaction of it is not done")
    if body["files"]:
        click.echo(f"{len(body['files'])} files to mend in {body['root']}: {body['records_expected']} records")
    elif not body["hours_to_mark"] and not body["skipped"]:
        click.echo(f"{body['looked']} decided parts looked at, and all are as they were decided: nothing to do")


# -- options --------------------------------------------------------------------------------------


def _topic(settings: Config, name: str | None) -> str:
    names = [topic.name for topic in settings.topics if topic.name is not None]
    if name is None:
        if len(names) != 1 or len(settings.topics) != 1:
            raise UsageError("which topic? give --topic")
        return names[0]
    if settings.topic_for(name) is None:
        raise UsageError(f"no [[topic]] of the configuration means {name!r}")
    return name


def _rules(settings: Config, topic: str) -> TopicConfig:
    found = settings.topic_for(topic)
    if found is None:
        raise UsageError(f"no [[topic]] of the configuration means {topic!r}")
    return found


def _root(text: str, settings: Config) -> str:
    try:
        root = units.normal_root(text)
    except ValueError as error:
        raise UsageError(f"--into {text!r}: must be {error}") from None
    if root == settings.output.root:
        raise UsageError("--into must not be the configured root: the daemon writes there")
    return root


def _job(settings: Config, root: str, topic: str, options: dict[str, Any]) -> Any:
    from logflume.backfill.model import Job  # noqa: PLC0415

    return Job(settings, root, topic, uuid.uuid4().hex[:8], options["spool"] or settings.daemon.spool)


def _hour(text: str, rules: TopicConfig) -> int:
    try:
        hour = layout.parse_hour_name(text if "T" in text else f"{text}T00")
    except ValueError:
        raise UsageError(f"{text!r} is not an hour such as 2026-11-20T07 (UTC)") from None
    if hour % rules.window_ms:
        raise UsageError(f"{text} is not the start of a window of {units.show_duration(rules.window_ms)}")
    return hour


def _hours(options: dict[str, Any], rules: TopicConfig) -> list[int] | None:
    """All hours that were asked for by --hours, or by --from and --to; None where neither is given."""
    if options["hours"] is not None:
        if options["since"] is not None or options["until"] is not None:
            raise UsageError("--hours, or --from and --to: not both")
        return sorted({_hour(name, rules) for name in options["hours"].split(",")})
    if (options["since"] is None) != (options["until"] is None):
        raise UsageError("--from and --to belong together")
    if options["since"] is None:
        return None
    since, until = _hour(options["since"], rules), _hour(options["until"], rules)
    if since >= until:
        raise UsageError(f"--to {options['until']} is not after --from {options['since']}")
    return list(range(since, until, rules.window_ms))


def _span(options: dict[str, Any], rules: TopicConfig) -> Any:
    from logflume.backfill.model import Span  # noqa: PLC0415

    hours = _hours(options, rules)
    if hours is None:
        return None
    span = Span(hours[0], hours[-1] + rules.window_ms)
    if len(hours) != (span.until - span.since) // rules.window_ms:
        raise UsageError("with --into the hours must follow each other", hint="give each stretch a root of its own")
    return span


def _offsets(options: dict[str, Any]) -> tuple[int, int] | None:
    """[first, end)"""
    if options["offsets"] is None:
        return None
    found = re.fullmatch(r"(\d{1,18})-(\d{1,18})", options["offsets"], re.ASCII)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageError(f"--offsets {options['offsets']!r}: must be A-B, such as 1000-1999")
    if len(options["partitions"]) != 1:
        raise UsageError("--offsets needs exactly one --partition")
    return int(found[1]), int(found[2]) + 1


# -- progress -------------------------------------------------------------------------------------


@contextmanager
def _progress(records: int, as_json: bool) -> Iterator[Tell]:
    """A bar with rate and time left on a terminal, log lines elsewhere."""
    import time  # noqa: PLC0415

    began = time.monotonic()
    done = 0
    if sys.stderr.isatty() and not as_json:
        with click.progressbar(length=records, file=sys.stderr, show_pos=True, item_show_func=lambda rate: rate) as bar:

            def draw(offsets: int) -> None:
                nonlocal done
                done += offsets
                bar.update(offsets, f"{done / max(time.monotonic() - began, 0.001):,.0f}/s")

            yield draw
        return
    logger, last = log.get(__name__), began

    def line(offsets: int) -> None:
        nonlocal done, last
        done += offsets
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            rate = done / (now - began)
            left = round((records - done) / rate) if rate else None
            logger.info("backfill goes on", done=done, of=records, per_second=round(rate), seconds_left=left)
            last = now

    yield line
