"""``[kafka]``: which options of librdkafka the configuration may give, and which it may not and why.

An allow-list, since some options run commands or load libraries, and some would break a promise.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_serializer, model_validator

from logflume.config.keys import Problem, Table, key, refuse, shown, unknown

ALLOWED: frozenset[str] = frozenset(
    """
    bootstrap.servers client.id client.rack client.dns.lookup
    group.id group.protocol group.instance.id group.remote.assignor
    session.timeout.ms heartbeat.interval.ms max.poll.interval.ms coordinator.query.interval.ms
    fetch.wait.max.ms fetch.queue.backoff.ms fetch.min.bytes fetch.max.bytes fetch.message.max.bytes
    fetch.error.backoff.ms max.partition.fetch.bytes
    queued.min.messages queued.max.messages.kbytes
    message.max.bytes receive.message.max.bytes
    socket.timeout.ms socket.send.buffer.bytes socket.receive.buffer.bytes socket.keepalive.enable
    socket.nagle.disable socket.max.fails socket.connection.setup.timeout.ms connections.max.idle.ms
    broker.address.ttl broker.address.family
    reconnect.backoff.ms reconnect.backoff.max.ms retry.backoff.ms retry.backoff.max.ms
    metadata.max.age.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms
    topic.metadata.refresh.interval.ms topic.metadata.refresh.fast.interval.ms
    topic.metadata.propagation.max.ms
    isolation.level statistics.interval.ms debug log.connection.close enable.metrics.push
    security.protocol enable.ssl.certificate.verification https.ca.location https.ca.pem
    ssl.cipher.suites ssl.curves.list ssl.sigalgs.list ssl.key.location ssl.key.password ssl.key.pem
    ssl.certificate.location ssl.certificate.pem ssl.ca.location ssl.ca.pem ssl.crl.location
    ssl.keystore.location ssl.keystore.password ssl.endpoint.identification.algorithm
    sasl.mechanism sasl.mechanisms sasl.username sasl.password
    sasl.kerberos.service.name sasl.kerberos.principal sasl.kerberos.keytab
    sasl.kerberos.min.time.before.relogin
    sasl.oauthbearer.config sasl.oauthbearer.method sasl.oauthbearer.client.id
    sasl.oauthbearer.client.secret sasl.oauthbearer.client.credentials.client.id
    sasl.oauthbearer.client.credentials.client.secret sasl.oauthbearer.scope
    sasl.oauthbearer.extensions sasl.oauthbearer.token.endpoint.url sasl.oauthbearer.grant.type
    sasl.oauthbearer.sub.claim.name sasl.oauthbearer.assertion.algorithm
    sasl.oauthbearer.assertion.private.key.file sasl.oauthbearer.assertion.private.key.passphrase
    sasl.oauthbearer.assertion.private.key.pem sasl.oauthbearer.assertion.file
    sasl.oauthbearer.assertion.claim.aud sasl.oauthbearer.assertion.claim.exp.seconds
    sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.jti.include
    sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.assertion.claim.sub
    sasl.oauthbearer.assertion.jwt.template.file
    """.split()
)

_COMMITS = "logflume commits by itself, only what the ledger proves"
_POSITION = "logflume takes the position from the ledger; 'start' in a [[topic]] says where a new one begins"
_CODE = "it would run code from the configuration"
REFUSED: dict[str, str] = {
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "auto.offset.reset": _POSITION,
    "check.crcs": "it is always on: a damaged batch must stop the partition",
    "partition.assignment.strategy": "it is always cooperative-sticky: give-ups must come one by one",
    "group.protocol.type": "it is fixed by Kafka for consumers",
    "enable.partition.eof": "it is always on: idle partitions are closed by it",
    "metadata.broker.list": "call it bootstrap.servers, so that it has one name",
    "allow.auto.create.topics": "it is always off: a misspelt topic must be an error",
    "topic.blacklist": "say which topics with name or pattern in a [[topic]]",
    "sasl.kerberos.kinit.cmd": _CODE,
    "ssl.engine.location": _CODE,
    "ssl.engine.id": _CODE,
    "ssl.providers": _CODE,
    "plugin.library.paths": _CODE,
    "enable.sasl.oauthbearer.unsecure.jwt": "unsigned tokens prove nothing",
}

# KIP-848 (group.protocol = consumer): librdkafka refuses a client that sets them
BROKER_DECIDES = ("session.timeout.ms", "heartbeat.interval.ms")


class KafkaConfig(Table):
    """Where the records come from."""

    assignment: Literal["group", "static"] = key(
        "group",
        "who gives partitions to workers: Kafka's group protocol, or the worker's number without a group",
    )
    options: dict[str, str | int | bool] = Field(
        default={},
        alias="*",
        validate_default=True,
        repr=False,  # may hold a password
        description="any option of librdkafka from a list of safe ones, its name in quotes; "
        '`"bootstrap.servers"` is required, and `"group.id"` with `assignment = "group"`',
    )

    @property
    def read_committed(self) -> bool:
        return self.options.get("isolation.level", "read_committed") == "read_committed"

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        options = {name: value for name, value in table.items() if name != "assignment"}
        return {name: value for name, value in table.items() if name == "assignment"} | {"*": options}

    @field_validator("options", mode="before")
    @classmethod
    def _check(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        wrong: list[Problem] = [
            ((name,), problem) for name, value in options.items() if (problem := _option_problem(name, value))
        ]
        if not options.get("bootstrap.servers"):
            wrong.append((("bootstrap.servers",), 'must be given, such as "127.0.0.1:9092"'))
        if info.data.get("assignment") == "group" and not options.get("group.id"):
            wrong.append((("group.id",), 'must be given, such as "logflume", or assignment = "static"'))
        protocol = options.get("group.protocol", "classic")
        if protocol not in ("classic", "consumer"):
            wrong.append((("group.protocol",), f'must be "classic" or "consumer", not {shown(protocol)}'))
        if protocol == "consumer":
            decided = [name for name in BROKER_DECIDES if name in options]
            wrong += [((name,), 'must go: the broker decides it with group.protocol = "consumer"') for name in decided]
        refuse(wrong)
        return options

    @model_serializer
    def _as_table(self) -> dict[str, Any]:
        return {"assignment": self.assignment, **self.options}


def _option_problem(name: str, value: object) -> str | None:
    if name in REFUSED:
        return f"is not for the configuration: {REFUSED[name]}"
    if isinstance(value, dict):
        return 'unknown key; the name of an option stands in quotes as a whole: "bootstrap.servers" = …'
    if name not in ALLOWED:
        return unknown(name, ALLOWED | {"assignment"})
    if not isinstance(value, str | int):
        return "must be text, a whole number, true or false"
    return None
