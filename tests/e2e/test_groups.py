"""Two daemons share a topic, in both group protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

import pytest

from tests.e2e.bench import Bench
from tests.e2e.groups import (
    a_daemon_that_wakes_after_its_partitions_moved_does_no_harm,
    daemons_that_join_and_leave_share_the_work,
)

pytestmark = pytest.mark.e2e

Scenario = Callable[[Bench], None]

SCENARIOS: tuple[Scenario, ...] = (
    daemons_that_join_and_leave_share_the_work,
    a_daemon_that_wakes_after_its_partitions_moved_does_no_harm,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Scenario, scenarios: Mapping[Scenario, Future[None]]) -> None:
    scenarios[scenario].result()
