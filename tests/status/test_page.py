"""The status server, asked over HTTP."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from logflume.errors import Refused
from logflume.model import MINUTE_MS
from logflume.status.figures import Figures
from logflume.status.page import StatusServer
from tests.status.samples import HOUR, finished, partition, report
from tests.status.test_metrics import parse


@pytest.fixture
def figures() -> Figures:
    return Figures(1, silence_s=30)


@pytest.fixture
def port(figures: Figures) -> Iterator[int]:
    with StatusServer(("127.0.0.1", 0), figures) as server:
        yield server.port


def ask(port: int, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


def test_health_is_503_until_every_worker_reports(port: int, figures: Figures) -> None:
    response, text = ask(port, "/healthz")
    assert (response.status, text) == (503, "no report of late from worker 0\n")
    figures.heard(report())
    assert ask(port, "/healthz")[0].status == 200
    figures.ended(0)
    assert ask(port, "/healthz")[0].status == 503


def test_health_is_503_when_a_worker_has_been_silent() -> None:
    figures = Figures(1, silence_s=0.05)
    figures.heard(report())
    time.sleep(0.1)
    with StatusServer(("127.0.0.1", 0), figures) as server:
        assert ask(server.port, "/healthz")[0].status == 503


def test_metrics_are_served_as_prometheus_asks_for_them(port: int, figures: Figures) -> None:
    figures.heard(report(counters={("records", "app", "hour"): 5}))
    response, text = ask(port, "/metrics")
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert parse(text)['logflume_records_total{topic="app",fate="hour"}'] == 5


def test_the_json_keeps_its_keys(port: int, figures: Figures) -> None:
    figures.started(0)
    figures.heard(
        report(
            partitions=(partition(0, phase="stopped", error="offsets are lost", hint="look"),),
            counters={("records", "app", "hour"): 5},
            finished=(finished(1.0),),
            held={"app": "file is in the way"},
        )
    )
    response, text = ask(port, "/status.json")
    assert response.getheader("Content-Type") == "application/json"
    body = json.loads(text)
    assert body.pop("version")
    assert body["workers"][0].pop("report_age_s") < 5
    assert body == {
        "healthy": True,
        "workers": [
            {
                "worker": 0,
                "running": True,
                "restarts": 0,
                "pid": 1000,
                "consuming": True,
                "paused": False,
                "oldest_call": "decide app/0",
                "oldest_call_s": 1.2,
                "spool_bytes": 4096,
                "buffered_bytes": 100,
            }
        ],
        "partitions": [
            {
                "topic": "app",
                "partition": 0,
                "phase": "stopped",
                "committed": 100,
                "position": 150,
                "end": 170,
                "watermark": 1_763_791_201_500,
                "frontier": 1_763_791_200_000,
                "boundary": 90,
                "open_parts": 2,
                "error": "offsets are lost",
                "hint": "look",
            }
        ],
        "counters": [{"name": "records", "topic": "app", "label": "hour", "count": 5}],
        "finished": [{"topic": "app", "complete": True, "hours": 1}],
        "held": {"app": "file is in the way"},
    }


def test_the_page_shows_trouble_and_loads_nothing_from_elsewhere(port: int, figures: Figures) -> None:
    figures.heard(report(partitions=(partition(7, phase="stopped", error="<script>alert(1)</script>"),)))
    response, text = ask(port, "/")
    assert "needs a look" in text
    assert "app/7" in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "src=" not in text
    assert "http:" not in text
    assert "default-src 'none'" in str(response.getheader("Content-Security-Policy"))


def test_the_page_says_so_when_all_is_well(port: int, figures: Figures) -> None:
    figures.heard(report(partitions=(partition(0),)))
    assert "all is well" in ask(port, "/?x=1")[1]


def test_the_page_says_to_the_minute_until_when_hours_are_closed(port: int, figures: Figures) -> None:
    """With windows of 15 minutes, most do not end with an hour of the clock."""
    figures.heard(report(partitions=(partition(0, watermark=None, frontier=HOUR + 30 * MINUTE_MS),)))
    assert "<td>2025-11-22T06:30:00Z</td>" in ask(port, "/")[1]


def test_head_has_no_body_and_unknown_pages_and_methods_are_refused(port: int) -> None:
    response, text = ask(port, "/metrics", "HEAD")
    assert (response.status, text) == (200, "")
    assert int(str(response.getheader("Content-Length"))) > 0
    assert ask(port, "/admin")[0].status == 404
    assert ask(port, "/", "POST")[0].status == 501


def test_every_page_is_in_the_operations_manual(port: int) -> None:
    _, text = ask(port, "/admin")
    found = re.search(r"there are ([^<]+)\.<", text)
    assert found is not None
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    pages = found[1].split(", ")
    assert len(pages) >= 4
    assert [page for page in pages if f"`{page}`" not in manual] == []


def test_a_client_that_says_nothing_does_not_hold_up_others_or_the_end(figures: Figures) -> None:
    with StatusServer(("127.0.0.1", 0), figures) as server:
        idle = socket.create_connection(("127.0.0.1", server.port))
        assert ask(server.port, "/metrics")[0].status == 200
        begin = time.monotonic()
    assert time.monotonic() - begin < 2
    idle.close()


def test_a_taken_address_is_a_named_error(port: int, figures: Figures) -> None:
    with pytest.raises(Refused, match=rf"cannot listen on 127\.0\.0\.1:{port}: address already in use") as caught:
        StatusServer(("127.0.0.1", port), figures)
    assert "daemon.http" in caught.value.hint
