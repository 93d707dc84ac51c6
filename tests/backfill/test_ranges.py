"""The bounded reader: every record of the range, once, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from logflume.errors import Unreachable
from logflume.kafka import ranges
from logflume.kafka.embedded import EmbeddedBroker, Outgoing, produce
from logflume.kafka.ranges import RangeReader

COUNT = 500


@pytest.fixture(scope="module")
def topic() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        produce(broker.bootstrap, "ranges", [Outgoing(0, b"%d" % i, 1000 + i) for i in range(COUNT)])
        yield broker.bootstrap


@pytest.mark.parametrize(("start", "end"), [(0, COUNT), (0, 1), (17, 17), (100, 350), (COUNT - 1, COUNT)])
@pytest.mark.parametrize("at_once", [1, 7, COUNT * 2])
def test_a_range_is_read_whole_whatever_comes_together(topic: str, start: int, end: int, at_once: int) -> None:
    found: list[int] = []
    with RangeReader({"bootstrap.servers": topic}, "ranges", 0, start, end) as reader:
        position = start
        while not reader.done:
            # a long wait, so that the end of the log comes in the same list as the last records
            batch = reader.poll(at_once, 0.5)
            if batch is not None:
                assert batch.values == [b"%d" % offset for offset in batch.offsets]
                assert batch.offsets[0] >= position
                assert batch.next_offset > batch.offsets[-1]
                position = batch.next_offset
                found += batch.offsets
    assert found == list(range(start, end))
    assert reader.position == end


def test_an_end_that_the_log_does_not_have_is_an_error(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "SILENCE_S", 1.0)
    with RangeReader({"bootstrap.servers": topic}, "ranges", 0, COUNT - 5, COUNT + 5) as reader:
        with pytest.raises(Unreachable, match="nothing came"):
            _drain(reader)
        assert reader.position == COUNT


def _drain(reader: RangeReader) -> None:
    while not reader.done:
        reader.poll(100)
