"""What a range may be taken to hold, by what the brokers said."""

from __future__ import annotations

from pathlib import Path

import pytest

from logflume.backfill.model import Request, Span
from logflume.backfill.plan import Facts, cut, times_of
from logflume.kafka.topics import Topic
from logflume.model import HOUR_MS
from tests.reconcile.tree import FIRST_HOUR, TOPIC, TOPIC_ID, configuration

LATENESS_MS = 60_000


def whole_from(tmp_path: Path, first_ms: int, timestamp: object) -> int | None:
    """Of a replay of the first hour; retention left a log whose first record, at 1000, has this Kafka time, and the
    others the hour's and later ones.
    """
    settings = configuration(f"file://{tmp_path}/live", tmp_path, timestamp=timestamp).topic_for(TOPIC)
    assert settings is not None
    assert settings.lateness_ms == LATENESS_MS
    request = Request(TOPIC, Span(FIRST_HOUR, FIRST_HOUR + HOUR_MS))
    begin_ms, _ = times_of(request.span or Span(0, 0), settings, request.margin_ms)
    begin = 1000 if first_ms >= begin_ms else 1001
    topic = Topic(TOPIC, TOPIC_ID, [0])
    facts = Facts(topic, FIRST_HOUR + 10 * HOUR_MS, {0: 1000}, {0: 9000}, {0: begin}, {0: 5000})
    (split,) = cut(request, settings, facts).splits
    return split.whole_from


@pytest.mark.parametrize(
    ("timestamp", "ahead_ms"), [("create", 0), ({"field": "ts", "unit": "ms"}, 600_000)], ids=["create", "field"]
)
def test_a_first_record_that_may_be_out_of_order_says_nothing_of_what_retention_removed(
    tmp_path: Path, timestamp: object, ahead_ms: int
) -> None:
    begin_ms = FIRST_HOUR - ahead_ms
    # offsets below 1000 may have had times of the hour: in-order records that this one comes late behind
    assert whole_from(tmp_path, begin_ms - 2_000, timestamp) is None
    assert whole_from(tmp_path, begin_ms - LATENESS_MS, timestamp) is None
    assert whole_from(tmp_path, begin_ms - LATENESS_MS - 1, timestamp) == FIRST_HOUR
