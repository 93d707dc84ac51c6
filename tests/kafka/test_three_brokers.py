"""One of three brokers is dead: the others serve on, and everybody finds them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from logflume.config import load
from logflume.errors import Unreachable
from logflume.kafka.failures import UnknownTopic
from logflume.kafka.topics import Topics
from logflume.status.ledger import read_logs
from tests.cli import files
from tests.conftest import TopicFactory
from tests.stack.kafka import KafkaCluster, create_topic
from tests.stack.test_stack import RECORDS, consume, produce

Answer = TypeVar("Answer")

pytestmark = pytest.mark.slow

#: each takes one of three brokers for the controller, at random: that none takes the first one is one in a hundred
CLIENTS = 12
#: Until the others give the dead one up (a session of 9 s, first an election if it led the controllers), one of them
#: may name it as controller again. A client that does not ask again waits for five minutes.
ANSWERED_S = 60.0


def test_three_brokers_serve_on_while_one_is_dead(kafka_cluster: KafkaCluster, topic_factory: TopicFactory) -> None:
    topic = topic_factory(3, bootstrap=kafka_cluster.bootstrap)
    produce(kafka_cluster.bootstrap, topic)
    kafka_cluster.servers[0].kill()
    assert consume(kafka_cluster.bootstrap, topic, "consumer") == set(range(RECORDS))
    produce(kafka_cluster.bootstrap, topic)
    kafka_cluster.servers[0].restart()


def test_questions_are_answered_again_whichever_broker_is_dead(
    kafka_cluster: KafkaCluster, topic_factory: TopicFactory, tmp_path: Path
) -> None:
    """K16. A decision asks for the topic's id: it must not wait for one broker while the others are well."""
    topic = topic_factory(bootstrap=kafka_cluster.bootstrap)
    alone = create_topic(kafka_cluster.bootstrap, "one-replica-each", 3, replicas=1)
    clients = [Topics({"bootstrap.servers": kafka_cluster.bootstrap}, timeout_s=3) for _ in range(CLIENTS)]

    config = load(Path(files.write(tmp_path, bootstrap=kafka_cluster.bootstrap)))

    def answered(question: Callable[[], Answer]) -> Answer:
        deadline = time.monotonic() + ANSWERED_S
        while True:
            try:
                return question()
            except (Unreachable, UnknownTopic):  # also a broker that has not heard of the new topic yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def ask(client: Topics) -> list[int]:
        return answered(lambda: client.topic(topic).partitions)

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(ask, clients)) == [[0]] * CLIENTS
        kafka_cluster.servers[0].kill()  # for good: this is the module's last test
        assert list(pool.map(ask, clients)) == [[0]] * CLIENTS
    # a client of its own, to which the dead one may be named once more
    log = answered(lambda: read_logs(config, [alone]))[alone]
    assert (sorted(log.ends.values()), len(log.silent)) == ([0, 0], 1)
