"""One run: hosts over one broker, one store and one adversarial log, with the tree checked as it grows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from logflume.config import Config
from logflume.core.layout import hour_directory
from logflume.model import HOUR_MS
from logflume.store.local import LocalStore
from tests.sim import tree
from tests.sim.adversary import DAY, Adversary
from tests.sim.gates import Effect
from tests.sim.host import Host
from tests.sim.world import TOPIC, TOPIC_ID, Broker, Clock

#: turns after which a run that has not come to its end never will
TURNS = 1000


#: looks at a tree where all is marked and something is left over, until that is taken for final
PATIENCE = 30


class Stuck(AssertionError):
    """It does not go on."""


class Game:
    def __init__(
        self, adversary: Adversary, config: Config, store: Callable[[str], LocalStore], directory: Path, clock: Clock
    ) -> None:
        clock.reset()
        self.adversary, self.config, self.clock = adversary, config, clock
        self.directory, self.root = directory, directory / "logs"
        self.root.mkdir(parents=True)
        self.store = store(str(self.root))
        self.broker = Broker({partition: [] for partition in adversary.phases[0].records})
        self.parts = [(TOPIC, partition) for partition in self.broker.logs]
        self.hosts: list[Host] = []
        self.phase = -1
        self.finished = False
        self.turns = 0
        self.patience = PATIENCE
        #: plans that a request put there after its sender's death and after the hour was marked
        self.explained: set[str] = set()
        #: what a reader saw when an hour was marked
        self.seen: dict[str, dict[str, int]] = {}
        self._next_phase()

    def host(self, name: str, partitions: list[int], *, owner_name: str | None = None) -> Host:
        spool = self.directory / f"spool-{name}-{len(self.hosts)}"
        made = Host(name, self.config, self.store, self.broker, self.clock, spool)
        made.owner_name = owner_name
        made.watch = self.watch
        made.assign([(TOPIC, partition) for partition in partitions])
        self.hosts.append(made)
        return made

    # -- the log grows when all that was there is marked -------------------------------------------------

    def _next_phase(self) -> None:
        self.phase += 1
        phase = self.adversary.phases[self.phase]
        for partition, records in phase.records.items():
            self.broker.logs[partition] += records
        self.clock.wall_ms = phase.wall_ms

    def look(self) -> None:
        """Go on to the next phase, or to the end, once everything of this one is marked."""
        if not all(self._marked(hour) for hour in self.adversary.phases[self.phase].marked):
            return
        if self.phase + 1 < len(self.adversary.phases):
            self._next_phase()
        elif all(self._committed(partition) == self.broker.end(partition) for partition in self.broker.logs):
            # after an error those who run clear up by themselves, but not at once
            self.patience -= 1
            self.finished = self.patience < 0 or not tree.leftovers(tree.read(self.root, TOPIC), TOPIC_ID)

    def _marked(self, hour: int) -> bool:
        return os.path.exists(f"{self.root}/{TOPIC}/{hour_directory(DAY + hour * HOUR_MS)}/_SUCCESS")

    def _committed(self, partition: int) -> int:
        newest = tree.newest(self.root, TOPIC, TOPIC_ID, partition)
        return -1 if newest is None else int(newest["state"]["committed"])

    # -- running --------------------------------------------------------------------------------------

    def turn(self, host: Host) -> None:
        """Let a host go on to its next poll, or to where it was told to wait."""
        host.alone = None
        host.step()
        self._between(host)

    def _between(self, host: Host) -> None:
        self.turns += 1
        if self.turns > TURNS:
            raise Stuck(f"after {TURNS} turns: phase {self.phase}")
        if not self.finished and host.source is not None and host.source.idle:
            self.look()

    def play(self, *hosts: Host) -> None:
        """All hosts in turn to the end of the log and their own; or until all are dead or wait at an effect."""
        while any(host.runs for host in hosts):
            for host in hosts:
                if not host.runs:
                    continue
                if self.finished:
                    host.stop()
                if sum(one.runs for one in hosts) == 1:
                    self.alone(host)
                else:
                    self.turn(host)

    def alone(self, host: Host, *, leave: bool = False) -> None:
        """To its end, its death, or an effect where it waits; with ``leave`` only to its next poll."""

        def turn() -> None:
            self._between(host)
            if self.finished or leave:
                host.stop()

        host.alone = turn
        host.step()

    # -- what must hold at every moment ------------------------------------------------------------------

    def watch(self, effect: Effect, do: Callable[[], Any]) -> Any:
        if effect.call == "commit":
            self._check_commit(effect.path)
        answer = do()
        if effect.call == "publish" and effect.path.endswith(("/_SUCCESS", "/_INCOMPLETE")):
            directory = self.root / effect.path.rsplit("/", 1)[0]
            self.seen[str(directory.relative_to(self.root / TOPIC))] = tree.hour(directory).shown
        return answer

    def _check_commit(self, path: str) -> None:
        """S6 says only what the ledger says, and after S5."""
        partition, offset = (int(text) for text in path.rsplit("/", 1)[1].split("@"))
        newest = tree.newest(self.root, TOPIC, TOPIC_ID, partition)
        assert newest is not None, f"{path} is committed, and there is no ledger"
        assert offset <= newest["state"]["committed"], f"{path} is committed, not decided"
        for part in newest["parts"]:
            if min(tree.offsets(part["offsets"])) < offset:
                left = self.root / part["tmp"]
                # a link that waits for its unlink is published
                assert not left.exists() or left.stat().st_nlink > 1, (
                    f"{path} is committed, and {part['path']} not published"
                )

    def check(self) -> None:
        found = tree.read(self.root, TOPIC)
        if found.holdings != self.adversary.holdings:
            lost, more = self.adversary.holdings - found.holdings, found.holdings - self.adversary.holdings
            raise AssertionError(f"lost: {dict(lost)}; too much: {dict(more)}")
        left = [one for one in tree.leftovers(found, TOPIC_ID) if one not in self.explained]
        assert not left, "; ".join(left)
        for name, shown in self.seen.items():
            assert found.hours[name].shown == shown, f"{name} changed after it was marked"
        for partition, log in self.broker.logs.items():
            delivered = {i for i, record in enumerate(log) if not record.gap}
            tree.check_chain(tree.chain(self.root, TOPIC, TOPIC_ID, partition), delivered)


@contextmanager
def game(
    adversary: Adversary, config: Config, store: Callable[[str], LocalStore], directory: Path, clock: Clock
) -> Iterator[Game]:
    made = Game(adversary, config, store, directory, clock)
    try:
        yield made
    finally:
        for host in made.hosts:
            host.kill()
        shutil.rmtree(directory, ignore_errors=True)
