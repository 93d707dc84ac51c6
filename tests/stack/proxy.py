"""A TCP proxy that fails on demand: the network faults that killing a server does not show."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
import socket
import struct
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Self

from tests.stack.server import LOOPBACK, free_port

CALL_TIMEOUT_S = 10.0
CHUNK_BYTES = 16 * 1024
# A slowed direction sends this often, so that a slow stream trickles instead of stuttering.
SLOW_STEPS_PER_S = 20

# Close at once and drop what is unsent: the peer gets a reset instead of an end of stream.
LINGER_RESET = struct.pack("ii", 1, 0)


class Mode(enum.Enum):
    """What the proxy does with bytes and connections."""

    PASS = "pass"
    CUT = "cut"
    BLACKHOLE = "blackhole"
    LOSE_REPLIES = "lose replies"
    SLOW = "slow"


class Proxy:
    """Forwards `address` to target_host:target_port, in a thread of its own.

    Every method returns when its effect is in place. They may be called from any thread, and raise
    OSError if the port cannot be (re)opened, TimeoutError if the proxy itself hangs.
    """

    def __init__(self, target_host: str, target_port: int, port: int | None = None) -> None:
        """Listen on loopback `port`; by default a free one that no outgoing connection takes."""
        self.port = free_port() if port is None else port
        self._target = (target_host, target_port)
        self._mode = Mode.PASS
        self._rate = 0  # bytes per second and direction, in Mode.SLOW
        # Every connection by its client's end; to cancel the task breaks both ends.
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        # Those that lost bytes: to go on with them would hand garbage to the peers.
        self._damaged: set[asyncio.StreamWriter] = set()
        self._trap: tuple[re.Pattern[bytes], Mode, threading.Event] | None = None
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        try:
            self._call(self._listen())
        except BaseException:  # Ctrl-C too: the loop's thread would go on
            self._end_loop()
            raise

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._call(self._cut())

    def blackhole(self) -> None:
        """Accept connections and swallow what they send; nothing is forwarded or answered."""
        self._call(self._enter(Mode.BLACKHOLE))

    def lose_replies(self) -> None:
        """Forward requests and swallow what the target answers: it acts, nobody hears of it."""
        self._call(self._enter(Mode.LOSE_REPLIES))

    def slow(self, bytes_per_second: int) -> None:
        """Forward at most `bytes_per_second` (1 or more) per connection and direction."""
        if bytes_per_second < 1:
            raise ValueError(f"bytes_per_second is {bytes_per_second}, must be 1 or more")
        self._call(self._enter(Mode.SLOW, bytes_per_second))

    def trap(self, request: re.Pattern[bytes], *, reaches: bool) -> threading.Event:
        """Fail at the next request that matches; the event tells when. It ``reaches`` the target and all replies
        are lost from then on, or it and all after it are swallowed. ``request`` is sought in what comes at once,
        so it must be short, and not encrypted. ``heal`` removes a trap, too.
        """
        sprung = threading.Event()
        self._trap = (request, Mode.LOSE_REPLIES if reaches else Mode.BLACKHOLE, sprung)
        return sprung

    def retarget(self, host: str, port: int) -> None:
        """Send new connections elsewhere, and reset those that are open."""
        self._target = (host, port)
        self._call(self._break(self._connections))

    def heal(self) -> None:
        """Forward everything again. Connections that lost bytes are reset."""
        self._trap = None
        self._call(self._enter(Mode.PASS))

    def close(self) -> None:
        """Reset every connection and end the thread. A second call does nothing."""
        if not self._loop.is_closed():
            self._call(self._cut())
            self._end_loop()

    def _call(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(CALL_TIMEOUT_S)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=CHUNK_BYTES)

    async def _enter(self, mode: Mode, rate: int = 0) -> None:
        if self._server is None:
            await self._listen()
        if mode is not self._mode:
            await self._break(self._damaged)
        self._mode, self._rate = mode, rate

    async def _cut(self) -> None:
        self._mode = Mode.CUT
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._break(self._connections)

    async def _break(self, clients: Iterable[asyncio.StreamWriter]) -> None:
        tasks = [self._connections[client] for client in clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[writer] = task
        try:
            # Either peer may reset at any time; to the other one that is a reset, too. Only
            # _break() cancels, and asyncio would log that as an error of this callback.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._forward(reader, writer)
        finally:
            await _reset(writer)
            del self._connections[writer]
            self._damaged.discard(writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.CUT:  # accepted just before, but too late for _cut() to know it
            return
        if self._mode is Mode.BLACKHOLE:
            self._damaged.add(writer)
            while await reader.read(CHUNK_BYTES):
                pass
            return
        to_reader, to_writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        try:
            await asyncio.gather(
                self._pump(reader, to_writer, writer, reply=False),
                self._pump(to_reader, writer, writer, reply=True),
            )
            # Both sides ended in good order, so the client gets an end of stream, not a reset.
            writer.close()
        finally:
            await _reset(to_writer)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        *,
        reply: bool,
    ) -> None:
        while True:
            chunk = await source.read(CHUNK_BYTES)
            if self._trap is not None and not reply and self._trap[0].search(chunk):
                (_, self._mode, sprung), self._trap = self._trap, None
                sprung.set()
            if self._mode is Mode.BLACKHOLE or (reply and self._mode is Mode.LOSE_REPLIES):
                # An end of stream is swallowed, too: a dead network does not tell of it.
                self._damaged.add(client)
                if not chunk:
                    await client.wait_closed()
                    return
                continue
            if not chunk:
                sink.write_eof()
                return
            await self._send(chunk, sink)

    async def _send(self, chunk: bytes, sink: asyncio.StreamWriter) -> None:
        while chunk:
            slow = self._mode is Mode.SLOW
            size = max(1, self._rate // SLOW_STEPS_PER_S) if slow else len(chunk)
            piece, chunk = chunk[:size], chunk[size:]
            sink.write(piece)
            await sink.drain()
            if slow and self._rate:  # healed in the meantime: nothing to wait for
                await asyncio.sleep(len(piece) / self._rate)


async def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        writer.transport.abort()
        await asyncio.sleep(0)  # abort() closes the socket in the loop's next round
