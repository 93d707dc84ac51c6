"""ZooKeeper, thinly: an advisory lock. Safety never depends on it, so without it the caller just goes on.

The only importer of kazoo, which is an extra: ``pip install logflume[zookeeper]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from logflume.errors import Busy
from logflume.log import get

log = get(__name__)

CONNECT_S = 5.0
#: a lock is let go so long after its holder's host has died
SESSION_S = 10.0


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
