"""The configuration: declared once here, read from TOML, frozen, strict.

A field's declaration gives its TOML key, its default in TOML's own text, its bounds and its meaning;
the checks, the messages and the README's table of keys all come from it. An attribute whose name
ends in ``_ms`` or ``_bytes`` holds a number where its key holds text: ``lateness = "10m"`` is the
attribute ``lateness_ms``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from logflume import masks, units
from logflume.config.host import DaemonConfig, OutputConfig
from logflume.config.kafka import KafkaConfig
from logflume.config.keys import KeyDoc, KeyPath, Table, document, explain, key_names, refuse, shown
from logflume.config.topic import TimestampConfig, TopicConfig, TopicDefaults
from logflume.errors import ConfigError

__all__ = [
    "Config",
    "DaemonConfig",
    "KafkaConfig",
    "KeyDoc",
    "OutputConfig",
    "TimestampConfig",
    "TopicConfig",
    "TopicDefaults",
    "describe",
    "load",
    "parse",
]


class Config(Table):
    """The whole file."""

    kafka: KafkaConfig
    output: OutputConfig
    daemon: DaemonConfig = Field(default_factory=DaemonConfig)
    topic_defaults: TopicDefaults = Field(default_factory=TopicDefaults, exclude=True)  # the topics hold them
    topics: tuple[TopicConfig, ...] = Field(alias="topic")

    @model_validator(mode="before")
    @classmethod
    def _merge_defaults(cls, table: dict[str, Any]) -> dict[str, Any]:
        defaults = table.get("topic_defaults")
        known = key_names(TopicDefaults)
        merged = {k: v for k, v in defaults.items() if k in known} if isinstance(defaults, dict) else {}
        topics = table.get("topic")
        if not isinstance(topics, list):
            return table
        return table | {"topic": tuple({**merged, **one} if isinstance(one, dict) else one for one in topics)}

    @field_validator("topics", mode="before")
    @classmethod
    def _not_empty(cls, topics: Any) -> Any:
        if topics == ():
            raise ValueError("must be there at least once, as [[topic]]")
        return topics

    @field_validator("topics")
    @classmethod
    def _fit_in_memory(cls, topics: tuple[TopicConfig, ...], info: ValidationInfo) -> tuple[TopicConfig, ...]:
        if "daemon" in info.data:
            limit_bytes = info.data["daemon"].buffer_bytes
            limit = f"daemon.buffer_bytes = {units.show_size(limit_bytes)}"
            large = [i for i, topic in enumerate(topics) if topic.max_record_bytes > limit_bytes]
            refuse([((i, "max_record_bytes"), f"must not be above {limit}") for i in large])
        return topics

    def topic_for(self, name: str) -> TopicConfig | None:
        """The settings of a topic: those under its name, else under the first pattern that matches."""
        named = (topic for topic in self.topics if topic.name == name)
        return next(named, None) or next((topic for topic in self.topics if topic.matches(name)), None)

    def masked(self) -> dict[str, Any]:
        """The configuration in effect as TOML keys and values, defaults filled in, secrets masked."""
        dump = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for options in (dump["kafka"], dump["output"]["options"]):
            options |= {name: masks.MASK for name in options if masks.is_secret(name)}
        return dump


def load(path: Path | str) -> Config:
    """The configuration in a TOML file; raises ConfigError with every problem at once."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            [f"cannot read {path}: {(error.strerror or str(error)).lower()}"],
            hint="name a file with -c; conf/logflume.toml is an example of one",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} is not TOML: {error}"]) from None
    return parse(table)


def parse(table: Mapping[str, Any]) -> Config:
    """The configuration in a table such as tomllib makes; raises ConfigError with every problem at once."""
    problems = _named_twice(table)
    try:
        config = Config.model_validate(dict(table))
    except ValidationError as error:
        problems += [text for one in _once(error.errors(), table) for text in explain(Config, one)]
    if problems:
        raise ConfigError(problems)
    return config


def _topic_tables(table: Mapping[str, Any]) -> list[Any]:
    topics = table.get("topic")
    return topics if isinstance(topics, list) else []


def _named_twice(table: Mapping[str, Any]) -> list[str]:
    """Looks at the raw table: pydantic would compare the topics only once each of them is right."""
    first: dict[tuple[str, str], int] = {}
    problems = []
    for i, topic in enumerate(_topic_tables(table)):
        for name in ("name", "pattern"):
            value = topic.get(name) if isinstance(topic, dict) else None
            if isinstance(value, str) and first.setdefault((name, value), i) != i:
                problems.append(f"topic[{i}].{name} = {shown(value)}: topic[{first[name, value]}] has it already")
    return problems


def _once(errors: list[ErrorDetails], table: Mapping[str, Any]) -> list[ErrorDetails]:
    """Without those of a topic that only repeat what is wrong in topic_defaults."""
    default = {error["loc"][1:] for error in errors if error["loc"][0] == "topic_defaults"}
    topics = _topic_tables(table)

    def repeats(loc: KeyPath) -> bool:
        match loc:
            case ("topic", int(i), name, *_):
                return loc[2:] in default and name not in topics[i]
        return False

    return [error for error in errors if not repeats(error["loc"])]


def describe() -> list[KeyDoc]:
    """Every key with type, default and meaning, for the README; topic_defaults has those of a topic."""
    tables: dict[str, type[Table]] = {
        "kafka": KafkaConfig,
        "output": OutputConfig,
        "daemon": DaemonConfig,
        "topic": TopicConfig,
    }
    return [row for section, table in tables.items() for row in document(section, table)]
