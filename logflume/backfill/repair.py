"""``--repair``: put files that are gone or damaged in their place again, so that only the ledger can tell.

R1 rebuild the bad parts from Kafka, copy the intact ones, upload the whole file under a new name in tmp. R2 where a
check sum is another now, write that down (``amend``), and put the hour's plan with the check sums that hold now. R3
move aside what is in the file's place, publish, and remove that. R4 where the hour's marker does not say what holds
now, or there is none, finish the hour by its plan (``remark``). R5 remove what runs that died have uploaded for files
that are whole.

A marker stays in its place until R4: it says what is to be there, so it leads every run to the whole file that R1 has
uploaded, also when intact parts of it are not in Kafka any more. Every step may be repeated, and what is left of
them shows: a file that is wrong, a marker that says other than ``amend``, a plan without a marker.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from logflume.backfill import amend
from logflume.backfill.engine import LocalPool
from logflume.backfill.look import Found, Mend, Wanted, bad_parts, find, partition_of, uploads_of
from logflume.backfill.merged import merged_into
from logflume.backfill.model import Job
from logflume.backfill.rebuild import rebuild
from logflume.backfill.remark import finish, is_marked, put_plan, remark
from logflume.backfill.replay import Tell, open_root
from logflume.core import layout
from logflume.core.ledger import Part
from logflume.daemon import spooldir
from logflume.daemon.slot import now_ms
from logflume.errors import Exists, Incomplete, LogflumeError, Missing, Refused, Stopped
from logflume.finish import plan as plans
from logflume.finish.follow import TopicFollower
from logflume.finish.plan import Plan
from logflume.finish.run import marked as has_marker
from logflume.kafka.topics import Topics
from logflume.log import get
from logflume.model import Kind
from logflume.store.base import FileStatus, Store

log = get(__name__)

#: hours a finisher may have before it; only those of which a part was mended are finished here
DUE_HOURS = 10_000
THREADS = 8
_AGAIN = "run the same command again"


@dataclass(frozen=True, slots=True)
class Mended:
    """One file that is in its place again. ``amended``: parts that have another check sum now."""

    path: str
    hour: int
    parts: int
    records: int
    bytes: int
    amended: int


def look(job: Job, wanted: Wanted) -> Found:
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
    """R1 to R4 for the files of one hour. Raises LogflumeError; the same call then goes on."""
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
    for mend, tmp, _ in files:
        _check_not_merged(store, mend, tmp)
    changed = [(new, old) for mend, _, parts in files for new, old in zip(parts, mend.parts, strict=True) if new != old]
    plan = group[0].plan
    if changed and group[0].parts[0].kind is Kind.HOUR:
        plan = _plan_for_changes(store, job, group[0], tell)
    for new, old in changed:
        amend.put(store, group[0].topic, group[0].topic_id, new, old, now_ms())
    if plan is not None:
        plan = amend.apply_to_plan(plan, {part.path: part for _, _, parts in files for part in parts})
        if changed:
            put_plan(store, plan)
    for mend, tmp, parts in files:
        _place(store, mend, tmp, parts)
    if plan is not None:
        remark(store, plan, tell)
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


def _place(store: Store, mend: Mend, tmp: str, parts: Sequence[Part]) -> None:
    """R3. What is in the file's place is moved aside, not deleted: another run may have put the whole file there just
    now, and have removed our upload since. Aside it counts as an upload, so R1 finds it and R5 removes it. And where a
    compaction has taken the file meanwhile, ours is taken back.
    """
    final, size = f"{store.root}/{mend.path}", sum(part.size for part in parts)
    there = store.stat(final)
    aside = None
    if there is None and mend.length is not None:
        raise Stopped(f"{mend.path} was moved since it was looked at", hint=_AGAIN)
    if there is not None:
        _check_length(mend, size, there)
        if there.length == size and not bad_parts(store, mend.path, parts)[0]:
            log.info("another repair has mended the file", path=mend.path)
            store.delete(tmp)
            return
        aside = _tmp_of(store, mend)
        _move_aside(store, mend, size, aside)
    try:
        store.publish(tmp, final)
    except (Exists, Missing):
        # another run put its own there, or found that there was nothing to do and removed ours
        if aside is not None:
            _put_back(store, aside, final)
        if bad_parts(store, mend.path, parts)[0]:
            raise Stopped(f"{mend.path} is just being written by somebody else", hint=_AGAIN) from None
    if aside is not None:
        store.delete(aside)
    try:
        _check_not_merged(store, mend, tmp)
    except Stopped:
        _put_back(store, final, tmp)
        raise
    log.info("file mended", path=mend.path, parts=len(mend.bad))


def _check_not_merged(store: Store, mend: Mend, tmp: str) -> None:
    path = merged_into(store, mend)
    if path is not None:
        raise Stopped(
            f"{mend.path} was merged into {path} since it was looked at",
            hint=f"{_AGAIN}; if Kafka does not have its records any more, they are in {tmp}",
        )


def _check_length(mend: Mend, size: int, there: FileStatus | None) -> None:
    if there is None or there.length not in (mend.length, size):
        # a finisher has merged more into it since: that must not be lost
        raise Stopped(f"{mend.path} is just being written by somebody else", hint=_AGAIN)


def _move_aside(store: Store, mend: Mend, size: int, aside: str) -> None:
    final = f"{store.root}/{mend.path}"
    try:
        store.publish(final, aside)
    except Missing:
        raise Stopped(f"{mend.path} is just being moved by somebody else", hint=_AGAIN) from None
    try:
        # once more: from now on nobody writes to it
        _check_length(mend, size, store.stat(aside))
    except Stopped:
        _put_back(store, aside, final)
        raise


def _put_back(store: Store, aside: str, final: str) -> None:
    with suppress(Exists, Missing):
        store.publish(aside, final)


def _tmp_of(store: Store, mend: Mend) -> str:
    directory = layout.topic_directory(mend.topic, mend.topic_id)
    return f"{store.root}/{directory}/tmp/{layout.repaired_name(mend.path, uuid.uuid4().hex)}"


# -- R1 -------------------------------------------------------------------------------------------


def _whole(store: Store, job: Job, mend: Mend, folder: Path, tell: Tell) -> tuple[str, Sequence[Part]]:
    """The whole file in tmp, and its parts as they are now."""
    found = _uploaded(store, mend)
    if found is not None:
        return found, mend.parts
    whole = folder / "whole"
    parts = _assemble(store, job, mend, folder, whole, tell)
    tmp = _tmp_of(store, mend)
    store.upload(whole, tmp)
    return tmp, parts


def _uploaded(store: Store, mend: Mend) -> str | None:
    """A whole file that an earlier run has uploaded."""
    for status in uploads_of(store, mend.topic, mend.topic_id):
        path = status.path.removeprefix(f"{store.root}/")
        if status.name.startswith(layout.repaired_name(mend.path)) and not bad_parts(store, path, mend.parts)[0]:
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
                        raise Stopped(f"{mend.path} became shorter just now", hint=_AGAIN)
                    file.write(data)
                    tell(0)
                    offset, left = offset + len(data), left - len(data)
                parts.append(part)
            at += part.size
    return parts


# -- R2 -------------------------------------------------------------------------------------------


def _plan_for_changes(store: Store, job: Job, mend: Mend, tell: Tell) -> Plan:
    """The plan of an hour that will say other check sums than the ledger; for one that is closed and not finished, what
    a finisher would do with it. Raises Incomplete for an hour that is still open.
    """
    if mend.plan is not None and mend.plan.reveal == plans.OPERATOR:
        raise Incomplete(
            f"{mend.plan.directory} was shown by an operator and is not finished",
            hint="run the same command again when the hour is finished",
        )
    if mend.plan is not None:
        return mend.plan
    hour = mend.parts[0].hour
    plan = next((plan for plan in _due(store, job, mend.topic, mend.topic_id, tell) if plan.hour == hour), None)
    if plan is None:
        raise Incomplete(
            f"{mend.path}: its records are in Kafka, but come out in other compressed bytes, and its hour "
            f"{layout.hour_name(hour, mend.window_ms)} is still open",
            hint="run the same command again when every partition has closed the hour: 'logflume status' tells",
        )
    return plan


def _due(store: Store, job: Job, topic: str, topic_id: str, tell: Tell) -> list[Plan]:
    with ThreadPoolExecutor(THREADS) as pool:
        follower = TopicFollower(store, topic, topic_id, job.settings)
        follower.refresh(pool, lambda: tell(0))
        return follower.due(DUE_HOURS)


# -- all of it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finish:
    """Hours in which parts were mended; those that are due and not marked yet are finished. ``plans``: of hours
    that lack their (new) marker, or whose files were mended. ``files``: what was mended, or is whole and has uploads.
    """

    topic: str
    topic_id: str
    hours: tuple[int, ...]
    plans: tuple[Plan, ...]
    files: tuple[Mend, ...]


def finish_hours(job: Job, wanted: Finish, tell: Tell) -> tuple[int, tuple[str, ...]]:
    """Returns how many hours got their marker, and the hours that are still without it."""
    store = open_root(job)
    try:
        amended = amend.read(store, wanted.topic, wanted.topic_id)
        due = _due(store, job, wanted.topic, wanted.topic_id, tell) if wanted.hours else []
        due = [amend.apply_to_plan(plan, amended) for plan in due if plan.hour in wanted.hours]
        plans = [amend.apply_to_plan(plan, amended) for plan in wanted.plans]
        marked = sum([*(finish(store, plan, tell) for plan in due), *(remark(store, plan, tell) for plan in plans)])
        left = {plan.directory for plan in plans if not is_marked(store, plan)}
        left |= {plan.directory for plan in due if not has_marker(store, f"{store.root}/{plan.directory}")}
        if not left:
            _remove_left(store, wanted, amended, tell)
        return marked, tuple(sorted(left))
    finally:
        store.close()


def _remove_left(store: Store, wanted: Finish, amended: dict[str, Part], tell: Tell) -> None:
    """R5: nobody else may, since it takes a look at the bytes to know that an upload is not the only copy.

    Listed first, then looked at: what another run moves aside after that look is not among them.
    """
    uploads = uploads_of(store, wanted.topic, wanted.topic_id)
    for file in wanted.files:
        left = [status for status in uploads if status.name.startswith(layout.repaired_name(file.path))]
        tell(0)
        if left and not bad_parts(store, file.path, amend.apply(file.parts, amended))[0]:
            for status in left:
                store.delete(status.path)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``marked``: hours that were found without a marker, or with an old one, and have it now; ``unmarked``: those
    that still have not.
    """

    mended: tuple[Mended, ...]
    marked: int
    unmarked: tuple[str, ...]
    seconds: float


def repair(job: Job, found: Found, processes: int, tell: Tell) -> Outcome:
    """Mend all, and finish what they held back. Raises the first LogflumeError; the others are mended before."""
    began = time.monotonic()
    mends = found.mends
    records = sum(mend.records for mend in mends)
    log.info("backfill begins", topic=job.topic, root=job.root, files=len(mends), records=records, repair=True)
    marked, unmarked = 0, tuple[str, ...]()
    try:
        with LocalPool(job, processes, tell) as pool:
            done = [one for group in pool.run(run_group, groups(mends)) for one in group]
            files = (*mends, *found.whole)
            if files or found.plans:
                topic_id = files[0].topic_id if files else found.plans[0].topic_id
                hours = {mend.parts[0].hour for mend in mends if mend.parts[0].kind is Kind.HOUR}
                hour_plans = {mend.plan.hour: mend.plan for mend in mends if mend.plan is not None}
                hour_plans |= {plan.hour: plan for plan in found.plans}
                last = Finish(job.topic, topic_id, tuple(hours), tuple(hour_plans.values()), files)
                ((marked, unmarked),) = pool.run(finish_hours, [last])
    except LogflumeError as error:
        seconds = round(time.monotonic() - began, 3)
        log.error("backfill failed", topic=job.topic, seconds=seconds, error=str(error), hint=error.hint, repair=True)
        raise
    outcome = Outcome(tuple(done), marked, unmarked, round(time.monotonic() - began, 3))
    log.info(
        "backfill ends",
        topic=job.topic,
        root=job.root,
        seconds=outcome.seconds,
        files=len(done),
        marked=marked,
        unmarked=len(unmarked),
        repair=True,
    )
    return outcome
