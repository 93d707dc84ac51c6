"""``logflume reveal``"""

from __future__ import annotations

import json

import click

from logflume import config, log
from logflume.cli import jobs
from logflume.cli.options import config_option, json_option
from logflume.core import layout
from logflume.errors import UsageError
from logflume.finish.reveal import Revealed, reveal
from logflume.reconcile.stranded import current_id


@click.command("reveal")
@click.argument("topic")
@click.argument("hour", type=jobs.hour)
@config_option
@click.option("--topic-id", metavar="ID", help="Of a topic that was re-created: which of its ledgers is meant.")
@click.option("--dry-run", is_flag=True, help="Say what would be shown and what is missing; change nothing.")
@jobs.deadline_option
@json_option
def command(
    topic: str, hour: int, path: str, topic_id: str | None, dry_run: bool, deadline: int, as_json: bool
) -> None:
    """Show an hour that cannot become complete, as it is.

    For an hour that a stopped partition holds back: what is decided of it becomes visible, unmerged, with the
    marker _INCOMPLETE, which says partition by partition what is missing. Never _SUCCESS. When the rest comes
    after all, the daemon adds it, puts _SUCCESS and takes the marker away; files that were shown stay as they
    are ('logflume compact' merges them then). Parts that are decided in between stay hidden until then.

    Of a topic that was re-created: also an hour that the earlier id has left open, with --topic-id.

    Safe beside a running daemon. A reveal that was killed is completed by the next one.

    \b
    Exit codes:
      0   shown, or there was nothing to do: the hour is marked, or just being finished
      2   the hour is not held back
      8   files contradict the ledger: run 'logflume reconcile'
      3, 4, 5  the store does not answer, or refuses

    \b
    Examples:
      logflume reveal app 2026-11-22T07 -c logflume.toml --dry-run
      logflume reveal app 2026-11-22T07 -c logflume.toml
      logflume reveal app 2026-11-22T07 -c logflume.toml --json | jq -r '.missing[]'
    """
    settings = config.load(path)
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    store = jobs.open_root(settings)
    name = layout.hour_name(hour, 1) if hour % 3_600_000 else layout.hour_name(hour)
    with jobs.job("reveal", deadline, topic=topic, hour=name, dry_run=dry_run) as result:
        ids = jobs.topic_ids(store, topic)
        if topic_id is not None and topic_id not in ids:
            raise UsageError(f"topic {topic} has no ledger of id {topic_id}", hint=f"there is {', '.join(ids)}")
        if topic_id is None and len(ids) > 1:
            raise UsageError(f"topic {topic} has ledgers of several ids", hint=f"--topic-id: one of {', '.join(ids)}")
        chosen = topic_id or ids[0]
        stranded = len(ids) > 1 and chosen != current_id(store, topic, ids)
        done = reveal(store, topic, chosen, hour, dry_run=dry_run, stranded=stranded)
        result |= {"result": done.state, "files": len(done.plan.files)}
    click.echo(json.dumps(_body(done), indent=2) if as_json else _text(done))


def _body(done: Revealed) -> dict[str, object]:
    """A contract: keys are added, never changed."""
    plan = done.plan
    return {
        "state": done.state,
        "topic": plan.topic,
        "topic_id": plan.topic_id,
        "hour": layout.hour_name(plan.hour, plan.window_ms),
        "directory": plan.directory,
        "files": [file.name for file in plan.files],
        "records": sum(part.count for file in plan.files for part in file.parts),
        "bytes": sum(file.size for file in plan.files),
        "missing": list(plan.incomplete),
    }


def _text(done: Revealed) -> str:
    plan = done.plan
    if done.state == "marked":
        return f"{plan.directory} is marked already; nothing was done"
    if done.state == "finishing":
        return f"{plan.directory} is just being finished; nothing was done"
    records = sum(part.count for file in plan.files for part in file.parts)
    verb = "would show" if done.state == "planned" else "shows"
    lines = [f"{plan.directory} {verb} {records} records in {len(plan.files)} files, marked _INCOMPLETE"]
    return "\n".join(lines + [f"  missing: {one}" for one in plan.incomplete])
