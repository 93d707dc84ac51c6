"""What the store has of an hour, and how many calls that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from logflume.core import layout
from logflume.errors import Missing
from logflume.finish import plan as plans
from logflume.reconcile.chain import Decided
from logflume.reconcile.plan import MARKERS, Hour, Look, absent, is_hidden
from logflume.store.base import FileStatus, Store


class Counted(Store):
    """A store that counts the calls that go through it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.url, self.root, self.can_concat = store.url, store.root, store.can_concat
        self.calls: Counter[str] = Counter()

    def upload(self, local: Path, tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        self.calls["write"] += 1
        return self._store.upload(local, tmp, progress=progress)

    def write(self, tmp: str, data: bytes) -> None:
        self.calls["write"] += 1
        self._store.write(tmp, data)

    def publish(self, tmp: str, final: str) -> None:
        self.calls["publish"] += 1
        self._store.publish(tmp, final)

    def concat(self, target: str, sources: Sequence[str]) -> None:
        self.calls["concat"] += 1
        self._store.concat(target, sources)

    def join(self, sources: Sequence[str], tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        self.calls["join"] += 1
        return self._store.join(sources, tmp, progress=progress)

    def stat(self, path: str) -> FileStatus | None:
        self.calls["stat"] += 1
        return self._store.stat(path)

    def list(self, path: str) -> list[FileStatus]:
        self.calls["list"] += 1
        return self._store.list(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self.calls["read"] += 1
        return self._store.read(path, offset, length)

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        self.calls["read"] += 1
        return self._store.stream(path, chunk_bytes)

    def delete(self, path: str) -> bool:
        self.calls["delete"] += 1
        return self._store.delete(path)

    def close(self) -> None:
        self._store.close()


def look_at(store: Store, hour: Hour) -> Look:
    """Two calls for a marked hour, three or four for another, and one for each part that is not in its place."""
    directory = f"{store.root}/{hour.directory}"
    look = Look(_files(store, directory))
    if _take_marker(store, directory, look):
        return look
    look.plan = _read_plan(store, hour)
    if look.plan is not None:
        if plans.is_operators(look.plan):
            # revealed as it is; finishing puts another plan beside it when the rest has come
            look.plan = _read_plan(store, hour, after_reveal=True) or look.plan
        # a finisher is at it, or was: its plan explains what is there from now on
        look.files = _files(store, directory)
        if _take_marker(store, directory, look):
            return look
    _look_in_tmp(store, absent(hour.decided, look), look)
    return look


def _read_plan(store: Store, hour: Hour, *, after_reveal: bool = False) -> bytes | None:
    path = layout.plan_path(hour.topic, hour.topic_id, hour.hour, hour.window_ms, after_reveal=after_reveal)
    try:
        return store.read(f"{store.root}/{path}")
    except Missing:
        return None


def look_at_directory(
    store: Store, directory: str, decided: Sequence[Decided], unfold: Callable[[Look], None] = lambda _: None
) -> Look:
    """A directory of the late or quarantine tree, or late parts in an hour's own; one call, and one more for the marker
    where such a part is hidden. ``unfold``: shows the parts of merged files in it.
    """
    look = Look(_files(store, f"{store.root}/{directory}"))
    unfold(look)
    if any(is_hidden(look, one) for one in decided):
        _take_marker(store, f"{store.root}/{directory}", look)
    _look_in_tmp(store, absent(decided, look), look)
    return look


def _files(store: Store, directory: str) -> dict[str, FileStatus]:
    return {status.name: status for status in store.list(directory)}


def _take_marker(store: Store, directory: str, look: Look) -> bool:
    """The marker of a finished hour; an operator's ``_INCOMPLETE`` only says that the hour was shown as it is."""
    for name in MARKERS:
        if name in look.files:
            try:
                data = store.read(f"{directory}/{name}")
            except Missing:
                continue  # an operator's, taken away just now
            if not plans.is_operators(data):
                look.marker = (name, data)
                return True
    return False


def _look_in_tmp(store: Store, decided: Sequence[Decided], look: Look) -> None:
    for one in decided:
        status = store.stat(f"{store.root}/{one.part.tmp}")
        if status is not None:
            look.in_tmp[one.part.tmp] = status.length
