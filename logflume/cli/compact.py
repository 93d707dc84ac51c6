"""``logflume compact``"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from logflume import commit, config, log
from logflume.cli import jobs
from logflume.cli.options import config_option, json_option
from logflume.compact.plan import Wish
from logflume.compact.record import Place
from logflume.compact.run import Job, Outcome, compact
from logflume.config import Config
from logflume.core import layout
from logflume.errors import Incomplete, UsageError
from logflume.reconcile.lock import only_one
from logflume.store import Store
from logflume.units import show_size

_TREES = {"hours": Place.HOUR, "appended": Place.APPENDED, "late": Place.LATE, "quarantine": Place.QUARANTINE}


@click.command("compact")
@config_option
@click.option("--topic", "only", multiple=True, metavar="NAME", help="Only this topic; may be repeated.")
@click.option(
    "--tree",
    "trees",
    multiple=True,
    type=click.Choice(list(_TREES)),
    default=("late", "quarantine"),
    show_default=True,
    help="What to compact; may be repeated. 'hours' are those that have their marker, 'appended' the late parts "
    "in an hour's own directory.",
)
@click.option("--from", "since", type=jobs.hour, metavar="HOUR", help="No hours before this one.")
@click.option("--to", "until", type=jobs.hour, metavar="HOUR", help="Only hours before this one.")
@click.option(
    "--target-bytes", type=jobs.size, metavar="SIZE", help="Size of a file.  [default: target_bytes of the topic]"
)
@click.option("--files", type=click.IntRange(1), metavar="K", help="Exactly so many files in each directory.")
@click.option("--split", is_flag=True, help="Also cut files that are larger than --target-bytes; they are copied.")
@click.option("--rewrite", is_flag=True, help="Copy every file, also single ones: what concat left has small blocks.")
@click.option(
    "--grace",
    type=jobs.duration,
    metavar="DURATION",
    default="1d",
    show_default=True,
    help="How long files that were copied are kept, hidden; a later run removes them.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be merged; change nothing.")
@jobs.deadline_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    path: str,
    only: tuple[str, ...],
    trees: tuple[str, ...],
    since: int | None,
    until: int | None,
    target_bytes: int | None,
    files: int | None,
    split: bool,
    rewrite: bool,
    grace: int,
    dry_run: bool,
    deadline: int,
    as_json: bool,
) -> None:
    """Merge, or cut, the files of finished hours and of the late and quarantine trees.

    Files of one directory become fewer, by concat where the store has it (no byte is copied), else by copying
    bytes. Nothing is compressed anew. Which files became which is recorded beside the ledger before anything
    changes, so 'logflume reconcile' goes on to prove every offset. A run that was killed is completed by the
    next one, and a second run finds nothing to do. Safe beside a running daemon; one run at a time, and none
    beside 'logflume reconcile' on the same host.

    With --split, or --files above the present number, files are also cut, by copying: between the parts that
    they are made of (one partition's records of at most roll_every and roll_bytes). A part itself is never cut:
    a directory that is made of fewer parts than --files asks for is left as it is, and named.

    What readers see: in an hour the marker is taken away first and put again, with the new names, at the end, so
    a job that asks for it waits. In the late and quarantine trees a listing has each record once at every moment
    while concat is at it; while files are copied it may miss some for the moment of a rename, and never has one
    twice. A job that listed before and opens a file after fails because the file is gone, and is right when it
    is repeated. What is open already can be read to its end: for that, copied files are kept for --grace.

    Left alone: hours without a marker, files that no retained ledger entry names, and those of the newest
    entry of each partition.

    \b
    Exit codes:
      0   done, or there was nothing to do
      9   some directory needs a person: see its error
      12  another run is at work; nothing was done
      3, 4, 5  the store does not answer, or refuses

    \b
    Examples:
      logflume compact -c logflume.toml
      logflume compact -c logflume.toml --tree hours --from 2026-11-22T00 --to 2026-11-23T00 --files 1
      logflume compact -c logflume.toml --tree hours --from 2026-11-22T07 --split --target-bytes 64MiB
      logflume compact -c logflume.toml --tree hours --rewrite --topic app --from 2026-11-22T07 --dry-run
      logflume compact -c logflume.toml --json | jq '.directories[] | select(.state == "failed")'
    """
    settings = config.load(path)
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    store = jobs.open_root(settings)
    outcomes: list[Outcome] = []
    with (
        only_one(Path(settings.daemon.spool), settings.output.root, settings.daemon.zookeeper),
        jobs.job("compact", deadline, root=store.url, trees=trees, dry_run=dry_run) as result,
    ):
        for topic in _topics(settings, store, only):
            wish = Wish(target_bytes or topic.target_bytes, files, rewrite, split)
            for topic_id in topic.ids:
                outcomes += compact(
                    store,
                    Job(
                        topic=topic.name,
                        topic_id=topic_id,
                        window_ms=topic.window_ms,
                        wish=wish,
                        places=tuple(_TREES[name] for name in trees),
                        since_ms=since,
                        until_ms=until,
                        grace_ms=grace,
                        dry_run=dry_run,
                    ),
                )
        result |= Counter(one.state for one in outcomes)
    click.echo(_json(outcomes) if as_json else _text(outcomes))
    if any(one.error is not None for one in outcomes):
        ctx.exit(Incomplete.exit_code)


class _Topic:
    """A topic with a ledger, and the settings that hold for it."""

    def __init__(self, name: str, ids: list[str], window_ms: int, target_bytes: int) -> None:
        self.name, self.ids, self.window_ms, self.target_bytes = name, ids, window_ms, target_bytes


def _topics(settings: Config, store: Store, only: Sequence[str]) -> list[_Topic]:
    there = [one.name for one in store.list(f"{store.root}/{layout.LEDGER_ROOT}") if one.is_dir]
    for name in only:
        if name not in there or settings.topic_for(name) is None:
            raise UsageError(
                f"topic {name} has no ledger below {store.url}, or no [[topic]] means it",
                hint="'logflume status' names the topics",
            )
    found = []
    for name in sorted(set(only) or there):
        topic = settings.topic_for(name)
        ids = commit.ids_of(store, name)
        known = [topic_id for topic_id in ids if commit.chains(store, name, topic_id)]
        if topic is not None and known:
            found.append(_Topic(name, known, topic.window_ms, topic.target_bytes))
    return found


def _json(outcomes: Sequence[Outcome]) -> str:
    """A contract: keys are added, never changed."""
    body = {
        "directories": [
            {
                "directory": one.spot.directory,
                "tree": next(name for name, place in _TREES.items() if place is one.spot.place),
                "topic": one.spot.topic,
                "topic_id": one.spot.topic_id,
                "hour": one.spot.name,
                "state": one.state,
                "files_before": one.before,
                "files_after": one.after,
                "bytes": one.bytes,
                "method": "copy" if one.copied else "concat",
                "replaced_removed": one.removed,
                "left_alone": one.unknown,
                "error": None if one.error is None else str(one.error),
                "hint": None if one.error is None else one.error.hint,
            }
            for one in outcomes
        ]
    }
    return json.dumps(body, indent=2)


def _text(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return "nothing to compact"
    return "\n".join(line for one in outcomes for line in _lines(one))


def _lines(one: Outcome) -> list[str]:
    lines = [f"{one.state:<9} {one.spot.directory}"]
    if one.before:
        how = "copied" if one.copied else "concat"
        now = "would be" if one.state == "planned" else "now"
        lines[0] += f": {one.before} files, {now} {one.after} ({show_size(one.bytes)}, {how})"
    if one.removed:
        lines.append(f"{'':10}{one.removed} replaced files removed")
    if one.unknown:
        lines.append(f"{'':10}{len(one.unknown)} files left alone, such as {one.unknown[0]}")
    if one.error is not None:
        lines.append(f"{'':10}error: {one.error}")
        lines += [f"{'':10}hint: {one.error.hint}"] if one.error.hint else []
    return lines
