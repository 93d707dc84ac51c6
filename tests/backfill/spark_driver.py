"""A Spark job of ``backfill --into`` as a program of its own, with what happens to tasks: see test_spark.py.

python -m tests.backfill.spark_driver CONFIG TOPIC ROOT fails|twins
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from logflume import config, log
from logflume.backfill import run, spark
from logflume.backfill.engine import LocalPool
from logflume.backfill.model import Job, Manifest, Request, Split
from logflume.backfill.replay import Tell, run_split
from logflume.errors import Unreachable


def fails_twice(job: Job, split: Split, _tell: Tell) -> Manifest:
    """The first attempt raises in the middle, the second one is killed there; the third is left alone."""
    from pyspark import TaskContext  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    attempt, done = TaskContext.get().attemptNumber(), 0

    def tell(offsets: int) -> None:
        nonlocal done
        done += offsets
        if attempt < 2 and done > split.records // 2:
            if attempt == 0:
                raise Unreachable("a failure on purpose")
            os.kill(os.getpid(), signal.SIGKILL)

    return run_split(job, split, tell)


def engine(_pool: LocalPool, job: Job, splits: Sequence[Split], tell: Tell) -> list[Manifest]:
    if sys.argv[4] == "fails":
        return spark.run_job(job, splits, tell, fails_twice)
    # each split as two tasks at once, which is what a speculative twin is
    twice = [split for split in splits for _ in range(2)]
    return spark.run_job(job, twice, tell, run_split)[::2]


def main() -> None:
    settings = config.load(sys.argv[1])
    log.configure("info", "text")
    job = Job(settings, sys.argv[3], sys.argv[2], f"driver-{os.getpid()}", settings.daemon.spool)
    plan = run.make_plan(job, Request(sys.argv[2]))
    done = run.replay(job, plan, engine, 1, lambda offsets: None)
    print(done.hours)  # noqa: T201 (a program)


if __name__ == "__main__":
    main()
