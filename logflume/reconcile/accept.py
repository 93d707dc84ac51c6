"""Decisions that only a person may take, written into the ledger with a reason: lost offsets, a new topic."""

from __future__ import annotations

import json
import uuid

from logflume import commit
from logflume.commit import Owner
from logflume.core import layout, ledger
from logflume.core.ledger import Head
from logflume.errors import UsageError
from logflume.model import PartitionId
from logflume.store.base import Store


def accept_gap(store: Store, pid: PartitionId, until: int, owner: Owner, reason: str) -> Head:
    """Go on reading at ``until`` although offsets below it are lost (K8).

    Hours that may have had records there are marked ``_INCOMPLETE`` with this reason. A running daemon is
    fenced by the entry and goes on from it by itself. Raises UsageError without a chain or where
    nothing is lost, Fenced when a running daemon was quicker (call again), store errors.
    """
    head = commit.read_head(store, pid)
    if head is None:
        raise UsageError(f"{pid} has no ledger below {store.url}: there is nothing to accept")
    if until <= head.state.committed:
        raise UsageError(f"{pid}: nothing is lost below {until}, reading goes on at {head.state.committed}")
    note = f"offsets {head.state.committed} to {until - 1} were lost and accepted as lost: {reason}"
    entry = ledger.lose(head, until=until, owner=owner.name, at=owner.clock(), config=owner.config, note=note)
    commit.publish(store, head.entry)
    return commit.append(store, entry)


def accept_topic(store: Store, topic: str, topic_id: str, owner: Owner, reason: str) -> bool:
    """Let a re-created topic follow the one of the same name (K10); False if that was accepted before.

    Its first hours are those after the last one in which the old topic has a record.
    """
    path = f"{store.root}/{layout.accepted_path(topic, topic_id)}"
    body = {"topic": topic, "topic_id": topic_id, "by": owner.name, "at": owner.clock(), "reason": reason}
    tmp = f"{store.root}/{layout.topic_directory(topic, topic_id)}/tmp/{uuid.uuid4().hex}"
    return store.put_if_absent(path, json.dumps(body).encode() + b"\n", tmp)
