"""Answers that are not WebHDFS's: from a proxy, a gateway, or another program at that address."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from logflume.errors import Exists, Missing, StoreError, Unreachable
from logflume.store import Store, open_store

PAGE = b"<html><body><h1>Bad Gateway</h1></body></html>"

#: name, status, body: errors whose body is not one of WebHDFS's
ERRORS = {
    "page": (502, PAGE),
    "nothing": (503, b""),
    "other_json": (404, b'{"error": "no such route"}'),
    "list": (500, b"[]"),
    "number": (500, b"5"),
    "text_for_an_object": (500, b'{"RemoteException": "x"}'),
    "no_message": (500, b'{"RemoteException": {"message": null, "exception": "NullPointerException"}}'),
    "no_class": (500, b'{"RemoteException": {"message": "x", "exception": 1}}'),
}
SUCCESSES = {
    "page": (200, PAGE),
    "other_json": (200, b'{"status": "ok"}'),
    "list": (200, b"[]"),
    "null": (200, b'{"FileStatus": null, "FileStatuses": null}'),
    "half": (200, b'{"FileStatus": {}, "FileStatuses": {"FileStatus": [{"pathSuffix": "a"}, {"pathSuffix": "b"}]}}'),
}
CALLS: dict[str, Callable[[Store], object]] = {
    "stat": lambda store: store.stat("/logs/a"),
    "list": lambda store: store.list("/logs"),
    "write": lambda store: store.write("/logs/a", b"x"),
    "publish": lambda store: store.publish("/logs/tmp", "/logs/a"),
    "delete": lambda store: store.delete("/logs/a"),
    "concat": lambda store: store.concat("/logs/a", ["/logs/b"]),
}
#: of a success any content may be the file's
ALL_CALLS: dict[str, Callable[[Store], object]] = {**CALLS, "read": lambda store: store.read("/logs/a")}


@contextmanager
def gateway(status: int, body: bytes, **headers: str) -> Iterator[Store]:
    """A store whose every request gets the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  # the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base has it
            """Not into the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        store = open_store(f"webhdfs://127.0.0.1:{server.server_port}/logs", timeout_s=5.0)
        try:
            yield store
        finally:
            store.close()
            server.shutdown()
            thread.join()


def is_an_unknown_outcome(call: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as raised:
        call()
    # a file that is not there, or is, would be acted upon
    assert not isinstance(raised.value, Missing | Exists)
    assert raised.value.retry
    assert "gateway" in raised.value.hint
    return raised.value


@pytest.mark.parametrize("what", ALL_CALLS)
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_that_is_not_webhdfss_is_a_store_error(what: str, kind: str) -> None:
    status, body = ERRORS[kind]
    with gateway(status, body) as store:
        error = is_an_unknown_outcome(lambda: ALL_CALLS[what](store))
        assert f"HTTP {status}" in str(error)
        assert str(error).startswith(("stat /", "list /", "create /", "publish /", "delete /", "concat /", "read /"))


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("kind", SUCCESSES)
def test_a_success_that_is_not_webhdfss_is_none(what: str, kind: str) -> None:
    """Of ``write`` the missing address of a DataNode tells, of ``publish`` and ``concat`` any content."""
    with gateway(*SUCCESSES[kind]) as store:
        is_an_unknown_outcome(lambda: CALLS[what](store))


def test_a_rename_that_was_not_done_is_not_taken_for_done() -> None:
    """HttpFS knows no renameoptions: the name was taken, and two owners would both think that their entry stands."""
    with gateway(200, json.dumps({"boolean": False}).encode()) as store:
        error = is_an_unknown_outcome(lambda: store._rename("/logs/tmp", "/logs/a"))  # type: ignore[attr-defined]
        assert "false" in str(error)


def test_an_address_that_is_none_is_an_error_of_ours_too() -> None:
    for address in ("http://[::1", "nowhere", "http://127.0.0.1:99999/"):
        with gateway(307, b"", Location=address) as store, pytest.raises((StoreError, Unreachable)):
            store.write("/logs/a", b"x")
