"""``logflume reconcile``"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import threading
import time
from pathlib import Path

import click

from logflume import commit, config, log
from logflume.cli import jobs
from logflume.cli.options import config_option, json_option
from logflume.commit import Owner
from logflume.config import Config
from logflume.errors import Fenced, LogflumeError, Repaired, Unreachable, UsageError
from logflume.kafka.topics import Topics
from logflume.model import PartitionId
from logflume.reconcile import report as reports
from logflume.reconcile.accept import accept_gap, accept_topic
from logflume.reconcile.lock import only_one
from logflume.reconcile.model import Options
from logflume.reconcile.run import Report, Run, reconcile
from logflume.store import Store
from logflume.units import parse_instant

logger = log.get(__name__)

#: how often an entry is put on top of what a running owner wrote
TRIES = 5
#: connections to the store, since most of a run is waiting for it
THREADS = 24

_GAP = re.compile(r"([A-Za-z0-9._-]+)/(\d+):(\d+)")


def instant(text: str) -> int:
    """An option such as ``2026-11-22T07:00:00Z``, in milliseconds."""
    try:
        return parse_instant(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not {error}") from None


@click.command("reconcile")
@config_option
@click.option("--full", is_flag=True, help="Everything that is there, not only what came since the last run.")
@click.option("--deep", is_flag=True, help="Read the files: check sums, numbers of records, their hours.")
@click.option("--repair", is_flag=True, help="Do what is safe, and print the commands for the rest.")
@click.option("--topic", "only", multiple=True, metavar="NAME", help="Only this topic; may be repeated.")
@click.option("--since", type=instant, metavar="TIME", help="With --full: no hours before this one.")
@click.option("--no-kafka", is_flag=True, help="Do not compare with Kafka.")
@click.option(
    "--other-root", "others", multiple=True, metavar="URL", help="Find hours that this root has, too; may be repeated."
)
@click.option(
    "--patience",
    type=jobs.duration,
    metavar="DURATION",
    default="10m",
    show_default=True,
    help="What was decided, closed or marked since then may still be in the hands of the daemon.",
)
@click.option(
    "--grace",
    type=jobs.duration,
    metavar="DURATION",
    default="1d",
    show_default=True,
    help="Uploads and plans that nobody needs are left alone until they are so old.",
)
@jobs.deadline_option
@click.option(
    "--prometheus", metavar="FILE", type=click.Path(), help="Write metrics for node_exporter's textfile collector."
)
@click.option(
    "--accept-gap", "gap", metavar="TOPIC/PARTITION:OFFSET", help="Go on at OFFSET, although offsets below it are lost."
)
@click.option(
    "--accept-topic", "new_topic", metavar="TOPIC", help="Let a re-created topic follow the one of the same name."
)
@click.option("--even-readable", is_flag=True, help="With --accept-gap: even offsets that Kafka still has.")
@click.option("--reason", metavar="TEXT", help="Why; with --accept-…, for whoever reads the ledger later.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    path: str,
    full: bool,
    deep: bool,
    repair: bool,
    only: tuple[str, ...],
    since: int | None,
    no_kafka: bool,
    others: tuple[str, ...],
    patience: int,
    grace: int,
    deadline: int,
    prometheus: str | None,
    gap: str | None,
    new_topic: str | None,
    even_readable: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    """Compare the ledgers with the files and with Kafka.

    Proves from the store alone that each offset has one fate, that there is no hole but recorded gaps, that
    every decided file is there with its length (with --deep: its bytes), and that no marker is missing or
    early. Safe beside a running daemon; meant for cron. A run reads what came since the last one; --full
    reads everything and is meant for once a week, --full --deep for now and then.

    --repair publishes decided parts, finishes hours that nobody finishes, and removes uploads, plans and
    spools that nobody needs. It never removes or overwrites anything that a decision names. What is lost
    it does not bring back: for that it prints 'logflume backfill' commands.

    --accept-gap and --accept-topic write an operator's decision into the ledger; nothing else is done then.
    Kafka is asked: an offset beyond the log's end is refused, and so is giving up what Kafka still has, which
    --even-readable allows where a batch cannot be read.

    \b
    Exit codes:
      0   clean
      9   a person is needed: see what was found, and the commands
      10  only things that --repair would mend (without --repair)
      11  everything that was found is repaired
      12  another run is at work; nothing was done
      3, 4, 5  the store does not answer, or refuses

    \b
    Calls to the store: for each partition 1 list of its tmp, 1 read to begin, 1 read for each new entry and
    2 to see that there are no more; for each hour that is not proved yet 1 list and 1 read (3 or 4 calls
    until it has its marker); with --full all entries and hours. The output counts them.

    \b
    Examples:
      logflume reconcile -c logflume.toml
      logflume reconcile -c logflume.toml --repair --prometheus /var/lib/node_exporter/logflume.prom
      logflume reconcile -c logflume.toml --full --deep --since 2026-11-01 --json | jq '.findings[]'
      logflume reconcile -c logflume.toml --accept-gap app/3:123456 --reason 'retention, see INC-42'
    """
    settings = config.load(path)
    log.configure(settings.daemon.log_level, settings.daemon.log_format)
    _give_up_after(deadline)
    if since is not None and not full:
        raise UsageError("--since belongs to --full")
    if even_readable and gap is None:
        raise UsageError("--even-readable belongs to --accept-gap")
    if gap is not None or new_topic is not None:
        with jobs.interruptible():
            click.echo(_accept(settings, gap, new_topic, reason, even_readable=even_readable, as_json=as_json))
        return
    if reason is not None:
        raise UsageError("--reason belongs to --accept-gap or --accept-topic")
    run = Run(
        store=jobs.open_root(settings, threads=THREADS),
        config=settings,
        config_path=path,
        options=Options(full, deep, repair, patience_ms=patience, grace_ms=grace, since_ms=since),
        topics=None if no_kafka else lambda: Topics(settings.kafka.options),
        only=only,
        others=tuple(jobs.open_root(settings, url, threads=THREADS) for url in others),
    )
    with (
        only_one(Path(settings.daemon.spool), settings.output.root, settings.daemon.zookeeper),
        jobs.interruptible(),
    ):
        report = _logged(run)
        click.echo(reports.as_json(report) if as_json else reports.as_text(report))
        if prometheus is not None:
            _write_metrics(report, Path(prometheus))
    ctx.exit(report.exit_code)


def _logged(run: Run) -> Report:
    """The run, with a line in the log at its begin and at its end."""
    options = run.options
    logger.info("reconcile begins", root=run.store.url, full=options.full, deep=options.deep, repair=options.repair)
    began = time.monotonic()
    try:
        report = reconcile(run)
    except LogflumeError as error:
        logger.error("reconcile failed", seconds=round(time.monotonic() - began, 3), error=str(error))
        raise
    logger.info(
        "reconcile ends",
        seconds=round(report.seconds, 3),
        result=reports.VERDICTS[report.exit_code],
        found=len(report.findings),
        repaired=len(report.mended),
    )
    return report


def _write_metrics(report: Report, path: Path) -> None:
    try:
        reports.write_metrics(report, path)
    except OSError as error:
        wrong = f"cannot write {path}: {(error.strerror or str(error)).lower()}"
        if report.exit_code in (0, Repaired.exit_code):
            raise UsageError(wrong) from None
        click.echo(f"error: {wrong}", err=True)  # what was found is graver


def _give_up_after(deadline_ms: int) -> None:
    """A call of an HDFS client may hang for ever and cannot be cancelled; what was done is safe (N2)."""

    def give_up() -> None:
        logger.error("reconcile gives up: a call hangs, or --deadline is too short", deadline_ms=deadline_ms)
        os._exit(Unreachable.exit_code)

    timer = threading.Timer(deadline_ms / 1000, give_up)
    timer.daemon = True
    timer.start()


# -- decisions of an operator ---------------------------------------------------------------------


def _accept(
    settings: Config,
    gap: str | None,
    new_topic: str | None,
    reason: str | None,
    *,
    even_readable: bool,
    as_json: bool,
) -> str:
    if not reason:
        raise UsageError("--accept-gap and --accept-topic need a --reason: it is written into the ledger")
    if gap is not None and new_topic is not None:
        raise UsageError("one of --accept-gap and --accept-topic at a time")
    store = jobs.open_root(settings, threads=THREADS)
    if new_topic is not None:
        done = _accept_topic(settings, store, new_topic, reason)
    else:
        done = _accept_gap(settings, store, gap or "", reason, even_readable=even_readable)
    logger.info("accepted", **done)
    return json.dumps(done, indent=2) if as_json else str(done["says"])


def _accept_gap(settings: Config, store: Store, gap: str, reason: str, *, even_readable: bool) -> dict[str, object]:
    found = _GAP.fullmatch(gap)
    if found is None:
        raise UsageError(f"--accept-gap {gap!r}: TOPIC/PARTITION:OFFSET is wanted, such as app/3:123456")
    topic, partition, until = found[1], int(found[2]), int(found[3])
    pid = PartitionId(topic, _topic_id(settings, store, topic), partition)
    topics = Topics(settings.kafka.options)
    for _ in range(TRIES):
        try:
            head = accept_gap(store, topics, pid, until, _owner(settings, topic), reason, even_readable=even_readable)
        except Fenced:
            continue  # a running owner was quicker: on top of what it wrote
        says = f"{pid} goes on at offset {until} (entry {head.entry.seq}); a running daemon sees it within a minute"
        return {
            "accepted": "gap",
            "topic": topic,
            "partition": partition,
            "until": until,
            "entry": head.entry.seq,
            "says": says,
        }
    raise Fenced(f"{pid}: a running owner was quicker {TRIES} times", hint="try again, or stop the daemon for it")


def _accept_topic(settings: Config, store: Store, topic: str, reason: str) -> dict[str, object]:
    topic_id = Topics(settings.kafka.options).topic(topic).topic_id
    new = accept_topic(store, topic, topic_id, _owner(settings, topic), reason)
    says = f"topic {topic} goes on with id {topic_id}" + ("" if new else ", which was accepted before")
    return {"accepted": "topic", "topic": topic, "topic_id": topic_id, "new": new, "says": says}


def _owner(settings: Config, topic: str) -> Owner:
    """Who decides: a person, by name and host."""
    configured = settings.topic_for(topic)
    if configured is None:
        raise UsageError(f"no [[topic]] means {topic!r}")
    name = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}:reconcile"
    return Owner(name, lambda: time.time_ns() // 1_000_000, configured.hash)


def _topic_id(settings: Config, store: Store, topic: str) -> str:
    """The id whose ledger is meant: the only one, or the one that Kafka knows."""
    found = commit.ids_of(store, topic)
    ids = [topic_id for topic_id in found if commit.chains(store, topic, topic_id)]
    if not ids:
        raise UsageError(f"topic {topic} has no ledger below {store.url}: there is nothing to accept")
    return ids[0] if len(ids) == 1 else Topics(settings.kafka.options).topic(topic).topic_id
