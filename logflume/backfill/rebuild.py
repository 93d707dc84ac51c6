"""A part's file made again from Kafka: the same lines, the same length, where possible the same bytes.

The same bytes come out where the part is not compressed, or was one chunk and gzip's came from a CPU like this one.
Otherwise the file is brought to the decided length by a comment in the first gzip header, or by a skippable zstd
frame: readers skip both, and whatever goes by lengths (merging, finishing, compaction, reconcile) sees no difference.
"""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard
from isal import igzip

from logflume.backfill.model import Job
from logflume.backfill.replay import Tell
from logflume.core.ledger import Part
from logflume.core.router import END_OF_TIME_MS, Rows
from logflume.daemon.slot import rules_of
from logflume.errors import Incomplete, Stopped
from logflume.kafka.ranges import RangeReader
from logflume.model import Batch, Kind, Reason
from logflume.records import RecordReader, quarantine_line
from logflume.spool.encoders import encoder

POLL_RECORDS = 20_000
#: larger than any of the spool's chunks, so that the result is rather shorter than what was decided
CHUNK_BYTES = 4 << 20
#: a skippable frame of zstd: magic and length
_SKIPPABLE, _FRAME_BYTES = b"\x50\x2a\x4d\x18", 8
_COMMENT = 0x10

Encode = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The part as it is now: only its check sum may be another than the decided one."""

    part: Part
    path: Path


def rebuild(job: Job, topic: str, part: Part, partition: int, folder: Path, tell: Tell) -> Rebuilt:
    """Raises Stopped where Kafka does not have the records any more, Incomplete where other lines come out."""
    raw = folder / "lines"
    _write_lines(job, topic, part, partition, raw, tell)
    for encode, chunk_bytes in _candidates(part.path):
        path = folder / f"{partition:05d}-{part.offsets.first:019d}"
        digest, size = _encode(raw, path, encode, chunk_bytes)
        if size < part.size:
            size = _pad(path, part.path, part.size - size)
            digest = _sha256(path)
        if size == part.size:
            raw.unlink()
            return Rebuilt(replace(part, sha256=digest), path)
    raise Incomplete(
        f"{part.path}: the lines can be read again, but cannot be compressed into {part.size} bytes",
        hint="was it written by another version of a compressor? replay its hour with --into and look at it",
    )


# -- lines ----------------------------------------------------------------------------------------


def _write_lines(job: Job, topic: str, part: Part, partition: int, path: Path, tell: Tell) -> None:
    first, end = part.offsets.first, part.offsets.last + 1
    records, settings = RecordReader(job.settings), job.config.kafka.options
    count, low, high = 0, 1 << 62, -(1 << 62)
    with path.open("wb") as file, RangeReader(settings, topic, partition, first, end) as reader:
        while not reader.done:
            batch = reader.poll(POLL_RECORDS)
            tell(0)
            if batch is None:
                continue
            rows, lines = records.read(batch)
            for line, time in _picked(job, batch, rows, lines, part):
                file.write(line + b"\n")
                count, low, high = count + 1, min(low, time), max(high, time)
        size = file.tell()
    if count != part.count:
        raise Stopped(
            f"{part.path}: Kafka has {count} of its {part.count} records still",
            hint="retention or compaction has removed the others: they are lost",
        )
    if (size, low, high) != (part.raw, part.min_time, part.max_time):
        raise Incomplete(
            f"{part.path}: the records give other lines or times than were decided: {size} bytes instead of {part.raw}",
            hint="were format, timestamp or window other settings then? give the configuration of that time",
        )


def _picked(job: Job, batch: Batch, rows: Rows, lines: Sequence[bytes], part: Part) -> Iterator[tuple[bytes, int]]:
    min_time = rules_of(job.settings).min_time_ms
    for i, offset in enumerate(batch.offsets):
        if offset not in part.offsets:
            continue
        if part.kind is not Kind.QUARANTINE:
            yield lines[i], rows.times[i]
            continue
        # the rest of the reasons: what the clock was needed for once is told by exclusion
        by_time = Reason.ANCIENT if rows.times[i] < min_time else Reason.FUTURE
        kafka_time = rows.kafka_times[i] if 0 <= rows.kafka_times[i] < END_OF_TIME_MS else 0
        yield quarantine_line(batch, i, rows.rejects.get(i, by_time)), kafka_time


# -- bytes ----------------------------------------------------------------------------------------


def _candidates(name: str) -> Iterator[tuple[Encode, int]]:
    """Ways to compress; first as the spool does it, then such as come out shorter."""
    if name.endswith(".gz"):
        yield encoder("gzip"), CHUNK_BYTES
        yield lambda lines: igzip.compress(lines, 3, mtime=0), CHUNK_BYTES
        yield _zlib, CHUNK_BYTES
    elif name.endswith(".zst"):
        yield encoder("zstd"), CHUNK_BYTES
        for level in (1, 3, 6, 12):
            # a frame that fills up has at least 8 bytes: another cut leaves another rest
            for chunk_bytes in (CHUNK_BYTES, CHUNK_BYTES // 2, CHUNK_BYTES // 3):
                yield zstandard.ZstdCompressor(level=level).compress, chunk_bytes
    else:
        yield encoder("none"), CHUNK_BYTES


def _zlib(lines: bytes) -> bytes:
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return made.compress(lines) + made.flush()


def _encode(raw: Path, path: Path, encode: Encode, chunk_bytes: int) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with raw.open("rb") as lines, path.open("wb") as file:
        while chunk := lines.read(chunk_bytes):
            data = encode(chunk + lines.readline() if chunk[-1:] != b"\n" else chunk)
            file.write(data)
            digest.update(data)
            size += len(data)
    return digest.hexdigest(), size


def _pad(path: Path, name: str, missing: int) -> int:
    """Make the file longer by ``missing`` bytes that readers skip; returns its length, as it was if that cannot be."""
    if name.endswith(".zst") and missing >= _FRAME_BYTES:
        frame = _SKIPPABLE + (missing - _FRAME_BYTES).to_bytes(4, "little")
        with path.open("ab") as file:
            file.write(frame + b"\0" * (missing - _FRAME_BYTES))
    elif name.endswith(".gz"):
        plain = path.with_suffix(".plain")
        path.rename(plain)
        with plain.open("rb") as source, path.open("wb") as file:
            head = source.read(10)
            if head[3] == 0:
                file.write(head[:3] + bytes([_COMMENT]) + head[4:])
                file.write(b" " * (missing - 1) + b"\0")
            else:
                file.write(head)
            shutil.copyfileobj(source, file, 1 << 20)
        plain.unlink()
    return path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
