"""What ``Source.poll`` hands over beside batches. A partition is named by topic and number."""

from __future__ import annotations

from dataclasses import dataclass

TopicPart = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partitions are this member's now; none is read before ``Source.start``."""

    partitions: list[TopicPart]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are given up; ``on_revoke`` has been called for them already (K1)."""

    partitions: list[TopicPart]


@dataclass(frozen=True, slots=True)
class Lost:
    """These partitions may have had another owner for a while; ``on_lost`` has been called (K3, P7)."""

    partitions: list[TopicPart]


@dataclass(frozen=True, slots=True)
class EndOfPartition:
    """The reader has caught up: ``offset`` is its position, past markers and aborted records (K12)."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class PartitionError:
    """A partition (or, with -1, a topic) cannot be read. ``code`` is the name of librdkafka's error.

    ``_AUTO_OFFSET_RESET`` is what an offset that is gone (K8) and a truncated log (K9) have in common;
    ``text`` tells which. After one that ``passes`` reading goes on by itself; such a one comes once in 30 s.
    """

    topic: str
    partition: int
    code: str
    text: str
    passes: bool


@dataclass(frozen=True, slots=True)
class ClientError:
    """Trouble of the whole client, each code once in 30 s. It goes on by itself unless ``fatal`` (K16)."""

    code: str
    text: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of one ``commit_async``: ``error`` is "" or the name of a failure (K4).

    After a failure some of the offsets may be committed nevertheless: librdkafka reports the error of
    one partition for all of the request (measured), and a lost reply says nothing (K5).
    """

    offsets: dict[TopicPart, int]
    error: str = ""


Event = Assigned | Revoked | Lost | EndOfPartition | PartitionError | ClientError | CommitResult
