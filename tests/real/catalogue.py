"""All scenarios: what is done, and the rows of the fault catalogue that it is about."""

from __future__ import annotations

from collections.abc import Callable

from tests.real import failover, lost
from tests.real.ground import Ground
from tests.real.scenario import Scenario
from tests.stack.hadoop import dfsadmin
from tests.stack.proxy import Proxy
from tests.stack.server import Server

#: bytes a second and direction of a slow connection: a few requests' worth
SLOW = 2_000
#: longer than call_deadline, so that the hung worker is killed and its successor hangs as well
HUNG_S = (18.0, 25.0)
#: longer than session.timeout.ms, so that the other daemon takes over
AWAY_S = (8.0, 14.0)


def killed(which: Callable[[Ground], Server]) -> Callable[[Ground], None]:
    return lambda ground: which(ground).kill()


def paused(which: Callable[[Ground], Server]) -> Callable[[Ground], None]:
    return lambda ground: which(ground).pause()


def a_datanode(ground: Ground) -> Server:
    """Any: with three of them and three replicas each is in the pipeline of every file."""
    return ground.rng.choice(ground.stack.datanodes)


def two_datanodes(ground: Ground) -> None:
    for server in ground.rng.sample(ground.stack.datanodes, 2):
        server.kill()


def all_brokers(ground: Ground) -> None:
    for server in ground.stack.kafka:
        server.kill()


def through(where: str, what: Callable[[Proxy], None]) -> Callable[[Ground], None]:
    """Do it to the proxies before the NameNode's RPC or web port, or the brokers."""

    def inject(ground: Ground) -> None:
        for proxy in getattr(ground.servers, where):
            what(proxy)

    return inject


def safe_mode(ground: Ground) -> None:
    dfsadmin(ground.stack.namenode_rpc, "-safemode", "enter")


def leave_safe_mode(ground: Ground) -> None:
    dfsadmin(ground.stack.namenode_rpc, "-safemode", "leave")


def hdfs(operation: str, **query: str) -> Callable[[Ground], None]:
    return lambda ground: ground.bench.hdfs(operation, **query)


def kill_worker(ground: Ground) -> None:
    for daemon in ground.daemons:
        daemon.kill_worker()


def kill_daemon(ground: Ground) -> None:
    ground.daemon().kill()


def start_daemons(ground: Ground) -> None:
    for daemon in ground.daemons:
        if not daemon.running:
            daemon.start()


def freeze_one(ground: Ground) -> None:
    ground.freeze(ground.daemon())


def freeze_all(ground: Ground) -> None:
    ground.freeze(*ground.daemons)


def fill_disk(ground: Ground) -> None:
    assert ground.disk is not None
    with (ground.disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return  # full, as it should be


def free_disk(ground: Ground) -> None:
    assert ground.disk is not None
    (ground.disk / "filler").unlink()


SCENARIOS = (
    Scenario("partition leader killed", ("K16",), killed(Ground.leader), quick=True),
    Scenario("partition leader paused", ("K16", "N2"), paused(Ground.leader)),
    Scenario("group coordinator killed", ("K16", "K4", "K5"), killed(Ground.coordinator)),
    Scenario("group coordinator paused", ("K16", "K5"), paused(Ground.coordinator)),
    Scenario("all brokers killed", ("K16", "K5"), all_brokers),
    Scenario("datanode in the pipeline killed", ("H4",), killed(a_datanode), quick=True),
    Scenario("datanode in the pipeline paused", ("H4", "H14"), paused(a_datanode), holds_s=HUNG_S),
    Scenario("two of three datanodes killed", ("H4", "H9"), two_datanodes, holds_s=HUNG_S),
    Scenario("namenode killed", ("N1", "N3"), killed(Ground.namenode), quick=True),
    Scenario("namenode paused", ("N2", "P6"), paused(Ground.namenode), holds_s=HUNG_S),
    Scenario("safe mode", ("H3",), safe_mode, leave_safe_mode),
    Scenario("name quota", ("H8",), hdfs("SETQUOTA", namespacequota="1"), hdfs("SETQUOTA", namespacequota="-1")),
    Scenario("space quota", ("H8", "H9"), hdfs("SETQUOTA", storagespacequota="1"),
             hdfs("SETQUOTA", storagespacequota="-1")),
    Scenario("permission withdrawn", ("H15",), hdfs("SETPERMISSION", permission="000"),
             hdfs("SETPERMISSION", permission="777")),
    Scenario("namenode rpc cut", ("N1",), through("rpc", Proxy.cut)),
    Scenario("namenode rpc blackholed", ("N2", "P6"), through("rpc", Proxy.blackhole), holds_s=HUNG_S, quick=True),
    Scenario("namenode rpc slow", ("N2",), through("rpc", lambda proxy: proxy.slow(SLOW))),
    Scenario("namenode rpc replies lost", ("N3", "H1"), through("rpc", Proxy.lose_replies), holds_s=HUNG_S),
    Scenario("namenode http cut", ("N1",), through("web", Proxy.cut)),
    Scenario("namenode http blackholed", ("N2",), through("web", Proxy.blackhole), holds_s=HUNG_S),
    Scenario("namenode http slow", ("N2",), through("web", lambda proxy: proxy.slow(SLOW))),
    Scenario("namenode http replies lost", ("N3",), through("web", Proxy.lose_replies), holds_s=HUNG_S),
    Scenario("brokers cut", ("K16",), through("brokers", Proxy.cut)),
    Scenario("brokers blackholed", ("K16", "N2"), through("brokers", Proxy.blackhole), holds_s=AWAY_S),
    Scenario("brokers slow", ("K16", "N2"), through("brokers", lambda proxy: proxy.slow(SLOW))),
    Scenario("brokers' replies lost", ("K5", "N3"), through("brokers", Proxy.lose_replies), holds_s=AWAY_S),
    Scenario("both workers killed", ("P2",), kill_worker, holds_s=(0.0, 1.0), quick=True),
    Scenario("a daemon killed", ("P2", "K1"), kill_daemon, start_daemons),
    Scenario("a daemon frozen longer than its session", ("K2", "K3", "P7", "Z3"), freeze_one, Ground.thaw,
             holds_s=AWAY_S, quick=True),
    Scenario("both daemons frozen longer than their sessions", ("K3", "P7"), freeze_all, Ground.thaw, holds_s=AWAY_S),
    Scenario("spool disk full", ("P3",), fill_disk, free_disk, waits=True, small_disk=True),
    Scenario("retention deletes unread data", ("K8",), lost.retention, Ground.thaw, holds_s=(0.0, 1.0),
             stops=r"{topic}/{partition}: offsets \d+ to \d+ are lost", quick=True),
    Scenario("topic deleted and created again", ("K10",), lost.created_again, holds_s=(0.0, 1.0),
             stops=r"topic {topic} was deleted and re-created.*partition={topic}/{partition}\b"),
    Scenario("log truncated by an unclean election", ("K9",), lost.truncation, holds_s=(0.0, 1.0),
             stops=r"{topic}/{partition}: the ledger is at offset \d+, but the log ends at \d+",
             partitions=1, replicas=2,
             topic={"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}),
    Scenario("failover of the namenode during a decide", ("H1", "H2"), failover.during("rpc", failover.DECIDE),
             failover.take_over, holds_s=(0.0, 5.0), pair=True),
    Scenario("failover of the namenode during a merge", ("H1", "H2"), failover.during("web", failover.MERGE),
             failover.take_over, holds_s=(0.0, 5.0), pair=True),
    Scenario("failover of the namenode during a reveal", ("H1", "H2"), failover.during("rpc", failover.REVEAL),
             failover.take_over, holds_s=(0.0, 5.0), pair=True),
    Scenario("failover from a namenode that hangs", ("H2", "N2", "P6"), failover.hang, failover.take_over, pair=True),
)  # fmt: skip
