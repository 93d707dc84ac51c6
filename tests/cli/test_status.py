"""``logflume status``; what it says of ledgers is tested in tests/status/test_ledger.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from logflume.status import ledger
from logflume.store import open_store
from tests.cli import files
from tests.cli.conftest import Invoke, Program
from tests.conftest import TopicFactory
from tests.stack import Stack
from tests.status import ledgers

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def path(tmp_path: Path) -> str:
    ledgers.write(open_store(f"file://{tmp_path}/out"))
    return files.write(tmp_path)


def test_the_json_is_a_contract(invoke: Invoke, path: str) -> None:
    done = invoke("status", "--json", "-c", path)
    assert done.exit_code == 0
    body = json.loads(done.output)
    assert "_TRANSPORT" in body["kafka"].pop("error")
    assert body == json.loads((GOLDEN / "status.json").read_text())


def test_the_table_for_people_is_aligned(invoke: Invoke, path: str) -> None:
    done = invoke("status", "-c", path)
    first, *rest = done.output.splitlines()
    assert first.startswith("Kafka does not answer, so lag is not known: ")
    assert rest == (GOLDEN / "status.txt").read_text().splitlines()


def test_of_lost_offsets_the_command_that_accepts_them_is_told(
    invoke: Invoke, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K8"""
    log = ledger.Log(ledgers.TOPIC_ID, {0: 0, 1: 480, 2: 0, 3: 0}, dict.fromkeys(range(4), 600))
    monkeypatch.setattr(ledger, "read_logs", lambda *_: {"app": log})
    lines = invoke("status", "-c", path).output.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("  1 is stopped: app/1: offsets 450 to 479 are lost"))
    assert lines[at + 1].startswith("    hint: to go on without them: logflume reconcile --accept-gap app/1:480 ")
    assert sum("hint: " in line for line in lines) == 1
    partitions = json.loads(invoke("status", "--json", "-c", path).output)["topics"][0]["partitions"]
    assert ["--accept-gap app/1:480 " in one["hint"] for one in partitions] == [False, True, False, False]


def test_without_a_ledger_it_says_so_and_what_to_look_at(invoke: Invoke, tmp_path: Path) -> None:
    path = files.write(tmp_path, topics='[[topic]]\npattern = "web-.*"\ntimestamp = "create"\n')
    done = invoke("status", "-c", path)
    assert f"no topic has a ledger below file://{tmp_path}/out yet\nhint: is output.root right" in done.output
    named = invoke("status", "-c", path, "--topic", "web-a")
    assert named.output.splitlines()[2:] == ["topic web-a  (id unknown)", "  note: no ledger yet: nothing was read"]
    body = json.loads(invoke("status", "-c", path, "--topic", "web-a", "--json").output)
    assert [one["topic"] for one in body["topics"]] == ["web-a"]


def test_a_topic_that_is_not_configured_is_a_usage_error(invoke: Invoke, path: str) -> None:
    done = invoke("status", "-c", path, "--topic", "other")
    assert done.exit_code == 2
    assert "no [[topic]]" in done.stderr
    assert "'other'" in done.stderr


def test_with_real_servers_it_needs_no_daemon(
    program: Program, tmp_path: Path, stack: Stack, topic_factory: TopicFactory, hdfs_root: str
) -> None:
    name = topic_factory(partitions=3)
    store = open_store(f"{stack.hdfs_url}{hdfs_root}")
    ledgers.write(store)
    store.close()
    topics = "".join(f'[[topic]]\nname = "{one}"\ntimestamp = "create"\n' for one in ("app", name))
    settings = files.write(tmp_path, bootstrap=stack.bootstrap, root=f"{stack.hdfs_url}{hdfs_root}", topics=topics)
    done = program("status", "--json", "-c", settings)
    assert (done.returncode, done.stderr) == (0, "")
    body = json.loads(done.stdout)
    assert body["kafka"] == {"reachable": True, "error": ""}
    by_topic = {one["topic"]: one for one in body["topics"]}
    assert [one["end"] for one in by_topic[name]["partitions"]] == [0, 0, 0]
    assert by_topic["app"]["hours"][0]["state"] == "complete"


def test_a_store_that_is_away_is_an_error_with_a_hint(program: Program, tmp_path: Path) -> None:
    done = program("status", "-c", files.write(tmp_path, root="hdfs://127.0.0.1:1/logs"))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "hint: check the address and that the server is up"
    assert "Traceback" not in done.stderr
