"""What a copy costs: a few numbers of the work, and the constants of an implementation.

A cost is ``call + planes * plane + rows * row + bytes * byte`` seconds. Rows are the plan's runs;
planes are counted over chunks, since most implementations make a call for each. The constants are
fitted to measured copies. Pure.
"""

from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from p2p_kernels.plan import CopyPlan, CopyShape
from p2p_kernels.rows import row_map

_CONSTANTS = 4
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Direction(StrEnum):
    """Which way bytes go, and whether they leave the device."""

    GATHER = "gather"
    SCATTER = "scatter"
    GATHER_TO_HOST = "gather-to-host"
    SCATTER_FROM_HOST = "scatter-from-host"

    @property
    def is_gather(self) -> bool:
        """True if slots are written."""
        return self in {Direction.GATHER, Direction.GATHER_TO_HOST}

    @property
    def is_on_device(self) -> bool:
        """True if slots are where the pages are."""
        return self in {Direction.GATHER, Direction.SCATTER}


class LayoutKind(StrEnum):
    """What pages look like from the chunk: what implementations do differently."""

    BLOCKS = "blocks"  # a group of tokens is one run on both sides
    ROWS = "rows"  # a plane is a list of rows that the chunk has in another order
    STRIDED = "strided"  # rows are padded, or runs lie at no multiple of their length


class Work(NamedTuple):
    """The size of a copy."""

    planes: int
    rows: int
    bytes: int


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Constants of an implementation, in seconds: of a call, of a plane, of a row, of a byte."""

    call_s: Seconds = 0.0
    plane_s: Seconds = 0.0
    row_s: Seconds = 0.0
    byte_s: Seconds = 0.0

    def seconds(self, work: Work) -> float:
        """Returns what a copy is taken to last."""
        return (
            self.call_s
            + self.plane_s * work.planes
            + self.row_s * work.rows
            + self.byte_s * work.bytes
        )


def layout_kind(shape: CopyShape) -> LayoutKind:
    """Returns what copies of a shape have in common with others that cost the same."""
    if row_map(shape) is None:
        return LayoutKind.STRIDED
    return LayoutKind.ROWS if shape.dims else LayoutKind.BLOCKS


def work_of(plan: CopyPlan) -> Work:
    """Returns the size of a copy; skipped blocks count as if they were copied."""
    shape, num_chunks = plan.shape, plan.num_chunks
    planes = num_chunks * shape.chunk.num_planes
    rows = planes * shape.blocks.size
    for dim in shape.dims:
        rows *= dim.size
    return Work(planes, rows, rows * shape.run_bytes)


def fitted(works: list[Work], seconds: list[float]) -> Cost:
    """Returns the constants that fit measured copies best, by relative error; none is negative.

    Of too few copies all time is taken to be that of bytes.

    Args:
        works: N sizes of copies, at least one.
        seconds: N times, above zero.
    """
    if len(works) < _CONSTANTS:
        return Cost(
            byte_s=max(time / work.bytes for work, time in zip(works, seconds, strict=True))
        )
    terms_N4 = np.array([(1, *work) for work in works], float) / np.array(seconds)[:, None]
    used = list(range(_CONSTANTS))
    while True:
        found = _solve(terms_N4[:, used])
        if not len(found) or found.min() >= 0:
            break
        used.pop(int(found.argmin()))
    constants = [0.0] * _CONSTANTS
    for term, value in zip(used, found.tolist(), strict=True):
        constants[term] = value
    return Cost(*constants)


def _solve(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scale = np.abs(terms).max(axis=0)
    scale[scale == 0] = 1
    solution = np.linalg.lstsq(terms / scale, np.ones(len(terms)), rcond=None)[0]
    return np.asarray(solution / scale)
