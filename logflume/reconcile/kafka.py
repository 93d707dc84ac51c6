"""The ledgers against the log: topic ids, and where it begins and ends. Without Kafka this is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from logflume import commit
from logflume.core import layout
from logflume.errors import LogflumeError
from logflume.kafka.topics import Topics
from logflume.reconcile.findings import Finding, What
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store


def compare(
    store: Store, topics: Topics, checked: Mapping[str, Sequence[TopicWalk]], *, read_committed: bool
) -> tuple[list[Finding], dict[str, str]]:
    """Also returns the ids that the topics have in Kafka, "" for one that it does not know.

    One request for all topics, and two for each. Raises nothing: an answer that does not come is a note, and what was
    found of other topics and partitions stays.
    """
    try:
        known = topics.topics(list(checked))
    except LogflumeError as error:
        return [_unreachable("", error)], {}
    found = []
    for name, walks in checked.items():
        if name not in known:
            found.append(Finding(What.TOPIC_GONE, name, f"{layout.LEDGER_ROOT}/{name}", "Kafka does not know it"))
            continue
        current = next((walk for walk in walks if walk.topic_id == known[name].topic_id), None)
        try:
            if current is None:
                found += _recreated(store, name, known[name].topic_id, walks)
            else:
                found += _offsets(store, topics, current, read_committed=read_committed)
        except LogflumeError as error:
            found.append(_unreachable(name, error))
    return found, {name: known[name].topic_id if name in known else "" for name in checked}


def _unreachable(topic: str, error: LogflumeError, detail: str = "") -> Finding:
    return Finding(What.KAFKA_UNREACHABLE, topic, "kafka", detail or str(error), hint=error.hint)


def _recreated(store: Store, name: str, topic_id: str, walks: Sequence[TopicWalk]) -> list[Finding]:
    if store.stat(f"{store.root}/{layout.accepted_path(name, topic_id)}") is not None:
        return []  # accepted, and not begun
    ids = ", ".join(walk.topic_id for walk in walks)
    return [
        Finding(
            What.TOPIC_RECREATED,
            name,
            layout.topic_directory(name, topic_id),
            f"its id in Kafka is {topic_id}, and the ledgers are of {ids}",
            topic_id,
            hint=f"to go on with the new one: logflume reconcile --accept-topic {name} --reason TEXT -c CONFIG",
        )
    ]


def _offsets(store: Store, topics: Topics, walk: TopicWalk, *, read_committed: bool) -> list[Finding]:
    chains = {(walk.topic, number): chain for number, chain in walk.chains.items() if chain.head is not None}
    known, silent = topics.bounds(chains, read_committed=read_committed)
    found = []
    for part, (start, end) in known.items():
        chain = chains[part]
        if chain.head is None:
            continue
        pid, committed = chain.pid, chain.head.state.committed
        path = layout.chain_directory(pid)
        if start > committed:
            # a running owner may have come further since the chain was read
            newest = commit.read_head(store, pid)
            committed = committed if newest is None else newest.state.committed
        if start > committed:
            detail = f"offsets {committed} to {start - 1} are gone from Kafka, and were never decided"
            hint = f"to go on without them: logflume reconcile --accept-gap {pid}:{start} --reason TEXT -c CONFIG"
            found.append(Finding(What.KAFKA_LOST, pid.topic, path, detail, pid.topic_id, pid.partition, hint=hint))
        if end < chain.head.state.reached:
            detail = f"the log ends at {end}, and offsets up to {chain.head.state.reached - 1} were decided"
            found.append(Finding(What.KAFKA_TRUNCATED, pid.topic, path, detail, pid.topic_id, pid.partition))
    if silent:
        numbers = ", ".join(str(number) for _, number in sorted(silent))
        first = silent[min(silent)]
        found.append(_unreachable(walk.topic, first, f"{first} (partitions {numbers} were not compared)"))
    return found
