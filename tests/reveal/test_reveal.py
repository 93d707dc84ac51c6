"""An hour that a stopped partition holds back is shown as it is, and completed properly when the rest comes."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logflume import commit
from logflume.cli import main
from logflume.commit import Owner
from logflume.core import layout, ledger
from logflume.errors import UsageError
from logflume.finish import plan as plans
from logflume.finish import run as finishing
from logflume.finish.follow import TopicFollower
from logflume.finish.reveal import reveal
from logflume.model import HOUR_MS
from logflume.store import Store, open_store
from tests.compact.faults import Died, copies, die_everywhere, dying
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, Tree


def held_back(base: Path, **settings: Any) -> Tree:
    """Partition 0 has closed the first hour; partition 1 has decided some of it and is stopped."""
    tree = Tree(base, settings=settings)
    first, second = tree.ingests
    first.feed([FIRST_HOUR + 1000, FIRST_HOUR + 2000])
    first.decide(everything=True)
    first.feed([FIRST_HOUR + 3000, FIRST_HOUR + HOUR_MS + 120_000])
    first.decide()
    second.feed([FIRST_HOUR + 5000])
    second.decide(everything=True)
    return tree


def go_on(tree: Tree) -> None:
    """The stopped partition comes back and closes the hour."""
    second = tree.ingests[1]
    second.feed([FIRST_HOUR + 6000, FIRST_HOUR + HOUR_MS + 120_000])
    second.decide()


def accept_loss(tree: Tree) -> None:
    """An operator accepts that offsets of the stopped partition are lost, and it goes on behind them."""
    second = tree.ingests[1]
    owner = Owner("operator", lambda: second.now, tree.topic.hash)
    entry = ledger.lose(second.head, until=5, owner=owner.name, at=second.now, config=owner.config, note="lost")
    commit.append(tree.store, entry)
    again = tree.ingests[1] = tree.ingest(1)
    again.feed([FIRST_HOUR + HOUR_MS + 120_000])
    again.decide()


def finish(store: Store, tree: Tree) -> None:
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(store, TOPIC, TOPIC_ID, tree.topic)
        follower.refresh(pool)
        for plan in follower.due(100):
            finishing.finish(store, plan)


def hour_of(store: Store) -> Path:
    return Path(f"{store.root}/{layout.hour_path(TOPIC, FIRST_HOUR, HOUR_MS)}")


def shown(store: Store) -> list[str]:
    """The records that a reader sees: names with an underscore are skipped."""
    files = [path for path in hour_of(store).iterdir() if not path.name.startswith("_")]
    return sorted(json.loads(line)["n"] for path in files for line in gzip.decompress(path.read_bytes()).splitlines())


def markers(store: Store) -> set[str]:
    return {name for name in (layout.SUCCESS, layout.INCOMPLETE) if (hour_of(store) / name).exists()}


def left_over(store: Store) -> list[str]:
    """Hidden files of the hour other than markers, and plans."""
    hidden = [path.name for path in hour_of(store).glob("_*") if path.name not in markers(store)]
    return hidden + [path.name for path in Path(f"{store.root}/_logflume/{TOPIC}/{TOPIC_ID}/plans").glob("*")]


SOME, ALL = ["0:0", "0:1", "0:2", "1:0"], ["0:0", "0:1", "0:2", "1:0", "1:1"]


@pytest.mark.parametrize("mode", ["complete", "early"])
def test_a_reveal_shows_what_is_decided_and_says_what_is_missing(tmp_path: Path, mode: str) -> None:
    tree = held_back(tmp_path, reveal=mode)
    done = reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    assert (done.state, shown(tree.store), markers(tree.store)) == ("revealed", SOME, {layout.INCOMPLETE})
    marker = plans.decode((hour_of(tree.store) / layout.INCOMPLETE).read_bytes())
    assert marker.incomplete == ("partition 1: not closed; C is 1, its watermark 2026-11-22T07:00:05Z",)
    assert reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR).state == "revealed"


@pytest.mark.parametrize("mode", ["complete", "early"])
def test_when_the_rest_comes_the_hour_is_completed_and_what_was_shown_stays(tmp_path: Path, mode: str) -> None:
    tree = held_back(tmp_path, reveal=mode)
    reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    before = {path.name: path.stat().st_ino for path in hour_of(tree.store).glob("p*")}
    go_on(tree)
    finish(tree.store, tree)
    assert (shown(tree.store), markers(tree.store)) == (ALL, {layout.SUCCESS})
    assert left_over(tree.store) == []
    assert before.items() <= {path.name: path.stat().st_ino for path in hour_of(tree.store).glob("p*")}.items()


def test_an_hour_that_stays_incomplete_gets_the_finishers_marker_in_place_of_the_operators(tmp_path: Path) -> None:
    tree = held_back(tmp_path)
    reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    accept_loss(tree)
    finish(tree.store, tree)
    marker = plans.decode((hour_of(tree.store) / layout.INCOMPLETE).read_bytes())
    assert marker.incomplete == ("partition 1: lost",)
    assert marker.reveal == "complete"
    assert (shown(tree.store), markers(tree.store), left_over(tree.store)) == (SOME, {layout.INCOMPLETE}, [])


def test_an_hour_that_nobody_or_everybody_has_closed_is_not_revealed(tmp_path: Path) -> None:
    tree = held_back(tmp_path)
    with pytest.raises(UsageError, match="no partition has closed it"):
        reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + HOUR_MS)
    go_on(tree)
    with pytest.raises(UsageError, match="every partition has closed it"):
        reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    finish(tree.store, tree)
    assert reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR).state == "marked"


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    tree = held_back(tmp_path)
    before = tree.snapshot()
    assert reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR, dry_run=True).state == "planned"
    assert tree.snapshot() == before


def test_late_parts_to_be_appended_wait_for_the_real_marker(tmp_path: Path) -> None:
    tree = held_back(tmp_path, late="append")
    first = tree.ingests[0]
    reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    first.feed([FIRST_HOUR + 7000])
    first.decide(everything=True)
    assert shown(tree.store) == SOME
    go_on(tree)
    finish(tree.store, tree)
    assert shown(tree.store) == sorted([*ALL, "0:4"])


def test_a_reveal_that_is_killed_anywhere_is_completed_by_the_next_one(tmp_path: Path) -> None:
    def check(store: Store) -> None:
        assert (shown(store), markers(store)) == (SOME, {layout.INCOMPLETE})

    make = copies(held_back(tmp_path / "a").store, tmp_path)
    assert die_everywhere(make, lambda store: reveal(store, TOPIC, TOPIC_ID, FIRST_HOUR), check) >= 10


@pytest.mark.parametrize("rest", [go_on, accept_loss])
def test_a_finisher_that_is_killed_anywhere_after_a_reveal_leaves_a_finished_hour(
    tmp_path: Path, rest: Callable[[Tree], None]
) -> None:
    tree = held_back(tmp_path / "a")
    reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR)
    rest(tree)
    expected = (ALL, {layout.SUCCESS}) if rest is go_on else (SOME, {layout.INCOMPLETE})

    def check(store: Store) -> None:
        assert (shown(store), markers(store)) == expected
        assert left_over(store) == []

    assert die_everywhere(copies(tree.store, tmp_path), lambda store: finish(store, tree), check) >= 10


@pytest.mark.parametrize("rest", [go_on, accept_loss])
def test_a_reveal_that_was_killed_anywhere_is_completed_by_the_finisher(
    tmp_path: Path, rest: Callable[[Tree], None]
) -> None:
    tree = held_back(tmp_path / "a")
    half, at = tmp_path / "half", 0
    while True:
        shutil.copytree(tree.store.root, half)
        store = open_store(f"file://{half}")
        try:
            reveal(dying(store, at), TOPIC, TOPIC_ID, FIRST_HOUR)
        except Died:
            pass
        else:
            break
        later = held_back(tmp_path / f"later-{at}")
        # the same tree under another name, with owners of its own
        shutil.rmtree(later.store.root)
        shutil.move(half, later.store.root)
        later.ingests = [later.ingest(number) for number in range(2)]
        rest(later)
        finish(later.store, later)
        assert markers(later.store) == {layout.SUCCESS if rest is go_on else layout.INCOMPLETE}
        assert shown(later.store)[:4] == SOME
        assert left_over(later.store) == []
        at += 1
    assert at >= 5


def test_the_command_tells_people_and_programs(tmp_path: Path) -> None:
    tree = held_back(tmp_path)
    file = tmp_path / "logflume.toml"
    file.write_text(
        '[kafka]\n"bootstrap.servers" = "127.0.0.1:1"\n"group.id" = "g"\n'
        f'[output]\nroot = "{tree.url}"\n[daemon]\nspool = "{tmp_path}/spool"\n'
        '[[topic]]\nname = "app"\ntimestamp = "create"\n'
    )
    command = ["reveal", TOPIC, "2026-11-22T07", "-c", str(file)]
    dry = CliRunner().invoke(main, [*command, "--dry-run"], catch_exceptions=False)
    assert dry.exit_code == 0
    assert "would show 4 records in 3 files" in dry.stdout
    assert "missing: partition 1: not closed" in dry.stdout
    done = CliRunner().invoke(main, [*command, "--json"], catch_exceptions=False)
    body = json.loads(done.stdout)
    assert (body["state"], body["records"], len(body["files"])) == ("revealed", 4, 3)
    assert body["directory"] == "app/dt=2026-11-22/hour=07"
    assert CliRunner().invoke(main, ["reveal", TOPIC, "7 o'clock", "-c", str(file)]).exit_code == 2


def test_an_hour_that_was_finished_long_ago_is_marked_and_not_an_error(tmp_path: Path) -> None:
    """Its ledger knows nothing of it any more."""
    tree = Tree(tmp_path).fill(3)
    for ingest in tree.ingests:
        ingest.feed([ingest.now])
        ingest.decide(everything=True)
    assert reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR).state == "marked"
    with pytest.raises(UsageError, match="not held back"):
        reveal(tree.store, TOPIC, TOPIC_ID, FIRST_HOUR + 5 * HOUR_MS)
