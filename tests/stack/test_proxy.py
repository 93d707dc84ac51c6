"""The proxy against a plain echo server."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.stack.proxy import Proxy
from tests.stack.server import LOOPBACK

SILENCE_S = 0.3  # how long "no answer" is listened for


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        # A reset by the proxy under test is expected here.
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.server.heard.append(data)  # type: ignore[attr-defined]
                self.request.sendall(data)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), Echo)
        self.heard: list[bytes] = []


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[Proxy]:
    with Proxy(LOOPBACK, echo.server_address[1]) as made:
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=5)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data):
        received = connection.recv(65536)
        if not received:
            break
        answer += received
    return answer


def stays_silent(connection: socket.socket) -> bool:
    connection.settimeout(SILENCE_S)
    try:
        return connection.recv(1) is None
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)


def was_reset(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def test_bytes_pass_in_both_directions_and_so_does_the_end_of_stream(proxy: Proxy) -> None:
    data = bytes(range(256)) * 4096
    with connect(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        answer = b""
        while len(answer) < len(data):
            answer += connection.recv(65536)
        sender.join()
        assert answer == data
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_cut_resets_connections_and_refuses_new_ones_until_healed(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.cut()
        assert was_reset(connection)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert ask(connection, b"after") == b"after"


def test_blackhole_swallows_on_old_and_new_connections(proxy: Proxy, echo: EchoServer) -> None:
    with connect(proxy) as old:
        assert ask(old, b"before") == b"before"
        proxy.blackhole()
        with connect(proxy) as new:
            old.sendall(b"lost")
            new.sendall(b"lost")
            assert stays_silent(old)
            assert stays_silent(new)
            proxy.heal()
            assert was_reset(old)
            assert was_reset(new)
    with connect(proxy) as connection:
        assert ask(connection, b"after") == b"after"
    assert echo.heard == [b"before", b"after"]


def test_a_connection_that_was_idle_in_a_blackhole_lives_on(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.blackhole()
        proxy.heal()
        assert ask(connection, b"after") == b"after"


def test_a_request_whose_reply_is_lost_reaches_the_target(proxy: Proxy, echo: EchoServer) -> None:
    with connect(proxy) as connection:
        proxy.lose_replies()
        connection.sendall(b"done")
        assert stays_silent(connection)
        assert echo.heard == [b"done"]
        proxy.heal()
        assert was_reset(connection)


def test_slow_holds_the_rate_and_loses_nothing(proxy: Proxy) -> None:
    rate, data = 40_000, b"x" * 20_000
    with connect(proxy) as connection:
        proxy.slow(rate)
        start = time.monotonic()
        assert ask(connection, data) == data
        assert time.monotonic() - start >= 0.8 * len(data) / rate
        proxy.heal()
        assert ask(connection, b"fast") == b"fast"


def test_a_target_that_is_down_looks_like_a_reset() -> None:
    # The reset may come as early as in connect().
    with Proxy(LOOPBACK, 1) as nowhere, pytest.raises(ConnectionResetError), connect(nowhere) as connection:
        connection.recv(1)


def test_close_frees_the_port_and_may_be_repeated(echo: EchoServer) -> None:
    proxy = Proxy(LOOPBACK, echo.server_address[1])
    proxy.close()
    proxy.close()
    Proxy(LOOPBACK, echo.server_address[1], port=proxy.port).close()


@pytest.mark.parametrize("reaches", [True, False])
def test_a_trap_fails_the_request_that_matches_and_all_after_it(
    proxy: Proxy, echo: EchoServer, *, reaches: bool
) -> None:
    with connect(proxy) as connection:
        sprung = proxy.trap(re.compile(b"op=CONCAT"), reaches=reaches)
        assert ask(connection, b"op=STAT") == b"op=STAT"
        assert not sprung.is_set()
        connection.sendall(b"op=CONCAT")
        assert sprung.wait(5)
        assert stays_silent(connection)
        assert (b"op=CONCAT" in echo.heard) is reaches
        proxy.heal()
        assert was_reset(connection)


def test_new_connections_follow_a_new_target(proxy: Proxy, echo: EchoServer) -> None:
    with EchoServer() as other, connect(proxy) as before:
        assert ask(before, b"first") == b"first"
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        proxy.retarget(LOOPBACK, other.server_address[1])
        assert was_reset(before)
        with connect(proxy) as after:
            assert ask(after, b"second") == b"second"
        other.shutdown()
        thread.join()
        assert (echo.heard, other.heard) == ([b"first"], [b"second"])
