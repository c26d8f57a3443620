"""A wrong configuration says what is wrong, with the value, before anything starts."""

import socket

import msgspec
import pytest

from p2p.backend import BackendConfig, P2PBackend
from p2p.config import load_settings
from p2p.errors import ConfigError, PluginMissingError
from p2p.keys import Namespace
from p2p.layout import Layout

LAYOUT = Layout(2, 2, 16, "bfloat16", block_tokens=16, chunk_tokens=32)
NAMESPACE = Namespace("m", "0", "bfloat16")


def config(**changes: object) -> BackendConfig:
    values: dict[str, object] = {"namespace": NAMESPACE, "pool_bytes": 1 << 20, **changes}
    return BackendConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"controller": "localhost:7600"}, "backend.controller", "localhost:7600"),
        ({"bind": "tcp://127.0.0.1"}, "backend.bind", "tcp://127.0.0.1"),
        ({"pool_bytes": 100}, "backend.pool_bytes", 100),
        ({"pool_bytes": -1}, "backend.pool_bytes", -1),
        ({"pool_bytes": 1 << 50}, "pool_bytes", None),
        ({"channel": "pigeon"}, "backend.channel", "pigeon"),
        ({"channels": ("shm", "pigeon")}, "backend.channels", "pigeon"),
        ({"channels": ("shm", "shm")}, "backend.channels", "shm"),
        ({"channels": ("shm",), "channel": "nixl"}, "backend.channel", "nixl"),
        ({"peer_channels": {"a*": ("pigeon",)}}, "backend.peer_channels.a*", "pigeon"),
        ({"peer_channels": {"a": ()}}, "backend.peer_channels.a", []),
        (
            {"channels": ("shm",), "peer_channels": {"a": ("nixl",)}},
            "backend.peer_channels.a",
            "nixl",
        ),
        ({"channel_retry_s": 0.0}, "backend.channel_retry_s", 0.0),
        ({"nixl_transports": ("smoke",)}, "nixl.transports", "smoke"),
        ({"budget_s": 0.0}, "backend.budget_s", 0.0),
        ({"keys_dir": "/nowhere"}, "backend.keys_dir", "/nowhere"),
        ({"device": "gpu"}, "backend.device", "gpu"),
        ({"device": "cpu:1"}, "backend.device", "cpu:1"),
        ({"device": "npu:0"}, "backend.device", "npu:0"),
        ({"device": "cuda:63"}, "backend.device", "cuda:63"),
        ({"bind": "tcp://0.0.0.0:*"}, "backend.advertise", ""),
    ],
)
def test_a_bad_setting_is_named(changes, key, value):
    with pytest.raises(ConfigError) as caught:
        P2PBackend.start(config(**changes), LAYOUT)
    assert key in caught.value.key
    assert value is None or caught.value.value == value


@pytest.mark.parametrize(
    ("field", "value"),
    [("kv_dtype", "float16"), ("chunk_tokens", 33), ("tensor_parallel", 2), ("kv_dtype", "int3")],
)
def test_a_bad_layout_is_named(field, value):
    layout = msgspec.structs.replace(LAYOUT, **{field: value})
    with pytest.raises(ConfigError) as caught:
        P2PBackend.start(config(), layout)
    assert caught.value.key == f"layout.{field}"


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"backend\.bind.*in use"):
            P2PBackend.start(config(bind=address), LAYOUT)


def test_a_plugin_that_nixl_lacks_is_an_error_that_lists_those_there():
    with pytest.raises(PluginMissingError, match=r"no plugin PIGEON, only \[.*'UCX'.*\]"):
        P2PBackend.start(config(nixl_plugin="PIGEON"), LAYOUT)


def test_peers_and_their_channels_can_be_set_in_the_environment():
    environ = {
        "P2P_BACKEND_PEER_CHANNELS": '{"decode-*": ["nixl"]}',
        "P2P_BACKEND_CHANNELS": "nixl",
    }
    loaded = load_settings(BackendConfig, environ=environ, overrides={"namespace": NAMESPACE})
    assert loaded.peer_channels == {"decode-*": ("nixl",)}
    assert loaded.named_channels == ("nixl",)


def test_an_unknown_key_is_named_with_its_value():
    environ = {"P2P_BACKEND_POOL_SIZE": "3"}
    with pytest.raises(ConfigError, match=r"backend\.pool_size = '3': unknown"):
        load_settings(BackendConfig, environ=environ, overrides={"namespace": {}})
