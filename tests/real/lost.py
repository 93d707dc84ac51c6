"""Faults after which records are gone from Kafka, so that a partition has to stop for a person."""

from __future__ import annotations

import time

from tests.e2e.daemon import wait_until
from tests.real.ground import Ground
from tests.stack.kafka import create_topic, delete_topics

#: far below the age of the records, which is hours
SHORT_MS = 60_000
WAIT_S = 60.0


def retention(ground: Ground) -> None:
    """The broker's own retention deletes what the frozen daemons have not read."""
    ground.freeze(*ground.daemons)
    ground.finish_feed()
    ground.before = ground.case.log()
    ends, committed = ground.before.ends, ground.committed()
    ground.configure(retention_ms=str(SHORT_MS))
    wait_until(lambda: all(ground.start_of(p) == end for p, end in ends.items()), WAIT_S, "the broker deletes all")
    ground.configure(retention_ms="-1")
    ground.affected = [partition for partition, end in ends.items() if committed.get(partition, 0) < end]
    assert ground.affected, "nothing was unread"


def created_again(ground: Ground) -> None:
    """Deleted under the daemons while they read it, and created with as many partitions."""
    ground.finish_feed()
    ground.before = ground.case.log()
    where, partitions = ground.stack.bootstrap, ground.partitions
    delete_topics(where, [ground.case.topic])
    time.sleep(ground.rng.uniform(0.2, 1.5))
    create_topic(where, ground.case.topic, partitions)
    ground.affected = list(range(partitions))


def truncation(ground: Ground) -> None:
    """The only replica in sync dies with records that are decided, and one without them becomes leader."""
    ground.finish_feed()
    leader, follower = ground.replicas(0)
    ground.broker(follower).kill()
    wait_until(lambda: ground.replicas(0) == [leader], WAIT_S, "the leader is alone in sync")
    ground.case.feed(ground.more).wait()
    ground.before = ground.case.log()
    ground.wait_passed(ground.before.ends, WAIT_S)
    ground.broker(leader).kill()
    ground.broker(follower).start()
    wait_until(lambda: ground.replicas(0)[:1] == [follower], WAIT_S, "the follower leads")
    ground.affected = [0]
