"""What a repair could not make the same to the byte, written down beside the ledgers.

A part's lines are what was decided, and its length is; but where the daemon cut them into compressed chunks depended
on how they came from the broker, so the compressed bytes may differ, and with them the check sum. The ledger is never
changed. ``_logflume/<topic>/<id>/repairs/<part>-<check sum>.json`` says which check sum holds instead, and the markers
that name the part are written anew with it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from logflume.core import layout
from logflume.core.codec import part_from, part_json
from logflume.core.ledger import Part
from logflume.errors import LedgerError
from logflume.finish.plan import Plan
from logflume.store.base import Store

FORMAT = 1


def directory_of(topic: str, topic_id: str) -> str:
    return f"{layout.topic_directory(topic, topic_id)}/repairs"


def put(store: Store, topic: str, topic_id: str, part: Part, was: Part, at_ms: int) -> None:
    """Say that ``part`` is now what ``was`` had been decided to be. May be repeated."""
    directory = directory_of(topic, topic_id)
    name = f"{part.path.rsplit('/', 1)[1].removeprefix('_').split('.', 1)[0]}-{part.sha256[:16]}.json"
    path = f"{store.root}/{directory}/{name}"
    if store.stat(path) is None:
        body = {"v": FORMAT, "at": at_ms, "was_sha256": was.sha256, "part": part_json(part)}
        data = json.dumps(body, indent=1).encode() + b"\n"
        store.put_if_absent(
            path, data, f"{store.root}/{layout.topic_directory(topic, topic_id)}/tmp/{uuid.uuid4().hex}"
        )


def read(store: Store, topic: str, topic_id: str) -> dict[str, Part]:
    """Path of a part → the part as its newest repair left it. One call, and one for each repair."""
    found: list[tuple[int, Part]] = []
    for status in store.list(f"{store.root}/{directory_of(topic, topic_id)}"):
        body: Any
        try:
            body = json.loads(store.read(status.path))
            found.append((body["at"], part_from(body["part"])))
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(f"{status.path} cannot be read: {error}") from error
    return {part.path: part for _, part in sorted(found, key=lambda one: one[0])}


def apply(parts: Iterable[Part], amended: dict[str, Part]) -> list[Part]:
    """The parts with the check sums that hold now; nothing else of them ever changes."""
    return [replace(part, sha256=amended[part.path].sha256) if part.path in amended else part for part in parts]


def apply_to_plan(plan: Plan, amended: dict[str, Part]) -> Plan:
    """The plan, or a marker's, as it has to be now."""
    return replace(plan, files=tuple(replace(file, parts=tuple(apply(file.parts, amended))) for file in plan.files))
