"""What every copier must do, for copiers that are opened apart from the registry."""

import json
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings

from p2p.kernels import (
    SKIP_BLOCK,
    ChunkSpec,
    HeadRange,
    PageAxes,
    PageMemory,
    copy_plan,
    gather,
    leaf_digests,
    plan_blocks,
    scatter,
)
from p2p_kernels.device_digest import MIN_LEAF_BYTES
from p2p_kernels.reference import ReferenceCopier
from tests.unit.kernels.caches import build, cases, expected_chunk, expected_pages


def check_gather(open_copier, examples):
    """Every slot holds what its blocks hold, and other bytes of it are as before."""

    @given(case=cases(for_scatter=False))
    @_settings(examples)
    def prop(case):
        engine = build(case)
        copier, chunk = _open(case, engine, open_copier)
        slots = _slots(chunk, len(case.block_ids), case.seed)
        pages = engine.pages(case.axes)
        pairs = zip(case.block_ids, slots, strict=True)
        expected = [expected_chunk(case, pages, ids, slot) for ids, slot in pairs]
        gather(_plan(case, copier, chunk), slots, copier)
        for slot, wanted in zip(slots, expected, strict=True):
            np.testing.assert_array_equal(slot, wanted)

    prop()


def check_scatter(open_copier, examples):
    """Every block holds what its slot holds; other blocks, heads and padding are as before."""

    @given(case=cases(for_scatter=True))
    @_settings(examples)
    def prop(case):
        engine, untouched = build(case), build(case)
        copier, chunk = _open(case, engine, open_copier)
        slots = _slots(chunk, len(case.block_ids), case.seed)
        expected = expected_pages(case, engine.pages(case.axes), slots)
        scatter(_plan(case, copier, chunk), slots, copier)
        np.testing.assert_array_equal(engine.pages(case.axes), expected)
        for now, before, inside in zip(engine.bases, untouched.bases, engine.inside, strict=True):
            np.testing.assert_array_equal(now[~inside], before[~inside])

    prop()


def _settings(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def _open(case, engine, open_copier):
    memory = PageMemory.of_tensors(engine.tensors, case.axes)
    page = memory.spec
    if "X" in case.axes:
        chunk = ChunkSpec.opaque(len(page.planes), case.blocks_per_chunk, page.block_bytes)
    else:
        tokens = case.blocks_per_chunk * page.block_tokens
        chunk = ChunkSpec.canonical(
            len(page.planes), case.chunk_heads, tokens, page.head_dim, page.item_bytes
        )
    return open_copier(memory), chunk


def _plan(case, copier, chunk):
    return copy_plan(copier.memory.spec, chunk, case.block_ids, case.heads)


def _slots(chunk, count, seed):
    """Slots at odd addresses too, as a pool's or an engine's may be."""
    rng = np.random.default_rng(seed)
    at = seed % 3  # 0: as numpy aligns; 1 and 2: not at all
    arenas = [rng.integers(0, 256, chunk.chunk_bytes + at, dtype=np.uint8) for _ in range(count)]
    return [arena[at:] for arena in arenas]


def check_engine_sizes(open_copier):
    """At the sizes of engines, a copier does what the reference does."""
    sizes = {
        PageAxes.KV_FIRST_NHD: (2, 6, 16, 8, 128),
        PageAxes.BLOCK_FIRST_HND: (6, 2, 8, 16, 128),
        PageAxes.MLA: (6, 64, 576),
        PageAxes.CROSS_LAYER_NHD: (6, 4, 2, 16, 2, 128),
        PageAxes.OPAQUE: (6, 4, 4096),
    }
    for axes, shape in sizes.items():
        rng = np.random.default_rng(len(shape))
        pages = rng.integers(0, 1 << 16, shape, dtype=np.uint16)
        memory = PageMemory.of_tensors(pages, axes)
        page = memory.spec
        tokens, heads = 2 * page.block_tokens, page.num_heads
        chunk = ChunkSpec.canonical(len(page.planes), heads, tokens, page.head_dim, page.item_bytes)
        whole, part = HeadRange(0, 0, heads), HeadRange(heads // 2, 0, (heads + 1) // 2)
        for ids in ([[5, 0], [3, 3]], [[1, 2]]):
            for taken in {whole, part}:
                _same_as_reference(memory, open_copier, copy_plan(page, chunk, ids, taken))


def check_padded_chunks(open_copier):
    """Bytes between the rows, heads and planes of a padded chunk stay as they are."""
    pages = np.random.default_rng(3).integers(0, 1 << 16, (2, 6, 4, 3, 8), dtype=np.uint16)
    memory = PageMemory.of_tensors(pages, PageAxes.KV_FIRST_NHD)
    for stride_token, stride_head, stride_plane in ((16, 136, 408), (24, 192, 576), (16, 128, 400)):
        chunk = ChunkSpec(2, 3, 8, 8, 2, stride_plane, stride_head, stride_token)
        for heads in (HeadRange(0, 0, 3), HeadRange(1, 0, 2)):
            _same_as_reference(memory, open_copier, copy_plan(memory.spec, chunk, [5, 0], heads))


def _same_as_reference(memory, open_copier, plan):
    reference, copier = ReferenceCopier(memory), open_copier(memory)
    wanted = _slots(plan.shape.chunk, plan.num_chunks, 0)
    slots = [slot.copy() for slot in wanted]
    gather(plan, wanted, reference)
    gather(plan, slots, copier)
    for slot, expected in zip(slots, wanted, strict=True):
        np.testing.assert_array_equal(slot, expected)
    pages = memory.tensors[0]
    before = pages.copy()
    once = plan_blocks(plan.shape, [SKIP_BLOCK, 4])
    scatter(once, slots[:1], reference)
    expected = pages.copy()
    pages[...] = before
    scatter(once, slots[:1], copier)
    np.testing.assert_array_equal(pages, expected)
    pages[...] = before


def check_digests(digester):
    """Leaves of many lengths have the host's digests, and the frozen ones."""
    vectors = json.loads((Path(__file__).parent / "digest_vectors.json").read_text())["leaves"]
    known = {v["length"]: int(v["digest"], 16) for v in vectors if int(v["seed"], 16) == 0}
    frozen = [length for length in known if length >= MIN_LEAF_BYTES]
    assert frozen
    for length in frozen:
        content = ((np.arange(length, dtype=np.int64) * 131 + 17) % 251).astype(np.uint8)
        assert _digests(digester, [content], length).tolist() == [[known[length]]]
    odd = [241, 256, 999, 1024, 1025, 1088, 2048, 2049, 8192, 9 * 1024 + 8, 16385]
    rng = np.random.default_rng(1)
    for length in odd:
        chunks = [rng.integers(0, 256, 3 * length, dtype=np.uint8) for _ in range(2)]
        expected = [leaf_digests(chunk, length).tolist() for chunk in chunks]
        assert _digests(digester, chunks, length).tolist() == expected, length


def _digests(digester, chunks, leaf_bytes):
    return digester.leaf_digests(chunks, leaf_bytes).cpu().numpy().view(np.uint64)
