"""How long a staged copy takes, and what sizes follow from that. Pure numbers, no I/O.

A copy of S bytes goes through stages (device to host, network, host to device) in pieces of c
bytes, one piece per slot of a ring. Stage i needs ``t_i(c) = latency_i + c / bandwidth_i`` for a
piece; the slowest stage b sets the pace:

    T(S, c) = sum of t_i(c) + (S / c - 1) * max of t_i(c)

Gather and scatter are folded into the copies next to them as one more ``1 / bandwidth``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from p2p.errors import ArgumentError

MIN_SLOT_BYTES = 256 << 10
MAX_SLOT_BYTES = 8 << 20
ONE_SHOT_BYTES = 1 << 20  # below, cutting gains nothing
USUAL_SLOTS = 4  # per direction and lane: three keep every stage busy, one is for jitter
SLOT_ALIGNMENT = 4096


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage costs.

    Attributes:
        name: of the stage.
        latency_s: per piece, whatever its size.
        bytes_per_s: its bandwidth.

    Raises:
        ArgumentError: a negative latency, or no bandwidth.
    """

    name: str
    latency_s: float
    bytes_per_s: float

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not (0 <= self.latency_s < math.inf):
            raise ArgumentError("latency_s", self.latency_s, "at least 0")
        if not (0 < self.bytes_per_s < math.inf):
            raise ArgumentError("bytes_per_s", self.bytes_per_s, "more than 0")

    def seconds(self, num_bytes: float) -> float:
        """Returns the time of one piece."""
        return self.latency_s + num_bytes / self.bytes_per_s

    def after(self, bytes_per_s: float) -> "StageCost":
        """Returns this stage with a copy of this bandwidth ahead of or behind it, folded in."""
        both = 1 / (1 / self.bytes_per_s + 1 / bytes_per_s)
        return replace(self, bytes_per_s=both)

    def within(self, memory_bytes_per_s: float, num_passes: int) -> "StageCost":
        """Returns this stage on a host whose memory every byte crosses ``num_passes`` times."""
        return replace(self, bytes_per_s=min(self.bytes_per_s, memory_bytes_per_s / num_passes))


@dataclass(frozen=True, slots=True)
class StagingModel:
    """Stages one behind the other.

    Attributes:
        stages: in order, at least one.

    Raises:
        ArgumentError: there is no stage.
    """

    stages: tuple[StageCost, ...]

    def __post_init__(self) -> None:
        """Checks that there are stages."""
        if not self.stages:
            raise ArgumentError("stages", self.stages, "at least one")

    def seconds(self, total_bytes: float, slot_bytes: float) -> float:
        """Returns T(S, c); what fits one slot goes in one piece.

        Raises:
            ArgumentError: a size is not positive.
        """
        _check_sizes(total_bytes, slot_bytes)
        piece = min(total_bytes, slot_bytes)
        times = [stage.seconds(piece) for stage in self.stages]
        return sum(times) + (total_bytes / piece - 1) * max(times)

    def best_slot_bytes(self, total_bytes: float) -> float:
        """Returns c*, the piece with the least T(S, c), between 1 byte and all of it.

        With b the slowest stage, ``c* = sqrt(S * latency_b / sum over i != b of 1 / bandwidth_i)``.
        Which stage is slowest depends on c, so the sizes at which it changes count as well.

        Raises:
            ArgumentError: the size is not positive.
        """
        _check_sizes(total_bytes, total_bytes)
        sizes = [total_bytes, *self._turning_points(total_bytes), *self._crossings()]
        fitting = [min(max(size, 1.0), total_bytes) for size in sizes]
        return min(fitting, key=lambda size: self.seconds(total_bytes, size))

    def slots_needed(self, slot_bytes: float) -> int:
        """Returns how many slots keep the slowest stage busy, without jitter.

        A slot is taken for the time that a piece spends in all stages.
        """
        times = [stage.seconds(slot_bytes) for stage in self.stages]
        return max(1, math.ceil(sum(times) / max(times) - 1e-9))

    def _turning_points(self, total_bytes: float) -> list[float]:
        """Returns the best size for each stage, were it the slowest at every size."""
        points = []
        for number, stage in enumerate(self.stages):
            others = self.stages[:number] + self.stages[number + 1 :]
            per_byte = sum(1 / other.bytes_per_s for other in others)
            if per_byte:
                points.append(math.sqrt(total_bytes * stage.latency_s / per_byte))
        return points

    def _crossings(self) -> list[float]:
        """Returns the sizes at which two stages take equally long."""
        sizes = []
        for one, other in combinations(self.stages, 2):
            slope = 1 / one.bytes_per_s - 1 / other.bytes_per_s
            if slope:
                sizes.append((other.latency_s - one.latency_s) / slope)
        return sizes


@dataclass(frozen=True, slots=True)
class RingSize:
    """How a ring is cut.

    Attributes:
        slot_bytes: of one slot, a multiple of the alignment.
        num_slots: slots.
    """

    slot_bytes: int
    num_slots: int

    @property
    def num_bytes(self) -> int:
        """Memory of the whole ring."""
        return self.slot_bytes * self.num_slots


def ring_size(
    stages: Sequence[StageCost],
    total_bytes: int,
    in_flight_bytes: int = 0,
    alignment: int = SLOT_ALIGNMENT,
) -> RingSize:
    """Returns the ring for copies of about ``total_bytes``.

    Slots are c* within 256 KiB and 8 MiB, and as long as the copy itself where that is less than
    1 MiB. There are four, or one more than the model needs, and as many more as a distant peer
    keeps in flight.

    Args:
        stages: what the stages cost.
        total_bytes: of a usual copy.
        in_flight_bytes: round trip times bandwidth of a distant peer.
        alignment: of slots: 4 KiB, and 2 MiB for Ascend.

    Raises:
        ArgumentError: a number is not positive.
    """
    if alignment < 1:
        raise ArgumentError("alignment", alignment, "at least 1")
    if in_flight_bytes < 0:
        raise ArgumentError("in_flight_bytes", in_flight_bytes, "at least 0")
    model = StagingModel(tuple(stages))
    best = float(total_bytes)
    if total_bytes >= ONE_SHOT_BYTES:
        best = min(max(model.best_slot_bytes(total_bytes), MIN_SLOT_BYTES), MAX_SLOT_BYTES)
    slot_bytes = math.ceil(best / alignment) * alignment
    _check_sizes(total_bytes, slot_bytes)
    num_slots = max(USUAL_SLOTS, model.slots_needed(slot_bytes) + 1)
    return RingSize(slot_bytes, num_slots + math.ceil(in_flight_bytes / slot_bytes))


def _check_sizes(total_bytes: float, slot_bytes: float) -> None:
    for name, size in (("total_bytes", total_bytes), ("slot_bytes", slot_bytes)):
        if not size > 0:
            raise ArgumentError(name, size, "more than 0")
