"""Which names stand for secrets: of options of librdkafka and Hadoop, and of fields of the log."""

from __future__ import annotations

import re

MASK = "********"
_SECRET = re.compile(r"passw|passphrase|secret|token$|jaas|key\.pem|oauthbearer\.(config|extensions)")


def is_secret(name: str) -> bool:
    """Whether the value under this name must not be printed."""
    return _SECRET.search(name.lower()) is not None
