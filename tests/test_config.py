"""What the configuration accepts, what it says about the rest, and what it never prints."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException
from pydantic import ValidationError

from logflume import config
from logflume.config import Config, TopicConfig
from logflume.config.kafka import ALLOWED, REFUSED
from logflume.errors import ConfigError

BASE: dict[str, Any] = {
    "kafka": {"bootstrap.servers": "127.0.0.1:9092", "group.id": "logflume"},
    "output": {"root": "hdfs://127.0.0.1:8020/logs"},
    "topic": [{"name": "app", "timestamp": {"field": "ts", "unit": "ms"}}],
}


def with_(section: str, **keys: Any) -> dict[str, Any]:
    """BASE with keys changed in one table; a ``topic`` is the first one."""
    table = copy.deepcopy(BASE)
    target = table["topic"][0] if section == "topic" else table.setdefault(section, {})
    target.update(keys)
    return table


def topic(**keys: Any) -> TopicConfig:
    return config.parse(with_("topic", **keys)).topics[0]


def problems(table: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(table)
    return caught.value.problems


def test_the_example_of_the_design_loads_with_units_in_the_names() -> None:
    text = """
        [kafka]
        "bootstrap.servers" = "127.0.0.1:9092"
        "group.id" = "logflume"
        [output]
        root = "hdfs://127.0.0.1:8020/logs"
        namenode_http = "http://127.0.0.1:9870"
        [daemon]
        workers = 1
        spool = "/var/lib/logflume/spool"
        http = "127.0.0.1:9470"
        [[topic]]
        name = "app"
        timestamp = { field = "ts", unit = "ms" }
        window = "1h"
        lateness = "10m"
        idle_grace = "1m"
        late = "side"
        roll_every = "10m"
        roll_bytes = "128MiB"
        target_bytes = "256MiB"
        reveal = "complete"
        format = "json"
        compression = "gzip"
    """
    loaded = config.parse(tomllib.loads(text))
    app = loaded.topics[0]
    assert (app.window_ms, app.lateness_ms, app.roll_bytes) == (3_600_000, 600_000, 128 << 20)
    assert (app.timestamp.source, app.timestamp.field, app.timestamp.unit) == ("field", "ts", "ms")
    assert loaded.output.path == "/logs"
    assert loaded.output.scheme == "hdfs"
    assert loaded.daemon.http_address == ("127.0.0.1", 9470)
    # every value of the design's example is the default
    assert app == config.parse(BASE).topics[0]


def test_all_problems_are_named_at_once_each_with_key_value_and_what_is_right() -> None:
    found = problems(
        {
            "kafka": {"bootstrap.servers": "b:9092", "auto.offset.reset": "latest"},
            "output": {"root": "s3://bucket/logs"},
            "daemon": {"workers": 0, "log_level": "loud"},
            "topic": [
                {"name": "a", "timestamp": "create", "lateness": "10"},
                {"name": "a", "timestamp": {"field": "ts", "unit": "days"}, "windw": "1h"},
            ],
        }
    )
    assert found == [
        'topic[1].name = "a": topic[0] has it already',
        f'kafka."auto.offset.reset": is not for the configuration: {REFUSED["auto.offset.reset"]}',
        'kafka."group.id": must be given, such as "logflume", or assignment = "static"',
        (
            'output.root = "s3://bucket/logs": '
            "must be hdfs://host:port/path, webhdfs://host:port/path or file:///path, the path not /"
        ),
        "daemon.workers = 0: must be at least 1",
        "daemon.log_level = \"loud\": must be 'debug', 'info', 'warning' or 'error'",
        ('topic[0].lateness = "10": must be a duration, 0s to 7d: a whole number and a unit, one of ms, s, m, h, d'),
        "topic[1].timestamp.unit = \"days\": must be 's', 'ms', 'us', 'ns' or 'iso'",
        "topic[1].windw: unknown key; did you mean 'window'?",
    ]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (with_("topic", latenes="1m"), "topic[0].latenes: unknown key; did you mean 'lateness'?"),
        (with_("daemon", htp=""), "daemon.htp: unknown key; did you mean 'http'?"),
        (with_("kafka", assignement="static"), "kafka.assignement: unknown key; did you mean 'assignment'?"),
        (
            with_("kafka", **{"fetch.max.byte": 1}),
            "kafka.\"fetch.max.byte\": unknown key; did you mean 'fetch.max.bytes'?",
        ),
        (
            with_("topic", timestamp={"feld": "ts", "field": "ts", "unit": "ms"}),
            "topic[0].timestamp.feld: unknown key; did you mean 'field'?",
        ),
        (BASE | {"topics": []}, "topics: unknown key; did you mean 'topic'?"),
        (with_("topic_defaults", name="x"), "topic_defaults.name: unknown key"),
        (with_("daemon", qwertz=1), "daemon.qwertz: unknown key"),
    ],
)
def test_a_misspelt_key_is_refused_and_the_likely_one_named(table: dict[str, Any], problem: str) -> None:
    """C1."""
    assert problems(table) == [problem]


def test_option_names_without_quotes_are_explained() -> None:
    table = with_("kafka")
    del table["kafka"]["bootstrap.servers"]
    table["kafka"] |= tomllib.loads('bootstrap.servers = "b:9092"')
    assert problems(table)[0].startswith("kafka.bootstrap: unknown key; the name of an option stands in quotes")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_options_that_would_break_a_promise_are_refused_with_the_reason(name: str) -> None:
    assert problems(with_("kafka", **{name: "x"})) == [f'kafka."{name}": is not for the configuration: {REFUSED[name]}']


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_every_allowed_option_is_known_to_the_pinned_client(name: str) -> None:
    complaint = ""
    try:
        Consumer({"group.id": "g", name: "-"}).close()
    except KafkaException as error:
        complaint = str(error)
    # a complaint about the value is fine: the client knows the name
    assert "No such configuration property" not in complaint


def test_group_settings_that_the_broker_decides_are_refused_with_the_new_protocol() -> None:
    table = with_("kafka", **{"group.protocol": "consumer", "session.timeout.ms": 9000})
    assert problems(table) == [
        'kafka."session.timeout.ms": must go: the broker decides it with group.protocol = "consumer"'
    ]
    del table["kafka"]["group.protocol"]
    assert config.parse(table).kafka.options["session.timeout.ms"] == 9000


def test_static_assignment_needs_no_group() -> None:
    table = with_("kafka", assignment="static")
    del table["kafka"]["group.id"]
    assert "group.id" not in config.parse(table).kafka.options


def test_secrets_are_printed_nowhere() -> None:
    table = with_("kafka", **{"sasl.password": "hunter2", "sasl.username": "joe", "ssl.key.pem": "hunter2"})
    table["output"]["options"] = {"dfs.web.keystore.password": "hunter2"}
    loaded = config.parse(table)
    masked = loaded.masked()
    assert masked["kafka"]["sasl.username"] == "joe"
    assert masked["kafka"]["sasl.password"] != "hunter2"
    assert loaded.kafka.options["sasl.password"] == "hunter2"
    assert "hunter2" not in f"{masked} {loaded!r} {loaded}"

    table["kafka"] |= {"sasl.pasword": "hunter2", "ssl.key.password": ["hunter2"]}
    table["output"]["options"]["ssl.client.password"] = ["hunter2"]
    table["output"]["root"] = "hdfs://joe:hunter2@127.0.0.1:8020/logs"
    table["output"]["namenode_http"] = "http://joe:hunter2@127.0.0.1:9870"
    with pytest.raises(ConfigError) as caught:
        config.parse(table)
    assert len(caught.value.problems) == 5
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.problems}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_is_printed_loads_again_as_the_same_configuration() -> None:
    table = with_("topic", lateness="90m", min_time="2020-02-29T01:00:00.5+01:00", roll_bytes="1000KB")
    table["topic_defaults"] = {"window": "15m", "timestamp": "append"}
    table["topic"].append({"pattern": "web-.*"})
    loaded = config.parse(table)
    printed = loaded.masked()
    assert printed["topic"][0]["roll_bytes"] == "1MB"
    assert printed["topic"][1]["window"] == "15m"
    assert config.parse(printed).model_dump() == loaded.model_dump()


def test_defaults_hold_for_every_topic_that_does_not_say_otherwise() -> None:
    table = with_("topic", lateness="1h")
    table["topic_defaults"] = {"lateness": "5m", "timestamp": "create"}
    table["topic"].append({"name": "web"})
    app, web = config.parse(table).topics
    assert (app.lateness_ms, web.lateness_ms) == (3_600_000, 300_000)
    assert (app.timestamp.source, web.timestamp.source) == ("field", "create")


def test_a_wrong_default_is_reported_once_and_not_for_every_topic() -> None:
    table = with_("topic_defaults", lateness="1 week", timestamp={"field": "ts", "unit": "x"})
    table["topic"].append({"name": "web"})
    assert [problem.split(" = ")[0] for problem in problems(table)] == [
        "topic_defaults.lateness",
        "topic_defaults.timestamp.unit",
    ]


def test_a_default_that_does_not_fit_one_topic_is_reported_there() -> None:
    table = with_("topic", roll_bytes="2MiB")
    table["topic_defaults"] = {"target_bytes": "1MiB", "roll_bytes": "1MiB"}
    assert problems(table) == ['topic[0].target_bytes = "1MiB": must not be below roll_bytes = 2MiB']


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"roll_bytes": "257MiB"}, 'topic[0].target_bytes = "256MiB": must not be below roll_bytes = 257MiB'),
        ({"format": "text"}, 'topic[0].timestamp: must be "create" or "append" with format = "text"'),
        ({"format": "parquet"}, 'topic[0].format = "parquet": parquet is not built yet; use "json"'),
        ({"pattern": "a.*"}, 'topic[0].pattern = "a.*": exactly one of name and pattern'),
        ({"max_record_bytes": "257MiB"}, "topic[0].max_record_bytes: must not be above daemon.buffer_bytes"),
        ({"timestamp": "arrival"}, 'topic[0].timestamp = "arrival": must be { field = "ts", unit = "ms" }'),
        ({"timestamp": {"field": "ts"}}, "topic[0].timestamp.unit: must be given"),
        (
            {"timestamp": {"field": "a..b", "unit": "s"}},
            'topic[0].timestamp.field = "a..b": must be the name',
        ),
        ({"name": "_late"}, 'topic[0].name = "_late": must be a topic name of Kafka, not beginning with _'),
        ({"lateness": 600}, "topic[0].lateness = 600: must be in quotes: duration"),
        ({"lateness": "8d"}, 'topic[0].lateness = "8d": must be a duration, 0s to 7d'),
        ({"window": "45m"}, 'topic[0].window = "45m": must be minutes that divide an hour'),
        ({"window": "5h"}, 'topic[0].window = "5h": must be minutes that divide an hour'),
        ({"window": "90m"}, 'topic[0].window = "90m": must be minutes that divide an hour'),
        ({"window": "450s"}, 'topic[0].window = "450s": must be minutes that divide an hour'),
        ({"min_time": "2000-01-01T00:00:00"}, "topic[0].min_time"),
    ],
)
def test_settings_that_contradict_or_make_no_sense_are_refused(keys: dict[str, Any], problem: str) -> None:
    found = problems(with_("topic", **keys))
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("pattern", "odd"),
    [
        (r"app-\d+", r"\\d"), (r"app\Z", r"\\Z"), ("(?:a|b)", "(?"), ("(?i)app", "(?"), ("a.*?", "*?"), ("a{,3}", "{,"),
        ("[[:alpha:]]", "[:"), (r"[a\-z]", r"[a\\"), (r"x[^]\w]", r"[^]\\"),
    ],
)  # fmt: skip
def test_a_pattern_that_others_read_otherwise_is_refused(pattern: str, odd: str) -> None:
    """glibc's regcomp, of classic groups, takes \\d for a d: the topics were checked, and never read."""
    (problem,) = problems(BASE | {"topic": [{"pattern": pattern, "timestamp": "create"}]})
    assert f"must be a regular expression that Kafka's client reads as Python does, without '{odd}':" in problem


@pytest.mark.parametrize("pattern", [r"app-[0-9]+", r"a\.b", "(a|b)-.*", "[a-z]{2,3}", "^x.?$", "[]x]", "[^a-]+"])
def test_a_pattern_that_all_read_alike_is_taken(pattern: str) -> None:
    assert config.parse(BASE | {"topic": [{"pattern": pattern, "timestamp": "create"}]}).topics[0].pattern == pattern


@pytest.mark.parametrize("window", ["5m", "10m", "15m", "30m", "60m", "1h", "2h", "8h", "12h", "24h", "1d"])
def test_windows_that_tile_a_day_are_accepted(window: str) -> None:
    assert 86_400_000 % topic(window=window).window_ms == 0


def test_min_time_may_be_written_as_toml_date_or_text() -> None:
    given = tomllib.loads('a = 2001-09-09\nb = "2001-09-09"\nc = 2001-09-09T02:00:00+02:00\n')
    assert {topic(min_time=value).min_time_ms for value in given.values()} == {999_993_600_000}


def test_a_file_needs_kafka_output_and_a_topic() -> None:
    assert problems({}) == ["kafka: must be given", "output: must be given", "topic: must be given"]
    assert problems(BASE | {"topic": []}) == ["topic: must be there at least once, as [[topic]]"]
    assert problems(BASE | {"topic": {"name": "a"}}) == [
        "topic: must be an array of tables, each begun by a line [[topic]]"
    ]
    assert problems(BASE | {"daemon": 3, "topic_defaults": 3, "topic": [3]}) == [
        "daemon = 3: must be a table",
        "topic_defaults = 3: must be a table",
        "topic[0] = 3: must be a table",
    ]


def test_a_topic_is_found_by_name_before_pattern_and_by_the_first_pattern() -> None:
    table = with_("topic", name="web-a")
    table["topic"] = [
        {"pattern": "web-.*", "timestamp": "create"},
        {"pattern": ".*", "timestamp": "append"},
        *table["topic"],
    ]
    loaded = config.parse(table)
    assert loaded.topic_for("web-a") is loaded.topics[2]
    assert loaded.topic_for("web-b") is loaded.topics[0]
    assert loaded.topic_for("xweb-b") is loaded.topics[1]
    assert loaded.topic_for("__consumer_offsets") is None
    assert config.parse(BASE).topic_for("other") is None


CHANGES_OUTPUT = {
    "window": "30m",
    "lateness": "11m",
    "timestamp": {"field": "ts", "unit": "us"},
    "compression": "zstd",
    "late": "drop",
    "max_future": "1h",
    "min_time": "2001-01-01",
    "idle_grace": "2m",
    "reveal": "early",
    "target_bytes": "512MiB",
}


@pytest.mark.parametrize("key", CHANGES_OUTPUT)
def test_the_hash_changes_with_what_changes_the_output(key: str) -> None:
    """C2."""
    assert topic(**{key: CHANGES_OUTPUT[key]}).hash != topic().hash


def test_the_hash_is_the_same_for_the_same_meaning() -> None:
    same = topic(window="60m", roll_every="1m", roll_bytes="1MiB", start="latest", ledger_retention="1d")
    assert same.hash == topic().hash
    # on disk in every decision: a change of this value makes each daemon report a changed configuration
    assert topic().hash == "665d7e73a932de82"
    create, text = topic(timestamp="create"), topic(timestamp="create", format="text")
    assert create.hash != text.hash


@pytest.mark.parametrize(
    "root", ["hdfs://nn:8020/logs", "hdfs://nameservice/a/b", "webhdfs://nn:9870/logs", "file:///tmp/logs"]
)
def test_roots_are_normalised(root: str) -> None:
    assert config.parse(with_("output", root=root)).output.root == root
    assert config.parse(with_("output", root=f"{root}//x/")).output.root == f"{root}/x"


@pytest.mark.parametrize(
    "root",
    [
        *(
            "logs",
            "/logs",
            "hdfs:///logs",
            "hdfs://nn:8020",
            "hdfs://nn:8020/",
            "file://tmp/logs",
            "file:///",
        ),
        *("hdfs://nn/a/../b", "hdfs://joe:pw@nn/logs", "hdfs://nn/a:b", "hdfs://nn/a?b", "hdfs://nn/a%20b"),
        *("hdfs://nn:port/logs", "ftp://nn/logs"),
    ],
)
def test_roots_that_cannot_be_used_are_refused(root: str) -> None:
    (problem,) = problems(with_("output", root=root))
    assert problem.startswith("output.root = ")


def test_the_configuration_cannot_be_changed() -> None:
    loaded = config.parse(BASE)
    with pytest.raises(ValidationError):
        loaded.daemon.workers = 2


def test_a_file_that_is_not_there_or_not_toml_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    with pytest.raises(ConfigError, match=f"cannot read {path}: no such file"):
        config.load(path)
    path.write_text("[kafka\n")
    with pytest.raises(ConfigError, match=f"{path} is not TOML: .*line 1"):
        config.load(path)


def test_every_key_is_documented_with_type_default_and_meaning() -> None:
    rows = {row.key: row for row in config.describe()}
    printed = config.parse(BASE).masked()
    defaults = {f"daemon.{key}" for key in printed["daemon"]} | {f"topic.{key}" for key in printed["topic"][0]}
    assert defaults <= rows.keys()
    assert all(row.type and row.meaning for row in rows.values())
    assert rows["topic.lateness"].default == '"10m"'
    assert rows["topic.lateness"].type == "duration, 0s to 7d"
    assert rows["topic.late"].type == '"side" or "append" or "drop"'
    assert rows["daemon.workers"].type == "whole number, 1 to 64"
    assert rows["output.root"].default == "required"


def test_the_example_file_loads_and_mentions_every_key() -> None:
    path = Path(__file__).parent.parent / "conf" / "logflume.toml"
    assert isinstance(config.load(path), Config)
    text = path.read_text(encoding="utf-8")
    for row in config.describe():
        section, name = row.key.split(".")
        assert name == "*" or f"\n{name} = " in text or f"\n[{section}.{name}]\n" in text, row.key
