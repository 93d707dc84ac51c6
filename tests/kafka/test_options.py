from __future__ import annotations

import pytest

from logflume.kafka.options import FETCH_BYTES, Options, for_consumer


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({}, FETCH_BYTES),
        ({"fetch.min.bytes": 1}, 1),
        ({"max.partition.fetch.bytes": 50_000}, 50_000),
        ({"fetch.message.max.bytes": "60000"}, 60_000),
        ({"fetch.message.max.bytes": 10_000_000}, FETCH_BYTES),
        ({"fetch.message.max.bytes": 50_000, "fetch.min.bytes": 70_000}, 70_000),
    ],
)
def test_a_fetch_waits_for_no_more_than_a_partition_may_send(given: Options, least: int) -> None:
    assert for_consumer(given)["fetch.min.bytes"] == least
