"""The simulator within CI's time; ``make soak`` walks for as long as one likes."""

from __future__ import annotations

import random
import sys

import pytest

from tests.sim.tally import summary, walk_all

SECONDS = 15.0


@pytest.mark.slow
def test_whatever_servers_do_it_is_safe_at_every_step_and_comes_to_its_end_when_they_are_well() -> None:
    """K1 K2 K3 K4 K5 K11 K12 K14 K15 K16 H1 H3 H5 H8 H13 N1 N2 N3 P2 P4 P6 P7 Z3: new seeds each time."""
    tally = walk_all(SECONDS, random.SystemRandom().randrange(2**32))
    sys.stdout.write(summary(tally))
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.seeds
