"""The metrics page, read by a parser that shares nothing with what writes it."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest

from logflume.daemon.report import CounterName, WorkerReport
from logflume.status import metrics
from logflume.status.figures import Figures
from tests.status.samples import HOUR, finished, partition, report

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class Scrape:
    """A page as Prometheus reads it (text format 0.0.4); refuses what Prometheus would refuse."""

    samples: dict[Key, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    helps: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, text: str) -> float:
        name, labels = _sample_name(text)
        return self.samples[name, labels]

    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')


def _sample_name(text: str) -> Key:
    name, brace, rest = text.partition("{")
    assert _NAME.fullmatch(name), text
    if not brace:
        return name, frozenset()
    assert rest.endswith("}"), text
    labels, at = {}, 0
    while at < len(rest) - 1:
        match = _LABEL.match(rest[:-1], at)
        assert match, text
        assert match[1] not in labels, text
        labels[match[1]] = match[2].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
        at = match.end()
    return name, frozenset(labels.items())


def parse(page: str) -> Scrape:
    scrape, current = Scrape(), ""
    assert page.endswith("\n")
    for line in page.splitlines():
        if line.startswith("# HELP "):
            current, meaning = line.removeprefix("# HELP ").split(" ", 1)
            assert current not in scrape.helps, "a family is described once"
            scrape.helps[current] = meaning
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name == current, "HELP and TYPE of a family stand together"
            scrape.kinds[name] = kind
        else:
            text, value = line.rsplit(" ", 1)
            key = _sample_name(text)
            base = re.sub(r"_(bucket|sum|count)$", "", key[0]) if scrape.kinds[current] == "histogram" else key[0]
            assert base == current, "the samples of a family stand together"
            assert key not in scrape.samples, f"twice: {text}"
            scrape.samples[key] = float(value)
    return scrape


def scrape(*reports: WorkerReport, workers: int = 1) -> Scrape:
    figures = Figures(workers, silence_s=30)
    for one in reports:
        figures.started(one.worker)
        figures.heard(one)
    return parse(metrics.render(figures.view(), time.monotonic()))


def test_every_name_begins_with_ours_and_says_its_meaning_and_counters_end_in_total() -> None:
    page = scrape(report(partitions=(partition(0),), finished=(finished(1),), held={"app": "x"}))
    assert page.kinds.keys() == page.helps.keys()
    for name, kind in page.kinds.items():
        assert name.startswith("logflume_")
        assert page.helps[name].endswith(".")
        assert name.endswith("_total") == (kind == "counter")


def test_the_meaning_of_every_counter_is_told() -> None:
    page = scrape(report(counters={(name, "app", ""): 1 for name in get_args(CounterName)}))
    meanings = [page.helps[f"logflume_{name}_total"] for name in get_args(CounterName)]
    assert "Counted by the workers." not in meanings
    assert len(set(meanings)) == len(meanings) >= 8


def test_what_workers_count_comes_by_topic_and_label() -> None:
    page = scrape(
        report(
            counters={
                ("records", "app", "hour"): 1000,
                ("records", "app", "quarantine:bad_json"): 3,
                ("bytes", "app", "hour"): 123_456,
                ("decisions", "app", ""): 4,
                ("fenced", "app", ""): 1,
                ("retries", "app", ""): 2,
                ("commits", "", ""): 9,
                ("commit_failures", "", ""): 5,
                ("new", "app", "kind"): 6,
            }
        )
    )
    assert page['logflume_records_total{topic="app",fate="hour"}'] == 1000
    assert page['logflume_records_total{topic="app",fate="quarantine:bad_json"}'] == 3
    assert page['logflume_bytes_total{topic="app",fate="hour"}'] == 123_456
    assert page['logflume_decisions_total{topic="app"}'] == 4
    assert page['logflume_fenced_total{topic="app"}'] == 1
    assert page['logflume_retries_total{topic="app"}'] == 2
    assert page["logflume_commits_total"] == 9
    assert page["logflume_commit_failures_total"] == 5
    assert page['logflume_new_total{topic="app",label="kind"}'] == 6


def test_times_are_seconds_and_lag_is_what_is_left() -> None:
    page = scrape(report(partitions=(partition(3, phase="stopped", error="lost", end=140),)))
    at = 'topic="app",partition="3"'
    assert page[f"logflume_watermark_timestamp_seconds{{{at}}}"] == (HOUR + 1500) / 1000
    assert page[f"logflume_frontier_timestamp_seconds{{{at}}}"] == HOUR / 1000
    assert page[f"logflume_boundary_offset{{{at}}}"] == 90
    assert page[f"logflume_committed_offset{{{at}}}"] == 100
    assert page[f"logflume_position_offset{{{at}}}"] == 150
    assert page[f"logflume_lag_offsets{{{at}}}"] == 0  # never negative: the end was asked for before
    assert page[f"logflume_open_parts{{{at}}}"] == 2
    assert page[f'logflume_phase{{{at},phase="stopped"}}'] == 1
    assert page[f"logflume_partition_trouble{{{at}}}"] == 1
    assert page["logflume_stopped_partitions"] == 1


def test_hours_are_counted_from_0_on_so_that_the_first_incomplete_one_is_an_increase() -> None:
    page = scrape(report(partitions=(partition(0), partition(1))))
    for complete in ("false", "true"):
        assert page[f'logflume_hours_finished_total{{topic="app",complete="{complete}"}}'] == 0


def test_what_is_not_known_yet_has_no_sample() -> None:
    unknown: dict[str, Any] = dict.fromkeys(("committed", "position", "end", "watermark", "frontier", "boundary"))
    page = scrape(report(partitions=(partition(0, phase="claiming", **unknown),)))
    absent = ("watermark_timestamp_seconds", "frontier_timestamp_seconds", "boundary_offset", "lag_offsets")
    assert not page.names() & {f"logflume_{name}" for name in absent}


def test_a_partition_that_two_workers_report_has_one_sample() -> None:
    page = scrape(report(0, partitions=(partition(0),)), report(1, partitions=(partition(0, position=160),)), workers=2)
    assert page['logflume_position_offset{topic="app",partition="0"}'] == 160


def test_the_time_to_the_marker_is_a_histogram() -> None:
    page = scrape(report(finished=(finished(0.3), finished(4.0), finished(10_000.0, complete=False))))
    bucket = 'logflume_hour_finish_seconds_bucket{topic="app",le="'
    bounds = [
        math.inf if dict(key[1])["le"] == "+Inf" else float(dict(key[1])["le"])
        for key in page.samples
        if "_bucket" in key[0]
    ]
    assert bounds == sorted(bounds)
    assert [page[f'{bucket}{le}"}}'] for le in ("0.5", "2.5", "5", "7200", "+Inf")] == [1, 1, 2, 2, 3]
    assert page['logflume_hour_finish_seconds_count{topic="app"}'] == 3
    assert page['logflume_hour_finish_seconds_sum{topic="app"}'] == 10_004.3
    assert page['logflume_hours_finished_total{topic="app",complete="true"}'] == 2
    assert page['logflume_hours_finished_total{topic="app",complete="false"}'] == 1


def test_workers_have_gauges_while_they_report() -> None:
    page = scrape(report(0, paused=True), workers=2)
    assert page['logflume_worker_up{worker="0"}'] == 1
    assert page['logflume_worker_up{worker="1"}'] == 0
    assert page['logflume_worker_restarts_total{worker="1"}'] == 0
    assert page['logflume_worker_paused{worker="0"}'] == 1
    assert page['logflume_spool_bytes{worker="0"}'] == 4096
    assert page['logflume_buffered_bytes{worker="0"}'] == 100
    assert page['logflume_oldest_call_seconds{worker="0"}'] == 1.25
    assert ("logflume_spool_bytes", frozenset({("worker", "1")})) not in page.samples


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", "a}b", 'x="y",z', "ü"])
def test_a_label_can_be_any_text(label: str) -> None:
    page = scrape(report(counters={("records", "app", label): 1}))
    assert page.samples["logflume_records_total", frozenset({("topic", "app"), ("fate", label)})] == 1
