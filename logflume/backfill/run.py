"""A replay from its request to its last marker."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logflume.backfill import close
from logflume.backfill.close import Hours
from logflume.backfill.engine import LocalPool
from logflume.backfill.model import Job, Manifest, Plan, Request, Split, identity, plan_from, plan_json
from logflume.backfill.plan import cut, facts_of
from logflume.backfill.replay import Tell, open_root, run_split
from logflume.core import layout
from logflume.daemon.slot import now_ms
from logflume.errors import LedgerError, LogflumeError, Missing, UsageError
from logflume.kafka.ranges import RangeReader
from logflume.kafka.topics import Topics
from logflume.log import get
from logflume.store.base import Store

log = get(__name__)

#: partitions, and records of each, that are read for an estimate of the bytes
SAMPLED, SAMPLE = 4, 200

#: runs all splits, in whatever order, wherever; the pool is there for the steps before and after
Engine = Callable[[LocalPool, Job, Sequence[Split], Tell], list[Manifest]]


@dataclass(frozen=True, slots=True)
class Outcome:
    plan: Plan
    manifests: tuple[Manifest, ...]
    hours: Hours
    seconds: float


def local_engine(pool: LocalPool, _job: Job, splits: Sequence[Split], _tell: Tell) -> list[Manifest]:
    """The default: the pool does the splits, too."""
    return pool.run(run_split, splits)


def make_plan(job: Job, request: Request) -> Plan:
    """The plan of this replay: the one its tree has, or a new one, which is not written yet."""
    store = open_root(job)
    try:
        topics = Topics(job.config.kafka.options)
        topic = topics.topic(request.topic)
        known = read_plan(store, request.topic, topic.topic_id)
        if known is None:
            committed = job.config.kafka.read_committed
            facts = facts_of(topics, request, job.settings, read_committed=committed, now_ms=now_ms())
            return cut(request, job.settings, facts)
        if known.request != json.loads(json.dumps(identity(request, job.settings.hash))):
            raise UsageError(
                f"{job.root} has another replay of topic {request.topic}: {json.dumps(known.request)}",
                hint="give every replay a root of its own; to go on with that one, ask for the same range with "
                "the same settings",
            )
        return known
    finally:
        store.close()


def read_plan(store: Store, topic: str, topic_id: str) -> Plan | None:
    """The plan that a tree was made by, None for a tree without this topic. Raises UsageError for a live one."""
    path = f"{store.root}/{layout.topic_path(topic, topic_id)}"
    try:
        body = json.loads(store.read(path))
    except Missing:
        if store.list(f"{store.root}/{layout.LEDGER_ROOT}/{topic}"):
            raise UsageError(
                f"{store.url} has topic {topic} under another id: it was re-created, or is of another cluster",
                hint="give the replay a root of its own",
            ) from None
        return None
    except ValueError as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error
    if "backfill" not in body:
        raise UsageError(
            f"{store.url} has the ledger of a daemon for topic {topic}",
            hint="give the replay a root of its own; to bring back what was lost there, use --repair",
        )
    return plan_from(topic, topic_id, body["backfill"])


def put_plan(store: Store, wanted: Plan) -> Plan:
    """Write the plan beside the ledgers, where daemons keep the first number of partitions; the first one holds."""
    directory = f"{store.root}/{layout.topic_directory(wanted.topic, wanted.topic_id)}"
    body = {
        "topic": wanted.topic,
        "topic_id": wanted.topic_id,
        "partitions": len(wanted.splits),
        "backfill": plan_json(wanted),
    }
    path = f"{store.root}/{layout.topic_path(wanted.topic, wanted.topic_id)}"
    try:
        store.put_if_absent(path, json.dumps(body).encode() + b"\n", f"{directory}/{uuid.uuid4().hex}.tmp")
    except LogflumeError:
        # the reply may be lost although it was done: only reading tells
        if store.stat(path) is None:
            raise
    found = read_plan(store, wanted.topic, wanted.topic_id)
    if found is None or found.request != json.loads(json.dumps(wanted.request)):
        raise UsageError(f"{store.url}: another replay of topic {wanted.topic} was begun just now")
    return found


def fix_plan(job: Job, plan: Plan, _tell: Tell) -> Plan:
    """``put_plan`` as an engine's work."""
    store = open_root(job)
    try:
        return put_plan(store, plan)
    finally:
        store.close()


def finish(job: Job, plan: Plan, tell: Tell) -> Hours:
    """What is to be done when every split is at its end, as an engine's work. May be repeated."""
    store = open_root(job)
    try:
        close.close_all(store, job, plan)
        return close.finish_all(store, job, plan, tell)
    finally:
        store.close()


def replay(job: Job, plan: Plan, engine: Engine, processes: int, tell: Tell) -> Outcome:
    """All of it. Raises LogflumeError; the same call then goes on where this one was."""
    began = time.monotonic()
    log.info("backfill begins", topic=plan.topic, root=job.root, splits=len(plan.splits), records=plan.records)
    try:
        with LocalPool(job, processes, tell) as pool:
            (plan,) = pool.run(fix_plan, [plan])
            manifests = engine(pool, job, plan.splits, tell)
            (hours,) = pool.run(finish, [plan])
    except LogflumeError as error:
        log.error(
            "backfill failed", topic=plan.topic, root=job.root, seconds=_since(began), error=str(error), hint=error.hint
        )
        raise
    outcome = Outcome(plan, tuple(manifests), hours, _since(began))
    log.info(
        "backfill ends",
        topic=plan.topic,
        root=job.root,
        seconds=outcome.seconds,
        records=sum(one.records for one in manifests),
        parts=sum(one.parts for one in manifests),
        complete=hours.complete,
        incomplete=hours.incomplete,
        already=all(one.already for one in manifests),
    )
    return outcome


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def estimate_bytes(job: Job, splits: Sequence[Split]) -> int:
    """Bytes of the values in these ranges, by the mean of some records of some of them; before compression."""
    read = [split for split in splits if split.records][:SAMPLED]
    size = count = 0
    for split in read:
        begin = split.start + split.records // 2
        end = min(split.end, begin + SAMPLE)
        with RangeReader(job.config.kafka.options, split.pid.topic, split.pid.partition, begin, end) as reader:
            while not reader.done:
                batch = reader.poll(SAMPLE)
                if batch is not None:
                    size += sum(len(value or b"") + 1 for value in batch.values)
                    count += len(batch.values)
    return 0 if not count else size * sum(split.records for split in splits) // count


def prepare(job: Job, request: Request) -> tuple[Plan, int]:
    """The plan and the bytes to expect, for ``process.apart``."""
    plan = make_plan(job, request)
    return plan, estimate_bytes(job, plan.splits)
