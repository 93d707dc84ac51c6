from __future__ import annotations

from tests.faults.__main__ import coverage, kind
from tests.faults.catalogue import EXPLAINED, FAULTS


def test_every_row_of_the_fault_catalogue_has_a_test_or_a_reason() -> None:
    found = coverage()
    assert not FAULTS.keys() - found.keys() - EXPLAINED.keys()
    assert {kind(test) for named in found.values() for test in named} == {"core", "simulator", "real"}
