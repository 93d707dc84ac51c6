"""The active NameNode dies with a request of logflume's on its way, or hangs, and the other one takes over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from tests.real.ground import Ground

#: an entry's rename to its number, over RPC
DECIDE = re.compile(rb"rename.*tmp/entry-", re.DOTALL)
#: over HTTP
MERGE = re.compile(rb"op=CONCAT")
#: the rename of a merged file to its visible name, over RPC
REVEAL = re.compile(rb"rename.*-of-\d{5}\.", re.DOTALL)

TRAPPED_S = 90.0
#: for the server to do what it was asked, where it was
DONE_S = 0.1


def during(where: str, request: re.Pattern[bytes]) -> Callable[[Ground], None]:
    """Half of the times the request is done and its reply lost, half of the times it is lost itself."""

    def inject(ground: Ground) -> None:
        pair = ground.servers.pair
        assert pair is not None
        proxies = getattr(ground.servers, where)
        sprung = proxies[pair.active].trap(request, reaches=ground.rng.random() < 0.5)
        if not sprung.wait(TRAPPED_S):
            raise TimeoutError(f"no request like {request.pattern!r} in {TRAPPED_S:g} s")
        time.sleep(DONE_S)
        pair.nodes[pair.active].server.kill()
        for proxy in (ground.servers.rpc[pair.active], ground.servers.web[pair.active]):
            proxy.cut()

    return inject


def hang(ground: Ground) -> None:
    """Nobody answers, and nothing is refused: as when its host is gone, or its disk."""
    pair = ground.servers.pair
    assert pair is not None
    pair.nodes[pair.active].server.pause()


def take_over(ground: Ground) -> None:
    pair = ground.servers.pair
    assert pair is not None
    pair.activate(1 - pair.active)
