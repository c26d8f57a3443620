"""What must hold once a fault is healed: nothing leaks, nothing comes late, all is served."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.e2e.controller_process import until
from tests.fault.cluster import SEEDS, Cluster
from tests.fault.faults import leases_end
from tests.fault.peer_process import NUM_CHUNKS

if TYPE_CHECKING:
    from tests.fault.cluster import Answer

SMALL = 32
BUDGET_S = 2.0  # of every fetch
OVER_S = 0.1  # a fetch may be late by this
Figures = dict[int, tuple[int, int]]
_SETTLED_S = 10.0
_HEALED_S = 20.0
_LATE_BYTES_S = 0.2  # bytes that come late would be here by then
_TURNS = 5  # after so many, every lane has read from every holder
_DRAINED_S = 3.0  # sockets of a fenced agent are read on for a while
_FIGURES_S = 5.0


class Aftermath:
    """Looks at a cluster between faults.

    Args:
        cluster: all of whose processes run.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._figures: Figures = {}

    def problems(self) -> Iterator[str]:
        """Yields what does not hold after a fault was healed; everything is released after it."""
        reader = self._cluster.reader
        yield from self.quarantine_problems()
        time.sleep(_LATE_BYTES_S)
        if wrong := reader.ask("recheck")["wrong"]:
            yield f"bytes of delivered chunks {wrong} changed"
        reader.ask("release")
        yield from self.lease_problems(self._cluster.holders)
        yield from self._healing_problems()
        yield from self._slot_problems()

    def quarantine_problems(self) -> Iterator[str]:
        """Yields whether slots of the reader stay out of use."""
        reader = self._cluster.reader
        if not until(lambda: reader.count("slots_quarantined") == 0, _SETTLED_S):
            yield f"slots stay in quarantine: {reader.ask('counters')}"

    def lease_problems(self, holders: Iterable[str]) -> Iterator[str]:
        """Yields whether holders still lend something though nobody reads."""
        if not leases_end(self._cluster, holders):
            yield "leases stay"

    def _healing_problems(self) -> Iterator[str]:
        """A fetch is whole again, from all holders and from each of them alone."""
        yield from self._fetch_problems("all holders")
        for name in self._cluster.holders:
            with self._alone(name):
                yield from self._fetch_problems(f"{name} alone")

    def _fetch_problems(self, source: str) -> Iterator[str]:
        reader, wrong = self._cluster.reader, []
        last: Answer = {}

        def is_whole() -> bool:
            self._cluster.expect_alive()
            self._forget()
            answer = reader.ask("fetch", num=NUM_CHUNKS, budget_s=BUDGET_S)
            wrong.extend(answer["wrong"])
            last.update(answer)
            return bool(answer["num"] == answer["num_given"] == NUM_CHUNKS)

        if not until(is_whole, _HEALED_S):
            yield f"not healed, {source}: {last}"
        wrong += reader.ask("recheck")["wrong"]
        if wrong:
            yield f"wrong bytes in chunks {wrong} after healing, {source}"
        self._forget()

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Empties the other holders for a while."""
        others = [other for other in self._cluster.holders if other != name]
        assert leases_end(self._cluster, others), "leases stay"
        for other in others:
            self._cluster.processes[other].ask("clear")
        yield
        for other in others:
            stored = self._cluster.processes[other].ask("put", num=NUM_CHUNKS, seed=SEEDS[other])
            assert stored == {"num": NUM_CHUNKS, "is_advertised": True}, stored

    def _slot_problems(self) -> Iterator[str]:
        """Every slot is free or holds a chunk, and what nobody uses can be evicted."""
        yield from self.lease_problems(self._cluster.holders)
        counts = self._cluster.reader.ask("counters")
        if counts["chunks"] or counts["slots_free"] != 2 * NUM_CHUNKS:
            yield f"slots of the reader are missing: {counts}"
        for name in self._cluster.holders:
            holder = self._cluster.processes[name]
            own, counts = holder.ask("own"), holder.ask("counters")
            if own != {"num": NUM_CHUNKS, "wrong": []}:
                yield f"chunks of {name} are not what it stored: {own}"
            if counts["slots_free"] or counts["chunks"] != NUM_CHUNKS:
                yield f"slots of {name} are missing: {counts}"

    # ------------------------------------------------------------------ files and threads

    def settle_figures(self, has_fenced: bool) -> None:
        """Takes down how many files and threads each process has when all are at work."""
        for _ in range(_TURNS):
            self._use_every_link()
        if has_fenced:
            time.sleep(_DRAINED_S)
        self._figures = self._figures_now()

    def growth(self) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
        """Returns, by process id, files and threads before and now, where there stay more."""
        until(lambda: not self._growth_now(), _FIGURES_S)
        return self._growth_now()

    def _growth_now(self) -> dict[int, tuple[tuple[int, int], tuple[int, int]]]:
        return {
            pid: (self._figures[pid], now)
            for pid, now in self._figures_now().items()
            if pid in self._figures
            and any(n > m for n, m in zip(now, self._figures[pid], strict=True))
        }

    def _figures_now(self) -> Figures:
        return {one.process.pid: one.figures for one in self._cluster.processes.values()}

    def _use_every_link(self) -> None:
        """Reads in every way from every holder: connections are made when first used."""
        for name in self._cluster.holders:
            with self._alone(name):
                for num_chunks in (NUM_CHUNKS, SMALL):
                    self._cluster.reader.ask("fetch", num=num_chunks)
                    self._forget()

    def _forget(self) -> None:
        self._cluster.reader.ask("release")
        self._cluster.reader.ask("clear")
