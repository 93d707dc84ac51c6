"""One run: every topic, then what lies around, then the comparison with Kafka, then repairs and the checkpoint.

Calls to the store, of which an incremental run makes those for what is new only: for each partition one list
of its ``tmp``, one read of the entry of the checkpoint, a read for each entry since and two calls to see that there
are no more, the second a list (with ``--full`` one list of the chain instead of the first read); for each hour a
list and a read of its marker, three or four while it has none; for each topic five or so; and one list of the root.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from logflume import commit
from logflume.config import Config
from logflume.core import layout
from logflume.daemon import spooldir
from logflume.errors import Refused, UsageError
from logflume.kafka.topics import Topics
from logflume.log import get
from logflume.model import Kind
from logflume.reconcile import checkpoint, orphans, reinjected, roots
from logflume.reconcile.findings import Finding, What, backfills, exit_code, told_by_kafka
from logflume.reconcile.kafka import compare
from logflume.reconcile.look import Counted
from logflume.reconcile.model import Figures, Options
from logflume.reconcile.repair import Repair
from logflume.reconcile.stranded import stranded
from logflume.reconcile.topic import TopicCheck
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store
from logflume.trees import hour_directories

log = get(__name__)

#: calls to the store at once
THREADS = 16


@dataclass(slots=True)
class Report:
    """What a run found and did."""

    root: str
    options: Options
    started_ms: int
    seconds: float = 0.0
    topics: dict[str, Figures] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    kafka: str = "not asked"
    checkpoint: str | None = None
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return exit_code(self.findings, repaired=len(self.mended))


@dataclass(slots=True)
class Run:
    """What a run works with. ``topics`` None: Kafka is not asked. ``only``: topics to look at, all when empty."""

    store: Store
    config: Config
    config_path: str
    options: Options
    topics: Callable[[], Topics] | None = None
    only: tuple[str, ...] = ()
    others: tuple[Store, ...] = ()
    clock: Callable[[], float] = time.time


def reconcile(run: Run) -> Report:
    """Raises UsageError for a topic that nothing is known of, and store errors when the store cannot be asked;
    everything else is a finding.
    """
    began = time.monotonic()
    store = Counted(run.store)
    now_ms = int(run.clock() * 1000)
    report = Report(run.store.url, run.options, now_ms)
    # options that its client does not take show before hours of work
    topics = None if run.topics is None else run.topics()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="reconcile") as pool:
        number, saved = checkpoint.load(store)
        known: checkpoint.Saved = {} if run.options.full else saved
        checks = _checks(run, store, known, pool, now_ms)
        for check in checks:
            log.info("topic", topic=check.topic, ids=[walk.topic_id for walk in check.walks])
            check.run()
            report.findings += check.findings
            report.topics[check.topic] = check.figures
        report.findings += _ledgers_gone(run, checks, saved)
        report.findings += _without_ledger(run, store, {*report.topics, *(topic for topic, _ in saved)})
        report.findings += _left_behind(run, store, checks, now_ms)
        report.findings += _elsewhere(run, checks)
        if topics is not None:
            _ask_kafka(run, topics, store, checks, report)
        if run.options.repair:
            repair = Repair(store, run.config, checks)
            repair.run(report.findings)
            report.findings, report.mended = repair.left, repair.mended
    new = {(check.topic, topic_id): one for check in checks for topic_id, one in check.saved().items()}
    if run.options.since_ms is not None:
        new = {}  # of earlier hours it knows nothing
    report.checkpoint = checkpoint.save(store, number + 1, {**saved, **new})
    report.commands = backfills(report.findings, run.config_path)
    report.calls = dict(sorted(store.calls.items()))
    report.seconds = time.monotonic() - began
    return report


def _checks(run: Run, store: Store, known: checkpoint.Saved, pool: Executor, now_ms: int) -> list[TopicCheck]:
    """A check for each topic that has a ledger, with all ids it ever had here."""
    checks = []
    ledgers = store.list(f"{store.root}/{layout.LEDGER_ROOT}")
    names = [one.name for one in ledgers if one.is_dir and not one.name.startswith("_")]
    for name in run.only:
        # a name that nothing has would be found clean
        if name not in names and run.config.topic_for(name) is None and all(name != topic for topic, _ in known):
            raise UsageError(
                f"topic {name} has no ledger below {store.url}, and no [[topic]] means it",
                hint="'logflume status' names the topics",
            )
    for name in names:
        if run.only and name not in run.only:
            continue
        ids = commit.ids_of(store, name)
        walks = [
            TopicWalk(store, name, topic_id, pool, known.get((name, topic_id)))
            for topic_id in ids
            if (name, topic_id) in known or commit.chains(store, name, topic_id)
        ]
        if walks:
            config = run.config.topic_for(name)
            checks.append(TopicCheck(store, name, walks, config, run.options, pool, now_ms))
    return checks


def _ledgers_gone(run: Run, checks: Sequence[TopicCheck], known: checkpoint.Saved) -> list[Finding]:
    there = {(walk.topic, walk.topic_id) for check in checks for walk in check.walks}
    hint = (
        "bring it back from a snapshot or the trash. If it was removed on purpose, remove "
        f"{checkpoint.DIRECTORY}, too: the next run then looks at everything that is there"
    )
    return [
        Finding(
            What.LEDGER_GONE,
            topic,
            layout.topic_directory(topic, topic_id),
            "an earlier run saw it",
            topic_id,
            hint=hint,
        )
        for topic, topic_id in sorted(known.keys() - there)
        if not run.only or topic in run.only
    ]


def _without_ledger(run: Run, store: Store, known: Collection[str]) -> list[Finding]:
    """Topics that have hours and no ledger: the checkpoint, which would miss it, went with the ledgers' directory."""
    found = []
    for name in sorted(one.name for one in store.list(store.root) if one.is_dir and not one.name.startswith("_")):
        config = run.config.topic_for(name)
        if config is None or name in known or (run.only and name not in run.only):
            continue
        hour = next(hour_directories(store, layout.tree(Kind.HOUR, name), config.window_ms), None)
        path = f"{layout.LEDGER_ROOT}/{name}"
        # looked at again: it may have begun after the ledgers were listed
        ids = [one.name for one in store.list(f"{store.root}/{path}") if one.is_dir] if hour is not None else []
        if hour is not None and not any(commit.chains(store, name, topic_id) for topic_id in ids):
            hint = "bring it back from a snapshot or the trash; without it nothing of the topic is proved"
            found.append(Finding(What.LEDGER_GONE, name, path, f"{hour[0]} is there, and no ledger", hint=hint))
    return found


def _left_behind(run: Run, store: Store, checks: Sequence[TopicCheck], now_ms: int) -> list[Finding]:
    found: list[Finding] = []
    older_than = now_ms - run.options.grace_ms
    for check in checks:
        found += stranded(store, check.topic, check.walks, check.open)
        for walk in check.walks:
            chains = list(walk.chains.values())
            decided = [one for chain in chains for parts in chain.parts.values() for one in parts]
            needed = orphans.needed_uploads([*decided, *(one for chain in chains for one in chain.others)])
            for chain_found in check.pool.map(
                lambda c, n=needed: orphans.left_uploads(store, c, n, older_than), chains
            ):
                found += chain_found
            found += reinjected.check(
                store,
                check.topic,
                walk.topic_id,
                full=run.options.full,
                deep=run.options.deep,
                settled_ms=check.settled_ms,
                older_than_ms=older_than,
            )
            found += orphans.left_of_finishing(store, walk, older_than)
    try:
        spools = spooldir.left(Path(run.config.daemon.spool))
        found += orphans.left_spools(spools, now_ms - run.options.patience_ms)
    except (Refused, PermissionError) as error:
        log.warning("the spool of this host is left out", error=str(error))
    return found


def _elsewhere(run: Run, checks: Sequence[TopicCheck]) -> list[Finding]:
    pairs = [(other, walk) for other in run.others for check in checks for walk in check.walks]
    return [one for other, walk in pairs for one in roots.duplicates(run.store, other, walk.topic, walk.topic_id)]


def _ask_kafka(run: Run, topics: Topics, store: Store, checks: Sequence[TopicCheck], report: Report) -> None:
    read_committed = run.config.kafka.read_committed
    checked = {check.topic: check.walks for check in checks}
    found, topic_ids = compare(store, topics, checked, read_committed=read_committed)
    report.kafka = "unreachable" if any(one.what is What.KAFKA_UNREACHABLE for one in found) else "compared"
    report.findings = told_by_kafka(report.findings, topic_ids) + found
