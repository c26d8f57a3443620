"""Chunk keys, namespaces, key blobs, view hashes: frozen vectors and what must tell keys apart."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.errors import ArgumentError
from p2p.keys import ChunkKey, Namespace, chunk_keys, join_keys, split_keys

TOKENS = list(range(12))
NAMESPACE = Namespace(model="m", weights_digest="0123456789abcdef", kv_dtype="bfloat16")


def test_keys_are_frozen():
    assert [key.hex() for key in chunk_keys(TOKENS, 4)] == [
        "169966bf1ec29799908f86655a8efd10e45ca868a24ef4a2dcf338cfcb2bd485",
        "3a4fc576745781384a1e8010d8c51464dd0f9afbd642e49028465e0ce1924210",
        "f48295b0c1adf735dd958a966c6069e01bbf760f20e7d0007bf3842530a55be0",
    ]


def test_keys_with_seed_and_salt_are_frozen():
    key = chunk_keys(TOKENS[:4], 4, seed="s", salt="t")[0]
    assert key.hex() == "b978f89c91be169da2166659fb2c363ca8904e13acd37de7d5c65c3e27f8f822"


def test_key_of_the_largest_token_is_frozen():
    key = chunk_keys([2**32 - 1] * 3, 3)[0]
    assert key.hex() == "668a5549394c39057bbe99c5e0ebb201238639b64822af3752ddf965f4d27206"


def test_a_changed_token_changes_its_chunk_and_all_behind_it():
    keys = chunk_keys(TOKENS, 4)
    changed = chunk_keys([*TOKENS[:5], 99, *TOKENS[6:]], 4)
    assert [a == b for a, b in zip(keys, changed, strict=True)] == [True, False, False]


def test_keys_of_a_longer_prompt_begin_with_those_of_its_prefix():
    assert chunk_keys(TOKENS, 4)[:2] == chunk_keys(TOKENS[:8], 4)


@pytest.mark.parametrize(("num_tokens", "num_keys"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2)])
def test_a_short_last_chunk_has_no_key(num_tokens, num_keys):
    assert len(chunk_keys(TOKENS[:num_tokens], 4)) == num_keys


def test_chunk_size_tells_keys_apart():
    assert not set(chunk_keys(TOKENS, 4)) & set(chunk_keys(TOKENS, 2))


def test_seed_and_salt_isolate_and_do_not_run_into_each_other():
    pairs = [("", ""), ("ab", ""), ("", "ab"), ("a", "b"), ("b", "a")]
    firsts = {chunk_keys(TOKENS, 4, seed=seed, salt=salt)[0] for seed, salt in pairs}
    assert len(firsts) == len(pairs)


@pytest.mark.parametrize(
    "tokens", [[-1] * 4, [2**32] * 4, [2**70] * 4, ["a"] * 4, [1.0] * 4, [[1, 2, 3, 4]], [True] * 4]
)
def test_tokens_that_do_not_fit_are_refused(tokens):
    with pytest.raises(ArgumentError, match=r"^tokens = "):
        chunk_keys(tokens, 4)


def test_the_token_that_does_not_fit_is_named():
    with pytest.raises(ArgumentError, match="tokens = -3"):
        chunk_keys([1, 2, -3, 4], 4)


@pytest.mark.parametrize("chunk_tokens", [0, -4])
def test_chunk_tokens_below_one_is_refused(chunk_tokens):
    with pytest.raises(ArgumentError, match="chunk_tokens"):
        chunk_keys(TOKENS, chunk_tokens)


def test_namespace_ids_are_frozen():
    assert NAMESPACE.id == "fefa716b310da3e917bb1aeb5050d8b0"
    vllm = msgspec.structs.replace(NAMESPACE, key_scheme="vllm-sha256_cbor", key_seed="42")
    assert vllm.id == "832e3828aafdc3b2ef72f9f9578d3d3a"


@pytest.mark.parametrize("field", Namespace.__struct_fields__)
def test_every_field_of_a_namespace_changes_its_id(field):
    assert msgspec.structs.replace(NAMESPACE, **{field: "other"}).id != NAMESPACE.id


@given(st.integers(8, 64).flatmap(lambda n: st.lists(st.binary(min_size=n, max_size=n))))
def test_split_undoes_join(keys):
    listed = [ChunkKey(key) for key in keys]
    assert split_keys(*join_keys(listed)) == listed


@pytest.mark.parametrize("key_bytes", [1, 7, 65])
def test_key_lengths_outside_8_to_64_are_refused(key_bytes):
    with pytest.raises(ArgumentError, match="8 to 64"):
        join_keys([ChunkKey(bytes(key_bytes))])
    with pytest.raises(ArgumentError, match="8 to 64"):
        split_keys(bytes(key_bytes), key_bytes)


@pytest.mark.parametrize("lengths", [(32, 16), (16, 8, 24)])
def test_keys_of_different_lengths_are_not_joined(lengths):
    with pytest.raises(ArgumentError, match="same length"):
        join_keys([ChunkKey(bytes(length)) for length in lengths])


def test_a_blob_that_is_no_whole_number_of_keys_is_not_split():
    with pytest.raises(ArgumentError, match="no multiple of key_bytes = 32"):
        split_keys(bytes(33), 32)
