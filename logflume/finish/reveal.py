"""``logflume reveal``: show an hour that a stopped partition holds back, as far as it is decided.

One step after the other, each of which may be repeated, so that a reveal that was killed is completed by the
next one, or by the finisher:

1. the operator's plan, put-if-absent where finishing puts its own. From then on each part is a file of its own.
2. every part of it gets its visible name: one rename each.
3. ``_INCOMPLETE`` with the plan's bytes: what is missing, partition by partition.

What a reader sees: until 3 there is no marker, and a listing has some of the files. From then on the files do not
change. When the rest has come the finisher *adds* what is missing under names of its own, and only then puts
``_SUCCESS`` and takes the operator's ``_INCOMPLETE`` away; so a file that was shown is never renamed or rewritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from logflume import commit
from logflume.core import layout
from logflume.core.ledger import Closing, Head, Part
from logflume.errors import Missing, UsageError
from logflume.finish import plan as plans
from logflume.finish import run
from logflume.finish.plan import File, PartitionHour, Plan, make_plan
from logflume.model import Kind
from logflume.store.base import Store
from logflume.units import show_instant


@dataclass(frozen=True, slots=True)
class Revealed:
    """``state``: ``revealed``, ``planned`` (a dry run), or why there was nothing to do: ``marked``, ``finishing``."""

    state: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class _OneChain:
    head: Head
    parts: tuple[Part, ...]
    closing: Closing | None

    @property
    def closes(self) -> bool:
        return self.closing is not None


def reveal(
    store: Store, topic: str, topic_id: str, hour: int, *, dry_run: bool = False, stranded: bool = False
) -> Revealed:
    """``stranded``: the topic was re-created, and this id's hours that are open stay so.

    Raises UsageError where no partition, or every partition, has closed the hour; Stopped where files
    contradict the ledger; store errors, after which the same call goes on.
    """
    plan = operators_plan(store, topic, topic_id, hour, stranded=stranded)
    directory = f"{store.root}/{plan.directory}"
    if run.marked(store, directory):
        return Revealed("marked", plan)
    if not plan.incomplete:
        raise UsageError(
            f"nothing holds {layout.hour_name(hour, plan.window_ms)} of {topic} back: every partition has closed it",
            hint="a running daemon finishes it, and so does 'logflume reconcile --repair'",
        )
    if dry_run:
        return Revealed("planned", plan)
    found = run.put_plan(store, plan)
    if run.marked(store, directory):
        # a finisher was quicker, and our plan was never due
        run.tidy(store, plan)
        return Revealed("marked", plan)
    if found is None or found.reveal != plans.OPERATOR:
        return Revealed("finishing", plan)
    run.publish_left(store, found)
    for file in found.files:
        run.merge_and_reveal(store, found, file)
    run.mark(store, found)
    if store.stat(f"{directory}/{layout.SUCCESS}") is not None:
        # the rest came just now
        run.tidy(store, found)
        return Revealed("marked", found)
    return Revealed("revealed", found)


def operators_plan(store: Store, topic: str, topic_id: str, hour: int, *, stranded: bool = False) -> Plan:
    """The hour as the ledgers have it now. ``incomplete`` is empty when every partition has closed it."""
    chains = {pid.partition: commit.read_head(store, pid) for pid in commit.chains(store, topic, topic_id)}
    heads = {number: head for number, head in chains.items() if head is not None}
    if not heads:
        raise UsageError(f"topic {topic} has no ledger below {store.url}")
    window_ms = next(iter(heads.values())).state.window_ms
    if hour % window_ms:
        raise UsageError(f"{show_instant(hour)} is not the begin of an hour of topic {topic}")
    read = {number: _read(store, head, hour) for number, head in heads.items()}
    directory = f"{store.root}/{layout.hour_path(topic, hour, window_ms)}"
    held = any(one.closes or (stranded and one.parts) for one in read.values())
    if not held and not run.marked(store, directory):
        raise UsageError(
            f"{layout.hour_name(hour, window_ms)} of {topic} is not held back: no partition has closed it, or all "
            "have forgotten it",
            hint="'logflume status' says which hours wait for what",
        )
    return _plan(topic, topic_id, hour, window_ms, read, _missing(store, topic, topic_id, hour, read))


def _read(store: Store, head: Head, hour: int) -> _OneChain:
    """The parts of the hour and how it was closed, from the first entry that may have one of them."""
    state, pid = head.state, head.entry.pid
    parts: list[Part] = []
    closing = None
    for seq in range(min(state.unfinished.values(), default=head.entry.seq), head.entry.seq + 1):
        entry = head.entry if seq == head.entry.seq else commit.read_entry(store, pid, seq).entry
        parts += [part for part in entry.parts if part.kind is Kind.HOUR and part.hour == hour]
        closing = closing or next((one for one in entry.closed if one.covers(hour + state.window_ms)), None)
    return _OneChain(head, tuple(parts), closing)


def _missing(store: Store, topic: str, topic_id: str, hour: int, read: dict[int, _OneChain]) -> list[str]:
    """What keeps the hour from being complete, one line for each partition."""
    try:
        first = commit.first_partitions(store, topic, topic_id)
    except Missing:
        first = 0
    missing = {number: "it has no ledger yet" for number in range(first) if number not in read}
    for number, one in read.items():
        state = one.head.state
        if not one.closes:
            mark = "none" if state.watermark is None else show_instant(state.watermark)
            missing[number] = f"not closed; C is {state.committed}, its watermark {mark}"
        elif blind := [blind.reason for blind in state.blind if blind.covers(hour)]:
            missing[number] = "; ".join(blind)
    waits = any(number not in read or not read[number].closes for number in missing)
    return [f"partition {number}: {missing[number]}" for number in sorted(missing)] if waits else []


def _plan(
    topic: str, topic_id: str, hour: int, window_ms: int, read: dict[int, _OneChain], missing: Sequence[str]
) -> Plan:
    closed = {n: PartitionHour(one.parts, one.closing) for n, one in read.items() if one.closing is not None}
    plan = make_plan(topic, topic_id, hour, window_ms, closed, target_bytes=1, reveal=plans.OPERATOR)
    parts = [part for _, one in sorted(read.items()) for part in sorted(one.parts, key=lambda p: p.offsets.first)]
    states = [one.head.state for one in read.values()]
    return replace(
        plan,
        incomplete=tuple(missing),
        files=tuple(File(plans.visible_name(part), (part,)) for part in parts),
        late=sum(state.late for state in states),
        quarantined=sum(state.quarantined for state in states),
        dropped=sum(state.dropped for state in states),
    )
