"""``logflume check``, and what ``run`` looks at before it starts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from logflume.config import load
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.preflight import Level, exit_code, look_at_kafka
from tests.cli import files
from tests.cli.conftest import Invoke, Program
from tests.conftest import TopicFactory
from tests.stack import Stack


def test_everything_that_is_wrong_is_told_at_once(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    path = files.write(tmp_path, root="hdfs://127.0.0.1:1/logs", output='namenode_http = "http://127.0.0.1:2"')
    done = invoke("check", "-c", path)
    assert done.exit_code == 3
    errors = [line for line in done.output.splitlines() if line.startswith("error")]
    assert [line.split()[1] for line in errors] == ["kafka", "namenode", "output", "spool"]
    assert done.output.count("hint: ") == 4


def test_the_findings_are_json_for_programs(invoke: Invoke, tmp_path: Path) -> None:
    body = json.loads(invoke("check", "--json", "-c", files.write(tmp_path)).output)
    assert (body["ok"], body["exit_code"]) == (False, 3)
    assert [(one["where"].split()[0], one["level"]) for one in body["findings"]] == [
        ("configuration", "ok"),
        ("daemon.reader", "ok"),
        ("kafka", "error"),
        ("output", "ok"),
        ("spool", "ok"),
    ]
    assert body["findings"][1].keys() == {"where", "level", "text", "hint", "exit_code", "sample"}


def test_a_configuration_that_cannot_be_used_is_json_too(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("check", "--json", "-c", files.write(tmp_path, daemon="workers = 0\nfoo = 1"))
    body = json.loads(done.output)
    assert done.exit_code == body["exit_code"] == 2
    assert [one["where"] for one in body["findings"]] == ["configuration", "configuration"]


def test_little_space_in_the_spool_is_a_warning(invoke: Invoke, tmp_path: Path) -> None:
    path = files.write(tmp_path)
    text = Path(path).read_text().replace('"1MiB"', '"1000GiB"')
    Path(path).write_text(text)
    body = json.loads(invoke("check", "--json", "-c", path).output)
    assert "daemon.spool_bytes is 1000GiB" in next(one["text"] for one in body["findings"] if one["level"] == "warning")


def test_probing_leaves_nothing_behind(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "out" / "app").mkdir(parents=True)
    invoke("check", "-c", files.write(tmp_path))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_killed_probe_has_left_is_removed_when_it_is_old(invoke: Invoke, tmp_path: Path) -> None:
    root = tmp_path / "out"
    hexes = [f"{n:032x}" for n in range(6)]
    tops = ("_probe", "app/_probe", "_late/app/_probe", "_logflume/probe")
    left = [root / f"{top}-{number}" for top, number in zip(tops, hexes, strict=False)]
    mine = [
        root / f"_probe-{hexes[4]}",
        root / "probe-results-2026.csv",
        root / "_logflume" / f"probe-{hexes[5]}" / "x",
        root / "app" / "_probe-x",
    ]
    for path in left + mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("probe")
    for path in (*left, *mine[1:], mine[2].parent):
        os.utime(path, (0, 0))
    assert invoke("check", "-c", files.write(tmp_path)).exit_code == 3  # no broker
    assert sorted(path for path in root.rglob("*") if path.is_file()) == sorted(mine)


def test_one_topic_that_is_gone_stops_no_start_of_the_others(tmp_path: Path) -> None:
    topics = "".join(f'[[topic]]\nname = "{name}"\ntimestamp = "create"\n' for name in ("gone", "app"))
    with EmbeddedBroker() as broker:
        settings = load(files.write(tmp_path, bootstrap=broker.bootstrap, topics=topics))
        nothing = list(look_at_kafka("kafka", settings, start=True))
        produce(broker.bootstrap, "app", [Outgoing(0, b"{}")])
        person, start = (list(look_at_kafka("kafka", settings, start=start)) for start in (False, True))
    levels = [{one.where: one.level for one in found}.get("topic gone") for found in (nothing, person, start)]
    assert levels == [Level.ERROR, Level.ERROR, Level.WARNING]
    assert [exit_code(found) for found in (nothing, person, start)] == [4, 4, 0]


@pytest.mark.slow
def test_run_starts_nothing_where_a_server_is_away(program: Program, tmp_path: Path) -> None:
    done = program("run", "-c", files.write(tmp_path))
    assert done.returncode == 3
    assert done.stderr.startswith("error: kafka 127.0.0.1:1: list topics: ")
    assert "hint: check the address" in done.stderr
    assert "worker started" not in done.stderr


def test_of_an_error_without_a_hint_run_prints_none(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = invoke("run", "-c", files.write(tmp_path, root=f"file://{tmp_path}/file/out"))
    lines = done.stderr.splitlines()
    at = next(i for i, line in enumerate(lines) if "a file is in the way of a directory" in line)
    assert not any(line.startswith("hint:") for line in lines[at + 1 : at + 2])
    assert "hint: check the address and that the server is up" in lines


# -- with real servers ----------------------------------------------------------------------------


def config(tmp_path: Path, stack: Stack, root: str, topics: str) -> str:
    return files.write(
        tmp_path,
        bootstrap=stack.bootstrap,
        root=f"{stack.hdfs_url}{root}",
        output=f'namenode_http = "{stack.namenode_http}"',
        topics=topics,
    )


def test_good_servers_and_records_are_exit_code_0(
    program: Program, tmp_path: Path, stack: Stack, topic_factory: TopicFactory, hdfs_root: str
) -> None:
    name, now = topic_factory(partitions=2), int(time.time() * 1000)
    values = [b'{"ts":%d}' % now, b'{"ts":%d}' % (now // 1000), b"no json", b'{"ts":%d}' % (now + 7_200_000)]
    produce(stack.bootstrap, name, [Outgoing(i % 2, value, now) for i, value in enumerate(values * 3)])
    topics = f'[[topic]]\nname = "{name}"\ntimestamp = {{ field = "ts", unit = "ms" }}\n'
    topics += '[[topic]]\npattern = "nobody-has-this-.*"\ntimestamp = "create"\n'
    done = program("check", "--json", "-c", config(tmp_path, stack, hdfs_root, topics))
    body = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    found = {one["where"].split()[0]: one for one in body["findings"]}
    assert [one["level"] for one in body["findings"]] == ["ok", "ok", "ok", "warning", "warning", "ok", "ok", "ok"]
    assert found["pattern"]["text"] == "matches no topic yet"
    sample = found["topic"]["sample"]
    assert (sample["records"], sample["quarantined"]) == (12, {"ancient": 3, "bad_json": 3, "future": 3})
    assert sample["oldest"] == sample["newest"]


def test_a_missing_topic_and_a_wrong_timestamp_type_are_errors(
    program: Program, tmp_path: Path, stack: Stack, topic_factory: TopicFactory, hdfs_root: str
) -> None:
    created = topic_factory()
    appended = topic_factory(config={"message.timestamp.type": "LogAppendTime"})
    topics = "".join(
        f'[[topic]]\nname = "{name}"\ntimestamp = "append"\n' for name in (created, appended, "nobody-has-this")
    )
    done = program("check", "-c", config(tmp_path, stack, hdfs_root, topics))
    assert done.returncode == 4
    assert f"error    topic {created}: has timestamp" in done.stdout
    assert f"ok       topic {appended}: exists, and is empty" in done.stdout
    assert "error    topic nobody-has-this: does not exist" in done.stdout
