"""Triton: XXH3-64 with seed 0 of many equally long leaves, as `digest_numpy` spells it out.

Two kernels: the sums of every kilobyte, all in parallel, which read the memory; then the chain over
a leaf's kilobytes and the merging of its lanes. Leaves have 241 bytes at least.

Shapes: N leaves or kilobytes of a tile, 16 stripes of a kilobyte, 8 lanes of a stripe.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from p2p_kernels.base import Slot
from p2p_kernels.batches import device_scope, on_device
from p2p_kernels.device_digest import check_leaves
from p2p_kernels.digest_numpy import kernel_words
from p2p_kernels.torch_kernels import as_tensor

_BLOCK_BYTES = 1024
_TILE = 16

# Where `kernel_words` has what.
_SCRAMBLE = tl.constexpr(24)
_LAST_STRIPE = tl.constexpr(32)
_MERGE = tl.constexpr(40)
_FIRST = tl.constexpr(48)
_PRIME32_1 = tl.constexpr(0x9E3779B1)
_PRIME64_1 = tl.constexpr(0x9E3779B185EBCA87)
_PRIME_MX1 = tl.constexpr(0x165667919E3779F9)


@triton.jit
def _words_at(address, mask, ALIGNED: tl.constexpr):
    if ALIGNED:
        return tl.load(address.to(tl.pointer_type(tl.uint64)), mask=mask, other=0)
    word = tl.zeros_like(address).to(tl.uint64)
    for n in tl.static_range(8):
        byte = tl.load((address + n).to(tl.pointer_type(tl.uint8)), mask=mask, other=0)
        word |= byte.to(tl.uint64) << (8 * n)
    return word


@triton.jit
def _stripe_sums(stripe, lane, secret, mask, ALIGNED: tl.constexpr):
    """Returns what stripes at some addresses add to their lanes."""
    keyed = _words_at(stripe + 8 * lane, mask, ALIGNED) ^ secret
    other = _words_at(stripe + 8 * (lane ^ 1), mask, ALIGNED)
    return other + (keyed & 0xFFFFFFFF) * (keyed >> 32)


@triton.jit
def _leaf_addresses(slots, leaf, mask, LEAVES: tl.constexpr, LEAF_BYTES: tl.constexpr):
    return tl.load(slots + leaf // LEAVES, mask=mask, other=0) + leaf % LEAVES * LEAF_BYTES


@triton.jit(do_not_specialize=["count"])
def sum_blocks(
    slots,
    words,
    sums,
    count,
    LEAVES: tl.constexpr,
    LEAF_BYTES: tl.constexpr,
    ALIGNED: tl.constexpr,
    N: tl.constexpr,
):
    """Stores (count, 8) the sums of kilobytes, counted over all leaves."""
    blocks: tl.constexpr = (LEAF_BYTES - 1) // 1024
    at_N = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    mask_N = at_N < count
    leaf_N = _leaf_addresses(slots, at_N // blocks, mask_N, LEAVES, LEAF_BYTES)
    stripe_16 = tl.arange(0, 16)
    lane_8 = tl.arange(0, 8)
    stripe_N16 = (leaf_N + at_N % blocks * 1024)[:, None] + stripe_16[None, :] * 64
    secret_16x8 = tl.load(words + stripe_16[:, None] + lane_8[None, :]).to(tl.uint64)
    added = _stripe_sums(
        stripe_N16[:, :, None],
        lane_8[None, None, :],
        secret_16x8[None, :, :],
        mask_N[:, None, None],
        ALIGNED,
    )
    sum_N8 = tl.sum(added, axis=1)
    out_N8 = sums + at_N[:, None] * 8 + lane_8[None, :]
    tl.store(out_N8, sum_N8.to(tl.int64, bitcast=True), mask=mask_N[:, None])


@triton.jit(do_not_specialize=["count"])
def chain_leaves(
    slots,
    words,
    sums,
    digests,
    count,
    LEAVES: tl.constexpr,
    LEAF_BYTES: tl.constexpr,
    ALIGNED: tl.constexpr,
    N: tl.constexpr,
):
    """Stores (count,) the digests of leaves from the sums of their kilobytes."""
    blocks: tl.constexpr = (LEAF_BYTES - 1) // 1024
    stripes: tl.constexpr = (LEAF_BYTES - 1) % 1024 // 64
    leaf_N = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    mask_N = leaf_N < count
    mask_N1 = mask_N[:, None]
    lane_18 = tl.arange(0, 8)[None, :]
    scramble_18 = tl.load(words + _SCRAMBLE + lane_18).to(tl.uint64)
    value_N8 = tl.load(words + _FIRST + lane_18 + tl.zeros_like(leaf_N)[:, None]).to(tl.uint64)
    for block in tl.range(0, blocks, loop_unroll_factor=8):
        sum_N8 = sums + (leaf_N[:, None] * blocks + block) * 8 + lane_18
        value_N8 += tl.load(sum_N8, mask=mask_N1, other=0).to(tl.uint64)
        value_N8 = (value_N8 ^ (value_N8 >> 47) ^ scramble_18) * _PRIME32_1
    start_N1 = _leaf_addresses(slots, leaf_N, mask_N, LEAVES, LEAF_BYTES)[:, None]
    for n in tl.static_range(stripes):
        secret_18 = tl.load(words + n + lane_18).to(tl.uint64)
        at_N1 = start_N1 + (blocks * 1024 + n * 64)
        value_N8 += _stripe_sums(at_N1, lane_18, secret_18, mask_N1, ALIGNED)
    secret_18 = tl.load(words + _LAST_STRIPE + lane_18).to(tl.uint64)
    value_N8 += _stripe_sums(start_N1 + (LEAF_BYTES - 64), lane_18, secret_18, mask_N1, ALIGNED)
    value_N8 ^= tl.load(words + _MERGE + lane_18).to(tl.uint64)
    low_N4, high_N4 = tl.split(tl.reshape(value_N8, (N, 4, 2)))
    folded_N4 = (low_N4 * high_N4) ^ tl.umulhi(low_N4, high_N4)
    hash_N = tl.sum(folded_N4, axis=1) + (LEAF_BYTES * _PRIME64_1) % 2**64
    hash_N = (hash_N ^ (hash_N >> 37)) * _PRIME_MX1
    hash_N ^= hash_N >> 32
    tl.store(digests + leaf_N, hash_N.to(tl.int64, bitcast=True), mask=mask_N)


class TritonDigester:
    """Digests leaves on a device; see `LeafDigester`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._words = on_device(kernel_words().view("<i8").tolist(), device)

    def leaf_digests(self, slots: Sequence[Slot], leaf_bytes: int) -> torch.Tensor:
        """See `LeafDigester.leaf_digests`."""
        chunks = [as_tensor(slot) for slot in slots]
        per_chunk = check_leaves(chunks, leaf_bytes, self._device)
        leaves, blocks = len(chunks) * per_chunk, (leaf_bytes - 1) // _BLOCK_BYTES
        addresses = [chunk.data_ptr() for chunk in chunks]
        at = on_device(addresses, self._device)
        sums = torch.empty(max(1, leaves * blocks * 8), dtype=torch.int64, device=self._device)
        digests = torch.empty(leaves, dtype=torch.int64, device=self._device)
        constants = {
            "LEAVES": per_chunk,
            "LEAF_BYTES": leaf_bytes,
            "ALIGNED": math.gcd(8, leaf_bytes, *addresses) == 8,
            "N": _TILE,
        }
        with device_scope(self._device):
            if count := leaves * blocks:
                tiles = (-(-count // _TILE),)
                sum_blocks[tiles](at, self._words, sums, count, **constants)
            tiles = (-(-leaves // _TILE),)
            chain_leaves[tiles](at, self._words, sums, digests, leaves, **constants)
        return digests.view(len(chunks), per_chunk)
