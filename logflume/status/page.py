"""The status server: ``/`` for people, ``/status.json``, ``/metrics`` and ``/healthz`` for programs.

It only tells, and takes nothing: no form, no script, nothing loaded from elsewhere. It has no log-in, so
it belongs on a loopback or private address.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from logflume import __version__
from logflume.daemon.report import PartitionReport
from logflume.errors import Refused
from logflume.log import get
from logflume.status import metrics
from logflume.status.figures import Figures, View
from logflume.units import show_instant, show_size

log = get(__name__)

#: a client that sends or takes nothing for this long is given up, so that idle ones do not gather
CLIENT_TIMEOUT_S = 10.0


class StatusServer:
    """``with StatusServer(("127.0.0.1", 9470), figures): …`` answers from a thread of its own."""

    def __init__(self, address: tuple[str, int], figures: Figures) -> None:
        """Raises Refused where the address cannot be had."""
        try:
            self._server = _server(address, figures)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise Refused(
                f"the status server cannot listen on {address[0]}:{address[1]}: {why}",
                hint='end what uses it, give daemon.http another address, or none with http = ""',
            ) from error
        self._thread = threading.Thread(
            # the argument is how often it looks for the end, in seconds
            target=self._server.serve_forever,
            args=(0.1,),
            name="status",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """The real one, where the configuration said 0."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        log.info("status server listens", host=self._server.server_name, port=self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _server(address: tuple[str, int], figures: Figures) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        allow_reuse_port = False  # two daemons must not share a port and answer in turn
        daemon_threads = True
        block_on_close = False  # a slow reader of the page must not hold up a stop

        def server_bind(self) -> None:
            # HTTPServer's own looks its name up in the DNS, which may take a minute
            socketserver.TCPServer.server_bind(self)
            host, self.server_port = self.server_address[:2]
            self.server_name = str(host)

        def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # as the base has it
            # called while the exception is handled: a client that went away, or a bug in a page
            log.warning("status request failed", client=client_address, error=repr(sys.exception()))

    return Server(address, _handler(figures))


Answer = tuple[HTTPStatus, str, str]


def _handler(figures: Figures) -> type[BaseHTTPRequestHandler]:
    pages: dict[str, Callable[[View, float], Answer]] = {
        "/": lambda view, now: (HTTPStatus.OK, "text/html; charset=utf-8", html(view, now)),
        "/status.json": lambda view, now: (HTTPStatus.OK, "application/json", as_json(view, now)),
        "/metrics": lambda view, now: (HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.render(view, now)),
        "/healthz": _health,
    }

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S
        server_version = "logflume"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(HTTPStatus.NOT_FOUND, explain=f"there are {', '.join(pages)}")
                return
            status, kind, text = page(figures.view(), time.monotonic())
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the base class
            log.debug("status request", client=self.client_address[0], request=format % args)

    return Handler


def _health(view: View, now: float) -> Answer:
    silent = view.silent(now)
    if silent:
        text = f"no report of late from worker {', '.join(map(str, silent))}\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text
    return HTTPStatus.OK, "text/plain; charset=utf-8", "all workers report\n"


# -- /status.json ---------------------------------------------------------------------------------


def as_json(view: View, now: float) -> str:
    """A contract: keys are added, never changed. Times are ms since 1970 UTC, ages in seconds."""
    body = {
        "version": __version__,
        "healthy": not view.silent(now),
        "workers": [
            {
                "worker": one.worker,
                "running": one.running,
                "restarts": one.restarts,
                "report_age_s": None if one.report is None else round(now - one.heard, 1),
                "pid": None if one.report is None else one.report.pid,
                "consuming": one.report is not None and one.report.consuming,
                "paused": one.report is not None and one.report.paused,
                "oldest_call": "" if one.report is None else one.report.oldest_call,
                "oldest_call_s": 0.0 if one.report is None else round(one.report.oldest_call_s, 1),
                "spool_bytes": 0 if one.report is None else one.report.spool_bytes,
                "buffered_bytes": 0 if one.report is None else one.report.buffered_bytes,
            }
            for one in view.workers
        ],
        "partitions": [_partition_json(one) for one in view.partitions],
        "counters": [
            {"name": name, "topic": topic, "label": label, "count": count}
            for (name, topic, label), count in view.counters.items()
        ],
        "finished": [
            {"topic": topic, "complete": complete, "hours": count} for (topic, complete), count in view.finished.items()
        ],
        "held": view.held,
    }
    return json.dumps(body, indent=2) + "\n"


_PARTITION_KEYS = (
    *("topic", "partition", "phase", "committed", "position", "end", "watermark", "frontier", "boundary"),
    *("open_parts", "error", "hint"),
)


def _partition_json(partition: PartitionReport) -> dict[str, Any]:
    return {name: getattr(partition, name) for name in _PARTITION_KEYS}


# -- / --------------------------------------------------------------------------------------------

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin: 0 0 2em; }
th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: left; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
tr.bad td { background: #fdecea; }
"""


def html(view: View, now: float) -> str:
    silent = view.silent(now)
    trouble = [one for one in view.partitions if one.error]
    healthy = not silent and not trouble and not view.held
    state = "all is well" if healthy else "needs a look"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>logflume: {state}</title>'
        f"<style>{_STYLE}</style></head><body><h1>logflume {escape(__version__)}: {state}</h1>"
        f"{_workers_table(view, now, silent)}{_partitions_table(view.partitions)}{_held_list(view.held)}"
        '<p><a href="/metrics">metrics</a> <a href="/status.json">status.json</a></p></body></html>\n'
    )


def _workers_table(view: View, now: float, silent: list[int]) -> str:
    rows = []
    for one in view.workers:
        report = one.report
        cells: list[str | int] = [one.worker, one.restarts]
        if report is None:
            cells += ["starting" if one.running else "waits for its restart", "", "", "", "", ""]
        else:
            state = "spool full" if report.paused else "consuming" if report.consuming else "claiming"
            call = f"{report.oldest_call} ({report.oldest_call_s:.0f} s)" if report.oldest_call else ""
            sizes = [_size(report.spool_bytes), _size(report.buffered_bytes)]
            cells += [state, report.pid, f"{now - one.heard:.0f} s ago", *sizes, call]
        rows.append((one.worker in silent, cells))
    return _table(
        "Workers",
        ["worker", "restarts", "state", "pid", "reported", "spool", "in memory", "oldest call"],
        rows,
    )


def _partitions_table(partitions: list[PartitionReport]) -> str:
    head = ["partition", "phase", "C", "B", "position", "lag", "watermark", "closed until", "open parts"]
    rows: list[tuple[bool, list[str | int]]] = []
    for one in partitions:
        known = one.end is not None and one.position is not None
        lag = max(0, (one.end or 0) - (one.position or 0)) if known else ""
        offsets = ["" if n is None else n for n in (one.committed, one.boundary, one.position)]
        times = [
            "" if one.watermark is None else show_instant(one.watermark),
            "" if one.frontier is None else show_instant(one.frontier),
        ]
        trouble = f"{one.error} — {one.hint}" if one.error and one.hint else one.error
        cells = [f"{one.topic}/{one.partition}", one.phase, *offsets, lag, *times, one.open_parts, trouble]
        rows.append((bool(one.error), cells))
    return _table("Partitions", [*head, "trouble"], rows)


def _held_list(held: dict[str, str]) -> str:
    if not held:
        return ""
    rows: list[tuple[bool, list[str | int]]] = [(True, [topic, why]) for topic, why in held.items()]
    return _table("Hours held back", ["topic", "why"], rows)


def _table(title: str, head: list[str], rows: Iterable[tuple[bool, list[str | int]]]) -> str:
    def cell(value: str | int) -> str:
        return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(value)}</td>"

    body = "".join(f"<tr{' class=bad' if bad else ''}>{''.join(map(cell, cells))}</tr>" for bad, cells in rows)
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<h2>{escape(title)}</h2><table><tr>{heads}</tr>{body}</table>"


def _size(size_bytes: int) -> str:
    """Rounded for reading: show_size writes a number that reads back exactly."""
    mib = 1 << 20
    return show_size(size_bytes) if size_bytes < mib else f"{size_bytes / mib:,.1f} MiB"
