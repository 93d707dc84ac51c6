"""The servers' jars: fetched once by Maven, kept in a cache, and how to run a class from them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

Family = Literal["hadoop", "kafka"]

FETCH_TIMEOUT_S = 900.0  # about a minute when the registry is near; a slow line must not hang forever

# Small heaps and the cheap compiler: seven JVMs share two cores with the tests.
JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
)


class JarsError(RuntimeError):
    """Maven could not provide the jars; the text has what it said."""


def missing_tools() -> list[str]:
    """Which of the programs that local servers need are not on PATH."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def cache_directory() -> Path:
    """LOGFLUME_STACK_CACHE, or `.cache/stack` in the repository's root."""
    given = os.environ.get("LOGFLUME_STACK_CACHE")
    return Path(given) if given else Path(__file__).resolve().parents[2] / ".cache" / "stack"


def jars(family: Family) -> Path:
    """The directory with all jars of one family; fetches them the first time. May raise JarsError."""
    return fetched(Path(__file__).with_name(f"{family}.xml"))


def fetched(pom: Path) -> Path:
    """The directory with all jars that a pom names; fetches them the first time. May raise JarsError.

    Its name has the hash of the pom, and it gets that name only when complete, so a directory that
    exists needs no further check. Two test runs at once are kept apart by a file lock, one for all families:
    Maven's own repository is not made for two at once.
    """
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    cache = cache_directory()
    complete = cache / f"{pom.stem}-{digest}"
    if complete.is_dir():
        return complete
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    with (cache / "maven.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f"{pom.stem}-partial-", dir=cache))
            _fetch(pom, partial)
            partial.rename(complete)
    return complete


def java(
    family: Family,
    main_class: str,
    *arguments: str,
    heap_mib: int,
    flags: tuple[str, ...] = (),
    config: Path | None = None,
) -> list[str]:
    """The argument vector that runs `main_class`; `config` comes first on the class path."""
    entries = ([str(config)] if config else []) + [f"{jars(family)}/*"]
    return [
        "java",
        f"-Xmx{heap_mib}m",
        *JVM_FLAGS,
        *flags,
        "-cp",
        os.pathsep.join(entries),
        main_class,
        *arguments,
    ]


def _fetch(pom: Path, target: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    try:
        result = subprocess.run(
            [*command, f"-DoutputDirectory={target}"],
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise JarsError(f"mvn gave no jars for {pom.name} in {FETCH_TIMEOUT_S:g} s") from error
    if result.returncode != 0 or not any(target.glob("*.jar")):
        raise JarsError(f"mvn gave no jars for {pom.name}:\n{result.stdout[-4000:]}{result.stderr}")
