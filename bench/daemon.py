"""One run of the real ``logflume run`` over a whole topic, observed from outside."""

from __future__ import annotations

import json
import re
import resource
import shutil
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import machine
from bench.topic import BASE_MS, HOUR_MS, Load
from logflume.core import layout
from tests.e2e.daemon import Daemon
from tests.stack import Stack
from tests.stack.hadoop import jmx, webhdfs
from tests.stack.server import Reaper, free_port

SAMPLE_S = 0.1
STATUS_EVERY_S = 0.5
#: calls of DataNodes and of other clients than ours
_DATANODES = {
    "SendHeartbeat",
    "SendLifeline",
    "BlockReport",
    "BlockReceivedAndDeleted",
    "RegisterDatanode",
    "VersionRequest",
}


class Place:
    """A directory in HDFS and one on local disk, for one run; both removed by ``place``."""

    def __init__(self, stack: Stack, folder: Path, reaper: Reaper) -> None:
        self.stack, self.folder, self.reaper = stack, folder, reaper
        self.path = f"/logs/bench-{uuid.uuid4().hex[:8]}"
        self.http = f"127.0.0.1:{free_port()}"
        webhdfs(stack.namenode_http, "PUT", "MKDIRS", self.path)
        webhdfs(stack.namenode_http, "PUT", "SETPERMISSION", self.path, permission="777")

    def daemon(
        self, topics: list[dict[str, Any]], *, workers: int = 1, kafka: dict[str, Any] | None = None, **daemon: Any
    ) -> Daemon:
        """Not started yet. Everything that is not given has its default value."""
        config = {
            "kafka": {"bootstrap.servers": self.stack.bootstrap, "group.id": self.path[1:], **(kafka or {})},
            "output": {"root": f"{self.stack.hdfs_url}{self.path}", "namenode_http": self.stack.namenode_http},
            "daemon": {"workers": workers, "http": self.http, "log_format": "text", **daemon},
            "topic": topics,
        }
        return Daemon(self.folder, "logflume", config, self.reaper)

    def list(self, path: str) -> list[dict[str, Any]]:
        """[] where there is nothing."""
        try:
            answer = webhdfs(self.stack.namenode_http, "GET", "LISTSTATUS", f"{self.path}/{path}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        found: list[dict[str, Any]] = answer["FileStatuses"]["FileStatus"]
        return found

    def hours(self, topic: str) -> dict[str, dict[str, Any]]:
        """Directories of hours by their path below the topic."""
        return {
            f"{day['pathSuffix']}/{hour['pathSuffix']}": hour
            for day in self.list(topic)
            for hour in self.list(f"{topic}/{day['pathSuffix']}")
        }

    def summary(self, path: str) -> dict[str, int]:
        """Files and bytes below a path."""
        answer = webhdfs(self.stack.namenode_http, "GET", "GETCONTENTSUMMARY", f"{self.path}/{path}")
        found = answer["ContentSummary"]
        return {"files": found["fileCount"], "directories": found["directoryCount"], "bytes": found["length"]}

    def manifest(self, topic: str, hour: int) -> dict[str, Any] | None:
        """What the hour's _SUCCESS says, and when it was put there; None where there is none."""
        below = layout.hour_path(topic, hour, HOUR_MS)
        if not any(one["pathSuffix"] == layout.SUCCESS for one in self.list(below)):
            return None
        path = urllib.parse.quote(f"{self.path}/{below}/{layout.SUCCESS}")
        url = f"{self.stack.namenode_http}/webhdfs/v1{path}?op=OPEN&user.name=bench"
        with urllib.request.urlopen(url, timeout=30) as reply:  # noqa: S310  # the stack's own http address
            body: dict[str, Any] = json.load(reply)
        at = webhdfs(self.stack.namenode_http, "GET", "GETFILESTATUS", f"{self.path}/{below}")
        # Nothing comes into the directory after the marker, so this is when it was renamed into it.
        body["marked_ms"] = at["FileStatus"]["modificationTime"]
        return body


@contextmanager
def place(stack: Stack) -> Iterator[Place]:
    reaper = Reaper()
    made = Place(stack, Path(tempfile.mkdtemp(prefix="logflume-bench-")), reaper)
    try:
        yield made
    finally:
        webhdfs(stack.namenode_http, "DELETE", "DELETE", made.path, recursive="true")
        shutil.rmtree(made.folder, ignore_errors=True)
        reaper.close()


def topic_settings(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "timestamp": {"field": "ts", "unit": "ms"}, **settings}


def positions(status: dict[str, Any] | None) -> int:
    """Records read so far, over all partitions."""
    return sum(one["position"] or 0 for one in status["partitions"]) if status else 0


def drain(
    stack: Stack,
    load: Load,
    topic: str,
    *,
    workers: int = 1,
    kafka: dict[str, Any] | None = None,
    reader: str = "auto",
    inspect: Callable[[Place], dict[str, Any]] = lambda _: {},
    **settings: Any,
) -> dict[str, Any]:
    """Read the whole topic until its last hour is marked; figures of the run. What ``inspect`` finds in the tree before
    it goes is added to them.
    """
    with place(stack) as here:
        daemon = here.daemon([topic_settings(topic, **settings)], workers=workers, kafka=kafka, reader=reader)
        calls = namenode_calls(stack)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        daemon.start()
        try:
            watch = _watch(here, daemon, topic, load)
        except BaseException:  # Ctrl-C too: the daemon would go on
            print(daemon.tail())  # noqa: T201
            daemon.end()
            raise
        pids = [daemon.process.pid, *daemon.workers()]
        peak = [machine.peak_mb([pid]) for pid in pids]
        threads: dict[str, float] = {}
        for pid in pids[1:]:
            for name, seconds in machine.threads_cpu_s(pid).items():
                threads[name] = threads.get(name, 0.0) + seconds
        daemon.stop()
        whole = resource.getrusage(resource.RUSAGE_CHILDREN)
        manifests = [here.manifest(topic, BASE_MS + hour * HOUR_MS) for hour in range(load.hours)]
        done = [one for one in manifests if one is not None]
        records = sum(one["records"] for one in done)
        if records + sum(one["late_so_far"] for one in done[-1:]) < load.records:
            raise SystemExit(f"{records} of {load.records} records are in the hours: {daemon.tail()}")
        began = first_logged(daemon, "reading")
        marked = max(one["marked_ms"] for one in done) / 1000
        run_s = watch.cpu_at(marked) - watch.cpu_at(began)
        return {
            "records_s": watch.rate(load.total),
            "wall_s": marked - began,
            "wall_records_s": load.records / (marked - began),
            "cpu_us": run_s / load.total * 1e6,
            "cpu_whole_us": (whole.ru_utime + whole.ru_stime - used.ru_utime - used.ru_stime) / load.total * 1e6,
            **inspect(here),
            "peak_mb": sum(peak),
            "peak_worker_mb": max(peak[1:], default=0),
            "bytes": sum(one["bytes"] for one in done),
            "files": sum(len(one["files"]) for one in done),
            "namenode_calls": _less(namenode_calls(stack), calls),
            "threads_us": {
                name: round(s / load.total * 1e6, 3) for name, s in sorted(threads.items(), key=lambda i: -i[1])
            },
        }


class Watch:
    """Samples of a run: CPU of all its processes, and how far it has read."""

    def __init__(self) -> None:
        self.cpu: list[tuple[float, float]] = []
        self.read: list[tuple[float, int]] = []

    def cpu_at(self, when: float) -> float:
        before = max((one for one in self.cpu if one[0] <= when), default=self.cpu[0])
        after = min((one for one in self.cpu if one[0] >= when), default=self.cpu[-1])
        if after[0] == before[0]:
            return before[1]
        return before[1] + (after[1] - before[1]) * (when - before[0]) / (after[0] - before[0])

    def rate(self, total: int) -> float | None:
        """Records a second between the first report and the last one before the end; reports come every second."""
        middle = [one for one in self.read if 0 < one[1] < total]
        if len(middle) < 2:
            return None
        (start, low), (end, high) = middle[0], middle[-1]
        return (high - low) / (end - start) if end > start else None


def _watch(here: Place, daemon: Daemon, topic: str, load: Load) -> Watch:
    watch, next_status, deadline = Watch(), 0.0, time.time() + 900
    while time.time() < deadline:
        now = time.time()
        watch.cpu.append((now, machine.cpu_s([daemon.process.pid, *daemon.workers()])))
        if now >= next_status:
            next_status = now + STATUS_EVERY_S
            read = positions(daemon.status())
            if not watch.read or read != watch.read[-1][1]:
                watch.read.append((now, read))
            if read >= load.total and here.manifest(topic, BASE_MS + (load.hours - 1) * HOUR_MS):
                watch.cpu.append((time.time(), machine.cpu_s([daemon.process.pid, *daemon.workers()])))
                return watch
            daemon.no_surprise()
        time.sleep(SAMPLE_S)
    raise SystemExit(f"the last hour was not complete in time: {daemon.tail()}")


def first_logged(daemon: Daemon, event: str) -> float:
    """When the daemon first said so, in seconds since 1970."""
    found = re.search(rf"^(\S+Z) \[\w+ *\] {event}\b", daemon.logged(), re.MULTILINE)
    if found:
        return datetime.fromisoformat(found[1]).timestamp()
    raise SystemExit(f"logflume never said {event!r}: {daemon.tail()}")


def namenode_calls(stack: Stack) -> dict[str, int]:
    """Calls so far by name: by RPC without the DataNodes' own, and by WebHDFS as the operations it made."""
    port = stack.namenode_rpc.rsplit(":", 1)[1]
    bean = jmx(stack.namenode_http, f"Hadoop:service=NameNode,name=RpcDetailedActivityForPort{port}") or {}
    found = {}
    for name, number in bean.items():
        call = re.fullmatch(r"(\w+?)NumOps", name)
        if call and call[1] not in _DATANODES and not call[1].startswith("Overall") and "Exception" not in name:
            found[call[1]] = int(number)
    return found


def _less(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    left = {name: number - before.get(name, 0) for name, number in after.items()}
    return {name: number for name, number in sorted(left.items(), key=lambda item: -item[1]) if number}
