"""What a host shows of its partitions in ZooKeeper: who reads each, and how far it is, in time (B) and on HDFS (C)."""

from __future__ import annotations

from logflume.status.figures import View
from logflume.zookeeper import Content


def owners(view: View, host: str) -> dict[str, Content]:
    """Node below the path of ``daemon.zookeeper`` → its JSON: a contract, keys are added, never changed.

    ``host`` is the name of the host and the process id of the parent, ``name:pid``.
    """
    return {
        f"partitions/{one.topic}/{one.partition}": {
            "owner": f"{host}/{worker}",
            "phase": one.phase,
            "committed": one.committed,
            "boundary": one.boundary,
            "position": one.position,
        }
        for worker, one in view.owned
    }
