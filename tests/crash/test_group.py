"""A group that does not answer, and a worker that does not wait for it for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from logflume.daemon.worker import ANSWER_S
from logflume.errors import Unreachable
from tests.crash.points import Variant, settings
from tests.sim.game import game
from tests.sim.host import played
from tests.sim.world import TOPIC, Clock

PART = (TOPIC, 0)


@pytest.mark.parametrize("answers", [True, False])
def test_a_worker_that_lost_its_session_is_replaced_unless_the_group_answers(tmp_path: Path, *, answers: bool) -> None:
    """K4 K16: librdkafka was seen to ask no more, and nothing was read until somebody looked."""
    clock, variant = Clock(), Variant("complete", "side", concat=False)
    with played(clock), game(*settings(variant), variant.store, tmp_path / "run", clock) as run:
        host = run.host("one", [0])
        for _ in range(3):
            host.step()
        assert host.source is not None
        host.source.answers = answers
        host.source.lose([PART])
        host.step()
        lost, ended = clock.monotonic(), False
        try:
            while clock.monotonic() < lost + 2 * ANSWER_S:
                host.step()
        except Unreachable:
            ended = True
        assert ended is not answers
        assert ended is False or clock.monotonic() >= lost + ANSWER_S - 6
        if not ended:
            host.assign([PART])
            for _ in range(3):
                host.step()
            assert host.source.positions
