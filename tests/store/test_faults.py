"""What real servers and file systems answer when they will not, as our errors."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hdfs_native import Client

from logflume.errors import Refused, StoreError, Unreachable
from logflume.store import Store, open_store
from logflume.store.hdfs import HdfsStore
from tests.conftest import unavailable
from tests.stack import ServersMissing, Stack, hadoop
from tests.stack.stack import require_tools, running, workspace

#: writes as another user than the tests' own, which hdfs:// takes for a whole process
AS_ANOTHER = """
import sys
from logflume.errors import LogflumeError
from logflume.store import open_store
store = open_store(sys.argv[1], user="stranger")
try:
    store.write(store.root + "/file", b"x")
except LogflumeError as error:
    print(type(error).__name__, error, error.hint)
"""


def run_elsewhere(program: str, *arguments: str, wrapper: tuple[str, ...] = ()) -> str:
    command = [*wrapper, sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def remote(stack: Stack, root: str, scheme: str, **options: object) -> Store:
    authority = stack.namenode_rpc if scheme == "hdfs" else stack.namenode_http.removeprefix("http://")
    return open_store(f"{scheme}://{authority}{root}", **options)  # type: ignore[arg-type]  # of the caller's


# permission (H15), quota (H8)


@pytest.mark.parametrize("scheme", ["hdfs", "webhdfs"])
def test_h15_a_write_without_the_right_is_refused(stack: Stack, hdfs_root: str, scheme: str) -> None:
    remote(stack, hdfs_root, "hdfs").write(f"{hdfs_root}/mine/file", b"x")
    hadoop.webhdfs(stack.namenode_http, "PUT", "SETPERMISSION", f"{hdfs_root}/mine", permission="755")
    url = remote(stack, f"{hdfs_root}/mine", scheme).url
    said = run_elsewhere(AS_ANOTHER, url)
    assert said.startswith("Refused create")
    assert "user=stranger" in said
    assert "right to write" in said
    assert "\n\tat " not in said, "a Java stack trace"


def test_h15_below_a_file_is_not_taken_for_missing_rights(stack: Stack, hdfs_root: str) -> None:
    """The NameNode says AccessControlException to all but the superuser."""
    store = remote(stack, hdfs_root, "webhdfs", user="stranger")
    store.write(f"{hdfs_root}/file", b"x")
    with pytest.raises(StoreError, match="not a directory"):
        store.stat(f"{hdfs_root}/file/below")


@pytest.mark.parametrize("scheme", ["hdfs", "webhdfs"])
def test_h8_a_full_quota_refuses_files_renames_and_blocks(stack: Stack, hdfs_root: str, scheme: str) -> None:
    store = remote(stack, hdfs_root, scheme)
    full, narrow = f"{hdfs_root}/full", f"{hdfs_root}/narrow"
    for directory in (full, narrow):
        store.write(f"{directory}/file", b"")
    store.write(f"{hdfs_root}/tmp", b"")
    hadoop.dfsadmin(stack.namenode_rpc, "-setQuota", "2", full)
    hadoop.dfsadmin(stack.namenode_rpc, "-setSpaceQuota", "1m", narrow)
    with pytest.raises(Refused, match="quota") as raised:
        store.write(f"{full}/another", b"")
    assert "quota" in raised.value.hint
    with pytest.raises(Refused):
        store.publish(f"{hdfs_root}/tmp", f"{full}/another")
    with pytest.raises(Refused):
        store.publish(f"{hdfs_root}/tmp", f"{full}/new/another")
    with pytest.raises(Refused):
        store.write(f"{narrow}/another", b"x")


# an open file


def test_h5_a_failed_upload_is_never_closed_as_if_it_were_complete(stack: Stack, hdfs_root: str) -> None:
    """The client's own writer closes the file when it is collected; the store's must not."""
    store = remote(stack, hdfs_root, "hdfs")
    assert isinstance(store, HdfsStore)

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise StoreError("the local disk")

    with pytest.raises(StoreError, match="the local disk"):
        store._create(f"{hdfs_root}/part", broken())
    with pytest.raises(FileExistsError):  # AlreadyBeingCreatedException: somebody holds the lease
        Client(f"hdfs://{stack.namenode_rpc}").append(f"{hdfs_root}/part")
    assert store.delete(f"{hdfs_root}/part")


# a NameNode of its own, without DataNodes


@pytest.fixture(scope="module")
def namenode() -> Iterator[hadoop.Hdfs]:
    try:
        require_tools()
    except ServersMissing as error:
        raise unavailable(error) from None
    with workspace() as space:
        found = hadoop.hdfs(space, datanodes=0)
        with running([found.namenode]):
            yield found


@pytest.fixture(params=["hdfs", "webhdfs"])
def alone(namenode: hadoop.Hdfs, request: pytest.FixtureRequest) -> Store:
    where = namenode.namenode_rpc if request.param == "hdfs" else namenode.namenode_http[7:]
    return open_store(f"{request.param}://{where}/logs", timeout_s=1.0)


@pytest.mark.servers
def test_h3_safe_mode_refuses_changes_and_is_never_missing(alone: Store, namenode: hadoop.Hdfs) -> None:
    alone._make_dirs("/logs/old")  # type: ignore[attr-defined]  # both are HadoopStore
    hadoop.dfsadmin(namenode.namenode_rpc, "-safemode", "enter")
    try:
        changes: list[Callable[[], object]] = [
            lambda: alone._make_dirs("/logs/new"),  # type: ignore[attr-defined]
            lambda: alone.publish("/logs/old", "/logs/new"),
            lambda: alone.publish("/logs/none", "/logs/new"),
            lambda: alone.delete("/logs/old"),
        ]
        for change in changes:
            with pytest.raises(Refused) as raised:
                change()
            assert "safe mode" in raised.value.hint
        assert [child.name for child in alone.list("/logs")] == ["old"]
    finally:
        hadoop.dfsadmin(namenode.namenode_rpc, "-safemode", "leave")


@pytest.mark.servers
def test_h9_without_a_datanode_to_write_to_it_is_refused(alone: Store) -> None:
    with pytest.raises(Refused, match=r"could only be written to 0|Failed to find datanode") as raised:
        alone.write(f"/logs/{time.time_ns()}", b"x")
    assert "DataNodes" in raised.value.hint


@pytest.mark.servers
def test_n2_a_namenode_that_hangs_is_unreachable_within_the_timeout(namenode: hadoop.Hdfs) -> None:
    """Over HTTP only: hdfs-native waits for ever, which is the supervisor's matter."""
    store = open_store(f"webhdfs://{namenode.namenode_http[7:]}/logs", timeout_s=1.0)
    namenode.namenode.pause()
    try:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            store.stat("/logs")
        assert time.monotonic() - started < 3
    finally:
        namenode.namenode.resume()


@pytest.mark.parametrize("scheme", ["hdfs", "webhdfs"])
def test_n1_a_refused_connection_is_unreachable_and_soon(scheme: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = open_store(f"{scheme}://127.0.0.1:{closed.getsockname()[1]}/logs")
        started = time.monotonic()
        with pytest.raises(Unreachable):
            store.stat("/logs")
        with pytest.raises(Unreachable):
            store.publish("/logs/tmp", "/logs/final")
        assert time.monotonic() - started < 25


@pytest.mark.parametrize("scheme", ["hdfs", "webhdfs"])
def test_n4_an_unknown_host_is_unreachable(scheme: str) -> None:
    with pytest.raises(Unreachable):
        open_store(f"{scheme}://nowhere.invalid:8020/logs").stat("/logs")


# file://


FILL = """
import sys
from logflume.errors import LogflumeError
from logflume.store import open_store
try:
    open_store("file:///mnt/root").write("/mnt/root/file", bytes(1 << 20))
except LogflumeError as error:
    print(type(error).__name__, error, error.hint)
"""


def test_h9_a_full_local_disk_is_refused() -> None:
    mount = 'mount -t tmpfs -o size=64k none /mnt && exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if not shutil.which("unshare") or subprocess.run([*wrapper, "true"], check=False).returncode != 0:
        pytest.skip("needs unshare with the right to mount")
    said = run_elsewhere(FILL, wrapper=wrapper)
    assert said.startswith("Refused write /mnt/root/file: No space left")
    assert "free space" in said


def test_h15_a_local_directory_that_takes_no_files_is_refused() -> None:
    """/sys takes none, not even of root."""
    with pytest.raises(Refused, match="write /sys/logflume/file"):
        open_store("file:///sys/logflume").write("/sys/logflume/file", b"x")


def test_h12_a_local_path_below_a_file_is_not_missing_but_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="in the way"):
        open_store(tmp_path.as_uri()).write(f"{tmp_path}/file/below", b"x")
