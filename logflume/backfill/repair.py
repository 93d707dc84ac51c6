"""``--repair``: put files that are gone or damaged in their place again, so that only the ledger can tell.

R1 rebuild the bad parts from Kafka, copy the intact ones, upload the whole file under a new name in tmp. R2 where a
check sum is another now, write that down (``amend``). R3 put the hour's plan, with the check sums that hold now, and
take its marker away. R4 remove what is in the file's place, and publish. R5 finish the hour by that plan (S7),
which writes the marker: the very same bytes where nothing was amended.

While a file of it is wrong an hour is not called complete. Every step may be repeated; after a crash the hour is
planned and not marked, which is what any finisher, reconcile --repair and the same command go on from. A whole file
that R1 had uploaded is used again, so that intact parts survive that are not in Kafka any more.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from logflume.backfill import amend
from logflume.backfill.engine import LocalPool
from logflume.backfill.look import Mend, Wanted, digest_of, find, partition_of
from logflume.backfill.model import Job
from logflume.backfill.rebuild import rebuild
from logflume.backfill.replay import Tell, open_root
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.daemon import spooldir
from logflume.daemon.slot import now_ms
from logflume.errors import Exists, Incomplete, LogflumeError, Missing, Refused, Stopped
from logflume.finish import plan as plans
from logflume.finish import run
from logflume.finish.follow import TopicFollower
from logflume.finish.plan import Plan
from logflume.kafka.topics import Topics
from logflume.log import get
from logflume.model import Kind
from logflume.store.base import Store

log = get(__name__)

#: hours a finisher may have before it; only those of which a part was mended are finished here
DUE_HOURS = 10_000
THREADS = 8


@dataclass(frozen=True, slots=True)
class Mended:
    """One file that is in its place again. ``amended``: parts that have another check sum now."""

    path: str
    hour: int
    parts: int
    records: int
    bytes: int
    amended: int


def look(job: Job, wanted: Wanted) -> list[Mend]:
    """What is to be mended, for ``process.apart``."""
    store = open_root(job)
    try:
        return find(store, job, Topics(job.config.kafka.options).topic(wanted.topic).topic_id, wanted)
    finally:
        store.close()


def groups(mends: Sequence[Mend]) -> list[tuple[Mend, ...]]:
    """What has to be done together: the files of one hour, since they share its plan and marker."""
    found: dict[object, list[Mend]] = {}
    for mend in mends:
        part = mend.parts[0]
        found.setdefault(part.hour if part.kind is Kind.HOUR else mend.path, []).append(mend)
    return [tuple(group) for group in found.values()]


def run_group(job: Job, group: tuple[Mend, ...], tell: Tell) -> list[Mended]:
    """R1 to R5 for the files of one hour. Raises LogflumeError; the same call then goes on."""
    store = open_root(job)
    try:
        spool = Path(job.spool)
        spooldir.sweep(spool)
        hold = spooldir.make(spool, 0)
        try:
            return _mend(store, job, group, hold.path, tell)
        except OSError as error:
            raise Refused(f"spool: {hold.path}: {error.strerror}", hint="name a directory with --spool") from error
        finally:
            shutil.rmtree(hold.path, ignore_errors=True)
            hold.release()
    finally:
        store.close()


def _mend(store: Store, job: Job, group: tuple[Mend, ...], folder: Path, tell: Tell) -> list[Mended]:
    files = [(mend, *_whole(store, job, mend, folder, tell)) for mend in group]
    changed = [(new, old) for mend, _, parts in files for new, old in zip(parts, mend.parts, strict=True) if new != old]
    plan = group[0].plan
    if plan is None and changed and group[0].parts[0].kind is Kind.HOUR:
        plan = _plan_of(store, job, group[0])
    for new, old in changed:
        amend.put(store, group[0].topic, group[0].topic_id, new, old, now_ms())
    if plan is not None:
        plan = _amended(plan, [part for _, _, parts in files for part in parts])
        _replan(store, plan)
    for mend, tmp, _ in files:
        _place(store, mend, tmp)
    if plan is not None:
        _finish(store, plan)
    amended = {new.path for new, _ in changed}
    return [
        Mended(
            path=mend.path,
            hour=mend.parts[0].hour,
            parts=len(mend.bad),
            records=mend.records,
            bytes=sum(part.size for part in parts),
            amended=sum(part.path in amended for part in parts),
        )
        for mend, _, parts in files
    ]


def _finish(store: Store, plan: Plan) -> bool:
    """R5; False where another file of the hour is still wrong, or its hour marked by somebody else."""
    try:
        return run.finish(store, plan) is not None
    except Stopped as error:
        log.warning("the hour cannot be finished yet", hour=plan.directory, error=str(error), hint=error.hint)
        return False


def _place(store: Store, mend: Mend, tmp: str) -> None:
    """R4"""
    final = f"{store.root}/{mend.path}"
    store.delete(final)
    try:
        store.publish(tmp, final)
    except (Exists, Missing):
        # another run of the same repair did it: the next look tells whether it is right
        log.warning("somebody else put a file in its place", path=mend.path)
    log.info("file mended", path=mend.path, parts=len(mend.bad))


# -- R1 -------------------------------------------------------------------------------------------


def _whole(store: Store, job: Job, mend: Mend, folder: Path, tell: Tell) -> tuple[str, Sequence[Part]]:
    """The whole file in tmp, and its parts as they are now."""
    directory = f"{store.root}/{layout.topic_directory(mend.topic, mend.topic_id)}/tmp"
    stem = f"repair-{hashlib.sha256(mend.path.encode()).hexdigest()[:16]}"
    found = _uploaded(store, directory, stem, mend.parts)
    if found is not None:
        return found, mend.parts
    whole = folder / "whole"
    parts = _assemble(store, job, mend, folder, whole, tell)
    tmp = f"{directory}/{stem}-{uuid.uuid4().hex}"
    store.upload(whole, tmp)
    return tmp, parts


def _uploaded(store: Store, directory: str, stem: str, parts: Sequence[Part]) -> str | None:
    """A whole file that an earlier run has uploaded."""
    size = sum(part.size for part in parts)
    for status in store.list(directory):
        if not status.name.startswith(stem):
            continue
        at = 0
        good = status.length == size
        for part in parts if good else ():
            good = good and digest_of(store, status.path, at, part.size) == part.sha256
            at += part.size
        if good:
            return status.path
    return None


def _assemble(store: Store, job: Job, mend: Mend, folder: Path, whole: Path, tell: Tell) -> list[Part]:
    """The file with all its parts, on local disk; returns the parts as they are now."""
    parts, at = [], 0
    with whole.open("wb") as file:
        for i, part in enumerate(mend.parts):
            if i in mend.bad:
                made = rebuild(job, mend.topic, part, partition_of(part), folder, tell)
                with made.path.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
                made.path.unlink()
                parts.append(made.part)
                tell(part.count)
            else:
                left, offset = part.size, at
                while left > 0:
                    data = store.read(f"{store.root}/{mend.path}", offset, min(left, 8 << 20))
                    if not data:
                        raise Stopped(f"{mend.path} became shorter just now", hint="run the same command again")
                    file.write(data)
                    tell(0)
                    offset, left = offset + len(data), left - len(data)
                parts.append(part)
            at += part.size
    return parts


# -- R3 -------------------------------------------------------------------------------------------


def _amended(plan: Plan, parts: Sequence[Part]) -> Plan:
    known = {part.path: part for part in parts}
    files = tuple(replace(file, parts=tuple(known.get(part.path, part) for part in file.parts)) for file in plan.files)
    return replace(plan, files=files)


def _plan_of(store: Store, job: Job, mend: Mend) -> Plan:
    """What a finisher would do with an hour that is closed and not finished. Raises Incomplete for an open one."""
    hour = mend.parts[0].hour
    plan = next((plan for plan in _due(store, job, mend.topic, mend.topic_id) if plan.hour == hour), None)
    if plan is None:
        raise Incomplete(
            f"{mend.path}: its records are in Kafka, but come out in other compressed bytes, and its hour "
            f"{layout.hour_name(hour, mend.window_ms)} is still open",
            hint="run the same command again when every partition has closed the hour: 'logflume status' tells",
        )
    return plan


def _due(store: Store, job: Job, topic: str, topic_id: str) -> list[Plan]:
    with ThreadPoolExecutor(THREADS) as pool:
        follower = TopicFollower(store, topic, topic_id, job.settings, pool)
        follower.refresh()
        return follower.due(DUE_HOURS)


def _replan(store: Store, plan: Plan) -> None:
    path = f"{store.root}/{layout.plan_path(plan.topic, plan.topic_id, plan.hour, plan.window_ms)}"
    if plan.reveal == plans.OPERATOR:
        raise Incomplete(
            f"{plan.directory} was shown by an operator and is not finished",
            hint="run the same command again when the hour is finished",
        )
    held = store.read(path) if store.stat(path) is not None else None
    if held != plans.encode(plan):
        store.delete(path)
        if run.put_plan(store, plan) != plan:
            raise Stopped(f"{path}: a finisher put its own plan just now", hint="run the same command again")
    for name in (layout.SUCCESS, layout.INCOMPLETE):
        store.delete(f"{store.root}/{plan.directory}/{name}")


# -- all of it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finish:
    """Hours in which parts were mended; those that are due and not marked yet are finished."""

    topic: str
    topic_id: str
    hours: tuple[int, ...]


def finish_hours(job: Job, wanted: Finish, _tell: Tell) -> int:
    """Returns how many hours got their marker."""
    store = open_root(job)
    try:
        due = [plan for plan in _due(store, job, wanted.topic, wanted.topic_id) if plan.hour in wanted.hours]
        return sum(_finish(store, plan) for plan in due)
    finally:
        store.close()


@dataclass(frozen=True, slots=True)
class Outcome:
    mended: tuple[Mended, ...]
    seconds: float


def repair(job: Job, mends: Sequence[Mend], processes: int, tell: Tell) -> Outcome:
    """Mend all, and finish what they held back. Raises the first LogflumeError; the others are mended before."""
    began = time.monotonic()
    records = sum(mend.records for mend in mends)
    log.info("backfill begins", topic=job.topic, root=job.root, files=len(mends), records=records, repair=True)
    try:
        with LocalPool(job, processes, tell) as pool:
            done = [one for group in pool.run(run_group, groups(mends)) for one in group]
            if done:
                pool.run(finish_hours, [Finish(job.topic, mends[0].topic_id, tuple({one.hour for one in done}))])
    except LogflumeError as error:
        seconds = round(time.monotonic() - began, 3)
        log.error("backfill failed", topic=job.topic, seconds=seconds, error=str(error), hint=error.hint, repair=True)
        raise
    outcome = Outcome(tuple(done), round(time.monotonic() - began, 3))
    log.info("backfill ends", topic=job.topic, root=job.root, seconds=outcome.seconds, files=len(done), repair=True)
    return outcome
