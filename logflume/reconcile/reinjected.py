"""Files of records that were quarantined and run again: each as its record says, and nothing left of runs that died.

A daily run looks at the newest record, since a run completes the one before it; ``--full`` looks at all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from logflume.core import layout
from logflume.errors import LedgerError, Missing
from logflume.quarantine import reinject
from logflume.quarantine.reinject import Record
from logflume.reconcile.findings import Finding, What
from logflume.store.base import Store

_HINT = (
    "bring it back from a snapshot or the trash; its records are still in the quarantine, and "
    "'logflume quarantine {} --reinject --into ANOTHER-ROOT' writes them there"
)


def check(
    store: Store, topic: str, topic_id: str, *, full: bool, deep: bool, settled_ms: int, older_than_ms: int
) -> list[Finding]:
    """One call where nothing was run again; else two, one for each file of the records, and one for what is left."""
    try:
        numbers = reinject.numbers(store, topic, topic_id)
        known = [reinject.read(store, topic, topic_id, n) for n in (numbers if full else numbers[-1:])]
    except LedgerError as error:
        path = layout.reinjections_directory(topic, topic_id)
        return [Finding(What.REINJECTED_WRONG, topic, path, str(error), topic_id, hint=_HINT.format(topic))]
    found: list[Finding] = []
    for record in known:
        for file in record.files:
            found += _check_file(store, topic, topic_id, file, deep=deep, settled_ms=settled_ms)
    return [*found, *_left(store, topic, topic_id, known[-1] if known else None, older_than_ms)]


def _check_file(
    store: Store, topic: str, topic_id: str, file: Mapping[str, Any], *, deep: bool, settled_ms: int
) -> Iterator[Finding]:
    path, hint = file["path"], _HINT.format(topic)
    there = store.stat(f"{store.root}/{path}")
    if there is not None and there.length == file["bytes"]:
        if deep and _digest(store, path) != file["sha256"]:
            yield Finding(
                What.REINJECTED_WRONG, topic, path, "it has other bytes than were written", topic_id, hint=hint
            )
        return
    if there is not None:
        detail = f"{there.length} bytes instead of {file['bytes']}"
        yield Finding(What.REINJECTED_WRONG, topic, path, detail, topic_id, hint=hint)
        return
    upload = store.stat(f"{store.root}/{file['tmp']}")
    if upload is None:
        # without the whole hour somebody keeps data for a shorter time than the ledger
        if store.list(f"{store.root}/{path.rsplit('/', 1)[0]}"):
            detail = f"{file['count']} records, {file['bytes']} bytes: it is not there"
            yield Finding(What.REINJECTED_WRONG, topic, path, detail, topic_id, hint=hint)
    elif upload.modified_ms <= settled_ms:
        yield Finding(What.REINJECTED_LEFT, topic, path, f"still {file['tmp']}", topic_id)


def _digest(store: Store, path: str) -> str:
    digest = hashlib.sha256()
    try:
        for chunk in store.stream(f"{store.root}/{path}"):
            digest.update(chunk)
    except Missing:
        return ""
    return digest.hexdigest()


def _left(store: Store, topic: str, topic_id: str, newest: Record | None, older_than_ms: int) -> Iterator[Finding]:
    """Uploads of a run that died before its record was there, or after its files were."""
    directory = f"{layout.reinjections_directory(topic, topic_id)}/tmp"
    needed = {
        file["tmp"]
        for file in (newest.files if newest is not None else ())
        if store.stat(f"{store.root}/{file['path']}") is None
    }
    for status in store.list(f"{store.root}/{directory}"):
        path = f"{directory}/{status.name}"
        if status.modified_ms < older_than_ms and path not in needed:
            detail = f"{status.length} bytes, left by a reinjection"
            yield Finding(What.TMP_LEFT, topic, path, detail, topic_id)
