"""What kernels on devices are launched with: one copy shape as plain numbers, and by whom.

Between a block and its run a plan has at most two axes left, heads and tokens; kernels always take
both. Widths are chosen here, on the host, since a device faults on a misaligned access. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError
from p2p_kernels.plan import CopyShape, Dim

THREADS = 256
Grid: TypeAlias = tuple[int, int, int]
Argument: TypeAlias = int | np.uint32 | npt.NDArray[np.void]

_NO_AXIS = Dim(1, 0, 0)
_MAX_WORDS = 1 << 31


@dataclass(frozen=True, slots=True)
class KernelShape:
    """A copy shape with exactly two axes inside a block.

    Attributes:
        copy: the shape.
        outer: the axis with the longer stride in the chunk.
        inner: the other one.
        rows_per_plane: runs that one plane of a chunk takes.
    """

    copy: CopyShape
    outer: Dim
    inner: Dim
    rows_per_plane: int

    @classmethod
    def of(cls, copy: CopyShape) -> "KernelShape":
        """Returns the shape in the form that kernels take.

        Raises:
            ArgumentError: more axes are left than kernels have.
        """
        if len(copy.dims) > 2:
            raise ArgumentError("dims", copy.dims, "kernels take two axes inside a block")
        outer, inner = [_NO_AXIS, _NO_AXIS, *copy.dims][-2:]
        return cls(copy, outer, inner, copy.blocks.size * outer.size * inner.size)

    def words_per_plane(self, access_bytes: int) -> int:
        """Returns how many accesses one plane of one chunk takes.

        Raises:
            ArgumentError: more than a 32-bit index of the kernels can count.
        """
        words = self.rows_per_plane * (self.copy.run_bytes // access_bytes)
        if words >= _MAX_WORDS:
            raise ArgumentError("run_bytes", self.copy.run_bytes, f"{words} words of a plane")
        return words


class Launcher(Protocol):
    """Runs the C++ kernels of ``csrc`` on one device."""

    def launch(self, kernel: str, grid: Grid, arguments: Sequence[Argument]) -> None:
        """Starts a kernel in blocks of `THREADS` on torch's current stream.

        Args:
            kernel: its name in the source.
            grid: how many blocks.
            arguments: ints are 64 bits wide, ``np.uint32`` 32; arrays of one record go by value.
        """
        ...
