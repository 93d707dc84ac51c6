"""Real servers for tests: Kafka, HDFS and ZooKeeper, wherever they come from.

`python -m tests.stack` keeps one stack running; see tests/stack/__main__.py.
"""

from tests.stack.stack import ServersMissing, Stack, local, local_kafka, obtain

__all__ = ["ServersMissing", "Stack", "local", "local_kafka", "obtain"]
