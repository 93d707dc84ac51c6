"""S1: what a claim refuses before anything is written, and what it only goes on from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from logflume import commit
from logflume.commit import LogFacts, Owner
from logflume.core import layout
from logflume.core.ledger import Head
from logflume.errors import Stopped, Unreachable
from logflume.model import HOUR_MS, PartitionId
from logflume.store.base import FileStatus
from logflume.store.local import LocalStore
from tests.crash.points import Variant, settings
from tests.reconcile.tree import FIRST_HOUR, Tree
from tests.sim.game import game
from tests.sim.host import played
from tests.sim.world import TOPIC, TOPIC_ID, Clock

PID = PartitionId(TOPIC, TOPIC_ID, 0)


def claim(store: LocalStore, facts: LogFacts, *, window_ms: int = HOUR_MS) -> Head:
    owner = Owner("o", lambda: 1, "c")
    return commit.claim(store, PID, owner, window_ms=window_ms, ask=lambda: facts, latest=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """With a ledger whose C is 18."""
    clock, variant, where = (
        Clock(),
        Variant("complete", "side", concat=False),
        tmp_path_factory.mktemp("claims") / "run",
    )
    with played(clock), game(*settings(variant), variant.store, where, clock) as run:
        run.play(run.host("one", [0, 1]))
        run.root.rename(where.parent / "logs")
    return LocalStore(str(where.parent / "logs"))


@pytest.mark.parametrize(
    ("facts", "window_ms", "said"),
    [
        pytest.param(LogFacts(0, 99, 19, 2), HOUR_MS, "beyond the ledger", id="K7 committed beyond the chain"),
        pytest.param(LogFacts(19, 99, 18, 2), HOUR_MS, "retention", id="K8 retention loss"),
        pytest.param(LogFacts(0, 17, 18, 2), HOUR_MS, "truncated", id="K9 truncation"),
        pytest.param(LogFacts(0, 99, 18, 2), 2 * HOUR_MS, "window", id="C2 window changed"),
    ],
)
def test_a_log_that_contradicts_the_chain_stops_the_partition_and_changes_nothing(
    store: LocalStore, facts: LogFacts, window_ms: int, said: str
) -> None:
    """K7 K8 K9 C2: a person is told, with what to do."""
    before = commit.read_head(store, PID)
    assert before is not None
    assert before.state.committed == 18
    with pytest.raises(Stopped, match=said) as stopped:
        claim(store, facts, window_ms=window_ms)
    assert stopped.value.hint
    assert commit.read_head(store, PID) == before


def test_a_log_that_ends_below_what_was_decided_above_c_is_truncated(tmp_path: Path) -> None:
    """K9"""
    tree = Tree(tmp_path, partitions=1)
    ingest = tree.ingests[0]
    ingest.feed([FIRST_HOUR + HOUR_MS + 1, FIRST_HOUR + 1, FIRST_HOUR + 2, FIRST_HOUR + HOUR_MS + 120_000])
    state = ingest.decide().state
    assert (state.committed, list(state.decided)) == (0, [1, 2])
    commit.check_log(tree.pid(), ingest.head, LogFacts(0, 3, None, 1), HOUR_MS)
    with pytest.raises(Stopped, match="at offset 3, but the log ends at 2"):
        commit.check_log(tree.pid(), ingest.head, LogFacts(0, 2, None, 1), HOUR_MS)


def test_each_part_of_a_round_is_told(tmp_path: Path) -> None:
    """A first read of a month gives hundreds of them, and took so long that its worker was killed as if it hung."""
    tree = Tree(tmp_path, partitions=1)
    ingest = tree.ingests[0]
    ingest.feed([FIRST_HOUR + hour * HOUR_MS for hour in range(5)])
    told: list[str] = []
    head = commit.decide(tree.store, ingest.cut(everything=True), ingest.owner, progress=told.append)
    assert (told.count("upload"), told.count("publish")) == (10, 5), "each chunk, and each part"
    told.clear()
    commit.claim(
        tree.store, tree.pid(), ingest.owner, window_ms=HOUR_MS,
        ask=lambda: LogFacts(0, 5, None, 1), latest=False, progress=told.append,
    )  # fmt: skip
    assert told == ["publish"] * len(head.entry.parts)


def test_all_partitions_of_a_topic_have_one_window(tmp_path: Path) -> None:
    """C2: a host with another one began chains of its own, and hours were marked that held a quarter of them."""
    tree = Tree(tmp_path, partitions=1)
    with pytest.raises(Stopped, match="window is 900000 ms, and the ledger has 3600000 ms"):
        commit.claim(
            tree.store, tree.pid(1), tree.ingests[0].owner, window_ms=HOUR_MS // 4,
            ask=lambda: LogFacts(0, 0, None, 2), latest=False,
        )  # fmt: skip
    assert commit.chains(tree.store, tree.pid().topic, tree.pid().topic_id) == [tree.pid(0)]


def test_a_group_with_offsets_and_no_ledger_is_refused(tmp_path: Path) -> None:
    """C4: the output was moved, and the group kept."""
    with pytest.raises(Stopped, match="no ledger"):
        claim(LocalStore(str(tmp_path)), LogFacts(0, 99, 50, 2))


def test_nobody_is_called_for_what_a_replaced_namenode_says(store: LocalStore, tmp_path: Path) -> None:
    """H2 H17: it hung, another one took over, and until its first write it answers with the ledger of then."""

    class Replaced(LocalStore):
        stale = True

        def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
            return super().read(self._then(path), offset, length)

        def list(self, path: str) -> list[FileStatus]:
            return super().list(self._then(path))

        def stat(self, path: str) -> FileStatus | None:
            return super().stat(self._then(path))

        def write(self, tmp: str, data: bytes) -> None:
            if self.stale:
                self.stale = False  # it ends itself, and the client finds the other one
                raise Unreachable(tmp)
            super().write(tmp, data)

        def _then(self, path: str) -> str:
            return path.replace(store.root, str(then)) if self.stale else path

    now = commit.read_head(store, PID)
    assert now is not None
    then = tmp_path / "then"
    chain = layout.chain_directory(PID)
    (then / chain).mkdir(parents=True)
    for seq in range(now.entry.seq):
        (then / layout.entry_path(PID, seq)).write_bytes(Path(store.root, layout.entry_path(PID, seq)).read_bytes())
    replaced = Replaced(store.root)
    assert commit.read_head(replaced, PID) != now
    facts = LogFacts(0, 99, now.state.committed, 2)
    with pytest.raises(Unreachable):
        claim(replaced, facts)
    assert claim(replaced, facts).entry.seq == now.entry.seq + 1
    assert [name for name in os.listdir(Path(store.root, layout.LEDGER_ROOT)) if name.startswith("probe")] == []


@pytest.mark.parametrize("committed", [None, 3])
def test_a_committed_offset_that_expired_or_was_rewound_is_only_a_hint(
    store: LocalStore, committed: int | None
) -> None:
    """K6: reading goes on where the chain is."""
    assert claim(store, LogFacts(0, 99, committed, 2)).state.committed == 18


def test_a_stale_listing_is_followed_to_the_newest_entry(store: LocalStore) -> None:
    """H17: entries that came since are found by their number."""

    class Stale(LocalStore):
        def list(self, path: str) -> list[FileStatus]:
            return [one for one in super().list(path) if one.name <= "000000000001.json"]

    assert commit.read_head(Stale(store.root), PID) == commit.read_head(store, PID)


def test_a_file_of_another_in_the_place_of_a_part_stops_the_partition(store: LocalStore) -> None:
    """H11 H12: it is neither overwritten nor taken for ours; nor is a directory."""
    head = next(head for seq in range(9) if (head := commit.read_entry(store, PID, seq)).entry.parts)
    part = next(part for part in head.entry.parts if part.path.startswith("_late"))
    path = Path(store.root, part.path)
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    with pytest.raises(Stopped, match="not what entry"):
        commit.publish(store, head.entry)
    path.unlink()
    path.mkdir()
    with pytest.raises(Stopped, match="not what entry"):
        commit.publish(store, head.entry)
    path.rmdir()
    with pytest.raises(Stopped, match="neither there nor in tmp"):
        commit.publish(store, head.entry)
    path.write_bytes(data)
    commit.publish(store, head.entry)
