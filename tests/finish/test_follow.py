"""Following the ledgers of a topic: the same hours are due, whatever of it was read and whatever was known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from logflume.finish.follow import TopicFollower
from logflume.reconcile.look import Counted
from tests.reconcile.tree import TOPIC, TOPIC_ID, Tree


@pytest.mark.parametrize("known", [(), (0,), (0, 1)], ids=["none", "one", "all"])
def test_chains_whose_newest_entry_is_known_are_not_looked_for(tmp_path: Path, known: tuple[int, ...]) -> None:
    tree = Tree(tmp_path).fill(3, finish=False)
    store = Counted(tree.store)
    with ThreadPoolExecutor(2) as pool:
        read = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        read.refresh()
        follower = TopicFollower(store, TOPIC, TOPIC_ID, tree.topic, pool)
        follower.feed(tree.ingests[number].head for number in known)
        follower.refresh()
        assert follower.heads() == read.heads()
        assert follower.due(10) == read.due(10) != []
    # The topic's chains are listed twice. Of each that is not known the entries are listed, and two looks find no next.
    unknown = 2 - len(known)
    assert (store.calls["list"], store.calls["stat"]) == (2 + unknown, 2 * unknown)


def test_a_known_entry_that_is_not_the_newest_is_followed_from(tmp_path: Path) -> None:
    tree = Tree(tmp_path).fill(2, finish=False)
    early = tree.ingests[0].head
    tree.ingests[0].feed([tree.ingests[0].now + 1])
    newest = tree.ingests[0].decide(everything=True)
    with ThreadPoolExecutor(2) as pool:
        follower = TopicFollower(tree.store, TOPIC, TOPIC_ID, tree.topic, pool)
        follower.feed([early])
        follower.refresh()
        assert follower.heads()[0] == early
        follower.refresh()
        assert follower.heads()[0] == newest
