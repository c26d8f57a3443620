"""Settings that make no sense are refused with key and value."""

import pytest

from p2p.config import load_settings
from p2p.errors import ConfigError
from p2p_controller.settings import ControllerSettings, http_host_and_port


def test_the_defaults_are_sound():
    assert load_settings(ControllerSettings, environ={}) == ControllerSettings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("heartbeat_s", 0.0),
        ("heartbeat_s", "nan"),
        ("heartbeat_s", "soon"),
        ("silent_after_s", 1.5),
        ("forget_after_s", 2.0),
        ("recovery_s", -1.0),
        ("max_kept_events", 0),
        ("log_level", "LOUD"),
        ("http", "8080"),
        ("http", ":8080"),
        ("http", "h:99999"),
        ("http", "::1:8080"),
        ("colour", "blue"),
    ],
)
def test_nonsense_is_refused_with_key_and_value(key, value):
    with pytest.raises(ConfigError) as caught:
        load_settings(ControllerSettings, environ={}, overrides={key: value})
    assert caught.value.key == f"controller.{key}"
    assert str(caught.value.value) == str(value)


def test_environment_and_overrides(tmp_path):
    file = tmp_path / "p2p.toml"
    file.write_text('[controller]\nheartbeat_s = 0.5\nlog_level = "DEBUG"\n[backend]\nx = 1\n')
    settings = load_settings(
        ControllerSettings,
        file=file,
        environ={"P2P_CONTROLLER": "tcp://h:1", "P2P_CONTROLLER_LOG_LEVEL": "ERROR"},
        overrides={"silent_after_s": "1.0"},
    )
    assert (settings.heartbeat_s, settings.silent_after_s, settings.log_level) == (
        0.5,
        1.0,
        "ERROR",
    )


def test_keys_need_a_name():
    with pytest.raises(ConfigError, match="key_name"):
        ControllerSettings(keys_dir="/k", key_name="").check()


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:*", ("localhost", 0)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_an_http_address_has_two_parts(address, parts):
    assert http_host_and_port(address) == parts
