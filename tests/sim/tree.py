"""What a tree holds, read from its files by other code than the product's; and what may not lie there."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logflume.model import Kind

_TREES = {Kind.HOUR: "", Kind.LATE: "_late/", Kind.QUARANTINE: "_quarantine/"}
_APPENDED = re.compile(r"_?ap\d{5}-\d{19}\..*")


@dataclass(slots=True)
class Hour:
    """One hour's directory of the topic: sizes of its files by name."""

    path: str
    files: dict[str, int]
    marker: str | None

    @property
    def hidden(self) -> list[str]:
        return [name for name in self.files if name.startswith("_") and name != self.marker]

    @property
    def shown(self) -> dict[str, int]:
        """What a reader sees that was not appended late."""
        names = [name for name in self.files if not name.startswith("_") and not _APPENDED.fullmatch(name)]
        return {name: self.files[name] for name in names}


@dataclass(slots=True)
class Tree:
    root: Path
    topic: str
    hours: dict[str, Hour] = field(default_factory=dict)
    holdings: Counter[tuple[Kind, str, str]] = field(default_factory=Counter)


def read(root: Path, topic: str) -> Tree:
    tree = Tree(root, topic)
    for kind, prefix in _TREES.items():
        base = root / f"{prefix}{topic}"
        for directory in sorted(base.glob("dt=*/hour=*")):
            name = str(directory.relative_to(base))
            if kind is Kind.HOUR:
                tree.hours[name] = hour(directory)
            for path in sorted(directory.iterdir()):
                if path.name not in ("_SUCCESS", "_INCOMPLETE"):
                    tree.holdings.update(_ids(path, kind, name))
    return tree


def hour(directory: Path) -> Hour:
    files = {entry.name: entry.stat().st_size for entry in os.scandir(directory)} if directory.is_dir() else {}
    return Hour(str(directory), files, next((n for n in ("_SUCCESS", "_INCOMPLETE") if n in files), None))


def _ids(path: Path, kind: Kind, name: str) -> Iterator[tuple[Kind, str, str]]:
    """Late records that were appended count as late, wherever they lie."""
    if _APPENDED.fullmatch(path.name):
        kind = Kind.LATE
    for line in gzip.decompress(path.read_bytes()).splitlines():
        body = json.loads(line)
        yield kind, name, f"{body['partition']}/{body['offset']}" if kind is Kind.QUARANTINE else body["id"]


# -- the ledger, as JSON that any program can read ------------------------------------------------


def chain(root: Path, topic: str, topic_id: str, partition: int) -> list[dict[str, Any]]:
    directory = root / "_logflume" / topic / topic_id / f"p{partition:05d}"
    entries = sorted(directory.glob("*.json"))
    return [json.loads(path.read_bytes()) for path in entries]


def newest(root: Path, topic: str, topic_id: str, partition: int) -> dict[str, Any] | None:
    directory = root / "_logflume" / topic / topic_id / f"p{partition:05d}"
    last = max(directory.glob("*.json"), default=None)  # none of a partition that nobody claimed yet
    return None if last is None else json.loads(last.read_bytes())


def plans(root: Path, topic: str, topic_id: str) -> list[str]:
    directory = root / "_logflume" / topic / topic_id / "plans"
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def offsets(packed: str) -> set[int]:
    from pyroaring import BitMap64  # noqa: PLC0415  # the format on disk, not a class of ours

    return set(BitMap64.deserialize(base64.b64decode(packed))) if packed else set()


# -- what must hold -----------------------------------------------------------------------------------


def check_chain(entries: list[dict[str, Any]], delivered: set[int]) -> None:
    """Every offset has one fate, C passes none without, and only delivered offsets are in parts."""
    fated: set[int] = set()
    until = None
    for number, entry in enumerate(entries):
        assert entry["seq"] == number, "a hole in the chain"
        fates = [offsets(part["offsets"]) for part in entry["parts"]]
        assert all(one <= delivered for one in fates), "a part has an offset that was never delivered"
        for one in [*fates, offsets(entry["gaps"]), offsets(entry["dropped"])]:
            assert not one & fated, f"entry {number}: offsets {sorted(one & fated)} decided twice"
            fated |= one
        committed = entry["state"]["committed"]
        assert set(range(committed)) <= fated, f"entry {number}: C = {committed} passes {set(range(committed)) - fated}"
        for part in entry["parts"]:
            reopened = part["kind"] == "hour" and until is not None and part["hour"] < until
            assert not reopened, f"entry {number} adds to a closed hour"
        until = entry["state"]["frontier"]


def leftovers(tree: Tree, topic_id: str) -> list[str]:
    """A marked hour has nothing hidden, its files are those of its manifest, and there is no plan of it."""
    found = [
        f"the plan {name} of a marked hour" for name in plans(tree.root, tree.topic, topic_id) if _is_marked(tree, name)
    ]
    for name, one in tree.hours.items():
        if one.marker is None:
            continue
        if one.hidden:
            found.append(f"{name} is marked and has hidden files: {one.hidden}")
        manifest = json.loads(Path(one.path, one.marker).read_bytes())
        said = {file["name"]: file["bytes"] for file in manifest["files"]}
        if one.shown != said:
            found.append(f"{name}: its manifest says {said}, there is {one.shown}")
    return found


def _is_marked(tree: Tree, plan: str) -> bool:
    day, hh = plan.removesuffix(".json").split("T")
    found = tree.hours.get(f"dt={day}/hour={hh}")
    return found is not None and found.marker is not None
