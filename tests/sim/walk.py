"""One seed: several hosts, a broker and a store that misbehave, and what must hold all the while.

At every step one thread of one host goes on by about an effect. Between steps partitions move (announced,
or behind their owner's back), hosts are killed and started, clocks jump, servers refuse. Then everything is
healed, and it has to come to the end: each record in one file, each hour marked, nothing left over.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logflume.config import Config
from logflume.core.layout import hour_directory
from logflume.errors import Refused, ShortFile, StoreError, Unreachable
from logflume.kafka.events import TopicPart
from logflume.model import HOUR_MS, MINUTE_MS, Kind
from logflume.store.local import LocalStore
from tests.sim import adversary, tree
from tests.sim.gates import ConcatStore, Effect
from tests.sim.host import Host, here
from tests.sim.world import GAP, TOPIC, TOPIC_ID, Broker, Clock, Record

#: steps with faults, and steps in which it has to come to its end without any
WILD, CALM = 1500, 20_000
RECORDS = 60


@dataclass(frozen=True, slots=True)
class Made:
    """What was produced: where it belongs by its own words."""

    hour: str
    good: bool


class Walk:
    def __init__(self, seed: int, directory: Path, clock: Clock) -> None:
        clock.reset()
        self.rng = rng = random.Random(seed)
        self.clock, self.directory, self.root = clock, directory, directory / "logs"
        self.root.mkdir(parents=True)
        # Mostly all hosts have one configuration; else each start draws its own, as while settings are rolled out.
        self.configs = [self._draw_config() for _ in range(rng.choice([1, 1, 3]))]
        kind: Callable[[str], LocalStore] = rng.choice([LocalStore, ConcatStore])
        self.store = kind(str(self.root))
        self.broker = Broker({partition: [] for partition in range(rng.choice([1, 2, 3]))})
        self.made: dict[tuple[int, int], Made] = {}
        self.hosts: list[Host] = []
        self.owner: dict[int, Host] = {}
        self.born = 0
        self.wild = True
        self.refusing: str = ""
        self.hung: set[int] = set()
        self.steps = 0
        self.seen: dict[str, dict[str, int]] = {}
        self.explained: set[str] = set()
        self.pending: list[tuple[Host, TopicPart]] = []
        clock.wall_ms = adversary.DAY
        self.latest = adversary.DAY

    # -- hosts --------------------------------------------------------------------------------------

    def _draw_config(self) -> Config:
        rng = self.rng
        return adversary.config(
            reveal=rng.choice(["complete", "complete", "early"]),
            late=rng.choice(["side", "append"]),
            roll_every=rng.choice(["200ms", "5s", "10m"]),
            lateness=rng.choice(["0s", "10m"]),
        )

    def start_host(self) -> Host:
        self.born += 1
        config, spool = self.rng.choice(self.configs), self.directory / f"spool-{self.born}"
        host = Host(f"h{self.born}", config, self.store, self.broker, self.clock, spool)
        host.threads = True
        host.order = lambda _number, effect, do: self.effect(host, effect, do)
        host.watch = self.watch
        host.skew_ms = self.rng.choice([0, 0, 0, 1000, -90_000])
        self.hosts.append(host)
        host.step()
        if host.source is not None:
            host.source.rewind = lambda _part, position: max(0, position - 2 * (self.wild and self.rng.random() < 0.1))
        return host

    def kill_host(self, host: Host) -> None:
        host.end_all()
        self.hosts.remove(host)
        self.pending = [(one, part) for one, part in self.pending if one is not host]

    def give(self, partition: int, host: Host, how: str) -> None:
        """Move a partition. ``revoke``: its owner lets go first; ``late``: it hears of it some time, after."""
        before, part = self.owner.get(partition), (TOPIC, partition)
        if before is host or host.source is None or part in host.source.owned:
            return
        self.owner[partition] = host
        if before in self.hosts and before is not None and before.source is not None:
            if how == "late":
                self.pending.append((before, part))
            else:
                (before.source.revoke if how == "revoke" else before.source.lose)([part])
        host.source.assign([part])

    # -- faults ---------------------------------------------------------------------------------------

    def effect(self, host: Host, effect: Effect, do: Callable[[], Any]) -> Any:
        """Wait, perhaps fail, do it, perhaps lie about it, wait."""
        if effect.call == "spool":
            return do()
        actor, rng = here(), self.rng
        if self.wild and rng.random() < 0.5:
            actor.wait()
        if not self.wild or rng.random() < 0.9:
            self._servers(effect)
            answer = do()
        else:
            answer = self._faulty(host, effect, do)
        if self.wild and rng.random() < 0.3:
            actor.wait()
        return answer

    def _servers(self, effect: Effect) -> None:
        if effect.call == "commit":
            return
        if self.refusing == "safe mode" and effect.changes:
            raise Refused("name node is in safe mode")
        if self.refusing == "quota" and effect.call in ("upload", "write", "join"):
            raise Refused("the quota is exceeded")
        if self.refusing == "down":
            raise Unreachable("the name node does not answer")

    def _faulty(self, host: Host, effect: Effect, do: Callable[[], Any]) -> Any:
        fault = self.rng.choice(["fail", "lose", "lose", "short", "hang", "slow", "slow"])
        if fault == "fail":
            raise Unreachable(f"{effect}: no answer")
        if fault == "short" and effect.tear is not None and effect.call in ("upload", "write", "join"):
            effect.tear()
            raise ShortFile(f"{effect}: short")
        if fault == "hang" and self.rng.random() < 0.3:
            # never answers; the parent will kill the worker, and the request may arrive after that
            self.hung.add(id(host))
            while self.wild:
                here().wait()
        if fault == "slow":
            for _ in range(self.rng.choice([3, 30])):
                here().wait()
        self._servers(effect)
        answer = do()
        if fault == "lose":
            raise self.rng.choice([Unreachable, StoreError])(f"{effect}: the reply is lost")
        return answer

    # -- the world ------------------------------------------------------------------------------------

    def produce(self) -> None:
        rng = self.rng
        partition = rng.choice(list(self.broker.logs))
        if rng.random() < 0.15:
            self.broker.logs[partition].append(GAP)
            return
        self.latest += rng.choice([0, 1, 5, 20, 20, 70, 200 * (rng.random() < 0.1)]) * MINUTE_MS
        time = self.latest - rng.choice([0, 0, 0, 5, 15, 50, 65, 130]) * MINUTE_MS
        time = max(time, adversary.DAY)
        offset = len(self.broker.logs[partition])
        good, kafka_time = rng.random() < 0.9, max(time, self.latest)
        body = {"ts": time if good else time + 40 * MINUTE_MS, "id": f"{partition}/{offset}"}
        if not good:
            kafka_time = time
        body["pad"] = rng.randbytes(rng.choice([0, 0, 300])).hex()
        self.broker.logs[partition].append(Record(json.dumps(body).encode(), kafka_time))
        self.made[partition, offset] = Made(hour_directory((time if good else kafka_time) // HOUR_MS * HOUR_MS), good)

    def happen(self) -> None:
        """Between two steps, now and then, something in the world."""
        rng = self.rng
        match rng.choices(range(9), [50, 6, 3, 3, 6, 3, 4, 3, 0.3])[0]:
            case 0 if len(self.made) < RECORDS:
                self.produce()
            case 1:
                partition = rng.choice(list(self.broker.logs))
                self.give(partition, rng.choice(self.hosts), rng.choice(["revoke", "lose", "late"]))
            case 2 if len(self.hosts) > 1:
                self.kill_host(rng.choice(self.hosts))
            case 3 if len(self.hosts) < 3:
                self.start_host()
            case 4:
                self.clock.pass_s(rng.choice([1, 10, 600, 3000]))
                self.clock.wall_ms = max(self.clock.wall_ms, self.latest)
            case 5:
                rng.choice(self.hosts).skew_ms = rng.choice([0, 0, 3_600_000, -3_600_000])
            case 6:
                self.refusing = rng.choice(["", "", "", "safe mode", "quota", "down"])
            case 7:
                self.broker.down = rng.random() < 0.3
            case 8 if len(self.broker.logs) < 4:
                self.broker.logs[len(self.broker.logs)] = []
        self._news()
        self._orphans()

    def _news(self) -> None:
        for host, part in list(self.pending):
            if self.rng.random() < 0.05 and host.source is not None:
                host.source.lose([part])
                self.pending.remove((host, part))

    def _orphans(self) -> None:
        """A group gives a dead member's partitions to the living, after a while."""
        for partition in self.broker.logs:
            if self.owner.get(partition) not in self.hosts and self.rng.random() < 0.1:
                self.owner.pop(partition, None)
                self.give(partition, self.rng.choice(self.hosts), "lose")

    # -- running --------------------------------------------------------------------------------------

    def run(self) -> None:
        self.start_host()
        while self.steps < WILD:
            self.steps += 1
            if self.rng.random() < 0.3 or not self.hosts:
                self.happen()
            self._step(self.rng.choice(self.hosts))
        self.heal()
        while not self.settled():
            self.steps += 1
            if self.steps > WILD + CALM:
                raise AssertionError(f"it does not come to an end: {self.state()}")
            for host in self.hosts:
                self._step(host)
        for host in list(self.hosts):
            host.stop()
            while not host.done:
                self._step(host)
        self.check()

    def _step(self, host: Host) -> None:
        actors = host.actors()
        if actors:
            self.rng.choice(actors).step()
        assert not host.done or host.stopped, f"{host.name} ended by itself"

    def heal(self) -> None:
        self.wild, self.refusing, self.broker.down = False, "", False
        for host in list(self.hosts):
            if id(host) in self.hung:
                self.kill_host(host)
        while len(self.hosts) < 2:
            self.start_host()
        for host, part in self.pending:
            if host.source is not None:
                host.source.lose([part])
        for host in self.hosts:
            host.skew_ms = 0
        self.clock.wall_ms = max(self.clock.wall_ms, self.latest) + 3 * HOUR_MS

    def settled(self) -> bool:
        if self.steps % 50:
            return False
        for partition in self.broker.logs:
            if self.owner.get(partition) not in self.hosts:
                self.owner.pop(partition, None)
                self.give(partition, self.rng.choice(self.hosts), "lose")
        if any(self._committed(p) != self.broker.end(p) for p in self.broker.logs if self.made):
            return False
        if any(self._unpublished(partition) for partition in self.broker.logs):
            return False
        found = tree.read(self.root, TOPIC)
        return all(one.marker for one in found.hours.values()) and not [
            one for one in tree.leftovers(found, TOPIC_ID) if "the plan" not in one
        ]

    def _unpublished(self, partition: int) -> bool:
        """Whether decided parts wait in tmp: for the next claim, of an owner that pauses longer after each failure."""
        newest = self._newest(partition)
        return newest is not None and any((self.root / part["tmp"]).exists() for part in newest["parts"])

    def _committed(self, partition: int) -> int:
        newest = self._newest(partition)
        return -1 if newest is None else int(newest["state"]["committed"])

    def _newest(self, partition: int) -> dict[str, Any] | None:
        return tree.newest(self.root, TOPIC, TOPIC_ID, partition)

    def state(self) -> str:
        phases = {
            host.name: {str(part): slot.machine.phase.value for part, slot in host.worker._slots.items()}
            for host in self.hosts
            if host.worker is not None
        }
        held = {host.name: host.worker._finisher.held() for host in self.hosts if host.worker is not None}
        offsets = {partition: (self._committed(partition), len(log)) for partition, log in self.broker.logs.items()}
        return f"{phases}, held {held}, C and end {offsets}"

    def close(self) -> None:
        for host in list(self.hosts):
            host.end_all()
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- what must hold ---------------------------------------------------------------------------------

    def watch(self, effect: Effect, do: Callable[[], Any]) -> Any:
        if effect.call == "commit":
            partition, offset = (int(text) for text in effect.path.rsplit("/", 1)[1].split("@"))
            assert offset <= self._committed(partition), f"{effect} is not decided"
        answer = do()
        if effect.call == "publish" and effect.path.endswith(("/_SUCCESS", "/_INCOMPLETE")):
            self._marked(self.root / effect.path.rsplit("/", 1)[0])
        return answer

    def _marked(self, directory: Path) -> None:
        """Everything below the hour's boundaries is there, once, and visible."""
        name = str(directory.relative_to(self.root / TOPIC))
        one = tree.hour(directory)
        assert name not in self.seen, f"{name} is marked twice"
        self.seen[name] = one.shown
        manifest = json.loads((directory / "_SUCCESS").read_bytes())
        # a partition that was added since has closed the hour before its first record
        boundaries = {int(number): one["boundary"] for number, one in manifest["partitions"].items()}
        expected = Counter(
            f"{partition}/{offset}"
            for (partition, offset), made in self.made.items()
            if made.good and made.hour == name and offset < boundaries.get(partition, 0)
        )
        shown: Counter[str] = Counter()
        for file in one.shown:
            shown.update(record for _, _, record in tree._ids(directory / file, Kind.HOUR, name))
        assert shown == expected, f"{name} was marked with {shown} instead of {expected}"

    def check(self) -> None:
        found = tree.read(self.root, TOPIC)
        once = Counter(record for _, _, record in found.holdings.elements())
        wanted = Counter(f"{partition}/{offset}" for partition, offset in self.made)
        assert once == wanted, f"lost {dict(wanted - once)}, too much {dict(once - wanted)}"
        for kind, name, record in found.holdings:
            partition, offset = (int(text) for text in record.split("/"))
            made = self.made[partition, offset]
            assert name == made.hour, f"{record} is in {name} and not in {made.hour}"
            assert (kind is not Kind.QUARANTINE) == made.good, f"{record} is {kind}"
        for name, shown in self.seen.items():
            assert found.hours[name].shown == shown, f"{name} changed after it was marked"
        for partition, log in self.broker.logs.items():
            delivered = {i for i, record in enumerate(log) if not record.gap}
            tree.check_chain(tree.chain(self.root, TOPIC, TOPIC_ID, partition), delivered)
        for host in self.hosts:
            counted = host.worker._tools.counters if host.worker is not None else {}
            assert not any(name == "stopped" for name, _, _ in counted), "stopped, with nothing for a person to do"


def run_seed(seed: int, directory: Path, clock: Clock) -> Walk:
    """Raises what goes wrong, with the command that shows it again."""
    walk = Walk(seed, directory, clock)
    try:
        walk.run()
    except BaseException as error:
        error.add_note(f"again: python -m tests.sim {seed}")
        raise
    finally:
        walk.close()
    return walk
