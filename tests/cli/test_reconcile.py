"""``logflume reconcile``; what it finds and repairs is tested in tests/reconcile."""

from __future__ import annotations

import fcntl
import json
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from logflume import zookeeper
from logflume.errors import Busy
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.topics import MOCK_TOPIC_ID, Topics
from logflume.reconcile.findings import MEANINGS, What
from logflume.reconcile.lock import NAME
from tests.cli import files
from tests.cli.conftest import Invoke, Program
from tests.conftest import TopicFactory
from tests.reconcile.test_crash import TOPIC_TABLE
from tests.reconcile.tree import Tree
from tests.stack import Stack

GOLDEN = Path(__file__).parent / "golden"
NOW = ("--patience", "0s", "--grace", "0s", "--no-kafka")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path).fill(3)


@pytest.fixture
def path(tree: Tree) -> str:
    return files.write(tree.base, root=tree.url, topics=TOPIC_TABLE)


def stable(text: str, tree: Tree) -> str:
    """Without what differs from run to run, or from CPU to CPU, as the length of compressed lines does."""
    text = text.replace(str(tree.base), "BASE")
    text = re.sub(r'"bytes": \d+', '"bytes": 0', text)
    text = re.sub(r'"\d+ bytes, ', '"N bytes, ', text)
    text = re.sub(r'"(started_ms|seconds)": [0-9.]+', r'"\1": 0', text)
    text = re.sub(r"(timestamp_seconds|duration_seconds) [0-9.]+", r"\1 0", text)
    # how many calls it takes is measured in tests/reconcile/test_scale.py
    text = re.sub(r'"(list|read|stat|write|publish|delete)": \d+', r'"\1": 0', text)
    text = re.sub(r"(store_calls\{.*\}) \d+", r"\1 0", text)
    return re.sub(r"by test:[0-9a-f]{8}", "by OWNER", text)


def test_the_json_is_a_contract(invoke: Invoke, tree: Tree, path: str) -> None:
    tree.finished(1).unlink()
    tree.marker(2).unlink()
    done = invoke("reconcile", "-c", path, "--json", "--full", *NOW)
    assert done.exit_code == 9
    assert json.loads(stable(done.stdout, tree)) == json.loads((GOLDEN / "reconcile.json").read_text())


def test_the_text_names_what_to_do(invoke: Invoke, tree: Tree, path: str) -> None:
    tree.finished(1).unlink()
    done = invoke("reconcile", "-c", path, *NOW)
    assert done.exit_code == 9
    assert "found: 1 × file_missing: a decided file is not there" in done.stdout
    assert f"logflume backfill -c {path} --topic app --hours 2026-11-22T08 --repair" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("a person is needed; ")


def test_metrics_are_whole_and_readable_by_the_exporter(invoke: Invoke, tree: Tree, path: str, tmp_path: Path) -> None:
    target = tmp_path / "logflume.prom"
    assert invoke("reconcile", "-c", path, "--prometheus", str(target), *NOW).exit_code == 0
    assert stable(target.read_text(), tree) == (GOLDEN / "reconcile.prom").read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    done = invoke("reconcile", "-c", path, "--prometheus", str(tmp_path / "no" / "such"), *NOW)
    assert (done.exit_code, "cannot write" in done.stderr) == (2, True)
    assert "clean" in done.stdout
    # what was found is graver, and was swallowed
    tree.finished(1).unlink()
    done = invoke("reconcile", "-c", path, "--full", "--prometheus", str(tmp_path / "no" / "such"), *NOW)
    assert (done.exit_code, "cannot write" in done.stderr) == (9, True)
    assert "file_missing" in done.stdout


def test_every_finding_has_a_meaning_and_a_mender() -> None:
    assert set(MEANINGS) == set(What)


def test_exit_codes_tell_what_is_left(invoke: Invoke, tree: Tree, path: str) -> None:
    assert invoke("reconcile", "-c", path, *NOW).exit_code == 0
    tree.marker(2).unlink()
    assert invoke("reconcile", "-c", path, "--full", *NOW).exit_code == 10
    assert invoke("reconcile", "-c", path, "--full", "--repair", *NOW).exit_code == 11
    assert invoke("reconcile", "-c", path, "--full", *NOW).exit_code == 0


def test_a_second_run_does_nothing_beside_the_first(invoke: Invoke, tree: Tree, path: str) -> None:
    tree.spool.mkdir(exist_ok=True)
    with (tree.spool / NAME).open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = invoke("reconcile", "-c", path, *NOW)
    assert (done.exit_code, done.stdout) == (12, "")
    assert "another run holds" in done.stderr
    assert invoke("reconcile", "-c", path, *NOW).exit_code == 0


def test_begin_and_end_are_in_the_log(program: Program, tree: Tree, path: str) -> None:
    done = program("reconcile", "-c", path, *NOW)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines if "reconcile" in line["event"]] == ["reconcile begins", "reconcile ends"]
    assert (lines[-1]["result"], lines[-1]["found"]) == ("clean", 0)
    assert lines[-1]["seconds"] > 0


def test_a_run_that_hangs_ends_at_its_deadline(program: Program, tree: Tree, path: str) -> None:
    done = program("reconcile", "-c", path, "--deadline", "1ms", *NOW)
    assert done.returncode == 3
    assert "gives up" in done.stderr


@pytest.fixture
def accept(invoke: Invoke, tmp_path: Path) -> Iterator[tuple[Tree, Callable[..., Result], int, int]]:
    """A ledger of a log that has lost its beginning; calls ``--accept-gap`` for an offset of partition 1."""
    tree = Tree(tmp_path, topic_id=MOCK_TOPIC_ID).fill(3)
    with EmbeddedBroker() as broker:
        # it keeps the newest 5 MiB
        produce(broker.bootstrap, "app", [Outgoing(1, b"x" * 100_000)] * 200)
        topics, part = Topics({"bootstrap.servers": broker.bootstrap}), ("app", 1)
        start, end = topics.start_offsets([part])[part], topics.end_offsets([part])[part]
        assert tree.ingests[1].head.state.committed < start < end - 10
        path = files.write(tmp_path, bootstrap=broker.bootstrap, root=tree.url, topics=TOPIC_TABLE)
        yield tree, lambda at, *more: invoke("reconcile", "-c", path, "--accept-gap", f"app/1:{at}", *more), start, end


REASON = ("--reason", "retention, INC-42")


def test_a_gap_is_accepted_with_a_reason(
    invoke: Invoke, accept: tuple[Tree, Callable[..., Result], int, int], tmp_path: Path
) -> None:
    tree, call, start, _ = accept
    assert call(start).exit_code == 2
    done = call(start, *REASON, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["entry"] == tree.ingests[1].head.entry.seq + 1
    assert invoke("reconcile", "-c", str(tmp_path / "logflume.toml"), "--full", "--deep", *NOW).exit_code == 0
    again = call(start, *REASON)
    assert (again.exit_code, "nothing is lost below" in again.stderr) == (2, True)
    assert call("", *REASON).exit_code == 2


def test_a_gap_is_what_the_log_says(accept: tuple[Tree, Callable[..., Result], int, int]) -> None:
    """It is accepted for good, so a digit too many must not be."""
    tree, call, start, end = accept
    before = tree.snapshot()
    for more in (REASON, (*REASON, "--even-readable")):
        beyond = call(end + 1, *more)
        assert (beyond.exit_code, f"begins at {start} and ends at {end}" in beyond.stderr) == (2, True)
    readable = call(start + 7, *REASON)
    assert (readable.exit_code, "Kafka still has 7 of the offsets" in readable.stderr) == (2, True)
    assert tree.snapshot() == before
    assert call(start + 7, *REASON, "--even-readable").exit_code == 0
    # from where reading goes on now, all is there
    assert "Kafka still has 2 of the offsets" in call(start + 9, *REASON).stderr


def test_a_log_that_has_changed_below_c_is_accepted_at_c(
    accept: tuple[Tree, Callable[..., Result], int, int],
) -> None:
    """K9: all offsets are there, and the broker refuses to read on at C with the epoch that the ledger has."""
    tree, call, start, _ = accept
    ingest = tree.ingests[1]
    assert call(start, *REASON).exit_code == 0
    assert "nothing is lost" in call(start, *REASON, "--even-readable").stderr
    ingest.go_on()
    ingest.feed([ingest.now])
    at = ingest.decide(everything=True).state.committed
    assert (at, ingest.head.state.leader_epoch) == (start + 1, 0)
    assert "nothing is lost" in call(at, *REASON).stderr
    done = call(at, *REASON, "--even-readable")
    assert done.exit_code == 0, done.output
    ingest.go_on()
    assert (ingest.head.state.committed, ingest.head.state.leader_epoch) == (at, -1)
    assert f"a log that changed below {at} was accepted" in ingest.head.entry.note


def test_without_kafka_no_gap_is_accepted(invoke: Invoke, tree: Tree, path: str) -> None:
    before = tree.snapshot()
    done = invoke("reconcile", "-c", path, "--accept-gap", "app/1:1000", *REASON)
    assert (done.exit_code, tree.snapshot() == before) == (3, True)


def test_a_gap_of_another_id_is_none(invoke: Invoke, tree: Tree) -> None:
    with EmbeddedBroker() as broker:
        produce(broker.bootstrap, "app", [Outgoing(1, b"x")] * 1001)
        path = files.write(tree.base, bootstrap=broker.bootstrap, root=tree.url, topics=TOPIC_TABLE)
        done = invoke("reconcile", "-c", path, "--accept-gap", "app/1:1000", "--even-readable", *REASON)
    assert (done.exit_code, "--accept-topic app" in done.stderr) == (2, True)


def test_readable_offsets_belong_to_a_gap(invoke: Invoke, path: str) -> None:
    assert invoke("reconcile", "-c", path, "--even-readable", *NOW).exit_code == 2
    done = invoke("reconcile", "-c", path, "--accept-topic", "app", "--even-readable", *REASON)
    assert (done.exit_code, "belongs to --accept-gap" in done.stderr) == (2, True)


def test_some_hours_only_belong_to_a_full_run(invoke: Invoke, path: str) -> None:
    done = invoke("reconcile", "-c", path, "--since", "2026-11-22", *NOW)
    assert (done.exit_code, "--since belongs to --full" in done.stderr) == (2, True)


def test_certificates_that_cannot_be_read_are_said_before_anything_is_done(invoke: Invoke, tree: Tree) -> None:
    options = '"security.protocol" = "ssl"\n"ssl.ca.location" = "/none.pem"'
    path = files.write(tree.base, root=tree.url, topics=TOPIC_TABLE, kafka=options)
    codes = {}
    for command in ("reconcile", "status", "check"):
        done = invoke(command, "-c", path)
        codes[command] = done.exit_code
        assert "ssl.ca.location failed" in done.output + done.stderr, command
        assert "Traceback" not in done.output + done.stderr
    assert codes == {"reconcile": 2, "status": 0, "check": 2}


def test_a_topic_that_nobody_knows_is_not_clean(invoke: Invoke, tree: Tree, path: str) -> None:
    assert invoke("reconcile", "-c", path, "--topic", "app", *NOW).exit_code == 0
    done = invoke("reconcile", "-c", path, "--topic", "appp", *NOW)
    assert (done.exit_code, "topic appp has no ledger" in done.stderr) == (2, True)
    # configured, and nothing has come yet
    more = files.write(tree.base, root=tree.url, topics=TOPIC_TABLE + TOPIC_TABLE.replace('"app"', '"appp"'))
    assert invoke("reconcile", "-c", more, "--topic", "appp", *NOW).exit_code == 0


def test_hours_in_another_root_are_named(invoke: Invoke, tree: Tree, path: str, tmp_path: Path) -> None:
    other = Tree(tmp_path / "other").fill(2)
    done = invoke("reconcile", "-c", path, "--json", "--other-root", other.url, *NOW)
    assert done.exit_code == 9
    found = [one for one in json.loads(done.stdout)["findings"] if one["what"] == "hour_duplicate"]
    assert {(one["hour"], one["partition"]) for one in found} == {
        (hour, number) for hour in ("2026-11-22T07", "2026-11-22T08") for number in (0, 1)
    }
    empty = f"file://{tmp_path}/empty"
    assert invoke("reconcile", "-c", path, "--other-root", empty, *NOW).exit_code == 0


def test_zookeeper_is_only_asked_politely(tmp_path: Path) -> None:
    with zookeeper.lock("127.0.0.1:1/logflume", "test", "me") as held:
        assert held is False


def test_on_other_hosts_zookeeper_says_that_one_is_running(stack: Stack) -> None:
    address = f"{stack.zookeeper}/logflume-test"
    with zookeeper.lock(address, "reconcile", "host-a:1") as held:
        assert held is True
        with pytest.raises(Busy, match="host-a:1"), zookeeper.lock(address, "reconcile", "host-b:2"):
            pass
    with zookeeper.lock(address, "reconcile", "host-b:2") as held:
        assert held is True


def test_the_log_in_kafka_is_compared(
    invoke: Invoke, tree: Tree, tmp_path: Path, stack: Stack, topic_factory: TopicFactory
) -> None:
    """The tree's topic is not there; one of the same name with another id would be."""
    settings = files.write(tmp_path, bootstrap=stack.bootstrap, root=tree.url, topics=TOPIC_TABLE)
    done = invoke("reconcile", "-c", settings, "--json", "--patience", "0s")
    body = json.loads(done.stdout)
    assert body["kafka"] == "compared"
    assert [one["what"] for one in body["findings"]] in (["topic_gone"], ["topic_recreated"])
