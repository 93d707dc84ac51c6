"""How lines become the bytes of a file: each chunk on its own, so chunks and files join by concatenation.

gzip members and zstd frames may follow each other in one file; Hadoop, gzip and zstd read them all.
"""

from __future__ import annotations

from collections.abc import Callable

import zstandard
from isal import igzip

Encoder = Callable[[bytes], bytes]

#: some 450 MB/s a core at a ratio of about 3; level 2 takes a third more for files of the same size (bench/README.md),
#: and zlib's level 6 does 43 MB/s for 10 % fewer bytes
GZIP_LEVEL = 1
ZSTD_LEVEL = 1


def _gzip(lines: bytes) -> bytes:
    # no time in the header: the same lines give the same bytes, on one kind of CPU. isal picks its match finder by
    # the CPU: another machine gave 639 bytes instead of 631
    return igzip.compress(lines, GZIP_LEVEL, mtime=0)


def _zstd(lines: bytes) -> bytes:
    # a compressor must not be shared between threads, and making one costs little beside a chunk
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(lines)


def _none(lines: bytes) -> bytes:
    return lines


def encoder(compression: str) -> Encoder:
    """For ``gzip``, ``zstd`` or ``none``; raises KeyError for another name."""
    return {"gzip": _gzip, "zstd": _zstd, "none": _none}[compression]
