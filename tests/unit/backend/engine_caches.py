"""Paged caches of engines whose content is known by block, layer, plane, token and head.

Shapes: L layers, K planes of a layer, B blocks, P tokens per block, H heads, D elements of a row.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2p.kernels import PageAxes, Tensors
from p2p.layout import Layout

LAYOUT = Layout(3, 4, 8, "float16", block_tokens=4, chunk_tokens=16)
NUM_BLOCKS = 40
_ORDER = "LKBPHD"


@dataclass(frozen=True)
class Paged:
    """A cache in one engine's layout.

    Attributes:
        axes: of each tensor.
        tensors: as an engine registers them.
        content: (L, K, B, P, H, D) the same memory, in an order that all share.
    """

    axes: str
    tensors: Tensors
    content: npt.NDArray[np.float16]


def paged(axes: PageAxes, seed: int, layout: Layout = LAYOUT) -> Paged:
    """One tensor for all layers if the axes have L, pairs if they have no K, else one each."""
    shape = {
        "L": layout.num_layers,
        "K": layout.num_planes,
        "B": NUM_BLOCKS,
        "P": layout.block_tokens,
        "H": layout.num_kv_heads,
        "D": layout.head_dim,
    }
    letters = "".join(letter for letter in "LK" if letter not in axes) + axes
    whole = np.zeros([shape[letter] for letter in letters], np.float16)
    content = whole.transpose([letters.index(letter) for letter in _ORDER])
    if seed:
        content[...] = np.random.default_rng(seed).random(content.shape, np.float32)
    if "L" in axes:
        return Paged(axes, whole, content)
    if "K" in axes:
        return Paged(axes, list(whole), content)
    return Paged(axes, [tuple(layer) for layer in whole], content)
