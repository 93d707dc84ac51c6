"""The spool against a real disk and real threads."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from logflume.errors import LogflumeError, Refused
from logflume.spool.encoders import encoder
from logflume.spool.spool import CHUNK_BYTES, Spool


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def lines(n: int) -> list[bytes]:
    return [b"line %09d " % i + b"x" * 200 for i in range(n)]


def decompressed(compression: str, data: bytes) -> bytes:
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_was_written_comes_back_in_order(tmp_path: Path, pool: ThreadPoolExecutor, compression: str) -> None:
    spool = Spool(tmp_path / "w", pool, buffer_bytes=8 << 20, limit_bytes=1 << 40)
    owner, written = object(), lines(20_000)
    for start in range(0, len(written), 500):
        some = written[start : start + 500]
        spool.write(owner, 1, encoder(compression), some, len(some), sum(map(len, some)) + len(some))
    file = spool.close(owner, 1).result(timeout=30)
    data = file.path.read_bytes()
    raw = decompressed(compression, data)
    assert raw == b"".join(line + b"\n" for line in written)
    assert (file.size, file.raw, file.count) == (len(data), len(raw), len(written))
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert spool.disk_bytes == len(data)
    spool.remove(owner, 1)
    assert not file.path.exists()
    assert (spool.disk_bytes, spool.buffered_bytes) == (0, 0)


class _Overtaken:
    """The spool's lock; whenever this thread asks for it, the pool's threads have it first, until they are done."""

    def __init__(self, lock: threading.Lock, started: threading.Event) -> None:
        self._lock, self._started, self._owner = lock, started, threading.get_ident()

    def __enter__(self) -> None:
        if threading.get_ident() == self._owner and self._started.is_set():
            time.sleep(0.05)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_part_closed_while_a_thread_ends_its_work_has_its_last_lines(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    """Such a thread found nothing more to do and the part closing, and settled it without the lines still pending."""
    spool, owner, started, go = (
        Spool(tmp_path / "w", pool, buffer_bytes=8 << 20, limit_bytes=1 << 40),
        object(),
        threading.Event(),
        threading.Event(),
    )
    spool._lock = _Overtaken(spool._lock, started)  # type: ignore[assignment]

    def slow(chunk: bytes) -> bytes:
        started.set()
        assert go.wait(30)
        return chunk

    spool.write(owner, 1, slow, [b"x" * CHUNK_BYTES], 1, CHUNK_BYTES + 1)
    assert started.wait(30)
    spool.write(owner, 1, slow, [b"last"], 1, 5)
    go.set()
    file = spool.close(owner, 1).result(timeout=30)
    assert (file.count, file.raw, file.size) == (2, CHUNK_BYTES + 6, file.path.stat().st_size)


def test_the_same_lines_give_the_same_bytes() -> None:
    assert encoder("gzip")(b"a\n") == encoder("gzip")(b"a\n")


@pytest.mark.parametrize(("buffer_mb", "parts", "rounds"), [(32, 200, 40), (1, 2000, 5)])
def test_chunks_shrink_with_the_number_of_open_parts_so_that_memory_is_bounded(
    tmp_path: Path, pool: ThreadPoolExecutor, buffer_mb: int, parts: int, rounds: int
) -> None:
    """Promise 6: all parts share the memory when the owner stops while it is crowded; and however many they are and
    little each holds, the owner may go on in the end.
    """
    spool = Spool(tmp_path / "w", pool, buffer_bytes=buffer_mb << 20, limit_bytes=1 << 40)
    owner, most, stuck = object(), 0, time.monotonic() + 60
    for _ in range(rounds):
        for serial in range(parts):
            while spool.crowded:
                assert time.monotonic() < stuck
                time.sleep(0.001)
            spool.write(owner, serial, encoder("none"), [b"x" * 1023] * 4, 4, 4096)
            most = max(most, spool.buffered_bytes)
    assert most <= (buffer_mb << 20) + 4096 < parts * CHUNK_BYTES
    for serial in range(parts):
        file = spool.close(owner, serial).result(timeout=60)
        assert (file.raw, file.count) == (rounds * 4096, rounds * 4)


def test_a_discarded_part_frees_what_it_held_even_while_it_is_compressed(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    spool = Spool(tmp_path / "w", pool, buffer_bytes=8 << 20, limit_bytes=1 << 40)
    owner = object()
    for serial in range(4):
        some = lines(5000)
        spool.write(owner, serial, encoder("gzip"), some, len(some), sum(map(len, some)) + len(some))
    closing = spool.close(owner, 0)
    spool.remove_all(owner)
    pool.shutdown(wait=True)
    assert (spool.disk_bytes, spool.buffered_bytes) == (0, 0)
    assert list((tmp_path / "w").iterdir()) == []
    assert closing.done()


def test_a_disk_that_refuses_is_an_error_of_the_part_and_of_its_owner(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """P3, N1: nothing is published from a part that is not whole."""
    spool = Spool(tmp_path / "w", pool, buffer_bytes=8 << 20, limit_bytes=1 << 40)
    owner = object()
    (tmp_path / "w").rmdir()
    spool.write(owner, 1, encoder("none"), [b"x"], 1, 2)
    closing = spool.close(owner, 1)
    with pytest.raises(Refused, match="spool cannot be written"):
        closing.result(timeout=30)
    assert [found for found, _ in spool.broken()] == [owner]


def test_lines_that_cannot_be_compressed_are_an_error_of_the_part(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """In a pool's thread nobody hears of it: the decision waited until its worker was killed."""
    spool = Spool(tmp_path / "w", pool, buffer_bytes=8 << 20, limit_bytes=1 << 40)
    owner = object()

    def no_memory(_: bytes) -> bytes:
        raise MemoryError

    spool.write(owner, 1, no_memory, [b"x"], 1, 2)
    with pytest.raises(LogflumeError, match="cannot be spooled: MemoryError"):
        spool.close(owner, 1).result(timeout=30)
    assert [found for found, _ in spool.broken()] == [owner]
    spool.remove_all(owner)
    assert (spool.disk_bytes, spool.buffered_bytes) == (0, 0)
