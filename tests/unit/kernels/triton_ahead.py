"""Compiles the Triton kernels ahead of time for devices that are not there; run as a process.

Prints one JSON object: by target and kernel the widest accesses of the code and the binary's size.
"""

import json
import re
import sys

import numpy as np
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from p2p.kernels import ChunkSpec, HeadRange, PageAxes, PageMemory
from p2p_kernels.launch import KernelShape
from p2p_kernels.plan import copy_shape
from p2p_kernels.triton_digest import chain_leaves, sum_blocks
from p2p_kernels.triton_kernels import RowTile, copy_rows

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx90a": GPUTarget("hip", "gfx90a", 64),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
LOADS = {"cuda": r"ld\.global\.v4\.b32|ld\.global\.v2\.b64", "hip": r"global_load_dwordx4"}
STORES = {"cuda": r"st\.global\.v4\.b32|st\.global\.v2\.b64", "hip": r"global_store_dwordx4"}


def tiles(access_bytes):
    """Tiles of the usual layouts at usual sizes."""
    shapes = {
        "nhd": (PageAxes.KV_FIRST_NHD, (2, 64, 16, 8, 128), None),
        "hnd": (PageAxes.KV_FIRST_HND, (2, 64, 8, 16, 128), None),
        "heads": (PageAxes.KV_FIRST_NHD, (2, 64, 16, 8, 128), HeadRange(4, 0, 2)),
        "mla": (PageAxes.MLA, (64, 64, 576), None),
    }
    for name, (axes, sizes, heads) in shapes.items():
        base = np.zeros(2 * int(np.prod(sizes)) + 16, np.uint8)
        start = -base.ctypes.data % 16
        tensor = base[start : start + 2 * int(np.prod(sizes))].view(np.uint16).reshape(sizes)
        page = PageMemory.of_tensors(tensor, axes).spec
        num_heads = heads.count if heads else page.num_heads
        chunk = ChunkSpec.canonical(len(page.planes), num_heads, 256, page.head_dim, 2)
        yield name, RowTile.of(KernelShape.of(copy_shape(page, chunk, heads)), access_bytes)


def compile_copy(tile, to_chunk, target):
    constants = {"TO_CHUNK": to_chunk, **tile.constants}
    pointers = {"planes": "*i64", "slots": "*i64", "block_ids": "*i64"}
    signature = {**pointers, **dict.fromkeys(constants, "constexpr")}
    return compile_kernel(ASTSource(copy_rows, signature, constants), target=target)


def summary(compiled, backend):
    text = compiled.asm["ptx" if backend == "cuda" else "amdgcn"]
    return {
        "wide_loads": len(re.findall(LOADS[backend], text)),
        "wide_stores": len(re.findall(STORES[backend], text)),
        "binary_bytes": len(compiled.asm["cubin" if backend == "cuda" else "hsaco"]),
    }


def compile_digests(target):
    constants = {"LEAVES": 16, "LEAF_BYTES": 65536, "ALIGNED": True, "N": 16}
    for kernel, pointers in (
        (sum_blocks, ("slots", "words", "sums")),
        (chain_leaves, ("slots", "words", "sums", "digests")),
    ):
        signature = {**dict.fromkeys(pointers, "*i64"), "count": "i64"}
        signature |= dict.fromkeys(constants, "constexpr")
        yield (
            kernel.__name__,
            compile_kernel(ASTSource(kernel, signature, constants), target=target),
        )


def main(targets):
    found = {}
    for name in targets:
        target = TARGETS[name]
        for kernel, compiled in compile_digests(target):
            found[f"{name} {kernel}"] = summary(compiled, target.backend)
        narrow = compile_copy(dict(tiles(8))["nhd"], True, target)
        found[f"{name} aligned to 8"] = summary(narrow, target.backend)
        for number, (layout, tile) in enumerate(tiles(16)):
            way = ("gather", "scatter")[number % 2]
            compiled = compile_copy(tile, way == "gather", target)
            found[f"{name} {layout} {way}"] = summary(compiled, target.backend)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
