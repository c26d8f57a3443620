"""Faults that are done to the processes of a cluster, and undone."""

import signal
import time
from collections.abc import Iterable

from tests.e2e.controller_process import until
from tests.fault.cells import Cell
from tests.fault.cluster import LATER, SEEDS, Cluster
from tests.fault.peer_process import NUM_CHUNKS

SLOW_MBIT = 8.0
_STANDSTILL_S = 0.5
LEASES_END_S = 6.0  # a fetch asks for its budget and 0.5 s


class Fault:
    """What a cell does to its victim.

    Args:
        cell: which.
        cluster: with the victim, and with a fetch under way.
        likely: the holder to strike if none has lent yet.
        is_silent: a cut loses frames and leaves the link up; else the link goes down.
    """

    def __init__(self, cell: Cell, cluster: Cluster, likely: str, is_silent: bool) -> None:
        self.victim = (lender(cluster) or likely) if cell.role == "holder" else cell.role
        self._cell = cell
        self._cluster = cluster
        self._is_silent = is_silent

    def strike(self) -> None:
        """Does it."""
        match self._cell.fault:
            case "kill":
                self._cluster.processes[self.victim].signal(signal.SIGKILL)
            case "stop":
                self._cluster.processes[self.victim].signal(signal.SIGSTOP)
            case "cut":
                self._cut()
            case "slow":
                for name in self._slowed():
                    self._cluster.hosts[name].limit(SLOW_MBIT)
            case _:
                assert self._cluster.processes[self.victim].ask("flip")["num"] == NUM_CHUNKS

    def heal(self) -> None:
        """Undoes it; the victim works when this returns, though others may not know yet."""
        match self._cell.fault:
            case "kill":
                self._cluster.start(self.victim)
                self._cluster.ready(self.victim)
            case "stop":
                self._cluster.processes[self.victim].signal(signal.SIGCONT)
            case "cut":
                self._cluster.hosts[self.victim].heal()
            case "slow":
                for name in self._slowed():
                    self._cluster.hosts[name].unlimit()
            case _:
                assert leases_end(self._cluster, [self.victim]), "leases do not end"
                self._store(self.victim, SEEDS[self.victim])

    def let_leases_end(self) -> list[str]:
        """Waits until a reader that stands still has lost its leases, and reuses the slots."""
        time.sleep(_STANDSTILL_S)
        problems = [] if leases_end(self._cluster, self._cluster.holders) else ["leases do not end"]
        for name in self._cluster.holders:
            self._store(name, SEEDS[name] + LATER)
        return problems

    def _cut(self) -> None:
        host = self._cluster.hosts[self.victim]
        if self._is_silent:
            host.cut_in()
            host.cut_out()
        else:
            host.cut()

    def _slowed(self) -> Iterable[str]:
        """Returns whose sending is bounded: what a reader takes in is what holders send."""
        is_reader = self._cell.role == "reader"
        return (self.victim, *self._cluster.holders) if is_reader else (self.victim,)

    def _store(self, name: str, seed: int) -> None:
        """Replaces everything in a pool that nobody borrows from."""
        holder = self._cluster.processes[name]
        holder.ask("clear")
        stored = holder.ask("put", num=NUM_CHUNKS, seed=seed)
        assert stored["num"] == NUM_CHUNKS, stored


def lender(cluster: Cluster) -> str:
    """Returns a holder that a fetch borrows from; empty if there is none yet."""
    lenders = [name for name in cluster.holders if cluster.processes[name].count("leases")]
    return lenders[0] if lenders else ""


def leases_end(cluster: Cluster, holders: Iterable[str]) -> bool:
    """Waits until these holders have lent nothing."""

    def have_none() -> bool:
        return all(cluster.processes[name].count("leases") == 0 for name in holders)

    return until(have_none, LEASES_END_S)
