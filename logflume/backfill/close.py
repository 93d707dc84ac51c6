"""After all splits of a replay: close what the range leaves open, and finish every hour.

A replay ends, so somebody has to close its last hours: each partition gets one entry with a closing of reason
``backfill`` up to the end of the last hour of any of them. An hour that this closes and that might have had
records behind the range is never called complete (``Blind``): but for partitions whose range ends where the log
still does, silent for as long as a daemon would have asked for. The steps may be repeated, by several at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from logflume import commit
from logflume.backfill.engine import DEADLINES
from logflume.backfill.model import Job, Plan, Split
from logflume.backfill.replay import Tell, at_end
from logflume.core import ledger
from logflume.core.ledger import Blind, Closing, Entry, Head
from logflume.daemon.slot import now_ms
from logflume.errors import Fenced, Stopped
from logflume.finish import run
from logflume.finish.follow import TopicFollower
from logflume.kafka.topics import Topics
from logflume.store.base import Store

CLOSING = "backfill"
THREADS = 8
HOURS_AT_ONCE = 64
#: another run may append the same closing at the same time
TRIES = 5
#: between two questions whether the log goes on
ASK_END_S = 1.0


@dataclass(frozen=True, slots=True)
class Hours:
    """The finished hours of a replay."""

    complete: int = 0
    incomplete: int = 0


def close_all(store: Store, job: Job, plan: Plan) -> None:
    """The final closing of every partition. Raises Stopped where a split is not at its end, and where it would have
    to wait too long for a silent log.
    """
    heads = [_head(store, split) for split in plan.splits]
    until = _until(heads, plan)
    if until is None:
        return
    asked = [split for split, head in zip(plan.splits, heads, strict=True) if _rests_on_silence(head, split, until)]
    silent = _silent(job, plan, asked)
    splits = [split if split.pid.partition in silent else replace(split, idle_until=None) for split in plan.splits]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda split: _close(store, job, split, until), splits))


def _rests_on_silence(head: Head, split: Split, until: int) -> bool:
    """Whether some hour before ``until`` can be vouched for by the silence of the log only."""
    frontier = head.state.frontier
    return split.idle_until is not None and (frontier is None or frontier < min(split.idle_until, until))


def _silent(job: Job, plan: Plan, splits: Sequence[Split]) -> set[int]:
    """Which partitions' logs still end where the plan found their end, and were silent for ``idle_grace``: by the Kafka
    times of their records, or since the plan. Waits for the latter.
    """
    topics = Topics(job.config.kafka.options)
    grace_ms = job.settings.idle_grace_ms
    # the pool would kill a process that says nothing for longer
    longest_ms = (DEADLINES - 1) * job.config.daemon.call_deadline_ms
    limits = {(plan.topic, split.pid.partition): split.limit for split in splits}
    while limits:
        now = now_ms()
        left_ms = plan.made_ms + grace_ms - now
        # an open transaction hides what is behind it (K13), so its records count, too
        ends = topics.end_offsets(limits, read_committed=False)
        limits = {part: limit for part, limit in limits.items() if ends[part] == limit}
        if left_ms <= 0 or all(offset is None for offset in topics.offsets_for_time(limits, now - grace_ms).values()):
            break
        if left_ms > longest_ms:
            raise Stopped(
                f"topic {plan.topic}: its last hours can be closed if the log stays silent for idle_grace",
                hint=f"run the same command again in {left_ms // 1000 + 1} s",
            )
        time.sleep(min(left_ms / 1000, ASK_END_S))
    return {number for _, number in limits}


def _head(store: Store, split: Split) -> Head:
    head = commit.read_head(store, split.pid)
    if head is None or not at_end(head, split):
        raise Stopped(f"{split.pid}: the range is not read to its end, {split.end}", hint="run the same command again")
    return head


def _until(heads: Sequence[Head], plan: Plan) -> int | None:
    """Until when hours are closed; None where no partition has a record."""
    if plan.span is not None:
        return plan.span.until
    ends = []
    for head in heads:
        state = head.state
        if state.seen is not None:
            ends.append(state.seen - state.seen % state.window_ms + state.window_ms)
    return max(ends, default=None)


def _close(store: Store, job: Job, split: Split, until: int) -> None:
    owner = f"backfill:{job.name}"
    for _ in range(TRIES):
        head = _head(store, split)
        if head.state.frontier is not None and head.state.frontier >= until:
            return
        entry = closing_entry(head, split, until, owner=owner, at=now_ms())
        ledger.check_follows(head, entry)
        try:
            commit.append(store, entry)
        except Fenced:
            # the same words from another run, or a claim of a twin that has nothing left to read
            continue
        return
    raise Fenced(f"{split.pid}: other runs of this replay extend the chain; is one still running?")


def closing_entry(head: Head, split: Split, until: int, *, owner: str, at: int) -> Entry:
    """The entry that closes all hours until ``until``, and says for which of them the range cannot vouch."""
    state = head.state
    closing = Closing(state.frontier, until, state.position, CLOSING, at)
    known = [time for time in (state.frontier, split.idle_until) if time is not None]
    since = max(known, default=None)
    blind = state.blind
    if since is None or since < until:
        blind = (*blind, Blind(since, None, state.position, f"the range ends at offset {state.position}"))
    after = replace(
        state,
        frontier=until,
        boundaries=(*state.boundaries, closing) if closing.boundary > state.committed else state.boundaries,
        unfinished={state.window_ms * (until // state.window_ms) - state.window_ms: head.entry.seq + 1}
        | dict(state.unfinished),
        blind=blind,
    )
    old = head.entry
    return Entry(
        pid=old.pid,
        seq=old.seq + 1,
        prev=head.sha256,
        what="decide",
        owner=owner,
        epoch=old.epoch,
        at=at,
        config=old.config,
        state=after,
        closed=(closing,),
        note="the end of a backfill's range",
    )


def finish_all(store: Store, job: Job, plan: Plan, tell: Tell) -> Hours:
    """S7 for every hour of the replay."""
    complete = incomplete = 0
    with ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(THREADS) as readers:
        follower = TopicFollower(store, plan.topic, plan.topic_id, job.settings)
        follower.refresh(readers, lambda: tell(0))
        while due := follower.due(HOURS_AT_ONCE):
            done = pool.map(lambda one: run.finish(store, one, progress=lambda _: tell(0)), due)
            for wanted, _ in zip(due, done, strict=True):
                follower.finished(wanted.hour)
                tell(0)
                complete += not wanted.incomplete
                incomplete += bool(wanted.incomplete)
    return Hours(complete, incomplete)
