"""A store whose every call is an effect, and its concat, which the local file system does not have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from logflume.errors import Missing
from logflume.store.base import FileStatus, Store
from logflume.store.local import LocalStore

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Effect:
    """What a host is about to do. ``changes``: it leaves something behind; ``tear`` does half of it."""

    call: str
    path: str
    changes: bool
    tear: Callable[[], None] | None = None

    def __str__(self) -> str:
        return f"{self.call} {self.path}"


#: asks for leave, then does it (or not): ``gate(effect, do)`` returns what ``do`` returns
Gate = Callable[[Effect, Callable[[], Answer]], Answer]


class ConcatStore(LocalStore):
    """LocalStore with HDFS's concat: one transaction, sources removed, Missing if one is not there."""

    can_concat = True

    def concat(self, target: str, sources: Sequence[str]) -> None:
        for path in (target, *sources):
            if not os.path.isfile(path):
                raise Missing(f"concat into {target}: {path} is not there")
        data = b"".join(Path(path).read_bytes() for path in sources)
        with open(target, "ab") as file:
            file.write(data)
        for path in sources:
            os.unlink(path)


class GatedStore(Store):
    """``put_if_absent`` is inherited, so that its steps are effects of their own."""

    def __init__(self, inner: Store, gate: Gate[object]) -> None:
        self._inner, self._gate = inner, gate
        self.url, self.root, self.can_concat = inner.url, inner.root, inner.can_concat

    def _do(
        self,
        call: str,
        path: str,
        do: Callable[[], Answer],
        *,
        changes: bool = True,
        tear: Callable[[], None] | None = None,
    ) -> Answer:
        effect = Effect(call, path.removeprefix(f"{self.root}/"), changes, tear)
        answer: Answer = self._gate(effect, do)  # type: ignore[assignment]  # one gate serves all types
        return answer

    def upload(self, local: Path, tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        def tear() -> None:
            # an owner that lost the partition has removed it while its upload hung
            half(self._inner, tmp, local.read_bytes() if local.exists() else b"")

        return self._do("upload", tmp, lambda: self._inner.upload(local, tmp, progress=progress), tear=tear)

    def write(self, tmp: str, data: bytes) -> None:
        self._do("write", tmp, lambda: self._inner.write(tmp, data), tear=lambda: half(self._inner, tmp, data))

    def publish(self, tmp: str, final: str) -> None:
        # HDFS renames in one transaction; without concat this stands for a file system that links and unlinks
        tear = None if self.can_concat else lambda: link(tmp, final)
        self._do("publish", final, lambda: self._inner.publish(tmp, final), tear=tear)

    def concat(self, target: str, sources: Sequence[str]) -> None:
        self._do(
            "concat",
            target,
            lambda: self._inner.concat(target, sources),
            tear=lambda: self._inner.concat(target, sources[: (len(sources) + 1) // 2]),
        )

    def join(self, sources: Sequence[str], tmp: str, *, progress: Callable[[], None] = lambda: None) -> int:
        def tear() -> None:
            half(self._inner, tmp, b"".join(Path(path).read_bytes() for path in sources))

        return self._do("join", tmp, lambda: self._inner.join(sources, tmp, progress=progress), tear=tear)

    def stat(self, path: str) -> FileStatus | None:
        return self._do("stat", path, lambda: self._inner.stat(path), changes=False)

    def list(self, path: str) -> list[FileStatus]:
        return self._do("list", path, lambda: self._inner.list(path), changes=False)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._do("read", path, lambda: self._inner.read(path, offset, length), changes=False)

    def stream(self, path: str, chunk_bytes: int = 4 << 20) -> Iterator[bytes]:
        yield self.read(path)

    def delete(self, path: str) -> bool:
        return self._do("delete", path, lambda: self._inner.delete(path))

    def close(self) -> None:
        """Nothing is held open."""


def half(store: Store, tmp: str, data: bytes) -> None:
    """A writer that died: the file is there, closed, and short."""
    store.write(tmp, data[: len(data) // 2])


def link(tmp: str, final: str) -> None:
    """A publisher that died between link and unlink."""
    if os.path.exists(tmp) and not os.path.exists(final):
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.link(tmp, final)
