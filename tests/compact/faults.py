"""A store whose process dies at the n-th call that changes something: before it is done, or after it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from logflume.errors import CannotConcat, Missing
from logflume.store import Store
from logflume.store.local import LocalStore

CHANGES = ("upload", "write", "publish", "concat", "join", "delete")


class Died(BaseException):
    """The process is gone: nothing may catch it."""


class _Dying:
    def __init__(self, store: Store, at: int, *, after: bool) -> None:
        self.changes = 0
        self._store, self._at, self._after = store, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._wrapped(found) if name in CHANGES else found

    # as it is built from the others, not as one call
    put_if_absent = Store.put_if_absent

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any) -> Any:
            number, self.changes = self.changes, self.changes + 1
            if number == self._at and not self._after:
                raise Died
            try:
                return call(*args)
            finally:
                # also after one that was refused
                if number == self._at:
                    raise Died

        return change


def dying(store: Store, at: int = -1, *, after: bool = False) -> Store:
    """Like ``store``, which goes on living, for a process that dies at its change number ``at``."""
    return cast(Store, _Dying(store, at, after=after))


class Concats(LocalStore):
    """Local files with HDFS's concat: in one step the target grows and the sources are gone."""

    can_concat = True

    def concat(self, target: str, sources: Sequence[str]) -> None:
        for path in (target, *sources):
            if not os.path.exists(path):
                raise Missing(f"concat: {path} is not there")
        with open(target, "ab") as grown:
            for path in sources:
                grown.write(Path(path).read_bytes())
                os.unlink(path)


#: both ways to merge, for a test with the argument ``opened``
OPENED = pytest.mark.parametrize("opened", [LocalStore, Concats], ids=["copying", "concat"])


class Refuses(Concats):
    """Its last file is in a snapshot, so that nothing is appended together with that one."""

    def concat(self, target: str, sources: Sequence[str]) -> None:
        last = max(path.name for path in Path(target).parent.iterdir() if not path.name.startswith("_"))
        for path in sources:
            if not os.path.exists(path):
                raise Missing(f"concat: {path} is not there")
            if path.endswith(f"/{last}"):
                raise CannotConcat(f"concat: the source file {path} is in snapshot")
        super().concat(target, sources)


def copies(template: Store, base: Path, opened: Callable[[str], Store] = LocalStore) -> Callable[[], Store]:
    """A fresh copy of a local tree at each call."""
    numbers = itertools.count()

    def make() -> Store:
        root = base / f"copy-{next(numbers)}"
        shutil.copytree(template.root, root)
        return opened(str(root))

    return make


def die_everywhere(
    make: Callable[[], Store],
    run: Callable[[Store], object],
    check: Callable[[Store], None],
    *,
    afters: Sequence[bool] = (False, True),
) -> int:
    """``run`` on a fresh store of ``make``, killed before and after each change, then run again; ``check`` after
    each. Returns how many deaths there were.

    With one thread a death after a change is the one before the next change: ``afters=(False,)`` has them all once.
    """
    deaths = 0
    for after in afters:
        at = 0
        while True:
            store = make()
            try:
                run(dying(store, at, after=after))
            except Died:
                deaths += 1
            else:
                check(store)
                break
            run(store)
            check(store)
            at += 1
    return deaths
