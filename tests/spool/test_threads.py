"""The spool in every order of its owner and the pool's threads (tests/interleave.py)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from logflume.errors import LogflumeError, Refused
from logflume.spool import spool as module
from logflume.spool.spool import Spool, SpoolFile
from tests.interleave import Play, explore

#: what is longer makes a chunk of its own at once, what is shorter waits for the end
CHUNK = 8
LINES = [b"first line", b"2", b"third line", b"4"]


class Game:
    """One owner's spool; its parts' lines are known, and so is what must have come of them in the end."""

    def __init__(self, play: Play, directory: Path, *, bad: bytes = b"none") -> None:
        self.play, self._bad = play, bad
        self.spool = Spool(directory, play.pool(), buffer_bytes=1 << 20, limit_bytes=1 << 20)
        self.spool._lock = play.lock()
        self.owner = object()
        self.written: dict[int, list[bytes]] = {}
        self.closed: dict[int, Future[SpoolFile]] = {}
        self.removed: set[int] = set()

    def encode(self, chunk: bytes) -> bytes:
        self.play.point()
        if self._bad in chunk:
            raise ValueError("a line that cannot be compressed")
        return chunk

    def write(self, serial: int, line: bytes) -> None:
        self.written.setdefault(serial, []).append(line)
        self.spool.write(self.owner, serial, self.encode, [line], 1, len(line) + 1)

    def close(self, serial: int) -> None:
        self.closed[serial] = self.spool.close(self.owner, serial)

    def wait(self, serial: int) -> None:
        self.play.point(self.closed[serial].done)

    def remove(self, serial: int) -> None:
        self.spool.remove(self.owner, serial)
        self.removed.add(serial)

    def check(self) -> None:
        on_disk = 0
        for serial, lines in self.written.items():
            raw = b"".join(line + b"\n" for line in lines)
            closing = self.closed.get(serial)
            if closing is not None:
                assert closing.done()
            if closing is not None and closing.exception() is None:
                file = closing.result()
                assert (file.count, file.raw, file.size) == (len(lines), len(raw), len(raw))
                assert file.sha256 == hashlib.sha256(raw).hexdigest()
                assert file.path.exists() == (serial not in self.removed)
            elif closing is not None:
                wanted = LogflumeError if self._bad in raw else Refused
                assert isinstance(closing.exception(), wanted)
                assert self._bad in raw or serial in self.removed
            if serial not in self.removed:
                path = self.spool._parts[self.owner, serial].path
                data = path.read_bytes() if path.exists() else b""
                on_disk += len(data)
                assert closing is None or closing.exception() or data == raw
        assert self.spool.buffered_bytes == 0 or not self.closed
        assert self.spool.disk_bytes == on_disk == sum(f.stat().st_size for f in self.spool.directory.iterdir())


def one_part_closed(game: Game) -> None:
    for line in LINES:
        game.write(1, line)
    game.close(1)


def two_parts_closed_together(game: Game) -> None:
    game.write(1, LINES[0])
    game.write(2, LINES[0])
    game.write(1, LINES[1])
    game.close(1)
    game.close(2)


def closed_uploaded_removed(game: Game) -> None:
    for line in LINES[:3]:
        game.write(1, line)
    game.close(1)
    game.wait(1)
    game.remove(1)


def given_up_while_it_closes(game: Game) -> None:
    for line in LINES[:3]:
        game.write(1, line)
    game.close(1)
    game.remove(1)


def given_up_while_it_is_open(game: Game) -> None:
    game.write(1, LINES[0])
    game.write(2, LINES[0])
    game.remove(1)
    game.close(2)


@pytest.mark.parametrize(
    ("steps", "bad"),
    [
        (one_part_closed, b"none"),
        (one_part_closed, b"third"),
        (two_parts_closed_together, b"none"),
        (closed_uploaded_removed, b"none"),
        (given_up_while_it_closes, b"none"),
        (given_up_while_it_closes, b"third"),
        (given_up_while_it_is_open, b"none"),
    ],
)
def test_whoever_is_interrupted_a_part_is_whole_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Callable[[Game], None], bad: bytes
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)
    directories = (tmp_path / str(n) for n in itertools.count())

    def program(play: Play) -> Callable[[], None]:
        game = Game(play, next(directories), bad=bad)
        play.thread("owner", lambda: steps(game))
        return game.check

    orders = explore(program)
    assert orders > 100
