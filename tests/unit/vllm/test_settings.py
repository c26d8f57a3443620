"""What a user may write, and what an engine is to the fabric."""

import dataclasses
import subprocess
import sys

import msgspec
import pytest

from p2p.errors import ConfigError
from p2p.integrations.vllm.identity import EngineIdentity, refuse_shapes
from p2p.integrations.vllm.orders import RankShape
from p2p.integrations.vllm.settings import (
    ConnectorConfig,
    address_facing,
    backend_config,
    read_settings,
)
from p2p.keys import Namespace
from p2p.layout import Equal, Refused, compare

NAMESPACE = Namespace("m", "0", "bfloat16")
ENGINE = EngineIdentity(
    model="m",
    weights="w",
    dtype="bfloat16",
    quantization="",
    kv_dtype="bfloat16",
    cache_dtype="auto",
    hash_algorithm="sha256",
    hash_seed="s",
    num_kv_heads=4,
    num_planes=2,
    head_dim=64,
    num_layers=3,
    block_tokens=128,
    tensor_parallel=2,
    engine_version="0.32.0",
)
SHAPE = RankShape(0, 3 * 2 * 2 * 64 * 128 * 2, 2, 3, "LBHNC/cpu/CPU_ATTN", "amx")
WHOLE = msgspec.structs.replace(SHAPE, num_heads=0)  # blocks that move whole


def test_a_controller_is_all_that_is_needed():
    settings, rest = read_settings({"controller": "tcp://127.0.0.1:7600"})
    config = backend_config(rest, NAMESPACE)
    assert (config.controller, config.bind) == ("tcp://127.0.0.1:7600", "tcp://127.0.0.1:*")
    assert (config.pool_memory, settings.load, settings.save) == ("shared", "async", "computed")


def test_the_backends_settings_stand_beside_the_connectors():
    extra = {"controller": "tcp://127.0.0.1:1", "pool_bytes": "2GiB", "chunk_tokens": 256}
    settings, rest = read_settings({**extra, "bind": "tcp://127.0.0.1:99"})
    config = backend_config(rest, NAMESPACE)
    assert (config.pool_bytes, config.bind) == (2 << 30, "tcp://127.0.0.1:99")
    assert settings.chunk_tokens == 256


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        ({"contoller": "tcp://127.0.0.1:1"}, "contoller"),
        ({"load": "layers"}, "load"),
        ({"save_backlog_chunks": 0}, "save_backlog_chunks"),
        ({"namespace": {}}, "namespace"),
        ({"pool_memory": "private"}, "pool_memory"),
    ],
)
def test_a_bad_setting_is_named(extra, key):
    with pytest.raises(ConfigError) as caught:
        read_settings(extra)
    assert caught.value.key == f"kv_connector_extra_config.{key}"
    assert caught.value.value == extra[key]


@pytest.mark.parametrize("controller", [None, "", "tcp://no.such.host.invalid:1", "tcp://x"])
def test_a_controller_that_cannot_be_is_named(controller):
    with pytest.raises(ConfigError, match="controller"):
        backend_config({"controller": controller}, NAMESPACE)


def test_the_address_that_faces_a_controller_is_ours():
    assert address_facing("tcp://127.0.0.1:7600") == "127.0.0.1"
    assert address_facing("tcp://localhost:7600") in {"127.0.0.1", "[::1]"}


@pytest.mark.parametrize(
    ("block_tokens", "asked", "chunk_tokens"),
    [(16, 0, 128), (128, 0, 128), (48, 0, 144), (256, 0, 256), (16, 64, 64)],
)
def test_chunks_are_whole_blocks(block_tokens, asked, chunk_tokens):
    assert ConnectorConfig(chunk_tokens=asked).chunk_tokens_for(block_tokens) == chunk_tokens


def test_a_chunk_that_is_no_multiple_of_the_block_is_refused():
    with pytest.raises(ConfigError, match="block size, 16"):
        ConnectorConfig(chunk_tokens=24).chunk_tokens_for(16)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "v"},
        {"dtype": "float16"},
        {"quantization": "awq"},
        {"kv_dtype": "float32"},
        {"cache_dtype": "fp8_e5m2"},
        {"hash_algorithm": "sha256_cbor"},
        {"hash_seed": "t"},
    ],
)
def test_what_hashes_do_not_contain_is_in_the_namespace(change):
    other = dataclasses.replace(ENGINE, **change)
    assert other.namespace().id != ENGINE.namespace().id


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"block_tokens": 64}, "block_tokens"),
        ({"engine_version": "0.33.0"}, "engine_kv_version"),
    ],
)
def test_what_must_fit_is_in_the_layout_and_refused_by_name(change, field):
    other = dataclasses.replace(ENGINE, **change)
    verdict = compare(ENGINE.layout(128, SHAPE), other.layout(128, SHAPE))
    assert isinstance(verdict, Refused)
    assert verdict.field == field
    assert other.namespace().id == ENGINE.namespace().id


def test_another_instruction_set_is_refused_by_name():
    vector = msgspec.structs.replace(SHAPE, isa="vec")
    verdict = compare(ENGINE.layout(128, SHAPE), ENGINE.layout(128, vector))
    assert verdict == Refused("isa", "amx", "vec")


def test_shapes_that_fit_are_not_refused():
    layout = ENGINE.layout(128, SHAPE)
    assert refuse_shapes(layout, [SHAPE, msgspec.structs.replace(SHAPE, rank=1)], 2) == ""


def test_instances_of_any_number_of_ranks_share_heads_and_refuse_whole_blocks():
    single = dataclasses.replace(ENGINE, tensor_parallel=1)
    assert compare(single.layout(128, SHAPE), ENGINE.layout(128, SHAPE)) == Equal()
    verdict = compare(single.layout(128, WHOLE), ENGINE.layout(128, WHOLE))
    assert verdict == Refused("tensor_parallel", "1", "2")
    mixed = compare(single.layout(128, WHOLE), single.layout(128, SHAPE))
    assert isinstance(mixed, Refused)
    assert mixed.field == "engine_kv_version"


def test_the_shards_of_all_ranks_make_a_chunk():
    shapes = [msgspec.structs.replace(WHOLE, rank=rank) for rank in (0, 1)]
    assert refuse_shapes(ENGINE.layout(128, WHOLE), shapes, 2) == ""
    one = msgspec.structs.replace(SHAPE, num_heads=1, shard_bytes=SHAPE.shard_bytes // 2)
    copies = [msgspec.structs.replace(one, rank=rank) for rank in range(8)]  # two of each head
    eight = dataclasses.replace(ENGINE, tensor_parallel=8)
    assert refuse_shapes(eight.layout(128, one), copies, 8) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shard_bytes": 1}, "shard_bytes"),
        ({"isa": "vec"}, "isa"),
        ({"num_heads": 0}, "num_heads"),
        ({"rank": 2}, "ranks"),
        ({"refusal": "kv_caches: none"}, "kv_caches"),
    ],
)
def test_ranks_that_differ_are_refused_by_name(change, said):
    second = msgspec.structs.replace(SHAPE, **{"rank": 1, **change})
    assert said in refuse_shapes(ENGINE.layout(128, SHAPE), [SHAPE, second], 2)


def test_blocks_that_hold_more_than_heads_and_dtype_say_are_refused():
    padded = msgspec.structs.replace(SHAPE, shard_bytes=SHAPE.shard_bytes + 64)
    ranks = [padded, msgspec.structs.replace(padded, rank=1)]
    assert "block_bytes" in refuse_shapes(ENGINE.layout(128, SHAPE), ranks, 2)


def test_everything_but_the_connector_is_there_without_vllm():
    code = (
        "import sys; import p2p.integrations.vllm.coordinator, p2p.integrations.vllm.copies; "
        "sys.exit('vllm' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
