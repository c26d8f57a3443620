"""Whether a copy was right: a few rows of every chunk, compared where the reference puts them."""

from collections.abc import Sequence

import numpy as np

from p2p_kernels.base import Slot
from p2p_kernels.memory import PageMemory, host_bytes
from p2p_kernels.plan import CopyPlan
from p2p_kernels.reference import row_at

_ROWS = 16
_GOLDEN_RATIO = 0.6180339887498949


def first_wrong_row(plan: CopyPlan, slots: Sequence[Slot], memory: PageMemory) -> str | None:
    """Returns where pages and slots differ after a copy, or none if the rows looked at agree.

    Looks at the first and last row of every chunk and at some in between. Waits for the device.
    """
    chunk, planes = plan.shape.chunk, plan.shape.chunk.num_planes
    counts = (planes, chunk.chunk_tokens, plan.shape.heads.count)
    total = planes * chunk.chunk_tokens * plan.shape.heads.count
    inside = (int(total * (step * _GOLDEN_RATIO % 1)) for step in range(1, _ROWS - 1))
    picked = sorted({0, total - 1, *inside})
    for number, slot in enumerate(slots):
        for pick in picked:
            plane, token, head = (int(place) for place in np.unravel_index(pick, counts))
            row = row_at(plan, number, plane, token, head)
            if row is None:
                continue
            in_page = _page_bytes(memory, plane, row[0], chunk.row_bytes)
            if in_page != _slot_bytes(slot, row[1], chunk.row_bytes):
                return f"chunk {number}, plane {plane}, token {token}, head {head}"
    return None


def _page_bytes(memory: PageMemory, plane: int, address: int, num_bytes: int) -> bytes:
    if memory.spec.device == "cpu":
        return host_bytes(address, num_bytes, is_writable=False).tobytes()
    from p2p_kernels.torch_kernels import plane_bytes  # noqa: PLC0415 - optional package

    start = address - memory.spec.planes[plane]
    row = plane_bytes(memory)[plane][start : start + num_bytes]
    return bytes(row.cpu().numpy())


def _slot_bytes(slot: Slot, start: int, num_bytes: int) -> bytes:
    part = slot[start : start + num_bytes]
    return part.tobytes() if isinstance(part, np.ndarray) else bytes(part.cpu().numpy())
