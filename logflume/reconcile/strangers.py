"""Files that no decision names, and that no record explains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from logflume.core import layout
from logflume.model import Kind
from logflume.reconcile import compacted
from logflume.reconcile.explain import Explain
from logflume.reconcile.findings import Finding, What, persisting
from logflume.reconcile.model import Options
from logflume.reconcile.walk import TopicWalk
from logflume.store.base import Store
from logflume.trees import hour_directories


@dataclass(slots=True)
class Strangers:
    """Of one topic. ``known``: names that decisions have, by directory; ``directories`` where there may be others;
    ``seen``: hours whose directories were looked at; ``watch``: files that the next run looks at again.
    """

    store: Store
    topic: str
    walks: Sequence[TopicWalk]
    options: Options
    pool: Executor
    explain: Explain
    looks: int
    known: dict[str, set[str]] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    watch: tuple[str, ...] = ()

    def find(self, again: Callable[[], None]) -> list[Finding]:
        """Files of the late and quarantine trees, and with ``full`` of strange hours, that nobody decided.

        ``again``: waits a moment, and reads what came to the chains.
        """
        directories = {path for path in self.directories if not path.startswith(f"{self.topic}/")}
        if self.options.full:
            for kind in Kind:
                directories |= {
                    path for path, hour in self._directories_of(kind) if kind is not Kind.HOUR or hour not in self.seen
                }
        found = self._strange_files(directories)
        for _ in range(self.looks - 1):
            if not found:
                break
            again()
            found = persisting(found, self._strange_files({one.path.rsplit("/", 1)[0] for one in found}))
        said = {one.path for one in found}
        watched = {path for walk in self.walks if walk.saved for path in walk.saved.watch} - said
        found += [one for path in sorted(watched) for one in self._still_strange(path)]
        self.watch = tuple(sorted({one.path for one in found}))
        return found

    def _still_strange(self, path: str) -> list[Finding]:
        """A file that an earlier run did not know: what is new since then may not be enough to judge it."""
        directory, name = path.rsplit("/", 1)
        known = name in self.known.get(directory, ()) or self.store.stat(f"{self.store.root}/{path}") is None
        return [] if known else [self._strange(path)]

    def _strange(self, path: str) -> Finding:
        if path.endswith(f"/{layout.SUCCESS}"):
            return Finding(What.MARKER_EARLY, self.topic, path, "no partition has a record of this hour")
        return Finding(What.FILE_UNKNOWN, self.topic, path, "no decision names it")

    def _directories_of(self, kind: Kind) -> Iterator[tuple[str, int]]:
        """Every hour's directory of a tree, and its hour."""
        for path, hour in hour_directories(self.store, layout.tree(kind, self.topic), self.walks[0].window_ms):
            if self.options.since_ms is None or hour >= self.options.since_ms:
                yield path, hour

    def _strange_files(self, directories: Iterable[str]) -> list[Finding]:
        now_known = {
            one.part.path for walk in self.walks for c in walk.chains.values() for p in c.parts.values() for one in p
        }
        hours = {path.rsplit("/", 1)[0] for path in now_known}
        wanted = sorted(set(directories) - hours)
        return [finding for found in self.pool.map(self._strange_in, wanted) for finding in found]

    def _strange_in(self, directory: str) -> list[Finding]:
        found = []
        there = self.store.list(f"{self.store.root}/{directory}")
        merged = self.explain.merged_in(directory, {status.name: status.length for status in there})
        for status in there:
            parsed = layout.parse_part_name(status.name)
            if status.name in self.known.get(directory, ()):
                continue
            path = f"{directory}/{status.name}"
            if self.explain.is_compacted(directory, status.name) or self.explain.is_reinjected(status.name):
                continue
            if status.name in merged:
                found.append(Finding(What.FILE_UNKNOWN, self.topic, path, compacted.twice(merged[status.name])))
            elif parsed is None or not self.explain.may_be(parsed.partition, parsed.first):
                found.append(self._strange(path))
        return found
