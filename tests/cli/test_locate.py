"""``logflume locate``; what it finds is tested in tests/locate."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli import files
from tests.cli.conftest import Invoke
from tests.cli.test_reconcile import stable
from tests.reconcile.test_crash import TOPIC_TABLE
from tests.reconcile.tree import Tree

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path).fill(3)


@pytest.fixture
def path(tree: Tree) -> str:
    return files.write(tree.base, root=tree.url, topics=TOPIC_TABLE)


def stable_lengths(text: str, tree: Tree) -> object:
    """Without those of compressed lines, and without the owner's random part."""
    text = re.sub(r'"(decided_bytes|start|size)": \d+', r'"\1": 0', stable(text, tree))
    return json.loads(re.sub(r"test:[0-9a-f]{8}", "test", text))


def test_the_json_is_a_contract(invoke: Invoke, tree: Tree, path: str) -> None:
    done = invoke("locate", "-c", path, "app", "1", "9", "--json")
    assert done.exit_code == 0
    body = json.loads(done.stdout)
    body["owner"] = body["owner"].split(":")[0]
    assert body == json.loads((GOLDEN / "locate.json").read_text())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("time", ["app", "--time", "2026-11-22T08:20:00Z"]),
        ("finished", ["--file", "app/dt=2026-11-22/hour=07/app-00000-of-00001.json.gz"]),
        ("part", ["--file", "app/dt=2026-11-22/hour=07/_p00001-0000000000000000006.json.gz"]),
        ("entry", ["--file", "_logflume/app/id-of-app/p00000/000000000001.json"]),
    ],
    ids=["time", "finished", "part", "entry"],
)
def test_the_json_of_a_moment_and_of_a_file_is_a_contract(
    invoke: Invoke, tree: Tree, path: str, name: str, arguments: list[str]
) -> None:
    done = invoke("locate", "-c", path, *arguments, "--json")
    assert done.exit_code == 0
    assert stable_lengths(done.stdout, tree) == json.loads((GOLDEN / f"locate-{name}.json").read_text())


def test_the_keys_are_the_same_whatever_is_found(invoke: Invoke, tree: Tree, path: str) -> None:
    tree.ingests[0].decide(everything=True)
    asked = [["--file", one] for one in (*tree.snapshot(), f"{tree.hour(0)}/mine.gz", "_logflume/app/x")]
    bodies = [json.loads(invoke("locate", "-c", path, *one, "--json").stdout) for one in asked]
    assert {one["is"] for one in bodies} == {"marker", "finished", "part", "entry", "ledger", "unknown"}
    assert all(isinstance(part, dict) for one in bodies for part in one["parts"])
    assert len({tuple(sorted(one)) for one in bodies}) == 1
    moments = [["app", "--time", f"2026-11-22T{hour}:20:00Z"] for hour in ("08", "10", "11")]
    bodies = [json.loads(invoke("locate", "-c", path, *one, "--json").stdout) for one in moments]
    assert [(one["marker"], len(one["files"])) for one in bodies] == [("_SUCCESS", 3), ("", 1), ("", 0)]
    assert len({tuple(sorted(one)) for one in bodies}) == 1
    assert len({tuple(sorted(file)) for one in bodies for file in one["files"]}) == 1


def test_for_people_it_says_where_and_why(invoke: Invoke, tree: Tree, path: str) -> None:
    text = invoke("locate", "-c", path, "app", "1", "9").stdout
    assert text.startswith("app/1 offset 9: in its hour, hour 2026-11-22T07\n")
    assert "app-00000-of-00001.json.gz (visible)" in text


def test_a_file_and_a_moment_can_be_asked_for(invoke: Invoke, tree: Tree, path: str) -> None:
    done = invoke("locate", "-c", path, "--file", f"file://{tree.finished(1)}")
    assert (done.exit_code, ": finished\n" in done.stdout) == (0, True)
    done = invoke("locate", "-c", path, "app", "--time", "2026-11-22T08:20:00Z")
    assert (done.exit_code, "_SUCCESS" in done.stdout) == (0, True)
    assert "partition 1, offsets" in stable(done.stdout, tree)


def test_a_moment_that_only_a_late_file_has_is_found(invoke: Invoke, tree: Tree, path: str) -> None:
    done = invoke("locate", "-c", path, "app", "--time", "2026-11-22T07:00:01Z")
    assert (done.exit_code, done.stdout.count("_late/app/"), done.stdout.count("only reading it")) == (0, 2, 2)
    done = invoke("locate", "-c", path, "app", "--time", "2026-11-22T09:59:59Z")
    assert (done.exit_code, "_SUCCESS" in done.stdout) == (9, True)


def test_a_moment_of_a_file_that_is_lost_is_exit_code_9(invoke: Invoke, tree: Tree, path: str) -> None:
    tree.finished(2).unlink()
    done = invoke("locate", "-c", path, "app", "--time", "2026-11-22T09:20:00Z")
    assert (done.exit_code, "bytes, missing" in done.stdout) == (9, True)


def test_what_no_file_has_is_exit_code_9(invoke: Invoke, tree: Tree, path: str) -> None:
    done = invoke("locate", "-c", path, "app", "0", "999999")
    assert (done.exit_code, "not decided yet" in done.stdout) == (9, True)


def test_a_decided_part_whose_file_is_gone_is_exit_code_9(invoke: Invoke, tree: Tree, path: str) -> None:
    tree.finished(0).unlink()
    done = invoke("locate", "-c", path, "app", "0", "3")
    assert (done.exit_code, "(missing)" in done.stdout) == (9, True)


def test_a_file_that_is_not_there_is_exit_code_9(invoke: Invoke, tree: Tree, path: str) -> None:
    lost, entry = tree.finished(0), tree.entry(2)
    asked = [str(one.relative_to(tree.store.root)) for one in (lost, entry)]
    assert [invoke("locate", "-c", path, "--file", one).exit_code for one in asked] == [0, 0]
    lost.unlink()
    entry.unlink()
    for one in (*asked, "_logflume/app/x", "_logflume/app"):
        done = invoke("locate", "-c", path, "--file", one)
        assert (done.exit_code, "(not there)" in done.stdout) == (9, True), done.output


def test_a_part_that_was_merged_is_found_where_it_is_now(invoke: Invoke, tree: Tree, path: str) -> None:
    part = json.loads(invoke("locate", "-c", path, "app", "0", "3", "--json").stdout)["part"]
    done = invoke("locate", "-c", path, "--file", part)
    assert (done.exit_code, "(not there): part" in done.stdout, "(visible)" in done.stdout) == (0, True, True)
    tree.finished(0).unlink()
    assert invoke("locate", "-c", path, "--file", part).exit_code == 9


@pytest.mark.parametrize("file", ["_late", "_quarantine", "_late/app", "app"])
def test_what_is_no_file_of_the_layout_is_a_usage_error(invoke: Invoke, tree: Tree, path: str, file: str) -> None:
    done = invoke("locate", "-c", path, "--file", file)
    assert (done.exit_code, "not a path of this layout" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [[], ["app"], ["app", "0", "1", "--time", "2026-11-22"], ["app", "--file", "x"], ["--time", "2026-11-22"],
     ["nothing", "0", "1"], ["app", "9", "1"], ["app", "--time", "yesterday"], ["app", "0", "1", "--topic-id", "x"]],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(invoke: Invoke, path: str, arguments: list[str]) -> None:
    done = invoke("locate", "-c", path, *arguments)
    assert done.exit_code == 2, done.output
    assert "error: " in done.stderr
