"""What base.Store promises, on every store."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest
from hdfs_native import Client, WriteOptions

from logflume.errors import CannotConcat, Exists, Missing, ShortFile, StoreError, Unreadable
from logflume.store import Store, base, webhdfs
from logflume.store.local import LocalStore
from tests.stack import Stack
from tests.stack.hadoop import snapshot
from tests.store.conftest import REMOTE_STORES

T = TypeVar("T")

RACERS = 8
#: several chunks of every client, and no multiple of their sizes
LARGE = bytes(range(256)) * (3 * base.CHUNK_BYTES // 256) + b"tail"


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """Run ``call(0..count-1)`` in threads that start together."""
    barrier = Barrier(count)

    def run(number: int) -> T:
        barrier.wait()
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def names(store: Store, directory: str) -> list[str]:
    return [child.name for child in store.list(directory)]


with_concat = pytest.mark.parametrize("store", REMOTE_STORES, indirect=True)


# write and upload


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "a byte", "large"])
def test_written_bytes_are_read_back_and_parents_are_made(store: Store, data: bytes) -> None:
    path = f"{store.root}/a/b/file"
    store.write(path, data)
    status = store.stat(path)
    assert store.read(path) == data
    assert status is not None
    assert (status.path, status.length, status.is_dir) == (path, len(data), False)


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "a byte", "large"])
def test_an_uploaded_file_is_equal_and_the_local_one_stays(store: Store, tmp_path: Path, data: bytes) -> None:
    local = tmp_path / "part"
    local.write_bytes(data)
    told: list[None] = []
    store.upload(local, f"{store.root}/tmp/part", progress=lambda: told.append(None))
    assert store.read(f"{store.root}/tmp/part") == data
    assert len(told) >= len(data) / base.CHUNK_BYTES, "a slow line would pass for a call that hangs"
    assert local.read_bytes() == data


def test_a_taken_name_is_neither_written_nor_uploaded_to(store: Store, tmp_path: Path) -> None:
    path, local = f"{store.root}/file", tmp_path / "part"
    store.write(path, b"first")
    local.write_bytes(b"second")
    with pytest.raises(Exists):
        store.write(path, b"second")
    with pytest.raises(Exists):
        store.upload(local, path)
    assert store.read(path) == b"first"


def test_a_directory_is_a_taken_name(store: Store) -> None:
    store.write(f"{store.root}/directory/file", b"x")
    with pytest.raises(Exists):
        store.write(f"{store.root}/directory", b"x")


def test_a_file_in_the_way_of_a_directory_is_not_reported_as_a_taken_name(store: Store) -> None:
    store.write(f"{store.root}/file", b"x")
    store.write(f"{store.root}/tmp", b"y")
    attempts: list[Callable[[], None]] = [
        lambda: store.write(f"{store.root}/file/below", b"x"),
        lambda: store.publish(f"{store.root}/tmp", f"{store.root}/file/below"),
        lambda: store.publish(f"{store.root}/tmp", f"{store.root}/file/below/deeper"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError) as raised:
            attempt()
        assert not isinstance(raised.value, Exists | Missing)


def test_a_length_other_than_the_local_one_is_a_short_file(store: Store) -> None:
    """H5, H13. Files of /proc have bytes and the length 0: they stand for a file that changes meanwhile."""
    with pytest.raises(ShortFile, match="instead of 0"):
        store.upload(Path("/proc/version"), f"{store.root}/tmp")


@pytest.mark.parametrize("local", ["/nonexistent/part", "/proc/self/mem"], ids=["gone", "unreadable"])
def test_a_local_file_that_cannot_be_read_is_no_fault_of_the_server(store: Store, local: str) -> None:
    with pytest.raises(Unreadable):
        store.upload(Path(local), f"{store.root}/tmp")


def test_names_with_odd_characters_are_kept(store: Store) -> None:
    odd = f"{store.root}/a topic=x%20y/é+&=;,~.gz"
    store.write(f"{store.root}/tmp", b"x")
    store.publish(f"{store.root}/tmp", odd)
    assert store.read(odd) == b"x"
    assert [child.path for child in store.list(f"{store.root}/a topic=x%20y")] == [odd]
    assert store.delete(odd)


# publish


def test_publish_moves_the_file_and_makes_the_parent(store: Store) -> None:
    tmp, final = f"{store.root}/tmp/part", f"{store.root}/2026/01/part"
    store.write(tmp, b"x")
    store.publish(tmp, final)
    assert store.read(final) == b"x"
    assert store.stat(tmp) is None


def test_publish_makes_a_parent_again_that_disappeared(store: Store) -> None:
    for number in range(2):
        store.write(f"{store.root}/tmp/{number}", b"x")
        store.publish(f"{store.root}/tmp/{number}", f"{store.root}/hour/part")
        assert store.delete(f"{store.root}/hour")


def test_publish_never_overwrites(store: Store) -> None:
    tmp, final = f"{store.root}/tmp", f"{store.root}/final"
    store.write(final, b"old")
    store.write(tmp, b"new")
    with pytest.raises(Exists):
        store.publish(tmp, final)
    assert (store.read(final), store.read(tmp)) == (b"old", b"new")


def test_publish_of_a_missing_file_is_missing_unless_the_target_is_there(store: Store) -> None:
    """What a repeated publish sees: the first one's reply may have been lost (N3)."""
    with pytest.raises(Missing):
        store.publish(f"{store.root}/tmp", f"{store.root}/final")
    with pytest.raises(Missing):
        store.publish(f"{store.root}/tmp", f"{store.root}/no/such/directory/final")
    store.write(f"{store.root}/final", b"x")
    with pytest.raises(Exists):
        store.publish(f"{store.root}/tmp", f"{store.root}/final")


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_publish_does_not_move_into_a_directory(store: Store, filled: bool) -> None:
    """H12."""
    tmp, final = f"{store.root}/tmp", f"{store.root}/final"
    store.write(tmp, b"x")
    store.write(f"{final}/child", b"y")
    if not filled:
        store.delete(f"{final}/child")
    before = names(store, final)
    with pytest.raises(Exists):
        store.publish(tmp, final)
    assert names(store, final) == before
    assert store.read(tmp) == b"x"


def test_one_of_many_publishers_wins(store: Store) -> None:
    for number in range(RACERS):
        store.write(f"{store.root}/tmp/{number}", b"%d" % number)

    def publish(number: int) -> bool:
        try:
            store.publish(f"{store.root}/tmp/{number}", f"{store.root}/new/final")
        except Exists:
            return False
        return True

    won = at_once(RACERS, publish)
    assert sum(won) == 1
    assert store.read(f"{store.root}/new/final") == b"%d" % won.index(True)
    assert len(names(store, f"{store.root}/tmp")) == RACERS - 1


def test_a_rename_broken_off_between_link_and_unlink_is_finished(tmp_path: Path) -> None:
    """Only file:// can be caught between the two."""
    store = LocalStore(str(tmp_path))
    store.write(f"{tmp_path}/tmp", b"x")
    (tmp_path / "final").hardlink_to(tmp_path / "tmp")
    store.publish(f"{tmp_path}/tmp", f"{tmp_path}/final")
    assert names(store, str(tmp_path)) == ["final"]
    with pytest.raises(Exists):
        store.publish(f"{tmp_path}/tmp", f"{tmp_path}/final")


# put_if_absent


def test_put_if_absent_puts_once_and_leaves_no_tmp(store: Store) -> None:
    path = f"{store.root}/ledger/7"
    assert store.put_if_absent(path, b"first", f"{store.root}/tmp/a")
    assert not store.put_if_absent(path, b"second", f"{store.root}/tmp/b")
    assert store.read(path) == b"first"
    assert names(store, f"{store.root}/tmp") == []


def test_put_if_absent_with_a_taken_tmp_does_not_pass_for_a_taken_path(store: Store) -> None:
    store.write(f"{store.root}/tmp", b"another's")
    with pytest.raises(Exists):
        store.put_if_absent(f"{store.root}/path", b"x", f"{store.root}/tmp")
    assert store.stat(f"{store.root}/path") is None
    assert store.read(f"{store.root}/tmp") == b"another's"


def test_one_of_many_puts_wins_and_the_losers_see_its_bytes(store: Store) -> None:
    path = f"{store.root}/ledger/7"

    def put(number: int) -> tuple[bool, bytes]:
        won = store.put_if_absent(path, b"%d" % number, f"{store.root}/tmp/{number}")
        return won, store.read(path)

    results = at_once(RACERS, put)
    winners = [number for number, (won, _) in enumerate(results) if won]
    assert len(winners) == 1
    assert {seen for _, seen in results} == {b"%d" % winners[0]}


# concat and join


def make_parts(store: Store, count: int) -> list[str]:
    paths = [f"{store.root}/hour/.part-{number:04}" for number in range(count)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.write(paths[number], b"%d," % number), range(count)))
    return paths


def concatenated(count: int) -> bytes:
    return b"".join(b"%d," % number for number in range(count))


@with_concat
def test_concat_appends_in_order_and_removes_the_sources(store: Store) -> None:
    first, *others = make_parts(store, 4)
    store.concat(first, others)
    assert store.read(first) == concatenated(4)
    assert names(store, f"{store.root}/hour") == [".part-0000"]


@with_concat
def test_a_repeated_concat_is_missing_and_changes_nothing(store: Store) -> None:
    first, *others = make_parts(store, 3)
    store.concat(first, others)
    with pytest.raises(Missing):
        store.concat(first, others)
    assert store.read(first) == concatenated(3)


@with_concat
def test_concat_with_one_source_missing_changes_nothing(store: Store) -> None:
    first, *others = make_parts(store, 3)
    with pytest.raises(Missing):
        store.concat(first, [*others, f"{store.root}/hour/none"])
    assert store.read(first) == b"0,"
    assert len(names(store, f"{store.root}/hour")) == 3


@with_concat
def test_concat_of_300_sources(store: Store, filler: Store) -> None:
    first, *others = make_parts(filler, 301)
    store.concat(first, others)
    assert store.read(first) == concatenated(301)


@with_concat
def test_concat_of_more_than_one_request_keeps_the_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhdfs, "MAX_SOURCES", 2)
    first, *others = make_parts(store, 6)
    store.concat(first, others)
    assert store.read(first) == concatenated(6)


@with_concat
def test_concat_of_an_empty_source_is_refused(store: Store) -> None:
    first, second = make_parts(store, 2)
    store.write(f"{store.root}/hour/empty", b"")
    with pytest.raises(CannotConcat):
        store.concat(first, [second, f"{store.root}/hour/empty"])
    assert store.read(first) == b"0,"


@with_concat
def test_concat_of_a_source_in_a_snapshot_is_refused_for_good_until_the_snapshot_goes(
    store: Store, stack: Stack
) -> None:
    first, second, third = make_parts(store, 3)
    with snapshot(stack.namenode_http, f"{store.root}/hour"):
        with pytest.raises(CannotConcat, match="is in snapshot"):
            store.concat(first, [second, third])
        with pytest.raises(CannotConcat, match="is in snapshot"):
            store.concat(first, [second, f"{store.root}/hour/none"])
        # only the sources' bytes are the snapshot's
        store.write(f"{store.root}/hour/new", b"new")
        store.concat(first, [f"{store.root}/hour/new"])
        assert store.read(first) == b"0,new"
    store.concat(first, [second, third])
    assert store.read(first) == b"0,new1,2,"


@with_concat
def test_concat_of_a_source_renamed_since_a_snapshot_is_refused_for_good(store: Store, stack: Stack) -> None:
    first, second = make_parts(store, 2)
    with snapshot(stack.namenode_http, store.root):
        store.publish(first, f"{store.root}/day/0")
        store.publish(second, f"{store.root}/day/1")
        with pytest.raises(CannotConcat, match="referred by some other reference"):
            store.concat(f"{store.root}/day/0", [f"{store.root}/day/1"])
        assert names(store, f"{store.root}/day") == ["0", "1"]


@with_concat
def test_concat_of_unlike_files_is_refused_for_good(store: Store, stack: Stack) -> None:
    first, second = make_parts(store, 2)
    large = f"{store.root}/hour/large-blocks"
    with Client(f"hdfs://{stack.namenode_rpc}").create(large, WriteOptions(block_size=256 << 20)) as file:
        file.write(b"x")
    with pytest.raises(CannotConcat, match="preferred block size"):
        store.concat(first, [second, large])
    assert store.read(first) == b"0,"


def test_join_copies_in_order_and_keeps_the_sources(store: Store) -> None:
    sources = make_parts(store, 3)
    store.write(f"{store.root}/hour/large", LARGE)
    expected = concatenated(3) + LARGE
    assert store.join([*sources, f"{store.root}/hour/large"], f"{store.root}/tmp") == len(expected)
    assert store.read(f"{store.root}/tmp") == expected
    assert len(names(store, f"{store.root}/hour")) == 4


def test_join_of_nothing_is_an_empty_file(store: Store) -> None:
    assert store.join([], f"{store.root}/tmp") == 0
    assert store.read(f"{store.root}/tmp") == b""


def test_join_with_a_source_missing_makes_no_file(store: Store) -> None:
    sources = make_parts(store, 1)
    with pytest.raises(Missing):
        store.join([*sources, f"{store.root}/hour/none"], f"{store.root}/tmp")
    assert store.stat(f"{store.root}/tmp") is None


def test_join_does_not_write_to_a_taken_name(store: Store) -> None:
    first, second = make_parts(store, 2)
    with pytest.raises(Exists):
        store.join([first], second)
    assert store.read(second) == b"1,"


# stat and list


def test_stat_of_a_missing_path_is_none(store: Store) -> None:
    assert store.stat(f"{store.root}/none") is None
    assert store.stat(f"{store.root}/no/such/parent") is None


def test_stat_tells_directories_and_the_time_of_the_last_change(store: Store) -> None:
    before_ms = time.time_ns() // 1_000_000 - 10  # a file system's clock ticks
    store.write(f"{store.root}/directory/file", b"abc")
    after_ms = time.time_ns() // 1_000_000 + 10
    directory, file = store.stat(f"{store.root}/directory"), store.stat(f"{store.root}/directory/file")
    assert directory is not None
    assert file is not None
    assert (directory.is_dir, directory.length, directory.name) == (True, 0, "directory")
    assert (file.is_dir, file.length, file.name) == (False, 3, "file")
    assert before_ms <= file.modified_ms <= after_ms


def test_list_gives_children_by_name_and_not_their_children(store: Store) -> None:
    for name in ("b", "a", ".hidden", "c/below"):
        store.write(f"{store.root}/dir/{name}", name.encode())
    found = store.list(f"{store.root}/dir")
    assert [(child.name, child.length, child.is_dir) for child in found] == [
        (".hidden", 7, False),
        ("a", 1, False),
        ("b", 1, False),
        ("c", 0, True),
    ]
    assert all(child == store.stat(child.path) for child in found)


def test_list_of_a_missing_directory_is_empty_and_of_a_file_an_error(store: Store) -> None:
    assert store.list(f"{store.root}/none") == []
    store.write(f"{store.root}/file", b"x")
    with pytest.raises(StoreError):
        store.list(f"{store.root}/file")


def test_list_does_not_end_at_the_page_of_1000_that_a_namenode_sends(store: Store, filler: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: filler.write(f"{store.root}/dir/{number:04}", b""), range(1001)))
    assert names(store, f"{store.root}/dir") == [f"{number:04}" for number in range(1001)]


# read, stream and delete


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (4, None, b"456789"),
        (0, 3, b"012"),
        (4, 3, b"456"),
        (8, 5, b"89"),
        (4, 0, b""),
        (10, None, b""),
        (11, 5, b""),
    ],
)
def test_read_gives_the_range_as_far_as_there_is_one(
    store: Store, offset: int, length: int | None, expected: bytes
) -> None:
    store.write(f"{store.root}/file", b"0123456789")
    assert store.read(f"{store.root}/file", offset, length) == expected


def test_reading_a_missing_file_is_missing_and_a_directory_an_error(store: Store) -> None:
    for path in (f"{store.root}/none", f"{store.root}/no/such/parent"):
        with pytest.raises(Missing):
            store.read(path)
        with pytest.raises(Missing):
            store.read(path, 1, 2)
        with pytest.raises(Missing):
            next(store.stream(path))
    store.write(f"{store.root}/directory/file", b"x")
    with pytest.raises(StoreError) as raised:
        store.read(f"{store.root}/directory")
    assert not isinstance(raised.value, Missing)


@pytest.mark.parametrize("chunk_bytes", [1000, 1 << 20, 4 << 20])
def test_stream_gives_all_bytes_in_chunks_of_at_most_that_size(store: Store, chunk_bytes: int) -> None:
    store.write(f"{store.root}/file", LARGE)
    chunks = list(store.stream(f"{store.root}/file", chunk_bytes))
    assert b"".join(chunks) == LARGE
    assert all(1 <= len(chunk) <= chunk_bytes for chunk in chunks)


def test_stream_of_an_empty_file_gives_nothing(store: Store) -> None:
    store.write(f"{store.root}/file", b"")
    assert list(store.stream(f"{store.root}/file")) == []


def test_delete_removes_files_and_trees_and_tells_whether_there_was_one(store: Store) -> None:
    store.write(f"{store.root}/file", b"x")
    store.write(f"{store.root}/tree/a/b", b"x")
    assert store.delete(f"{store.root}/file")
    assert not store.delete(f"{store.root}/file")
    assert store.delete(f"{store.root}/tree")
    assert store.list(store.root) == []
    assert not store.delete(f"{store.root}/no/such/parent")


# rename_probe and threads


def test_the_probe_passes_and_leaves_nothing(store: Store) -> None:
    store.rename_probe(f"{store.root}/probe")
    assert names(store, f"{store.root}/probe") == []


def test_the_probe_finds_a_rename_that_overwrites(tmp_path: Path) -> None:
    class Overwriting(LocalStore):
        def publish(self, tmp: str, final: str) -> None:
            Path(tmp).replace(final)

    with pytest.raises(StoreError, match="replaced"):
        Overwriting(str(tmp_path)).rename_probe(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_threads_do_not_disturb_one_another(store: Store) -> None:
    def work(number: int) -> bytes:
        tmp, final = f"{store.root}/tmp/{number}", f"{store.root}/out/{number % 3}/{number}"
        store.write(tmp, b"%d" % number * 1000)
        store.publish(tmp, final)
        return store.read(final)

    assert at_once(16, work) == [b"%d" % number * 1000 for number in range(16)]
