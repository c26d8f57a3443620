"""Memory cut into blocks, with contents that both sides of a test know."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2p.agent.memory import HostArena
from p2p.regions import PROBE_BYTES, Probe, Region, Segment, probe_content

GUARD = 0xEE


@dataclass(frozen=True)
class Shape:
    """Blocks of some segments; strides are larger than lengths by ``gap`` bytes."""

    num_blocks: int
    lengths: tuple[int, ...]
    gap: int = 0

    @property
    def num_bytes(self) -> int:
        return sum((length + self.gap) * self.num_blocks for length in self.lengths)


SMALL = Shape(16, (8192,))
STRIDED = Shape(8, (4096, 1000, 4096), gap=104)
BIG = Shape(64, (512 << 10,))
TINY = Shape(12_000, (512,))


class Blocks:
    """An arena cut by a shape. Gaps hold a guard value, blocks what ``seed`` says."""

    def __init__(
        self,
        shape: Shape,
        seed: int,
        arena: type[HostArena] = HostArena,
    ) -> None:
        self.shape = shape
        self.arena = arena(shape.num_bytes + PROBE_BYTES)
        segments = []
        base = self.arena.address
        for length in shape.lengths:
            segments.append(Segment(base, length + shape.gap, length))
            base += (length + shape.gap) * shape.num_blocks
        probe = Probe(base, seed.to_bytes(16, "little"))
        self.region = Region(tuple(segments), shape.num_blocks, probe=probe)
        self.fill(seed)

    def fill(self, seed: int) -> None:
        self.all_bytes()[:] = GUARD
        for segment, view in enumerate(self._segments()):
            random = np.random.default_rng([seed, segment])
            view[:] = random.integers(0, 256, view.shape, np.uint8)
        seed_of_probe = self.region.probe.seed if self.region.probe else bytes(16)
        view = self.arena.view(self.shape.num_bytes, PROBE_BYTES)
        view[:] = np.frombuffer(probe_content(seed_of_probe), np.uint8)

    def clear(self) -> None:
        for view in self._segments():
            view[:] = 0

    def block(self, index: int) -> bytes:
        return b"".join(view[index].tobytes() for view in self._segments())

    def blocks(self) -> list[bytes]:
        return [self.block(index) for index in range(self.shape.num_blocks)]

    def guards_are_intact(self) -> bool:
        inside = sum(int(np.count_nonzero(view == GUARD)) for view in self._segments())
        gap_bytes = self.shape.gap * self.shape.num_blocks * len(self.shape.lengths)
        return int(np.count_nonzero(self.all_bytes() == GUARD)) - inside == gap_bytes

    def all_bytes(self) -> npt.NDArray[np.uint8]:
        return self.arena.view(0, self.shape.num_bytes)

    def _segments(self) -> list[npt.NDArray[np.uint8]]:
        views = []
        offset = 0
        for length in self.shape.lengths:
            stride = length + self.shape.gap
            size = stride * self.shape.num_blocks
            views.append(self.arena.view(offset, size).reshape(-1, stride)[:, :length])
            offset += size
        return views
