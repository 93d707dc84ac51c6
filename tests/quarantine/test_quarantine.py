"""What could not be placed is told by reason, and run again exactly once."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logflume.cli import main
from logflume.commit import Owner
from logflume.core import layout
from logflume.errors import LedgerError, Refused, Stopped
from logflume.model import HOUR_MS, Kind
from logflume.quarantine.read import for_people, records
from logflume.quarantine.reinject import Result, reinject
from logflume.quarantine.summary import by_reason
from logflume.reconcile.accept import accept_topic
from logflume.reconcile.findings import What
from logflume.store import Store, open_store
from logflume.store.local import LocalStore
from tests.cli import files
from tests.compact.faults import copies, die_everywhere
from tests.reconcile.conftest import Reconcile, quick_looks, reconciled
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree, configuration

__all__ = ["quick_looks", "reconciled"]  # fixtures

#: a field of time that the configuration does not know yet
OTHER = [json.dumps({"time": FIRST_HOUR + i * HOUR_MS // 2, "n": i}).encode() for i in range(4)]


def written(base: Path) -> Tree:
    """Both partitions have four records with their time elsewhere, and one that is no JSON; two parts each."""
    tree = Tree(base)
    for ingest in tree.ingests:
        ingest.feed([FIRST_HOUR + 1000, *OTHER[:2], b"no\x00json \xff\n"])
        ingest.decide(everything=True)
        ingest.feed([FIRST_HOUR + 2000, *OTHER[2:], FIRST_HOUR + 3 * HOUR_MS])
        ingest.decide(everything=True)
    return tree.finish()


def again(store: Store, tree: Tree, into: Store | None = None, window: str = "1h", **options: Any) -> Result:
    """With the field that those records have."""
    settings = {"timestamp": {"field": "time", "unit": "ms"}, "max_future": "1d", "window": window}
    topic = configuration(tree.url, tree.spool, **settings).topic_for(TOPIC)
    assert topic is not None
    now_ms = time.time_ns() // 1_000_000
    return reinject(into or store, TOPIC, TOPIC_ID, topic, records(store, TOPIC, HOUR_MS), now_ms=now_ms, **options)


def late(store: Store) -> dict[str, list[int]]:
    """Per directory, the numbers of the records that were run again."""
    found: dict[str, list[int]] = {}
    for path in sorted(Path(store.root).glob("_late/app/*/*/rp*")):
        values = [json.loads(line)["n"] for line in gzip.decompress(path.read_bytes()).splitlines()]
        found[path.parent.name] = sorted(found.get(path.parent.name, []) + values)
    return found


#: two in each of the first two hours, of both partitions
EXPECTED = {"hour=07": [0, 0, 1, 1], "hour=08": [2, 2, 3, 3]}


def test_nothing_is_run_again_with_another_window_than_the_ledger_has(tmp_path: Path) -> None:
    tree = written(tmp_path)
    before = tree.snapshot()
    with pytest.raises(Stopped, match="window"):
        again(tree.store, tree, window="2h")
    assert tree.snapshot() == before
    # a root of its own has no ledger that could say otherwise
    assert again(tree.store, tree, into=open_store(f"file://{tmp_path}/other"), window="2h").taken == 8


def test_records_are_counted_by_reason_with_samples(tmp_path: Path) -> None:
    tree = written(tmp_path)
    groups = by_reason(records(tree.store, TOPIC, HOUR_MS), samples=2)
    assert [(group.reason, group.count, len(group.samples)) for group in groups] == [
        ("no_time", 8, 2),
        ("not_utf8", 2, 2),
    ]
    assert groups[0].samples[0].value == OTHER[0]
    assert groups[0].partitions == {0, 1}
    later = records(tree.store, TOPIC, HOUR_MS, since_ms=FIRST_HOUR + 24 * HOUR_MS)
    assert list(later) == []


def test_samples_for_people_have_nothing_that_a_terminal_would_take_for_an_order() -> None:
    assert for_people(b"no\x00json \xff\x1b[31m\n") == r"no\x00json \xff\x1b[31m\n"
    assert for_people("grün".encode()) == "grün"
    assert for_people(None) == "(none)"
    assert for_people(b"x" * 1000, 10) == "x" * 10 + "…"


def test_what_is_accepted_now_lies_in_the_late_tree_of_its_hour_once(tmp_path: Path) -> None:
    tree = written(tmp_path)
    before = {path: data for path, data in tree.snapshot().items() if path.startswith("_quarantine")}
    done = again(tree.store, tree)
    assert (done.taken, done.before, dict(done.again), len(done.files)) == (8, 0, {"not_utf8": 2}, 4)
    assert late(tree.store) == EXPECTED
    repeated = again(tree.store, tree)
    assert (repeated.taken, repeated.before, repeated.files) == (0, 8, [])
    assert late(tree.store) == EXPECTED
    assert before.items() <= tree.snapshot().items()


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    tree = written(tmp_path)
    before = tree.snapshot()
    assert again(tree.store, tree, dry_run=True).taken == 8
    assert tree.snapshot() == before


def test_another_root_counts_by_itself(tmp_path: Path) -> None:
    tree = written(tmp_path)
    other = open_store(f"file://{tmp_path}/other")
    before = tree.snapshot()
    assert again(tree.store, tree, other).taken == 8
    assert late(other) == EXPECTED
    assert tree.snapshot() == before
    assert again(tree.store, tree, other).taken == 0
    assert again(tree.store, tree).taken == 8


def test_new_quarantined_records_are_run_beside_those_before(tmp_path: Path) -> None:
    tree = written(tmp_path)
    again(tree.store, tree)
    tree.ingests[0].feed([OTHER[0]])
    tree.ingests[0].decide(everything=True)
    done = again(tree.store, tree)
    assert (done.taken, done.before) == (1, 8)
    assert late(tree.store)["hour=07"] == [0, 0, 0, 1, 1]


def test_a_file_of_an_earlier_run_that_is_gone_is_for_reconcile_to_say(tmp_path: Path, reconciled: Reconcile) -> None:
    """Also where late records have made its directory anew, after data retention had removed it."""
    tree = written(tmp_path)
    done = again(tree.store, tree)
    tree.path(done.files[0]).unlink()
    tree.ingests[0].feed([OTHER[0]])
    tree.ingests[0].decide(everything=True)
    assert again(tree.store, tree).taken == 1
    assert What.REINJECTED_WRONG in {one.what for one in reconciled(tree, full=True).findings}


def test_a_file_of_an_earlier_run_that_was_changed_stops_the_next_one(tmp_path: Path) -> None:
    tree = written(tmp_path)
    done = again(tree.store, tree)
    tree.path(done.files[0]).write_bytes(b"other")
    with pytest.raises(Stopped, match="is not there so"):
        again(tree.store, tree)


def test_files_of_an_earlier_run_that_are_gone_with_their_hours_do_not(tmp_path: Path) -> None:
    """Somebody keeps data for a shorter time than the ledger."""
    tree = written(tmp_path)
    again(tree.store, tree)
    shutil.rmtree(tree.path("_late/app/dt=2026-11-22/hour=07"))
    for path in tree.path("_late/app/dt=2026-11-22/hour=08").iterdir():
        path.unlink()
    tree.ingests[0].feed([OTHER[0]])
    tree.ingests[0].decide(everything=True)
    done = again(tree.store, tree)
    assert (done.taken, done.before, done.resumed) == (1, 8, 0)
    assert late(tree.store) == {"hour=07": [0]}


class Robbed(LocalStore):
    """Somebody empties the ledger's tmp behind a run's back."""

    def publish(self, tmp: str, final: str) -> None:
        if "/rp" in final:
            self.delete(tmp)
        super().publish(tmp, final)


def test_files_of_this_very_run_that_are_gone_stop_it(tmp_path: Path) -> None:
    tree = written(tmp_path)
    with pytest.raises(Stopped, match="is not there so"):
        again(tree.store, tree, Robbed(tree.store.root))


def test_a_run_that_is_killed_anywhere_is_completed_by_the_next_one(tmp_path: Path) -> None:
    tree = written(tmp_path / "a")

    def check(store: Store) -> None:
        assert late(store) == EXPECTED

    assert die_everywhere(copies(tree.store, tmp_path), lambda store: again(store, tree), check) >= 10


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_damaged_file_of_the_quarantine_is_an_error_that_names_it(tmp_path: Path, compression: str) -> None:
    tree = Tree(tmp_path, settings={"compression": compression})
    tree.ingests[0].feed([FIRST_HOUR + 1000, b"no json"])
    tree.ingests[0].decide(everything=True)
    (path,) = tree.path("_quarantine").rglob("p*")
    data = path.read_bytes()
    path.write_bytes(data[:30] + bytes([data[30] ^ 0xFF]) + data[31:])
    command = ["quarantine", TOPIC, "-c", files.write(tmp_path, root=tree.url)]
    done = CliRunner().invoke(main, command)
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == LedgerError.exit_code
    assert path.name in done.stderr


def test_without_room_on_the_local_disk_nothing_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = written(tmp_path)
    before = tree.snapshot()
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")
    with pytest.raises(Refused, match="temporary directory"):
        again(tree.store, tree)
    assert tree.snapshot() == before


def test_reconcile_knows_why_an_offset_is_in_two_places(tmp_path: Path, reconciled: Reconcile) -> None:
    tree = written(tmp_path)
    again(tree.store, tree)
    assert [one.path for one in reconciled(tree, full=True, deep=True).findings] == []
    stranger = tree.path(f"{tree.hour(0, Kind.LATE)}/{layout.reinjected_name(TOPIC_ID, 0, 999, '.json.gz')}")
    stranger.write_bytes(b"x")
    assert [one.path for one in reconciled(tree, full=True).findings] == [
        f"{tree.hour(0, Kind.LATE)}/rp00000-0000000000000000999.{layout.id_mark(TOPIC_ID)}.json.gz"
    ]


def test_of_a_topic_that_was_re_created_each_id_gets_its_own_back(tmp_path: Path) -> None:
    """With the same offsets in both: the names of the quarantined files tell them apart."""
    first = written(tmp_path)
    owner = Owner("operator", lambda: FIRST_HOUR, first.topic.hash)
    accept_topic(first.store, TOPIC, "id-after-it", owner, "re-created")
    second = Tree(tmp_path, topic_id="id-after-it")
    for ingest in second.ingests:
        ingest.feed([FIRST_HOUR + 1000, *OTHER[:2], FIRST_HOUR + 9 * HOUR_MS])
        ingest.decide(everything=True)
    topics = '[[topic]]\nname = "app"\ntimestamp = { field = "time", unit = "ms" }\nmax_future = "1d"\n'
    command = ["quarantine", TOPIC, "-c", files.write(tmp_path, root=second.url, topics=topics), "--reinject", "--json"]
    done = json.loads(CliRunner().invoke(main, command, catch_exceptions=False).stdout)
    assert (done["reinjected"], len(done["files"])) == (8 + 4, 4 + 2)
    assert late(second.store) == {"hour=07": [0, 0, 0, 0, 1, 1, 1, 1], "hour=08": [2, 2, 3, 3]}
    assert {layout.mark_of(path.rsplit("/", 1)[1]) for path in done["files"]} == {
        layout.id_mark(TOPIC_ID),
        layout.id_mark("id-after-it"),
    }
    again_done = json.loads(CliRunner().invoke(main, command, catch_exceptions=False).stdout)
    assert (again_done["reinjected"], again_done["reinjected_before"]) == (0, 12)


def test_the_command_tells_people_and_programs(tmp_path: Path) -> None:
    tree = written(tmp_path)
    file = tmp_path / "logflume.toml"
    file.write_text(
        '[kafka]\n"bootstrap.servers" = "127.0.0.1:1"\n"group.id" = "g"\n'
        f'[output]\nroot = "{tree.url}"\n[daemon]\nspool = "{tmp_path}/spool"\n'
        '[[topic]]\nname = "app"\ntimestamp = { field = "time", unit = "ms" }\nmax_future = "1d"\n'
    )
    command = ["quarantine", TOPIC, "-c", str(file)]
    listed = CliRunner().invoke(main, [*command, "--samples", "1"], catch_exceptions=False)
    assert listed.stdout.startswith("no_time                  8 records of 2 partitions, 2026-11-22T")
    body = json.loads(CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False).stdout)
    assert {one["reason"]: one["records"] for one in body["reasons"]} == {"no_time": 8, "not_utf8": 2}
    dry = CliRunner().invoke(main, [*command, "--reinject", "--dry-run"], catch_exceptions=False)
    assert dry.stdout.startswith("8 records would be run again\n2 fail again: not_utf8")
    done = CliRunner().invoke(main, [*command, "--reinject", "--json"], catch_exceptions=False)
    assert (done.exit_code, json.loads(done.stdout)["reinjected"]) == (0, 8)
    assert late(tree.store) == EXPECTED
    wrong = CliRunner().invoke(main, [*command, "--into", "file:///tmp/x"], catch_exceptions=False)
    assert wrong.exit_code == 2


def test_only_an_empty_quarantine_is_said_to_be_empty(tmp_path: Path) -> None:
    """Not one of which the options mean nothing, and not that of a topic whose name is mistyped."""
    tree = written(tmp_path)
    topics = '[[topic]]\npattern = "a.*"\ntimestamp = "create"\n'
    command = ["quarantine", "-c", files.write(tmp_path, root=tree.url, topics=topics)]
    for options in (["--reason", "future"], ["--to", "2000-01-01T00"], ["--from", "2100-01-01T00"]):
        done = CliRunner().invoke(main, [*command, TOPIC, *options], catch_exceptions=False)
        assert (done.exit_code, done.stdout) == (0, "nothing is quarantined that these options mean\n")
    unknown = CliRunner().invoke(main, [*command, TOPIC, "--reason", "no_tme"], catch_exceptions=False)
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "no_time" in unknown.stderr
    mistyped = CliRunner().invoke(main, [*command, "apq"], catch_exceptions=False)
    assert (mistyped.exit_code, mistyped.stdout) == (2, "")
    assert "topic apq has no ledger" in mistyped.stderr
    shutil.rmtree(tree.path("_quarantine"))
    assert CliRunner().invoke(main, [*command, TOPIC]).stdout == "nothing is quarantined\n"
