"""``backfill --into``: what a replay writes against the topic, by the independent checker."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.backfill.conftest import HOURS, Scene
from tests.e2e.bench import directory
from tests.e2e.checker import lines_of
from tests.e2e.generate import HOUR_MS
from tests.e2e.oracle import Boundaries, Rules, hour_of, judge
from tests.e2e.tree import Node, files

pytestmark = pytest.mark.slow

KILLS = 22


def hour(scene: Scene, number: int) -> str:
    return time.strftime("%Y-%m-%dT%H", time.gmtime((scene.base + number * HOUR_MS) // 1000))


def marker(scene: Scene, root: str, number: int) -> dict[str, object]:
    path = f"{scene.topic}/{directory(scene.base + number * HOUR_MS, Rules())}"
    (found,) = [node for node in scene.tree(root).list(path) if node.name in ("_SUCCESS", "_INCOMPLETE")]
    body: dict[str, object] = json.loads(scene.tree(root).read(found.path))
    assert body["complete"] == (found.name == "_SUCCESS")
    return body


@pytest.mark.parametrize("scheme", ["file", "hdfs"])
def test_a_whole_topic_is_replayed_and_a_second_run_does_nothing(scene: Scene, scheme: str) -> None:
    root = scene.root("replay", scheme)
    told = scene.told("--into", root)
    report = scene.check(root)
    report.clean(crashed=False)
    assert report.quarantined
    assert report.late > 0
    assert report.incomplete == []
    assert len(report.complete) >= HOURS
    assert told["records"] == len(scene.log.records)
    before = Counter(node.path for node in _all(scene, root))
    again = scene.told("--into", root)
    assert (again["already"], again["parts"]) == (True, 0)
    assert Counter(node.path for node in _all(scene, root)) == before


def test_hours_of_a_span_are_what_the_whole_log_says_and_no_other_hour_is_there(scene: Scene) -> None:
    root = scene.root("span")
    told = scene.told("--into", root, "--from", hour(scene, 1), "--to", hour(scene, 3))
    assert told["hours"] == {"complete": 2, "incomplete": 0}
    assert told["records_expected"] < sum(scene.log.ends.values())
    expected = _expected(scene)
    found: dict[str, Counter[bytes]] = defaultdict(Counter)
    with ThreadPoolExecutor(2) as pool:
        nodes = files(scene.tree(root), scene.topic, pool)
    for node in nodes:
        if not node.name.startswith("_"):
            name = node.path.split("/", 1)[1].rsplit("/", 1)[0]
            found[name].update(lines_of(node.path, scene.tree(root).read(node.path)))
    wanted = {directory(scene.base + n * HOUR_MS, Rules()): expected[scene.base + n * HOUR_MS] for n in (1, 2)}
    assert found == wanted
    assert {marker(scene, root, n)["complete"] for n in (1, 2)} == {True}


def _expected(scene: Scene) -> dict[int, Counter[bytes]]:
    """Lines of each hour, by the whole log; late ones are elsewhere."""
    bounds: dict[int, Boundaries] = defaultdict(lambda: Boundaries(Rules()))
    verdicts = {key: judge(record, Rules()) for key, record in scene.log.records.items()}
    for key in sorted(verdicts):
        at = verdicts[key].time
        if at is not None:
            bounds[key[0]].feed(at, key[1])
    expected: dict[int, Counter[bytes]] = defaultdict(Counter)
    for key, verdict in verdicts.items():
        if verdict.time is not None:
            own = hour_of(verdict.time, Rules())
            boundary = bounds[key[0]].of(own)
            if boundary is None or key[1] < boundary:
                expected[own][verdict.line] += 1
    return expected


def test_offsets_of_one_partition_never_make_an_hour_complete(scene: Scene) -> None:
    root = scene.root("offsets")
    told = scene.told("--into", root, "--partition", "1", "--offsets", "1000-1999")
    assert told["ranges"] == [[1, 1000, 1999]]
    assert told["hours"]["complete"] == 0
    inside = [key for key in scene.log.records if key[0] == 1 and 1000 <= key[1] <= 1999]
    assert told["records"] == len(inside)


def test_a_dry_run_writes_nothing_and_says_what_it_would_read(scene: Scene) -> None:
    root = scene.root("dry")
    told = scene.told("--into", root, "--dry-run")
    assert told["records_expected"] == sum(scene.log.ends.values())
    assert told["bytes_expected"] > 0
    assert _all(scene, root) == []
    assert "at most" in scene.run("--into", root, "--dry-run")


def test_another_range_into_the_same_root_and_a_daemons_root_are_refused(scene: Scene) -> None:
    root = scene.root("taken")
    scene.run("--into", root, "--partition", "0", "--offsets", "0-99")
    scene.run("--into", root, "--partition", "0", "--offsets", "0-199", code=2)
    path = Path(root.removeprefix("file://")) / "_logflume" / scene.topic / scene.log.topic_id / "topic.json"
    body = json.loads(path.read_text())
    del body["backfill"]
    path.write_text(json.dumps(body))
    scene.run("--into", root, "--partition", "0", "--offsets", "0-99", code=2)


def test_two_runs_at_once_end_with_one_result(scene: Scene) -> None:
    root = scene.root("twins")
    running = [
        subprocess.Popen(scene.command("--into", root), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for one in running:
        _, err = one.communicate(timeout=180)
        assert one.returncode == 0, err
    scene.check(root).clean(crashed=True)


def test_killed_at_any_moment_and_run_again_it_completes(scene: Scene) -> None:
    rng = random.Random(7)
    # small parts, so that there is much to be killed in
    scene.settings = {"roll_bytes": "16KiB"}
    # the first run also waits until the log was silent for idle_grace: that is no measure of the others
    scene.run("--into", scene.root("silent"))
    began = time.monotonic()
    scene.run("--into", scene.root("timed"))
    takes = time.monotonic() - began
    killed = rounds = 0
    while killed < KILLS:
        rounds += 1
        root = scene.root(f"killed-{rounds}")
        began = time.monotonic()
        if run_until(scene.command("--into", root), rng.uniform(0.2 * takes, takes)):
            # on a machine whose load changes that is how long it takes now
            takes = time.monotonic() - began
        else:
            killed += 1
            while killed < KILLS and not run_until(scene.command("--into", root), rng.uniform(0.2 * takes, takes)):
                killed += 1
        scene.run("--into", root)
        report = scene.check(root)
        report.clean(crashed=True)
        assert report.incomplete == []
    assert rounds < KILLS


def run_until(command: list[str], seconds: float) -> bool:
    """Whether it was through before it was killed."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        assert child.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return False
    return True


def _all(scene: Scene, root: str) -> list[Node]:
    with ThreadPoolExecutor(2) as pool:
        return files(scene.tree(root), "", pool)
