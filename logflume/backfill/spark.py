"""PySpark as the engine: a batch job with one task for each split, where one machine is not enough.

A retry goes on where the failed attempt was, and of a task and its speculative twin one is fenced and waits for the
other: what they write has names that follow from the split, and is put only where nothing is (see ``replay``).

The master comes from Spark's own configuration (spark-submit, spark-defaults.conf, PYSPARK_SUBMIT_ARGS). logflume has
to be installed for the executors' Python, and they need the brokers, the store, and a directory for the spool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from logflume import log as logging
from logflume.backfill.engine import LocalPool
from logflume.backfill.model import Job, Manifest, Split
from logflume.backfill.replay import Tell, run_split
from logflume.errors import LogflumeError, UsageError

log = logging.get(__name__)

Work = Callable[[Job, Split, Tell], Manifest]


@dataclass(frozen=True, slots=True)
class _Hopeless:
    """An error that no retry would change: sent back as a value, so that Spark does not try again."""

    kind: type[Any]
    what: str
    hint: str


def engine(_pool: LocalPool, job: Job, splits: Sequence[Split], tell: Tell) -> list[Manifest]:
    """For ``run.replay``."""
    return run_job(job, splits, tell, run_split)


def run_job(job: Job, splits: Sequence[Split], tell: Tell, work: Work) -> list[Manifest]:
    """Run ``work`` for every split as a Spark job. Raises LogflumeError."""
    try:
        from pyspark.sql import SparkSession  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "--engine spark needs pyspark", hint="pip install 'logflume[spark]', or call it with spark-submit"
        ) from None
    session = SparkSession.builder.appName(f"logflume backfill {job.topic}").getOrCreate()
    try:
        context = session.sparkContext
        log.info("spark job begins", application=context.applicationId, master=context.master, tasks=len(splits))
        tasks = context.parallelize(list(splits), max(1, len(splits)))
        # one result after the other, as they come to be needed, would run one task after the other
        found = tasks.map(lambda split: _task(job, split, work)).collect()
    except LogflumeError:
        raise
    except Exception as failure:
        # py4j and the JVM raise what they like: the text of the last attempt is in it
        raise LogflumeError(
            f"the Spark job failed: {_last_words(failure)}", hint="run the same command again: it goes on where it was"
        ) from failure
    finally:
        session.stop()
    for one in found:
        if isinstance(one, _Hopeless):
            error: LogflumeError = one.kind(one.what, hint=one.hint or None)
            raise error
        tell(one.end - one.start)
    return list(found)


def _task(job: Job, split: Split, work: Work) -> Manifest | _Hopeless:
    """In an executor's Python."""
    logging.configure(job.config.daemon.log_level, job.config.daemon.log_format)
    try:
        return work(job, split, _silent)
    except LogflumeError as error:
        if error.retry:
            raise
        return _Hopeless(type(error), str(error), error.hint)


def _silent(_offsets: int) -> None:
    """Progress would have to come from the executors: Spark's own pages tell how many tasks are done."""


def _last_words(failure: Exception) -> str:
    lines = [line.strip() for line in str(failure).splitlines() if "Error" in line or line.startswith("logflume.")]
    return lines[-1] if lines else f"{type(failure).__name__}"
