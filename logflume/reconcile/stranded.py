"""Hours that an earlier id of a re-created topic has left open: nobody will ever close them.

The new id begins after the last hour of the old one that has a record (K10), so what was decided of that hour would
stay hidden for good. A person shows it, marked ``_INCOMPLETE``, with ``logflume reveal``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from logflume.core import layout
from logflume.errors import Missing
from logflume.reconcile.findings import Finding, What
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store


def current_id(store: Store, topic: str, topic_ids: Iterable[str]) -> str | None:
    """The id that was accepted last; None where none was, so that there is only the first one."""
    accepted = []
    for topic_id in topic_ids:
        try:
            body = json.loads(store.read(f"{store.root}/{layout.accepted_path(topic, topic_id)}"))
            accepted.append((int(body["at"]), topic_id))
        except Missing:
            continue
        except (ValueError, KeyError, TypeError):
            # what it says is for people: that it is there is what counts
            accepted.append((0, topic_id))
    return max(accepted)[1] if accepted else None


def stranded(store: Store, topic: str, walks: list[TopicWalk], open_hours: Iterable[tuple[str, int]]) -> list[Finding]:
    """``open_hours``: (topic id, hour) that are not settled. A call for each id, and one for each such hour."""
    current = current_id(store, topic, [walk.topic_id for walk in walks]) if len(walks) > 1 else None
    old = {walk.topic_id: walk for walk in walks if current is not None and walk.topic_id != current}
    found = []
    for topic_id, hour in sorted(open_hours):
        walk = old.get(topic_id)
        if walk is None:
            continue
        end, until = hour + walk.window_ms, walk.closed_until
        parts = [one for chain in walk.chains.values() for one in chain.parts.get(hour, ())]
        if not parts or (until is not None and end <= until):
            continue  # closed by all: reconcile --repair finishes it
        directory, name = layout.hour_path(topic, hour, walk.window_ms), layout.hour_name(hour, walk.window_ms)
        if store.stat(f"{store.root}/{directory}/{layout.INCOMPLETE}") is not None:
            continue  # shown by now
        waits = ", ".join(str(number) for number, chain in walk.chains.items() if not chain.closes(end))
        records = sum(one.part.count for one in parts)
        detail = f"{records} records of id {topic_id}; partition {waits} of it will never close the hour"
        hint = f"to show them, marked _INCOMPLETE: logflume reveal {topic} {name} --topic-id {topic_id} -c CONFIG"
        found.append(Finding(What.HOUR_STRANDED, topic, directory, detail, topic_id, hour=name, hint=hint))
    return found
