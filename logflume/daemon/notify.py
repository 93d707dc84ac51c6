"""Telling systemd how it goes, by the protocol of sd_notify(3): datagrams to the socket it names."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from logflume.log import get

log = get(__name__)

#: a full socket of systemd's must not hold up the parent; the next message says the same anyway
SEND_TIMEOUT_S = 1.0


class Notifier:
    """Does nothing where nobody listens, so callers need not ask."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        #: how often ``WATCHDOG=1`` is expected at the latest; None where there is no watchdog
        self.watchdog_s = watchdog_s
        self._socket: socket.socket | None = None
        if address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(SEND_TIMEOUT_S)
        self._address = _path(address or "")

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """As systemd says in the environment of a service of ``Type=notify``, or one that does nothing."""
        address = environment.get("NOTIFY_SOCKET")
        if not address or address[0] not in "/@":
            return cls(None)
        # the variables reach children too: without our number they are not meant for us
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        return cls(address, int(usec) / 1e6 if ours and usec.isdecimal() and int(usec) > 0 else None)

    def tell(self, **fields: str | int) -> None:
        """``tell(READY=1, STATUS="…")``; white space in a value becomes a blank."""
        if self._socket is None:
            return
        # a line break would end the field and begin another
        lines = [f"{name}={' '.join(str(value).split())}" for name, value in fields.items()]
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            # systemd is restarting, or slow; if it stays so, its own time-outs act
            log.warning("systemd was not told", fields=list(fields), error=str(error))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _path(address: str) -> str:
    """An abstract address begins with a NUL, which stands as @ in the environment."""
    return f"\0{address[1:]}" if address.startswith("@") else address
