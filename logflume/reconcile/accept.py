"""Decisions that only a person may take, written into the ledger with a reason: lost offsets, a new topic."""

from __future__ import annotations

import json
import uuid

from logflume import commit
from logflume.commit import Owner
from logflume.core import layout, ledger
from logflume.core.ledger import Head
from logflume.errors import UsageError
from logflume.kafka.topics import Topics
from logflume.model import PartitionId
from logflume.store.base import Store


def accept_gap(
    store: Store,
    topics: Topics,
    pid: PartitionId,
    until: int,
    owner: Owner,
    reason: str,
    *,
    even_readable: bool = False,
) -> Head:
    """Go on reading at ``until`` although offsets below it are lost (K8), or, with ``even_readable``, in Kafka still.

    Hours that may have had records there are marked ``_INCOMPLETE`` with this reason. A running daemon is
    fenced by the entry and goes on from it by itself. Raises UsageError without a chain, where
    nothing is lost or the log says otherwise, Fenced when a running daemon was quicker (call again), errors of the
    store and of Kafka.
    """
    head = commit.read_head(store, pid)
    if head is None:
        raise UsageError(f"{pid} has no ledger below {store.url}: there is nothing to accept")
    # at C itself: the log was truncated below it, and has grown again
    same = until == head.state.committed and even_readable and ledger.forgets_leader(head.state, until)
    if until <= head.state.committed and not same:
        raise UsageError(f"{pid}: nothing is lost below {until}, reading goes on at {head.state.committed}")
    _check_log(topics, pid, head.state.committed, until, even_readable=even_readable)
    lost = f"offsets {head.state.committed} to {until - 1} were lost and accepted as lost"
    note = f"{f'a log that changed below {until} was accepted' if same else lost}: {reason}"
    entry = ledger.lose(head, until=until, owner=owner.name, at=owner.clock(), config=owner.config, note=note)
    commit.publish(store, head.entry)
    return commit.append(store, entry)


def _check_log(topics: Topics, pid: PartitionId, committed: int, until: int, *, even_readable: bool) -> None:
    """C never goes back: a digit too many would stop the partition for good, or give up what can still be read."""
    part = pid.topic, pid.partition
    topic_id = topics.topic(pid.topic).topic_id
    if topic_id != pid.topic_id:
        raise UsageError(
            f"{pid}: the topic's id in Kafka is {topic_id}, and its ledger is of {pid.topic_id}: "
            "offsets of one mean nothing to the other",
            hint=f"to go on with the new one: logflume reconcile --accept-topic {pid.topic} --reason TEXT -c CONFIG",
        )
    start = topics.start_offsets([part])[part]
    # an open transaction has offsets, too, and may be what cannot be read
    end = topics.end_offsets([part], read_committed=False)[part]
    if until > end:
        raise UsageError(f"{pid}: offset {until} is beyond the log, which begins at {start} and ends at {end}")
    readable = until - max(start, committed)
    if readable > 0 and not even_readable:
        raise UsageError(
            f"{pid}: Kafka still has {readable} of the offsets below {until}: the log begins at {start}, and reading "
            f"goes on at {committed}",
            hint="give the offset at which the log begins; with --even-readable what Kafka has is given up, too",
        )


def accept_topic(store: Store, topic: str, topic_id: str, owner: Owner, reason: str) -> bool:
    """Let a re-created topic follow the one of the same name (K10); False if that was accepted before.

    Its first hours are those after the last one in which the old topic has a record.
    """
    path = f"{store.root}/{layout.accepted_path(topic, topic_id)}"
    body = {"topic": topic, "topic_id": topic_id, "by": owner.name, "at": owner.clock(), "reason": reason}
    tmp = f"{store.root}/{layout.topic_directory(topic, topic_id)}/tmp/{uuid.uuid4().hex}"
    return store.put_if_absent(path, json.dumps(body).encode() + b"\n", tmp)
