"""The account says what ran and what did not, and draws no bound from runs that were not clean."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.evidence import parts, tables
from tests.real.catalogue import SCENARIOS
from tests.real.scenario import Outcome

MACHINE = {
    "date": "2026-01-01 00:00 UTC",
    "commit": "abc",
    "cores": 2,
    "cpu": "some",
    "memory_gib": 8.0,
    "python": "3.11",
    "librdkafka": "2",
    "packages": {"hdfs-native": "0"},
    "load": 0.5,
}


def part(result: Any, code: int = 0) -> dict[str, Any]:
    return {
        "command": "python -m something",
        "exit": code,
        "seconds": 60,
        "machine": MACHINE,
        "commits": ["abc"],
        "result": result,
    }


def outcome(seed: int, **figures: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"scenario": "a fault", "ok": True, "acknowledged": 100, "recovery_s": 1.0} | figures
    return asdict(Outcome(rows=["K1"], seed=seed, **given))


def test_a_part_that_did_not_run_and_one_that_left_nothing_say_so() -> None:
    page = tables.page({"faults": part(None, 1)})
    assert page.count("This part did not run.") == len(tables.NAMES) - 1
    assert "It ended without leaving any figures." in page
    assert tables.summary({"faults": part(None, 1)}).count("did not run") == len(tables.NAMES)


def test_clean_runs_give_an_upper_bound_of_three_by_their_number() -> None:
    text = tables.faults([outcome(i, recovery_s=float(i)) for i in range(1, 13)])
    assert "| a fault | K1 | 12 | 12 | 1200 | 0 | 0 | 0 | 0 | 0.25 | 0 | 6 / 12 |" in text
    assert "at most 0.25 of such runs" in text


@pytest.mark.parametrize("bad", [{"ok": False}, {"ok": False, "lost": 2}])
def test_one_run_that_is_not_clean_takes_the_bound_away(bad: dict[str, Any]) -> None:
    text = tables.faults([*(outcome(i) for i in range(12)), outcome(12, **bad)])
    assert f"| a fault | K1 | 13 | 12 | 1300 | {bad.get('lost', 0)} | 0 | 0 | 0 | – |" in text
    assert "at most" not in text.split("\n\n")[-3]


def test_what_could_not_run_here_counts_as_no_run() -> None:
    text = tables.faults([outcome(1, ok=False, explained="no rights"), outcome(2)])
    assert "| a fault | K1 | 1 | 1 |" in text
    assert "not run: no rights" in tables.faults([outcome(1, ok=False, explained="no rights")])


def test_faults_of_which_there_is_no_run_are_named() -> None:
    name = SCENARIOS[0].name
    assert f"Not run: {name}, " in tables.faults([outcome(1)])
    assert f"Not run: {name}" not in tables.faults([outcome(1, scenario=name)])


def test_runs_are_added_to_those_that_are_there() -> None:
    both = parts.added(part([outcome(1)], 1), {**part([outcome(2)]), "commits": ["def"]})
    assert [one["seed"] for one in both["result"]] == [1, 2]
    assert (both["exit"], both["commits"], both["seconds"]) == (1, ["abc", "def"], 120)
    assert parts.added(part(None, 1), part([outcome(2)]))["exit"] == 0


def test_ranks_are_values_that_were_measured() -> None:
    assert [tables.rank([3.0, 1.0, 2.0], share) for share in (0.5, 0.99)] == [2.0, 3.0]
