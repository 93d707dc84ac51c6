"""What ``Source.poll`` hands over beside batches. A partition is named by topic and number."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """A partition (or, with -1, a topic) cannot be read. ``code`` is the name of librdkafka's error."""

    topic: str
    partition: int
    code: str
    text: str
    retriable: bool


@dataclass(frozen=True, slots=True)
class ClientError:
    """Trouble of the whole client. It goes on by itself, unless ``fatal`` (K16)."""

    code: str
    text: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of one ``commit_async``, for each partition the offset or the error's name (K4)."""

    committed: dict[TopicPart, int] = field(default_factory=dict)
    failed: dict[TopicPart, str] = field(default_factory=dict)


Event = Assigned | Revoked | Lost | EndOfPartition | PartitionError | ClientError | CommitResult
