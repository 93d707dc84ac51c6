"""The enumeration within CI's time: a share of the points, another one each time.

``make crash`` tries all of them.
"""

from __future__ import annotations

import sys

import pytest

from tests.crash.enumerate import VARIANTS, report, timed

#: every so many points of each variant, others each time: most where most of the protocol's steps are
STRIDES = {0: 6, 1: 9, 2: 18, 3: 18, 4: 9, 5: 9}


@pytest.mark.slow
def test_whatever_is_interrupted_every_record_is_where_it_belongs_exactly_once() -> None:
    """K1 K2 K3 K4 K5 H1 H10 H11 H13 N3 P2 P3 Z3: each effect, crashed, torn, refused, answered by silence, and
    done late by an owner whose partitions are another's.
    """
    outcomes, seconds = timed(STRIDES)
    sys.stdout.write(report(outcomes, seconds))
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    assert not failures, f"{len(failures)} of {sum(o.points for o in outcomes)}:\n" + "\n".join(failures[:5])
    assert len(outcomes) == len(VARIANTS)
