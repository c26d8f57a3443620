"""Digests of chunks: the definition, and its fastest form on the host.

A leaf's digest is XXH3-64 with seed 0. The root is XXH3-64 with seed 0 of the chunk's key and the
leaves' digests as little-endian 64-bit words, in the chunk's order: right bytes under a wrong key
fail too. It guards against faults, not forgery. `digest_numpy` is the same function spelled out,
for devices to follow.

A rank's shard that is read whole is one leaf; where a reader slices, a leaf is the smallest span
that it may take (`Layout.leaf_bytes`). The interpreter lock is released for leaves above 64 KiB
only (xxhash's threshold): one leaf of 2 MiB takes 35 µs, 256 of 8 KiB take 75 with the lock held.
"""

import struct
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from p2p.errors import ArgumentError
from p2p_kernels.memory import Uint8s

Digests = npt.NDArray[np.uint64]
Bytes: TypeAlias = bytes | bytearray | memoryview | Uint8s


def leaf_digests(chunk: Bytes, leaf_bytes: int) -> Digests:
    """Returns the digest of every leaf of a chunk, in order.

    Args:
        chunk: contiguous bytes of a chunk, or of any whole number of its leaves.
        leaf_bytes: bytes of a leaf.

    Raises:
        ArgumentError: the chunk is no whole number of leaves.
    """
    return np.array(_leaves(chunk, leaf_bytes), np.uint64)


def root_digest(key: bytes, leaves: Digests) -> int:
    """Returns the digest of a chunk, from its key and the digests of all its leaves in order."""
    words = np.ascontiguousarray(leaves, "<u8")
    return xxhash.xxh3_64_intdigest(key + words.tobytes())


def chunk_digest(key: bytes, chunk: Bytes, leaf_bytes: int) -> int:
    """Returns ``root_digest(key, leaf_digests(chunk, leaf_bytes))``, at less cost.

    Raises:
        ArgumentError: the chunk is no whole number of leaves.
    """
    leaves = _leaves(chunk, leaf_bytes)
    return xxhash.xxh3_64_intdigest(key + struct.pack(f"<{len(leaves)}Q", *leaves))


def _leaves(chunk: Bytes, leaf_bytes: int) -> list[int]:
    content = chunk if isinstance(chunk, np.ndarray) else np.frombuffer(chunk, np.uint8)
    if content.dtype != np.uint8 or not content.flags.c_contiguous:
        raise ArgumentError("chunk", f"{content.dtype} {content.shape}", "contiguous uint8")
    if leaf_bytes < 1 or content.size % leaf_bytes or not content.size:
        reason = f"a chunk of {content.size} bytes is no whole number of leaves"
        raise ArgumentError("leaf_bytes", leaf_bytes, reason)
    # Arrays are buffers, but their type stubs say so from Python 3.12 on only.
    if content.size == leaf_bytes:
        return [xxhash.xxh3_64_intdigest(content)]  # type: ignore[arg-type]
    leaves = content.reshape(-1, leaf_bytes)
    return list(map(xxhash.xxh3_64_intdigest, leaves))  # type: ignore[arg-type]
