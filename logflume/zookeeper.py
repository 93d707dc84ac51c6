"""ZooKeeper, thinly: an advisory lock, and what a host shows of its partitions. Safety never depends on it, so
without it the caller just goes on.

The only importer of kazoo, which is an extra: ``pip install logflume[zookeeper]``.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from logflume.errors import Busy
from logflume.log import get

log = get(__name__)

CONNECT_S = 5.0
#: a lock is let go, and what was shown disappears, so long after its host has died
SESSION_S = 10.0
#: what has changed is shown so often; also the longest pause between two attempts to connect
EVERY_S = 10.0
CALL_S = 5.0
#: a server that answers ends a session in milliseconds; one that does not must not hold up the daemon's stop
STOP_S = 3.0

#: what a node shows, as JSON
Content = Mapping[str, object]


@contextmanager
def lock(address: str, name: str, holder: str) -> Iterator[bool]:
    """Hold ``<path of the address>/locks/<name>``; gives whether it is held. Raises Busy where another has it.

    ``address`` is ``host:port[,host:port…][/path]``. Where ZooKeeper is away, or kazoo not installed, this
    says so in the log and gives False.
    """
    try:
        # an extra: whoever has no ZooKeeper need not install it
        from kazoo.client import KazooClient  # type: ignore[import-untyped]  # noqa: PLC0415
        from kazoo.exceptions import KazooException  # type: ignore[import-untyped]  # noqa: PLC0415
        from kazoo.handlers.threading import KazooTimeoutError  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        log.warning("no lock in ZooKeeper: kazoo is not installed", address=address)
        yield False
        return
    hosts, slash, path = address.partition("/")
    client = KazooClient(hosts=hosts, timeout=SESSION_S)
    held = None
    try:
        try:
            client.start(CONNECT_S)
            held = client.Lock(f"{slash}{path}/locks/{name}", holder)
            got = held.acquire(blocking=False)
            others = [] if got else held.contenders()
        except (KazooException, KazooTimeoutError) as error:
            log.warning("no lock in ZooKeeper", address=address, error=f"{type(error).__name__}: {error}")
            yield False
            return
        if not got:
            raise Busy(f"another one is running: {', '.join(others) or 'unknown'} holds the lock in ZooKeeper")
        yield True
    finally:
        # ends the session, and the lock with it
        client.stop()
        client.close()


class Board:
    """``with Board(address, nodes): …`` shows what ``nodes()`` gives as ephemeral nodes, from a thread of its own.

    ``nodes`` gives content by path below that of the address; ``at``, when it was written in ms UTC, is added.
    Nobody waits for this thread, and whatever fails is a warning. What another session shows is left alone until it
    is gone, since its host is about to let go; what this one shows goes with the process.
    """

    def __init__(self, address: str, nodes: Callable[[], Mapping[str, Content]]) -> None:
        self._address, self._nodes = address, nodes
        self._hosts, slash, path = address.partition("/")
        self._root = f"{slash}{path}"
        self._session = 0
        # by path; None where it is not known whether a node of this session is there
        self._shown: dict[str, Content | None] = {}
        self._warned: set[str] = set()
        self._kazoo_log = logging.Logger("kazoo", logging.WARNING)  # noqa: LOG001  # getLogger's is everybody's
        self._kazoo_log.addFilter(self._kazoo_says)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zookeeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        # a thread that still waits for a server is left behind, and ends with the process
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            from kazoo.client import KazooClient  # noqa: PLC0415
        except ImportError:
            log.warning("nothing is shown in ZooKeeper: kazoo is not installed", address=self._address)
            return
        # without a limit kazoo's pauses between attempts grow up to an hour
        retry = {"max_tries": -1, "max_delay": EVERY_S}
        while not self._stopping.is_set():
            with self._warnings():
                client = KazooClient(self._hosts, SESSION_S, connection_retry=retry, logger=self._kazoo_log)
                client.start_async()
                try:
                    # CLOSED: kazoo's own thread has died, or finds no address for a name
                    while not self._stopping.wait(EVERY_S) and client.client_state != "CLOSED":
                        with self._warnings():
                            self._round(client)
                finally:
                    client.stop()
                    client.close()
            self._stopping.wait(EVERY_S)

    def _round(self, client: Any) -> None:
        from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError  # noqa: PLC0415

        identity = client.client_id
        if identity is None:
            return  # no connection: kazoo goes on trying, and what it says about that is passed on
        if identity[0] != self._session:
            # the nodes of a lost session are gone with it, except what this one has made before it was known here
            self._session, self._shown = identity[0], dict.fromkeys(self._shown)
        nodes = self._nodes()
        for path in sorted(self._shown.keys() | nodes.keys()):
            if self._stopping.is_set():
                return
            content = nodes.get(path)
            if content is None or self._shown.get(path) != content:
                with suppress(BadVersionError, NodeExistsError, NoNodeError):  # somebody was quicker: see next round
                    self._bring(client, path, content)
        if self._warned:
            log.info("shown in ZooKeeper again", address=self._address, nodes=len(self._shown))
            self._warned.clear()

    def _bring(self, client: Any, path: str, content: Content | None) -> None:
        """Make one node show ``content``; None removes it."""
        node = f"{self._root}/{path}"
        found = client.exists_async(node).get(timeout=CALL_S)
        ours = found is not None and found.ephemeralOwner == self._session
        if content is None:
            if ours:
                client.delete_async(node, found.version).get(timeout=CALL_S)
            del self._shown[path]
            return
        data = json.dumps({**content, "at": time.time_ns() // 1_000_000}).encode()
        if found is None:
            self._shown[path] = None
            client.create_async(node, data, ephemeral=True, makepath=True).get(timeout=CALL_S)
        elif ours:
            client.set_async(node, data, found.version).get(timeout=CALL_S)
        else:
            return
        self._shown[path] = content

    @contextmanager
    def _warnings(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of whatever kind: nothing depends on what is shown, and the next round tries again
            self._warn(f"{type(error).__name__}: {error}")

    def _kazoo_says(self, record: logging.LogRecord) -> bool:
        """A filter for kazoo's log, which says the same at every attempt to connect: nothing passes."""
        self._warn(record.getMessage())
        return False

    def _warn(self, text: str) -> None:
        """Each text once, until it works again."""
        if text not in self._warned and not self._stopping.is_set():
            self._warned.add(text)
            log.warning("not shown in ZooKeeper", address=self._address, error=text)
