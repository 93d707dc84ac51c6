"""Kafka's error codes as logflume's errors, in one place."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from logflume.errors import LogflumeError, Refused, Unreachable


class UnknownTopic(Refused):
    """The brokers know no such topic or partition."""

    hint = "create the topic, or correct its name in the configuration"


_UNKNOWN = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._NOENT,  # "No leaders found", when offsets of an unknown topic are asked for
}
# Client-side codes that say "no answer"; librdkafka calls only broker codes retriable.
_SILENT = {
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}


# A broker's answer to a fetch that says nothing of the partition. librdkafka hands it on, and then fetches again from
# the same offset (rdkafka_fetcher.c). Not so a batch with a wrong check sum, which it leaves out.
_PASSING = {*_SILENT, KafkaError.UNKNOWN, KafkaError.THROTTLING_QUOTA_EXCEEDED}


def passes(error: KafkaError) -> bool:
    """Whether reading goes on by itself after this error of a fetch, with nothing left out."""
    return error.retriable() or error.code() in _PASSING


def passes_alone(error: KafkaError) -> bool:
    """The same for a consumer that joins no group: librdkafka looks for the coordinator of its ``group.id`` all the
    same, and tells of missing rights to a group that nobody needs.
    """
    return passes(error) or error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def error_of(failure: KafkaException) -> KafkaError:
    """The KafkaError inside; binding errors without one become _FAIL with their text."""
    inner = failure.args[0] if failure.args else None
    return inner if isinstance(inner, KafkaError) else KafkaError(KafkaError._FAIL, str(failure))


def translate(error: KafkaError, what: str) -> LogflumeError:
    """The error to raise for ``error``; ``what`` names the call and its object in lower case."""
    message = f"{what}: {error.str()} ({error.name()})"
    if error.code() in _UNKNOWN:
        return UnknownTopic(message)
    if error.code() in _SILENT or error.retriable():
        return Unreachable(message)
    return Refused(message)
