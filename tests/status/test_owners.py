"""What is shown in ZooKeeper: a contract."""

from __future__ import annotations

import time

from logflume.status.figures import Figures
from logflume.status.owners import owners
from tests.status.samples import partition, report


def test_each_partition_is_shown_with_the_worker_that_reported_it_last() -> None:
    figures = Figures(2, silence_s=30)
    figures.heard(report(1, partitions=(partition(0, phase="draining"), partition(2, topic="other"))))
    time.sleep(0.01)
    fresh = partition(0, phase="claiming", committed=None, boundary=None, position=None)
    figures.heard(report(0, partitions=(fresh,)))
    assert owners(figures.view(), "host-a:17") == {
        "partitions/app/0": {
            "owner": "host-a:17/0",
            "phase": "claiming",
            "committed": None,
            "boundary": None,
            "position": None,
        },
        "partitions/other/2": {
            "owner": "host-a:17/1",
            "phase": "reading",
            "committed": 100,
            "boundary": 90,
            "position": 150,
        },
    }
