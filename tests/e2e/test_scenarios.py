"""Shorter stories of one daemon each, all at once: most of their time is waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future

import pytest

from tests.e2e.bench import Bench
from tests.e2e.idle import idle_partitions_and_empty_hours_hold_nothing_up
from tests.e2e.refusals import refusals_of_the_store_are_waited_out_and_nothing_is_dropped
from tests.e2e.starts import (
    a_pattern_takes_topics_that_come_later,
    a_start_at_the_end_calls_no_hour_complete_that_it_cannot_know,
    an_open_transaction_holds_its_hours_open,
)
from tests.e2e.stopping import (
    a_spool_full_of_parts_that_are_not_due_makes_room,
    a_spool_that_is_removed_under_a_worker_is_made_again,
    sigterm_decides_what_is_held_and_a_restart_reads_nothing_again,
)
from tests.e2e.topics import (
    a_topic_that_is_created_again_is_never_mixed_with_the_old_one,
    lost_offsets_stop_their_partition_and_no_other,
    partitions_added_to_a_live_topic_take_part_from_their_first_hour,
)

pytestmark = pytest.mark.e2e

Scenario = Callable[[Bench], None]

SCENARIOS: tuple[Scenario, ...] = (
    idle_partitions_and_empty_hours_hold_nothing_up,
    sigterm_decides_what_is_held_and_a_restart_reads_nothing_again,
    a_spool_full_of_parts_that_are_not_due_makes_room,
    a_spool_that_is_removed_under_a_worker_is_made_again,
    partitions_added_to_a_live_topic_take_part_from_their_first_hour,
    a_topic_that_is_created_again_is_never_mixed_with_the_old_one,
    lost_offsets_stop_their_partition_and_no_other,
    refusals_of_the_store_are_waited_out_and_nothing_is_dropped,
    a_start_at_the_end_calls_no_hour_complete_that_it_cannot_know,
    an_open_transaction_holds_its_hours_open,
    a_pattern_takes_topics_that_come_later,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(scenario: Scenario, scenarios: Mapping[Scenario, Future[None]]) -> None:
    scenarios[scenario].result()
