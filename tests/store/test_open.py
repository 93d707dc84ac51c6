"""Roots, and which store a root opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from logflume.errors import ConfigError, StoreError
from logflume.store import Root, open_store, parse_root
from logflume.store.webhdfs import MAX_SOURCES, MAX_SOURCES_BYTES, _batches


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("hdfs://127.0.0.1:8020/logs", Root("hdfs", "127.0.0.1:8020", "/logs")),
        ("hdfs://nameservice/logs/", Root("hdfs", "nameservice", "/logs")),
        ("webhdfs://[::1]:9870/a/b", Root("webhdfs", "[::1]:9870", "/a/b")),
        ("file:///data/100%", Root("file", "", "/data/100%")),
    ],
)
def test_a_root_is_taken_apart(url: str, root: Root) -> None:
    assert parse_root(url) == root
    assert parse_root(str(root)) == root


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://bucket/logs", "scheme must be one of"),
        ("/data/logs", "scheme must be one of"),
        ("file://host/logs", "takes no host"),
        ("hdfs:///logs", "no host"),
        ("hdfs://host:8020", "absolute path"),
        ("hdfs://host:8020/", "absolute path"),
        ("file:///a/../b", "absolute path"),
        ("file:///a//b", "absolute path"),
        ("webhdfs://host:9870/logs?user.name=root", "no '?'"),
        ("hdfs://me:secret@host:8020/logs", "no user or password"),
    ],
)
def test_a_root_that_cannot_be_used_says_why(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


def test_an_unknown_nameservice_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigError, match="hdfs://nowhere/logs") as raised:
        open_store("hdfs://nowhere/logs")
    assert "dfs.ha.namenodes" in raised.value.hint


def test_only_webhdfs_and_hdfs_with_its_http_address_can_concat(tmp_path: Path) -> None:
    hdfs = "hdfs://127.0.0.1:1/logs"
    assert open_store("webhdfs://127.0.0.1:1/logs").can_concat
    assert open_store(hdfs, namenode_http="http://127.0.0.1:1").can_concat
    for store in (open_store(hdfs), open_store(tmp_path.as_uri())):
        assert not store.can_concat
        with pytest.raises(StoreError, match="use join"):
            store.concat(f"{store.root}/a", [f"{store.root}/b"])


def test_a_concat_is_split_by_number_and_by_length() -> None:
    short = [f"/a/{number}" for number in range(2 * MAX_SOURCES + 1)]
    assert [len(batch) for batch in _batches(short)] == [MAX_SOURCES, MAX_SOURCES, 1]
    long = [f"/{'é' * 500}/{number}" for number in range(100)]  # six bytes each when quoted
    batches = list(_batches(long))
    assert [path for batch in batches for path in batch] == long
    assert all(6 * 500 * len(batch) <= MAX_SOURCES_BYTES for batch in batches)
    assert list(_batches([])) == []
