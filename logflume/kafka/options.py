"""librdkafka's options: what the operator may say, what logflume insists on."""

from __future__ import annotations

from collections.abc import Mapping

from logflume.kafka.names import INTERNAL

Options = Mapping[str, str | int | bool]

# By default one byte answers a fetch: with live input the broker is asked hundreds of times a second, each time for
# all partitions, and for 20,000 records/s over 64 of them a worker took 0.34 of a core; now 0.2.
FETCH_BYTES = 256 * 1024

_DEFAULTS: dict[str, str | int | bool] = {
    # A full local queue pauses fetching for this long; the default of 1000 costs 70 % of the throughput.
    "fetch.queue.backoff.ms": 10,
    # librdkafka's 64 MiB is per consumer, but written down since memory must have a bound.
    "queued.max.messages.kbytes": 64 * 1024,
    # A fetch waits at most this long for FETCH_BYTES; an idle broker is asked 4 times a second instead of 2.
    "fetch.wait.max.ms": 250,
    # How long a new partition, or a new topic of a pattern, stays unseen (K11); default 5 min.
    "topic.metadata.refresh.interval.ms": 30_000,
}

_INSISTED: dict[str, str | int | bool] = {
    "enable.auto.commit": False,  # only what HDFS proves is committed
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # else lost offsets are skipped in silence (K8)
    "check.crcs": True,  # off by default, costs nothing measurable
    "enable.partition.eof": True,
}

# One option with two names: the most that a partition sends in one answer.
_FROM_A_PARTITION = ("fetch.message.max.bytes", "max.partition.fetch.bytes")

# What an AdminClient shares with a consumer; it warns about every other option.
_CONNECTION = (
    *("bootstrap.", "client.", "broker.", "security.", "ssl.", "sasl.", "enable.ssl.", "enable.sasl."),
    *("https.", "socket.", "connections.", "reconnect.", "retry.", "metadata.", "receive."),
    *("api.version.", "log.", "debug", "enable.metrics."),
)


def for_consumer(options: Options) -> dict[str, str | int | bool]:
    # A single partition can never send more than its own limit: every fetch would wait to its end.
    limits = [int(options[name]) for name in _FROM_A_PARTITION if str(options.get(name)).isdecimal()]
    made = {
        **_DEFAULTS,
        "fetch.min.bytes": min([FETCH_BYTES, *limits]),
        **options,
        **_INSISTED,
        "topic.blacklist": ",".join(f"^{name}$" for name in INTERNAL),
    }
    if made.get("group.protocol", "classic") == "classic":
        # With KIP-848 the broker assigns, and librdkafka refuses the option.
        made["partition.assignment.strategy"] = "cooperative-sticky"
    return made


def alone(options: Options) -> dict[str, str | int | bool]:
    """For a consumer that joins no group. librdkafka wants a group's name of every consumer, and asks for its
    coordinator: the configuration's is the one that rights were given to. Other options of a group are a wish to join.
    """
    others = {name: value for name, value in options.items() if not name.startswith("group.")}
    return {**for_consumer(others), "group.id": options.get("group.id", "logflume")}


def for_admin(options: Options) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in options.items() if name.startswith(_CONNECTION)}
