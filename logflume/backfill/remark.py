"""R4 of a repair: the marker of an hour whose files are right, with the check sums that hold now."""

from __future__ import annotations

from logflume.backfill.replay import Tell
from logflume.core import layout
from logflume.errors import LedgerError, Missing, Stopped
from logflume.finish import plan as plans
from logflume.finish import run
from logflume.finish.plan import Plan
from logflume.log import get
from logflume.store.base import Store

log = get(__name__)


def put_plan(store: Store, plan: Plan) -> None:
    """In the place of one that says something else. Raises Stopped where a finisher was quicker."""
    path = f"{store.root}/{layout.plan_path(plan.topic, plan.topic_id, plan.hour, plan.window_ms)}"
    if _read(store, path) != plan:
        store.delete(path)
        if run.put_plan(store, plan) != plan:
            raise Stopped(f"{path}: a finisher put its own plan just now", hint="run the same command again")


def remark(store: Store, plan: Plan, tell: Tell) -> bool:
    """Finish the hour by this plan; True where its marker was put.

    A marker that says something else is taken away first, and the plan before that is what the next run goes on
    from. While another file of the hour is wrong nothing is done: whoever mends that one does it.
    """
    marker = f"{store.root}/{plan.directory}/{plan.marker}"
    said = _read(store, marker)
    if said == plan or plan.reveal == plans.OPERATOR:
        return False
    if said is not None and not _whole(store, plan):
        log.warning("the hour keeps its marker: other files of it are still wrong", hour=plan.directory)
        return False
    put_plan(store, plan)
    if said is not None:
        store.delete(marker)
    return finish(store, plan, tell)


def finish(store: Store, plan: Plan, tell: Tell) -> bool:
    """S7; False where another file of the hour is still wrong, or its hour marked by somebody else."""
    try:
        return run.finish(store, plan, progress=lambda _: tell(0)) is not None
    except (Missing, Stopped) as error:
        log.warning("the hour cannot be finished yet", hour=plan.directory, error=str(error), hint=error.hint)
        return False


def is_marked(store: Store, plan: Plan) -> bool:
    """Whether the hour's marker says what holds now. An hour that an operator has shown is a finisher's to mark."""
    return plan.reveal == plans.OPERATOR or _read(store, f"{store.root}/{plan.directory}/{plan.marker}") == plan


def _read(store: Store, path: str) -> Plan | None:
    try:
        return plans.decode(store.read(path))
    except (Missing, LedgerError):
        return None


def _whole(store: Store, plan: Plan) -> bool:
    there = {status.name: status.length for status in store.list(f"{store.root}/{plan.directory}")}
    return all(there.get(file.name) == file.size for file in plan.files)
