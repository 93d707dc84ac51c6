"""Paths ↔ identities."""

from __future__ import annotations

import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logflume.core import layout
from logflume.core.layout import PartName
from logflume.model import DAY_MS, HOUR_MS, MINUTE_MS, Kind, PartitionId

LEGAL = string.ascii_letters + string.digits + "._-"
TOPICS = st.text(LEGAL, min_size=1, max_size=249).filter(lambda name: name not in (".", ".."))
IDS = st.text(string.ascii_letters + string.digits + "_-", min_size=22, max_size=22)
PARTITIONS = st.integers(0, 2**31 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
EXTENSIONS = st.builds(layout.extension, st.sampled_from(["json", "text"]), st.sampled_from(["gzip", "zstd", "none"]))
WINDOWS = st.sampled_from([MINUTE_MS * n for n in (1, 5, 10, 15, 20, 30)] + [HOUR_MS * n for n in (1, 2, 3, 6, 12, 24)])
PIDS = st.builds(PartitionId, TOPICS, IDS, PARTITIONS)
PARTS = st.builds(PartName, PARTITIONS, OFFSETS, st.booleans(), st.booleans())
NAMES = st.text(LEGAL + "=/٣", max_size=40)


@st.composite
def windows_with_hour(draw: st.DrawFn) -> tuple[int, int]:
    """A window and the start of one, from 1970 up to the year 9999."""
    window = draw(WINDOWS)
    return window, draw(st.integers(0, int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000) // window)) * window


@given(windows_with_hour())
def test_an_hour_survives_its_directory(it: tuple[int, int]) -> None:
    window, hour = it
    assert layout.parse_hour_directory(layout.hour_directory(hour, window)) == hour


@given(windows_with_hour())
def test_an_hour_survives_its_name(it: tuple[int, int]) -> None:
    window, hour = it
    assert layout.parse_hour_name(layout.hour_name(hour, window)) == hour


@given(TOPICS, IDS, windows_with_hour())
def test_an_hour_survives_the_name_of_its_plan(topic: str, topic_id: str, it: tuple[int, int]) -> None:
    window, hour = it
    directory, name = layout.plan_path(topic, topic_id, hour, window).rsplit("/", 1)
    assert directory == f"{layout.topic_directory(topic, topic_id)}/plans"
    assert layout.parse_plan_name(name) == hour


@given(st.lists(windows_with_hour(), min_size=2, max_size=2), WINDOWS)
def test_hours_are_sorted_as_their_directories_are(two: list[tuple[int, int]], window: int) -> None:
    hours = [hour // window * window for _, hour in two]
    assert sorted(hours) == sorted(hours, key=lambda hour: layout.hour_directory(hour, window))


@given(PARTS, EXTENSIONS)
def test_a_part_survives_its_file_name(part: PartName, ext: str) -> None:
    name = part.file_name(ext)
    assert layout.parse_part_name(name) == part
    assert name.startswith("_") == part.hidden
    assert layout.parse_finished_name(name) is None


@given(TOPICS, st.integers(0, 99_999), st.integers(1, 99_999), EXTENSIONS)
def test_a_finished_file_survives_its_name(topic: str, index: int, count: int, ext: str) -> None:
    name = layout.finished_name(topic, index, count, ext)
    assert layout.parse_finished_name(name) == (topic, index, count)
    assert layout.parse_part_name(name) is None


@given(PIDS, st.integers(0, 10**12 - 1))
def test_an_entry_survives_its_path(pid: PartitionId, seq: int) -> None:
    ledger_root, topic, topic_id, chain, name = layout.entry_path(pid, seq).split("/")
    assert ledger_root == layout.LEDGER_ROOT
    assert PartitionId(topic, topic_id, layout.parse_chain_directory(chain) or 0) == pid
    assert layout.parse_entry_name(name) == seq


@given(PIDS, st.integers(0, 10**12 - 1), st.integers(0, 10**12 - 1))
def test_entries_are_sorted_as_their_paths_are(pid: PartitionId, one: int, two: int) -> None:
    assert (one < two) == (layout.entry_path(pid, one) < layout.entry_path(pid, two))


@given(PIDS, st.sampled_from(Kind), windows_with_hour(), OFFSETS, st.booleans(), st.booleans(), EXTENSIONS)
def test_a_decided_part_survives_its_path(
    pid: PartitionId, kind: Kind, it: tuple[int, int], first: int, early: bool, append: bool, ext: str
) -> None:
    window, hour = it
    path = layout.part_path(pid, kind, hour, first, window, ext, early=early, append=append)
    directory, name = path.rsplit("/", 1)
    appended = append and kind is Kind.LATE
    tree = layout.tree(Kind.HOUR if appended else kind, pid.topic)
    assert directory.startswith(f"{tree}/")
    assert layout.parse_hour_directory(directory.removeprefix(f"{tree}/")) == hour
    found = layout.parse_part_name(name)
    assert found is not None
    assert (found.partition, found.first, found.appended) == (pid.partition, first, appended)


@given(PIDS, IDS, st.sampled_from([Kind.LATE, Kind.QUARANTINE]), OFFSETS, st.booleans())
def test_parts_of_two_ids_of_a_topic_never_meet(
    pid: PartitionId, other_id: str, kind: Kind, first: int, append: bool
) -> None:
    """Also not late or quarantined ones, which may be of one hour, with the same offset."""
    other = PartitionId(pid.topic, other_id, pid.partition)
    one, two = (
        layout.part_path(it, kind, 0, first, HOUR_MS, ".json", early=False, append=append) for it in (pid, other)
    )
    assert (one == two) is (pid.topic_id == other_id)


@given(TOPICS.filter(lambda topic: not topic.startswith("_")), TOPICS)
def test_the_trees_of_topics_and_our_own_never_meet(topic: str, other: str) -> None:
    roots = [layout.tree(kind, topic) for kind in Kind] + [layout.topic_directory(topic, "id")]
    assert len({root.split("/")[0] for root in roots}) == 4
    assert layout.tree(Kind.HOUR, topic) not in [layout.tree(kind, other) for kind in (Kind.LATE, Kind.QUARANTINE)]


@given(NAMES)
def test_any_name_that_parses_is_the_one_that_is_written(name: str) -> None:
    part = layout.parse_part_name(name)
    assert part is None or part.file_name(name[name.index(".") :]) == name
    chain = layout.parse_chain_directory(name)
    assert chain is None or f"p{chain:05d}" == name


@pytest.mark.parametrize(
    "name",
    ["p3-0000000000000000007.json", "p000003-0000000000000000007.json", "p00003-7.json", "p00003-0000000000000000007",
     "__p00003-0000000000000000007.json", "p0000٣-0000000000000000007.json", "p00003-0000000000000000007.json.GZ",
     "_SUCCESS", "p00003-0000000000000000007.json\n"],
)  # fmt: skip
def test_other_names_are_not_parts(name: str) -> None:
    assert layout.parse_part_name(name) is None


@pytest.mark.parametrize("name", ["p3", "p000003", "p0000٣", "q00003", "p00003/", "tmp"])
def test_other_names_are_not_chains(name: str) -> None:
    assert layout.parse_chain_directory(name) is None


@pytest.mark.parametrize("name", ["42.json", "000000000042", "000000000042.json.tmp", "00000000004٢.json"])
def test_other_names_are_not_entries(name: str) -> None:
    assert layout.parse_entry_name(name) is None


@pytest.mark.parametrize("name", ["2026-11-22.json", "2026-11-22T7.json", "2026-11-22T07", "2026-11-22T07.json.gz"])
def test_other_names_are_not_plans(name: str) -> None:
    assert layout.parse_plan_name(name) is None


@pytest.mark.parametrize(
    "text", ["", "dt=2026-11-22/", "dt=2026-11-22/hour=7", "dt=2026-11-31", "dt=2026-11-22/hour=24", "2026-11-22"]
)
def test_other_names_are_not_hours(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        layout.parse_hour_directory(text)
    with pytest.raises(ValueError, match=r"."):
        layout.parse_hour_name(text)


def test_names_are_spelled_as_the_design_has_them() -> None:
    hour = int(datetime(2026, 11, 22, 7, tzinfo=UTC).timestamp() * 1000)
    pid = PartitionId("app", "VGhlVG9waWNJZA", 3)
    first = 123_456
    shown = {"early": False, "append": False}

    def part(kind: Kind, **how: bool) -> str:
        return layout.part_path(pid, kind, hour, first, HOUR_MS, ".json.gz", **(shown | how))

    day = "dt=2026-11-22/hour=07"
    assert part(Kind.HOUR) == f"app/{day}/_p00003-0000000000000123456.json.gz"
    assert part(Kind.HOUR, early=True) == f"app/{day}/p00003-0000000000000123456.json.gz"
    mark = layout.id_mark(pid.topic_id)
    assert part(Kind.LATE) == f"_late/app/{day}/p00003-0000000000000123456.{mark}.json.gz"
    assert part(Kind.LATE, append=True) == f"app/{day}/_ap00003-0000000000000123456.{mark}.json.gz"
    assert part(Kind.QUARANTINE) == f"_quarantine/app/{day}/p00003-0000000000000123456.{mark}.json.gz"
    assert layout.finished_name("app", 0, 2, ".json.gz") == "app-00000-of-00002.json.gz"
    assert layout.entry_path(pid, 42) == "_logflume/app/VGhlVG9waWNJZA/p00003/000000000042.json"
    assert layout.tmp_path(pid, "x") == "_logflume/app/VGhlVG9waWNJZA/p00003/tmp/x"
    assert layout.plan_path("app", "id", hour, HOUR_MS) == "_logflume/app/id/plans/2026-11-22T07.json"
    assert layout.hour_directory(hour + 30 * MINUTE_MS, 30 * MINUTE_MS) == "dt=2026-11-22/hour=0730"
    assert layout.hour_directory(hour - 7 * HOUR_MS, DAY_MS) == "dt=2026-11-22"
