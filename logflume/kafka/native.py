"""The reader in C, where it was built: batches without a Python object for each record.

``_native.c`` is compiled when logflume is installed, if there is a C compiler; without it everything works, and
reading costs more CPU (bench/README.md). The client stays confluent-kafka's, with its group, callbacks and errors:
``Source`` polls it as before, and has only the partitions' own queues led into the one that is taken from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, cimpl

from logflume.errors import ConfigError
from logflume.kafka.events import TopicPart
from logflume.model import Batch, Joined

if TYPE_CHECKING:
    from logflume.kafka import _native

    MISSING: str
else:
    #: why it is not there, "" if it is
    MISSING = ""
    try:
        from logflume.kafka import _native

        _native.load(cimpl.__file__)
    except ImportError as error:
        MISSING = str(error)


def choose(reader: str) -> str:
    """``native`` or ``python`` for what is configured; raises ConfigError for ``native`` that is not there."""
    if reader == "native" and MISSING:
        raise ConfigError(
            [f'daemon.reader = "native" is not there: {MISSING}'],
            hint="install logflume where a C compiler and Python's headers are, or configure auto",
        )
    return "python" if reader == "python" or MISSING else "native"


def options() -> dict[str, str]:
    """What a client needs so that ``Queue`` can be made of it: librdkafka shows a new client to plugins only."""
    return {"plugin.library.paths": _native.__file__}


class Queue:
    """What the followed partitions of a client deliver. To be made right after the client, on the same thread."""

    def __init__(self, client: Consumer) -> None:
        self._queue = _native.Queue(client, Batch, Joined)
        # those whose forwarding may have been undone: see follow()
        self._silent: set[TopicPart] = set()

    def follow(self, part: TopicPart) -> None:
        """Lead a partition's records here; to be called before each time it is assigned.

        The client undoes it when it stops fetching a partition, and it stops some time after an unassign, maybe
        only when the partition is assigned again already (rd_kafka_toppar_fetch_stop). So it is said again with
        each ``take`` until the partition has delivered something: what came meanwhile has waited in its own queue.
        """
        self._queue.follow(*part)
        self._silent.add(part)

    def take(self, limit: int, timeout_s: float) -> list[Batch | tuple[TopicPart, int, KafkaError]]:
        """Batches, and errors with their partition and offset, in order per partition."""
        for part in self._silent:
            self._queue.follow(*part)
        found: list[Batch | tuple[TopicPart, int, KafkaError]] = []
        for item in self._queue.take(limit, int(timeout_s * 1000)):
            if isinstance(item, Batch):
                self._silent.discard((item.topic, item.partition))
                found.append(item)
            else:
                topic, partition, offset, code, text = item
                self._silent.discard((topic, partition))
                found.append(((topic, partition), offset, KafkaError(code, text)))
        return found

    def forget(self, part: TopicPart) -> None:
        """The partition is not assigned any more."""
        self._silent.discard(part)

    def close(self) -> None:
        """To be called before the client's own close."""
        self._queue.close()
