"""Names of compactions and of records that were run again ↔ identities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logflume.core import layout
from logflume.core.layout import CompactedName

NUMBERS = st.integers(0, 999_999)


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True), NUMBERS, st.integers(0, 99_999), st.booleans())
def test_a_compacted_files_name_is_its_identity(topic: str, number: int, index: int, appended: bool) -> None:
    name = CompactedName(topic, number, index, 99_999, appended)
    assert layout.parse_compacted_name(name.file_name(".json.gz")) == name
    assert layout.parse_part_name(name.file_name(".json.gz")) is None


@given(NUMBERS, NUMBERS, st.integers(0, 2**63 - 1))
def test_the_other_names_are_bijections_too(number: int, partition: int, first: int) -> None:
    assert layout.parse_replaced_name(layout.replaced_name(number, "p00000-1.json")) == number
    name = layout.reinjected_name("id", partition, first, ".json.gz")
    assert layout.parse_reinjected_name(name) == (partition, first)
    assert layout.parse_part_name(name) is None
    path = layout.compaction_path("app", "id", "late", 0, 3_600_000, number)
    assert layout.parse_compaction_name(path.rsplit("/", 1)[1]) == number


@given(NUMBERS, st.sampled_from(["late", "hour"]), st.sampled_from([3_600_000, 900_000]))
def test_the_name_of_a_copy_leads_to_its_record(number: int, place: str, window_ms: int) -> None:
    name = layout.copy_name(place, 0, window_ms, number, "0af")
    assert layout.record_of_copy("app", "id", name) == layout.compaction_path("app", "id", place, 0, window_ms, number)


@pytest.mark.parametrize("name", ["app-00000-of-00001.json.gz", "_SUCCESS", "p00003-0000000000000000001.json.gz"])
def test_other_names_are_none_of_these(name: str) -> None:
    assert layout.parse_compacted_name(name) is None
    assert layout.parse_replaced_name(name) is None
    assert layout.parse_reinjected_name(name) is None
    assert layout.parse_compaction_name(name) is None
    assert layout.record_of_copy("app", "id", name) is None
