"""Digests: frozen vectors, and one function by two independent implementations."""

import json
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.errors import ArgumentError
from p2p.kernels import chunk_digest, leaf_digests, root_digest
from p2p_kernels.digest_numpy import xxh3_64

VECTORS = json.loads((Path(__file__).parent / "digest_vectors.json").read_text())
LENGTHS = st.one_of(st.integers(0, 300), st.integers(300, 4200), st.sampled_from([16384, 65536]))


def _content(length):
    return ((np.arange(length, dtype=np.int64) * 131 + 17) % 251).astype(np.uint8)


@pytest.mark.parametrize("vector", VECTORS["leaves"], ids=lambda v: f"{v['length']}-{v['seed']}")
def test_leaf_vectors(vector):
    content, seed = _content(vector["length"]), int(vector["seed"], 16)
    assert f"{int(xxh3_64(content[None], seed)[0]):016x}" == vector["digest"]
    assert xxhash.xxh3_64_hexdigest(content, seed) == vector["digest"]
    if seed == 0 and content.size:
        assert f"{int(leaf_digests(content, content.size)[0]):016x}" == vector["digest"]


@pytest.mark.parametrize("vector", VECTORS["roots"], ids=lambda v: str(v["leaf_bytes"]))
def test_root_vectors(vector):
    content, key = _content(vector["length"]), bytes.fromhex(vector["key"])
    assert f"{chunk_digest(key, content, vector['leaf_bytes']):016x}" == vector["root"]
    leaves = xxh3_64(content.reshape(-1, vector["leaf_bytes"]))
    seeded = np.frombuffer(key + leaves.astype("<u8").tobytes(), np.uint8)
    assert f"{int(xxh3_64(seeded[None])[0]):016x}" == vector["root"]


@given(
    length=LENGTHS, count=st.integers(1, 3), seed=st.integers(0, 2**64 - 1), random=st.integers(0)
)
@settings(max_examples=300, deadline=None)
def test_numpy_is_xxhash(length, count, seed, random):
    inputs = np.random.default_rng(random).integers(0, 256, (count, length), dtype=np.uint8)
    for chosen in (0, seed):
        expected = [xxhash.xxh3_64_intdigest(row, chosen) for row in inputs]
        assert xxh3_64(inputs, chosen).tolist() == expected


@pytest.mark.slow
def test_numpy_is_xxhash_at_every_short_length():
    rng = np.random.default_rng(1)
    for length in range(1100):
        inputs = rng.integers(0, 256, (2, length), dtype=np.uint8)
        assert xxh3_64(inputs).tolist() == [xxhash.xxh3_64_intdigest(row) for row in inputs]


@given(content=st.binary(min_size=1, max_size=600), leaves=st.integers(1, 6), key=st.binary())
def test_a_chunk_is_its_leaves(content, leaves, key):
    chunk = content * leaves
    digests = leaf_digests(chunk, len(content))
    assert digests.dtype == np.uint64
    assert digests.tolist() == [xxhash.xxh3_64_intdigest(content)] * leaves
    root = root_digest(key, digests)
    assert root == chunk_digest(key, memoryview(chunk), len(content))
    assert root == chunk_digest(key, bytearray(chunk), len(content))
    assert root != chunk_digest(key + b"\0", chunk, len(content))


@given(at=st.integers(0, 4095), bit=st.integers(0, 7))
def test_every_bit_counts(at, bit):
    chunk = _content(4096)
    before = chunk_digest(b"key", chunk, 512)
    chunk[at] ^= 1 << bit
    assert chunk_digest(b"key", chunk, 512) != before


def test_the_order_of_leaves_counts():
    leaves = leaf_digests(_content(4096), 512)
    assert root_digest(b"key", leaves) != root_digest(b"key", leaves[::-1])
    assert root_digest(b"key", leaves.astype(">u8")) == root_digest(b"key", leaves)


@pytest.mark.parametrize(
    ("chunk", "leaf_bytes", "message"),
    [
        (bytes(10), 4, r"^leaf_bytes = 4: a chunk of 10 bytes is no whole number"),
        (bytes(10), 0, r"^leaf_bytes = 0"),
        (b"", 4, r"^leaf_bytes = 4: a chunk of 0 bytes"),
        (np.zeros(4, np.int8), 4, r"^chunk = 'int8 \(4,\)': contiguous uint8"),
        (np.zeros(8, np.uint8)[::2], 4, r"^chunk = 'uint8 \(4,\)': contiguous uint8"),
    ],
)
def test_chunks_that_have_no_leaves(chunk, leaf_bytes, message):
    with pytest.raises(ArgumentError, match=message):
        leaf_digests(chunk, leaf_bytes)


@pytest.mark.parametrize("inputs", [np.zeros(4, np.uint8), np.zeros((1, 4), np.int8)])
def test_inputs_of_the_definition(inputs):
    with pytest.raises(ArgumentError, match=r"^inputs = "):
        xxh3_64(inputs)
