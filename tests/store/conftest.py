"""Every store that the contract holds for, each with a fresh root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from logflume.store import Store, open_store

REMOTE_STORES = [
    pytest.param("hdfs", marks=pytest.mark.servers),
    pytest.param("webhdfs", marks=pytest.mark.servers),
]
STORES = ["file", *REMOTE_STORES]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An open store whose root is empty, and world-writable on HDFS."""
    # asked for by name: file:// must not start servers
    if request.param == "file":
        opened = open_store(f"file://{tmp_path}/root")
    else:
        stack, root = request.getfixturevalue("stack"), request.getfixturevalue("hdfs_root")
        if request.param == "webhdfs":
            opened = open_store(f"webhdfs://{stack.namenode_http.removeprefix('http://')}{root}")
        else:
            opened = open_store(f"hdfs://{stack.namenode_rpc}{root}", namenode_http=stack.namenode_http)
    yield opened
    opened.close()


@pytest.fixture
def filler(store: Store, request: pytest.FixtureRequest) -> Store:
    """The same files through the fastest client, for tests that need hundreds of them."""
    if not store.url.startswith("webhdfs://"):
        return store
    return open_store(f"hdfs://{request.getfixturevalue('stack').namenode_rpc}{store.root}")
