"""The account closes for what is right, and says what is wrong with anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from logflume.demo import account, records
from logflume.demo.account import Account
from logflume.demo.records import HOUR_MS, IN_TIME, LATE, Sent
from logflume.errors import Incomplete
from tests.demo import tree
from tests.demo.tree import TOPIC, hour_files, load, save

FIRST = 1_795_352_400_000


@pytest.fixture(scope="module")
def sent() -> list[Sent]:
    return records.make(FIRST, seed=3, count=2000)


@pytest.fixture
def root(tmp_path: Path, sent: list[Sent]) -> Path:
    tree.write(tmp_path, sent)
    return tmp_path


def faults(counted: Account) -> dict[str, int]:
    every = {name: getattr(counted, name) for name in ("lost", "repeated", "misplaced", "altered")}
    return {name: times for name, times in every.items() if times}


def test_what_is_right_closes(root: Path, sent: list[Sent]) -> None:
    counted = account.count(root, TOPIC, sent)
    assert faults(counted) == {}
    assert counted.found == len(sent)
    assert counted.in_hours == counted.sent[IN_TIME]
    assert counted.late == counted.sent[LATE]
    assert {reason: counted.sent[reason] for reason in records.BAD} == counted.quarantined
    assert [hour.hour for hour in counted.hours] == [FIRST + i * HOUR_MS for i in range(3)]
    assert all(hour.complete and hour.promised == hour.records for hour in counted.hours)


@pytest.mark.parametrize("where", [TOPIC, f"_late/{TOPIC}", f"_quarantine/{TOPIC}"])
def test_a_line_removed_is_lost(root: Path, sent: list[Sent], where: str) -> None:
    path = hour_files(root, where)[0]
    save(path, load(path)[1:])
    assert faults(account.count(root, TOPIC, sent)) == {"lost": 1}


@pytest.mark.parametrize("where", [TOPIC, f"_late/{TOPIC}", f"_quarantine/{TOPIC}"])
def test_a_line_written_twice_is_repeated(root: Path, sent: list[Sent], where: str) -> None:
    path = hour_files(root, where)[0]
    lines = load(path)
    save(path, [*lines, lines[0], lines[0]])
    assert faults(account.count(root, TOPIC, sent)) == {"repeated": 2}


@pytest.mark.parametrize("where", [TOPIC, f"_late/{TOPIC}", f"_quarantine/{TOPIC}"])
def test_a_line_in_another_hour_is_misplaced(root: Path, sent: list[Sent], where: str) -> None:
    one, other = hour_files(root, where)[:2]
    first, *rest = load(one)
    save(one, rest)
    save(other, [*load(other), first])
    assert faults(account.count(root, TOPIC, sent)) == {"misplaced": 1}


def test_a_late_record_in_the_file_of_its_hour_is_misplaced(root: Path, sent: list[Sent]) -> None:
    late = hour_files(root, f"_late/{TOPIC}")[0]
    first, *rest = load(late)
    save(late, rest)
    hour = next(path for path in hour_files(root) if path.parent.name == late.parent.name)
    save(hour, [*load(hour), first])
    assert faults(account.count(root, TOPIC, sent)) == {"misplaced": 1}


def test_a_record_in_time_may_be_late_if_the_clock_closed_its_hour(root: Path, sent: list[Sent]) -> None:
    hour = hour_files(root)[0]
    first, *rest = load(hour)
    save(hour, rest)
    late = next(p for p in hour_files(root, f"_late/{TOPIC}") if p.parent.name == hour.parent.name)
    save(late, [*load(late), first])
    counted = account.count(root, TOPIC, sent)
    assert faults(counted) == {}
    assert counted.late == counted.sent[LATE] + 1


def test_a_wrong_reason_is_misplaced(root: Path, sent: list[Sent]) -> None:
    path = hour_files(root, f"_quarantine/{TOPIC}")[0]
    first, *rest = load(path)
    wrong = json.loads(first) | {"reason": "newline"}
    save(path, [json.dumps(wrong).encode(), *rest])
    assert faults(account.count(root, TOPIC, sent)) == {"misplaced": 1}


def test_a_good_record_in_quarantine_is_misplaced(root: Path, sent: list[Sent]) -> None:
    good = next(record for record in sent if record.fate == IN_TIME)
    as_bad = Sent(good.id, good.partition, good.arrived_ms, None, "bad_json", good.value)
    where, line = tree.place(as_bad)
    (root / where).mkdir(parents=True, exist_ok=True)
    save(root / where / "more.json.gz", [line])
    assert faults(account.count(root, TOPIC, sent)) == {"misplaced": 1, "repeated": 1}


def test_changed_bytes_are_altered(root: Path, sent: list[Sent]) -> None:
    path = hour_files(root)[1]
    first, *rest = load(path)
    save(path, [first.replace(b'"ip":"10.', b'"ip":"11.'), *rest])
    assert faults(account.count(root, TOPIC, sent)) == {"altered": 1}


def test_a_line_nobody_sent_is_altered(root: Path, sent: list[Sent]) -> None:
    path = hour_files(root)[1]
    save(path, [*load(path), b'{"id":"someone else"}', b"not json"])
    assert faults(account.count(root, TOPIC, sent)) == {"altered": 2}


def test_only_what_a_job_would_read_counts(root: Path, sent: list[Sent]) -> None:
    path = hour_files(root)[0]
    path.rename(path.with_name(f"_{path.name}"))
    counted = account.count(root, TOPIC, sent)
    assert faults(counted) == {"lost": counted.hours[0].promised}


def test_an_hour_without_its_marker_is_not_complete(root: Path, sent: list[Sent]) -> None:
    (hour_files(root)[2].parent / "_SUCCESS").unlink()
    assert [hour.complete for hour in account.count(root, TOPIC, sent).hours] == [True, True, False]


def test_a_file_that_cannot_be_read_is_named(root: Path, sent: list[Sent]) -> None:
    path = hour_files(root)[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Incomplete, match=path.name):
        account.count(root, TOPIC, sent)
