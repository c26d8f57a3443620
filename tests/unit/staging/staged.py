"""Stages whose pace and failures a test decides, and an independent schedule of a ring."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2p.channel.base import TransferState
from p2p.channel.staging import StageCost, ThreadStage


def schedule(times: Sequence[float], num_pieces: int, num_slots: int) -> float:
    """When the last piece leaves: each stage takes one piece at a time, each piece has a slot."""
    ends: list[list[float]] = []
    for piece in range(num_pieces):
        slot_free = ends[piece - num_slots][-1] if piece >= num_slots else 0.0
        at = slot_free
        row = []
        for number, seconds in enumerate(times):
            stage_free = ends[piece - 1][number] if piece else 0.0
            at = max(at, stage_free) + seconds
            row.append(at)
        ends.append(row)
    return ends[-1][-1]


class Line:
    """A line of some speed: a piece takes its time, and the next one begins when it is through.

    The end of a piece is a deadline, so that late wake-ups do not add up.
    """

    def __init__(self, cost: StageCost, piece_bytes: int) -> None:
        self.seconds = cost.seconds(piece_bytes)
        self._free_s = 0.0

    def occupy(self) -> None:
        self._free_s = max(self._free_s, time.monotonic()) + self.seconds
        time.sleep(max(0.0, self._free_s - time.monotonic()))


@dataclass
class HeldWork:
    """Work that a test ends."""

    state: TransferState = TransferState.PENDING
    problem: str = ""
    is_quiet: bool = False
    is_cancelled: bool = False

    def poll(self) -> TransferState:
        return self.state

    def error(self) -> str:
        return self.problem

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.state is TransferState.PENDING:
            self.state = TransferState.CANCELLED

    def quiesced(self) -> bool:
        return self.is_quiet or self.state is TransferState.DONE


@dataclass
class HeldStage:
    """A stage whose work waits for the test."""

    works: dict[int, HeldWork] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    refusal: Exception | None = None

    def start(self, piece: int, slot: int) -> HeldWork:
        if self.refusal is not None:
            raise self.refusal
        self.slots[piece] = slot
        return self.works.setdefault(piece, HeldWork())

    def end(self, piece: int) -> None:
        self.works[piece].state = TransferState.DONE

    def fail(self, piece: int, problem: str) -> None:
        self.works[piece].state = TransferState.FAILED
        self.works[piece].problem = problem


class Occupancy:
    """Counts how many pieces are worked on at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


def throttled(name: str, line: Line, busy: Occupancy) -> ThreadStage:
    def move(piece: int, slot: int) -> None:
        with busy:
            line.occupy()

    return ThreadStage(name, move)
