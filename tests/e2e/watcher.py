"""What a batch job would see: the hours' directories, listed all the time while the daemon works."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from types import TracebackType
from typing import Self

from tests.e2e.checker import APPENDED, MARKERS
from tests.e2e.oracle import Rules
from tests.e2e.tree import Tree, hours

PAUSE_S = 0.05
#: a marked hour is looked at only in every so many rounds
MARKED_EVERY = 10


@dataclass
class _Seen:
    first: float
    files: dict[str, int] = field(default_factory=dict)
    marked: float | None = None


class Watcher:
    """Notes every time a reader could have been deceived.

    With reveal "complete": once the marker is there the visible files never change; before it they may
    show only for ``between_s``, and what shows never goes or changes. "early" allows files to be added
    before the marker. Late "append" allows late parts to be added after it.
    """

    def __init__(self, tree: Tree, topics: Mapping[str, Rules], *, between_s: float = 10.0) -> None:
        self.faults: list[str] = []
        self.rounds = 0
        self.marked_at: dict[str, float] = {}
        self._tree, self._topics, self._between_s = tree, topics, between_s
        self._seen: dict[str, _Seen] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._thread.is_alive():
            self.faults.append("the last look hangs")
        if error is None:
            assert not self.faults, "\n".join(self.faults[:20])
            assert self.rounds > 0

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look(everything=self.rounds % MARKED_EVERY == 0)
            except (OSError, HTTPException):
                # the NameNode is down, in tests that take it down
                self._stop.wait(1.0)
            except Exception as failure:  # as below: the thread would end, and nobody would watch any more
                self.faults.append(f"a look failed: {failure!r}")
                return
            self.rounds += 1
            self._stop.wait(PAUSE_S)
        try:
            self._look(everything=True)
        except Exception as failure:  # in a thread: whatever it is, it becomes the test's own failure
            self.faults.append(f"the last look failed: {failure!r}")

    def _look(self, *, everything: bool) -> None:
        for topic, rules in self._topics.items():
            for path in list(hours(self._tree, topic)):
                seen = self._seen.get(path)
                if everything or seen is None or seen.marked is None:
                    self._one(path, rules)

    def _one(self, path: str, rules: Rules) -> None:
        there = {node.name: node.size for node in self._tree.list(path)}
        now = time.monotonic()
        shown = {name: size for name, size in there.items() if not name.startswith(("_", "."))}
        marked = any(name in there for name in MARKERS)
        seen = self._seen.setdefault(path, _Seen(now))
        for name, size in seen.files.items():
            if shown.get(name) != size:
                self.faults.append(f"{path}/{name} had {size} bytes, then {shown.get(name)}")
        added = {name for name in shown if name not in seen.files}
        if seen.marked is not None:
            late = {name for name in added if rules.late == "append" and APPENDED.fullmatch(name)}
            if added - late:
                self.faults.append(f"{path} was marked, and got {sorted(added - late)}")
        elif rules.reveal == "complete":
            parts = {name for name in added if re.match(r"a?p\d{5}-", name)}
            if parts and not marked:
                self.faults.append(f"{path} shows parts before it is complete: {sorted(parts)}")
            if not seen.files and added:
                seen.first = now
            if seen.files and not marked and now - seen.first > self._between_s:
                self.faults.append(f"{path} showed files for {now - seen.first:.1f} s before its marker")
                seen.first = now
        seen.files = shown
        if marked and seen.marked is None:
            seen.marked = now
            self.marked_at[path] = now
        if seen.marked is not None and not marked:
            self.faults.append(f"{path} lost its marker")
