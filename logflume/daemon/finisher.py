"""Finishing in a worker: for each topic whose lowest partition is here, follow the ledgers and finish hours."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from logflume import commit
from logflume.config import TopicConfig
from logflume.core.ledger import Head
from logflume.core.partition import Partition, Phase
from logflume.daemon.calls import Calls
from logflume.daemon.report import FinishedHour
from logflume.daemon.steps import Steps
from logflume.errors import LogflumeError
from logflume.finish import run
from logflume.finish.follow import TopicFollower
from logflume.finish.plan import Plan
from logflume.log import get
from logflume.store.base import Store

log = get(__name__)

#: seconds between two looks at the other partitions' ledgers: while an hour waits for them, and otherwise
WAITING_S, QUIET_S = 1.0, 30.0
#: hours finished in one go, several at a time
HOURS_AT_ONCE = 64
#: parts and closings to hold of one topic: with 1,000 partitions those of half a day, 200 MB
HELD = 128_000
#: after an error, seconds until the next try
RETRY_S = 5.0


@dataclass(slots=True)
class _Topic:
    config: TopicConfig
    topic_id: str
    follower: TopicFollower | None = None
    finished_until: int | None = None
    running: bool = False
    news: bool = False
    next_look: float = 0.0
    held: str = ""
    #: hours that could not be finished when last tried
    failed: int = 0
    #: per partition decided here, and the earliest of them: to where the hours are closed, in ms
    frontiers: dict[int, int | None] = field(default_factory=dict)
    closed_here: int | None = None

    def look_in(self, seconds: float) -> None:
        """At the latest in so many."""
        self.next_look = min(self.next_look, time.monotonic() + seconds)


class Finisher:
    """Owned by the worker's thread; the work is done in ``Calls``, one task a topic at a time.

    Each task has ``threads`` of its own: behind another topic's hours, its looks would count as a call that hangs.
    """

    def __init__(self, store: Store, calls: Calls, threads: Callable[[], ThreadPoolExecutor]) -> None:
        self._store, self._calls, self._threads = store, calls, threads
        self._topics: dict[str, _Topic] = {}
        self.finished: list[FinishedHour] = []

    def decided(self, head: Head, config: TopicConfig) -> None:
        """An entry this worker wrote: known without reading it."""
        pid = head.entry.pid
        topic = self._topics.get(pid.topic)
        if topic is None or topic.topic_id != pid.topic_id:
            topic = self._topics[pid.topic] = _Topic(config, pid.topic_id)
        if topic.follower is not None:
            topic.follower.feed([head])
        topic.frontiers[pid.partition] = head.state.frontier
        known = [frontier for frontier in topic.frontiers.values() if frontier is not None]
        closed_here = min(known) if len(known) == len(topic.frontiers) else None
        if closed_here != topic.closed_here:
            topic.closed_here = closed_here
            topic.news = True
        elif head.entry.closed:
            # Another of ours is missing, or went to another worker. A look costs a request for each partition.
            topic.look_in(WAITING_S)

    def finished_until(self, topic: str) -> int | None:
        """Hours of the topic that end at or before this are finished, as far as is known here."""
        known = self._topics.get(topic)
        return None if known is None else known.finished_until

    def held(self) -> dict[str, str]:
        """Per topic the error that keeps an hour from being finished."""
        return {name: topic.held for name, topic in self._topics.items() if topic.held}

    @property
    def busy(self) -> bool:
        """Whether something is on its way, whose answer comes through ``Calls``."""
        return any(topic.running for topic in self._topics.values())

    def tick(self, owned: Mapping[str, Mapping[int, Partition]]) -> None:
        """Start what is due. ``owned``: this worker's partitions by topic; whoever owns the lowest one finishes."""
        now = time.monotonic()
        for name, topic in self._topics.items():
            ours = owned.get(name, {})
            if any(one.phase is Phase.CLAIMING for one in ours.values()):
                continue  # with a thousand of them, a look would read what is about to be known
            # also while it is stopped: what it closed before needs no person
            here = 0 in ours and ours[0].phase is not Phase.GONE
            # who is new to the lowest partition looks at once: all that it closes may have been closed before
            due = topic.news or now >= topic.next_look
            if topic.running or (not due and here == (topic.follower is not None)):
                continue
            # what is decided from now on, this look may not see
            topic.running, topic.news, topic.next_look = True, False, math.inf
            if here:
                if topic.follower is None:
                    topic.follower = TopicFollower(self._store, name, topic.topic_id, topic.config, most=HELD)
                    heads = [one.head for one in ours.values() if one.router is not None and one.head is not None]
                    topic.follower.feed(head for head in heads if head.entry.pid.topic_id == topic.topic_id)
                self._submit(name, topic, topic.follower)
            else:
                # the next owner finds it, and says so
                topic.follower, topic.held, topic.failed = None, "", 0
                self._submit_learn(name, topic)

    def _submit(self, name: str, topic: _Topic, follower: TopicFollower) -> None:
        title = f"finish {name}"

        def call() -> list[FinishedHour | LogflumeError]:
            try:
                with self._threads() as pool:
                    follower.refresh(pool, lambda: self._calls.progress(title))
                    self._calls.progress(title)
                    # those that failed are tried again, and hold no others back
                    return list(pool.map(self._finish, follower.due(HOURS_AT_ONCE + topic.failed)))
            except LogflumeError as error:
                return [error]

        # With 64 partitions that close their next hour, it waited 3.5 s for a thread (p90, measured).
        self._calls.submit(title, call, lambda found: self._done(name, topic, follower, found), ahead=True)

    def _finish(self, plan: Plan) -> FinishedHour | LogflumeError:
        """One hour, or what keeps it from being finished."""
        steps = Steps()

        def progress(step: str) -> None:
            self._calls.progress(f"finish {plan.topic}")
            steps(step)

        try:
            done = run.finish(self._store, plan, progress=progress)
        except LogflumeError as error:
            return error
        log.debug("hour steps", topic=plan.topic, hour=plan.hour, **steps.seconds)
        if done is None:
            return FinishedHour(plan.topic, plan.hour, -1.0, not plan.incomplete, 0, 0)
        closed = max(one["closed_ms"] for one in done.partitions.values())
        return FinishedHour(
            topic=plan.topic,
            hour=plan.hour,
            # -1 is for those that were marked before, and another host's clock may be ahead
            seconds=max(0.0, time.time() - closed / 1000),
            complete=not done.incomplete,
            files=len(done.files),
            records=sum(part.count for file in done.files for part in file.parts),
        )

    def _done(
        self, name: str, topic: _Topic, follower: TopicFollower, found: list[FinishedHour | LogflumeError]
    ) -> None:
        topic.running = False
        errors = [one for one in found if isinstance(one, LogflumeError)]
        hours = [one for one in found if isinstance(one, FinishedHour)]
        held = str(errors[0]) if errors else ""
        if errors and held != topic.held:
            log.warning("an hour is held back", topic=name, error=held, hint=errors[0].hint)
        topic.held, topic.failed = held, len(errors)
        for hour in hours:
            follower.finished(hour.hour)
            if hour.seconds >= 0:
                self.finished.append(hour)
                # after a long pause hundreds of empty hours come at once
                say = log.info if hour.records else log.debug
                say(
                    "hour finished",
                    topic=name,
                    hour=hour.hour,
                    complete=hour.complete,
                    files=hour.files,
                    records=hour.records,
                    seconds=round(hour.seconds, 3),
                )
        topic.finished_until = follower.finished_until
        if hours or follower.more:
            topic.look_in(0.0)
        else:
            topic.look_in(RETRY_S if errors else WAITING_S if follower.waits else QUIET_S)

    def _submit_learn(self, name: str, topic: _Topic) -> None:
        """Owners of other partitions only have to know what is finished, to keep their entries short."""

        def call() -> int | LogflumeError | None:
            try:
                known = commit.chains(self._store, name, topic.topic_id)
                head = commit.read_head(self._store, known[0]) if known else None
                return None if head is None else head.state.finished_until
            except LogflumeError as error:
                return error

        def then(found: int | LogflumeError | None) -> None:
            topic.running = False
            topic.look_in(10 * QUIET_S)
            if isinstance(found, LogflumeError):
                log.warning("cannot learn which hours are finished", topic=name, error=str(found))
            elif found is not None:
                topic.finished_until = found

        self._calls.submit(f"learn finished hours of {name}", call, then)
