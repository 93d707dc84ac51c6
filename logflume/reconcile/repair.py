"""``--repair``: what is safe beside a running daemon, since each step may be repeated and done by several.

Decided parts are published, hours that nobody finishes are finished, what nobody needs is removed. Nothing
that a decision names is ever removed, and nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from logflume import commit
from logflume.compact import record as records
from logflume.compact.carry import carry_out
from logflume.config import Config, TopicConfig
from logflume.core import layout
from logflume.daemon import spooldir
from logflume.errors import LedgerError, LogflumeError, Stopped
from logflume.finish import run
from logflume.finish.plan import PartitionHour, Plan, make_plan
from logflume.log import get
from logflume.quarantine import reinject
from logflume.reconcile.findings import Finding, Mend, What
from logflume.reconcile.regroup import finished_files, regroup
from logflume.reconcile.topic import TopicCheck
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store

log = get(__name__)

#: parts have to be in their place before an hour is finished
_ORDER = (What.PART_UNPUBLISHED, What.PART_HIDDEN, What.PART_LEFT, What.MARKER_MISSING, What.PLAN_LEFT)


class Repair:
    """``mended`` and ``left`` have every finding afterwards, each in one of them."""

    def __init__(self, store: Store, config: Config, checks: Sequence[TopicCheck]) -> None:
        self.mended: list[Finding] = []
        self.left: list[Finding] = []
        self._store, self._config = store, config
        self._walks = {(walk.topic, walk.topic_id): walk for check in checks for walk in check.walks}
        self._refreshed: set[tuple[str, str]] = set()
        self._published: set[tuple[str, str, int | None]] = set()

    def run(self, findings: Sequence[Finding]) -> None:
        held = {(one.topic_id, one.hour) for one in findings if one.mend is Mend.BACKFILL and one.hour}
        held |= {(one.topic_id, one.hour) for one in findings if one.mend is Mend.PERSON and one.hour}
        order = {what: number for number, what in enumerate(_ORDER)}
        for finding in sorted(findings, key=lambda one: order.get(one.what, len(order))):
            waits = finding.what is What.MARKER_MISSING and (finding.topic_id, finding.hour) in held
            if finding.mend is not Mend.REPAIR or waits:
                self.left.append(finding)
                continue
            try:
                self._mend(finding)
            except LogflumeError as error:
                log.warning("not repaired", path=finding.path, error=str(error))
                detail = f"{finding.what.value}: {error}"
                self.left.append(replace(finding, what=What.REPAIR_FAILED, detail=detail, hint=error.hint))
            else:
                log.info("repaired", what=finding.what.value, path=finding.path)
                self.mended.append(finding)

    def _mend(self, finding: Finding) -> None:
        repairs: dict[What, Callable[[Finding], None]] = {
            What.PART_UNPUBLISHED: self._publish,
            What.PART_HIDDEN: self._reveal,
            What.MARKER_MISSING: self._finish,
            What.REVEAL_LEFT: self._remove_reveal,
            What.COMPACTION_LEFT: self._carry_out,
            What.REINJECTED_LEFT: self._show,
            What.SPOOL_LEFT: self._sweep,
        }
        repairs.get(finding.what, self._remove)(finding)

    def _walk(self, finding: Finding) -> TopicWalk:
        return self._walks[finding.topic, finding.topic_id]

    def _publish(self, finding: Finding) -> None:
        """Only the newest entry can have parts that are not published: see ``core/ledger.py``."""
        key = (finding.topic, finding.topic_id, finding.partition)
        if key in self._published or finding.partition is None:
            return
        head = self._walk(finding).chains[finding.partition].head
        if head is not None:
            commit.publish(self._store, head.entry)
            self._published.add(key)

    def _reveal(self, finding: Finding) -> None:
        run.reveal_appended(self._store, finding.path.rsplit("/", 1)[0])

    def _remove_reveal(self, finding: Finding) -> None:
        if not run.by_operator(self._store, f"{self._store.root}/{finding.path}"):
            raise LedgerError("it is not from 'logflume reveal'", hint="find out who wrote it, or the other marker")
        self._remove(finding)

    def _remove(self, finding: Finding) -> None:
        self._store.delete(f"{self._store.root}/{finding.path}")

    def _carry_out(self, finding: Finding) -> None:
        carry_out(self._store, records.decode(self._store.read(f"{self._store.root}/{finding.path}")))

    def _show(self, finding: Finding) -> None:
        found = reinject.find(self._store, finding.topic, finding.topic_id, finding.path)
        if found is not None:
            reinject.publish(self._store, reinject.read(self._store, finding.topic, finding.topic_id, found[0]))

    def _sweep(self, finding: Finding) -> None:
        spooldir.sweep(Path(finding.path).parent)

    def _finish(self, finding: Finding) -> None:
        config = self._config.topic_for(finding.topic)
        if config is None:
            raise Stopped(f"topic {finding.topic} is not in the configuration", hint="add it, and repair again")
        walk, hour = self._walk(finding), layout.parse_hour_name(finding.hour)
        if (walk.topic, walk.topic_id) not in self._refreshed:
            # a partition may have been added since the chains were read
            walk.refresh()
            self._refreshed.add((walk.topic, walk.topic_id))
        plan = plan_of(self._store, walk, hour, config)
        run.finish(self._store, plan)


def plan_of(store: Store, walk: TopicWalk, hour: int, config: TopicConfig) -> Plan:
    """What finishing makes of an hour of which every entry was read. Raises Stopped where one is not there."""
    partitions = {}
    end = hour + walk.window_ms
    for number, chain in walk.chains.items():
        closing, head = chain.closing_of(end), chain.head
        if closing is None or head is None:
            raise Stopped(f"{chain.pid}: the entry that closed {layout.hour_name(hour, walk.window_ms)} is not there")
        state = head.state
        partitions[number] = PartitionHour(
            parts=tuple(one.part for one in chain.parts.get(hour, ())),
            closing=closing,
            unknown=tuple(blind.reason for blind in state.blind if blind.covers(hour)),
            late=state.late,
            quarantined=state.quarantined,
            dropped=state.dropped,
        )
    parts = [one.part for chain in walk.chains.values() for one in chain.parts.get(hour, ())]
    early = bool(parts) and not any(part.name.startswith("_") for part in parts)
    plan = make_plan(
        walk.topic,
        walk.topic_id,
        hour,
        walk.window_ms,
        partitions,
        target_bytes=config.target_bytes,
        reveal="early" if early else "complete",
    )
    # files that are finished stay as they are, whatever the configuration says now
    there = {status.name: status for status in store.list(f"{store.root}/{plan.directory}")}
    files = regroup(walk.hour(hour).decided, finished_files(walk.topic, there))
    return replace(plan, files=tuple(files), reveal="complete") if files else plan
