"""``logflume locate``"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from logflume import commit, config, log
from logflume.cli import jobs
from logflume.cli.options import config_option, json_option
from logflume.config import Config
from logflume.errors import Incomplete, UsageError
from logflume.locate.paths import locate_file, locate_time, relative
from logflume.locate.plan import Answer, Fate, Shown
from logflume.locate.run import locate_offset, topic_ids
from logflume.model import PartitionId
from logflume.store import Store
from logflume.units import parse_instant, show_instant


@click.command("locate")
@config_option
@click.argument("topic", required=False)
@click.argument("partition", required=False, type=click.IntRange(min=0))
@click.argument("offset", required=False, type=click.IntRange(min=0))
@click.option("--time", "moment", metavar="TIME", help="Instead of an offset: an event time, as 2026-11-22T07:15:00Z.")
@click.option("--file", "file", metavar="PATH", help="Instead of a topic: a file, relative to the root, or its URL.")
@click.option("--topic-id", metavar="ID", help="Of a topic that was re-created: which one; the latest by default.")
@jobs.deadline_of("10m")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    path: str,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    moment: str | None,
    file: str | None,
    topic_id: str | None,
    deadline: int,
    as_json: bool,
) -> None:
    """Find the file that has an offset.

    Says which file holds it and where in it, whether the file shows, which entry of the ledger decided it,
    and why it is there: in time, late, quarantined (with the reason), a gap, dropped, or not decided yet.
    Where the entry is older than 'ledger_retention', the manifests of the hours are asked.

    With --time: the hour of an event time and the files that may have it, also late and appended ones, of
    which only those that were compacted tell their times; the others are all named. Not searched are the
    quarantine, which is by Kafka's time (see 'logflume quarantine'), and parts that are not published yet.
    With --file: what a file is.

    Reads only; works without Kafka and while the daemon is down. About 50 small calls
    for a year of ledger. The exit code is 9 where no file has it; with --time, where none may have it;
    with --file, where that file is not there, and no other has taken its records over, or nothing says
    that it is logflume's.

    \b
    Examples:
      logflume locate -c logflume.toml app 3 123456
      logflume locate -c logflume.toml app --time 2026-11-22T07:15:00Z
      logflume locate -c logflume.toml --file app/dt=2026-11-22/hour=07/app-00000-of-00001.json.gz
      logflume locate -c logflume.toml app 3 123456 --json | jq .place
    """
    settings = config.load(path)
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    with jobs.job("locate", deadline, root=settings.output.root) as result:
        body, text, found = _locate(settings, topic, partition, offset, moment, file, topic_id)
        result |= {"found": found}
    click.echo(json.dumps(body, indent=2) if as_json else text)
    ctx.exit(0 if found else Incomplete.exit_code)


def _locate(
    settings: Config,
    topic: str | None,
    partition: int | None,
    offset: int | None,
    moment: str | None,
    file: str | None,
    topic_id: str | None,
) -> tuple[dict[str, Any], str, bool]:
    """JSON, text, and whether there is a file."""
    if (file is not None) + (moment is not None) + (offset is not None) != 1:
        raise UsageError("give TOPIC PARTITION OFFSET, or TOPIC with --time, or --file")
    store = jobs.open_root(settings)
    if file is not None:
        if topic is not None:
            raise UsageError("--file needs no TOPIC")
        body = locate_file(store, relative(store, file))
        return _plain(body), _file_text(body), _is_found(body)
    if topic is None:
        raise UsageError("--time needs a TOPIC")
    ids = topic_ids(store, topic)
    chosen = topic_id or ids[-1]
    if chosen not in ids:
        raise UsageError(f"topic {topic} has no ledger of id {chosen}; there are {', '.join(ids)}")
    configured = settings.topic_for(topic)
    if moment is not None:
        return _moment(store, topic, chosen, moment, partition)
    answer = locate_offset(store, PartitionId(topic, chosen, partition or 0), offset or 0, configured)
    answer.also = [one for one in ids if one != chosen]
    return asdict(answer), _answer_text(answer), _has_place(answer)


def _is_found(body: dict[str, Any]) -> bool:
    """Whether a file is there and ours; a part may be in the file that it was merged into."""
    answer = body["answer"]
    return body["is"] != "unknown" and (body["there"] or (answer is not None and _has_place(answer)))


def _has_place(answer: Answer) -> bool:
    return answer.place is not None and answer.place.shown is not Shown.MISSING


def _moment(
    store: Store, topic: str, topic_id: str, moment: str, partition: int | None
) -> tuple[dict[str, Any], str, bool]:
    try:
        time_ms = parse_instant(moment)
    except ValueError as error:
        raise UsageError(f"--time {moment!r} is not {error}") from None
    chains = commit.chains(store, topic, topic_id)
    head = commit.read_head(store, chains[0])
    if head is None:
        raise UsageError(f"{chains[0]} has no ledger below {store.url}")
    body = locate_time(store, topic, topic_id, time_ms, head.state.window_ms, partition)
    lines = [f"hour {body['hour']} in {body['directory']}: {body['marker'] or 'no marker'}; {body['why']}"]
    for file in body["files"]:
        judged = ("" if file["parts"] else "; only reading it tells") if file["there"] else ", missing"
        lines.append(f"  {file['path']}  {file['bytes']:,} bytes{judged}")
        lines += [_part_line(part) for part in file["parts"]]
    return body, "\n".join(lines), any(file["there"] for file in body["files"])


def _part_line(part: dict[str, Any]) -> str:
    offsets = f"offsets {part['first_offset']} to {part['last_offset']}"
    times = f"{show_instant(part['min_time_ms'])} to {show_instant(part['max_time_ms'])}"
    return f"    partition {part['partition']}, {offsets}, {part['records']:,} records, {times}"


def _answer_text(answer: Answer) -> str:
    where = f"{answer.topic}/{answer.partition} offset {answer.offset}"
    lines = [
        f"{where}: {_FATES[answer.fate]}{f', hour {answer.hour}' if answer.hour else ''}",
        f"  why    {answer.why}",
    ]
    place = answer.place
    if place is not None:
        lines.append(f"  file   {place.path} ({place.shown})")
        lines.append(f"  range  bytes {place.start} to {place.start + place.size - 1}, {answer.records:,} records")
        lines.append(f"  marker {place.marker or 'none yet'}")
    if answer.entry is not None and answer.decided_at_ms is not None:
        lines.append(f"  entry  {answer.entry}, by {answer.owner}, {show_instant(answer.decided_at_ms)}")
    if answer.part:
        lines.append(f"  part   {answer.part}")
    if answer.also:
        lines.append(f"  other ids of this topic: {', '.join(answer.also)} (--topic-id)")
    return "\n".join(lines)


_FATES = {
    Fate.HOUR: "in its hour",
    Fate.LATE: "late",
    Fate.QUARANTINE: "quarantined",
    Fate.DROPPED: "dropped",
    Fate.GAP: "a gap",
    Fate.UNDECIDED: "not decided yet",
    Fate.BEFORE: "before the ledger",
    Fate.FORGOTTEN: "decided, and its entry is gone",
}


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {key: asdict(value) if isinstance(value, Answer) else value for key, value in body.items()}


def _file_text(body: dict[str, Any]) -> str:
    there = f"{body['bytes']:,} bytes" if body["there"] else "not there"
    lines = [f"{body['path']} ({there}): {body['is']}", f"  why    {body['why']}"]
    lines += [_part_line(part) for part in body["parts"]]
    lines += [f"    {part}" for part in body["paths"]]
    answer = body["answer"]
    if answer is not None:
        lines.append(_answer_text(answer))
    return "\n".join(lines)
