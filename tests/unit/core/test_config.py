"""Settings: which source wins, and that whatever is wrong is named with key and value."""

from typing import Annotated, ClassVar

import msgspec
import pytest

from p2p.config import Settings, load_settings, parse_assignments
from p2p.errors import ConfigError


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rack: Annotated[str, msgspec.Meta(max_length=4)]


class Pump(Settings, frozen=True, kw_only=True):
    SECTION: ClassVar[str] = "pump"

    name: str
    pool_bytes: Annotated[int, msgspec.Meta(ge=1)] = 1024
    wait_s: Annotated[float, msgspec.Meta(gt=0)] = 1.5
    is_loud: bool = False
    place: Place = Place("r1")
    pipes: tuple[str, ...] = ()

    def check(self):
        if self.name == "nobody":
            raise ConfigError("pump.name", self.name, "is nobody")


@pytest.fixture
def write(tmp_path):
    def write_toml(text):
        path = tmp_path / "p2p.toml"
        path.write_text(text)
        return path

    return write_toml


def _load(environ=None, file=None, **overrides):
    return load_settings(Pump, file=file, environ=environ or {}, overrides=overrides)


def _refused(*args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        _load(*args, **kwargs)
    return caught.value.key, caught.value.value


def test_what_no_source_names_has_its_default():
    assert _load(name="a") == Pump(name="a")


def test_environment_wins_over_file_and_overrides_win_over_both(write):
    file = write('[pump]\nname = "file"\nwait_s = 2.0\npool_bytes = 1\n')
    environ = {"P2P_PUMP_NAME": "environment", "P2P_PUMP_WAIT_S": "3"}
    settings = _load(environ, file, name="override")
    assert (settings.name, settings.wait_s, settings.pool_bytes) == ("override", 3.0, 1)


def test_an_override_of_none_is_as_if_not_given():
    assert _load({"P2P_PUMP_NAME": "environment"}, name=None).name == "environment"


def test_other_tables_and_other_variables_are_not_ours(write):
    file = write('[pump]\nname = "a"\n[other]\nsize = 3\n')
    assert _load({"P2P_OTHER_SIZE": "4", "HOME": "/"}, file) == Pump(name="a")


def test_a_file_without_our_table_sets_nothing(write):
    assert _load(file=write(""), name="a") == Pump(name="a")


def test_text_becomes_lists_and_tables():
    environ = {"P2P_PUMP_PIPES": "rc, cuda,", "P2P_PUMP_PLACE": '{"rack": "r2"}'}
    settings = _load(environ, name="a")
    assert (settings.pipes, settings.place) == (("rc", "cuda"), Place("r2"))
    assert _refused({"P2P_PUMP_PLACE": "{rack"}, name="a") == ("pump.place", "{rack")


def test_text_becomes_numbers_and_booleans():
    settings = _load({"P2P_PUMP_IS_LOUD": "true", "P2P_PUMP_WAIT_S": "0.25"}, name="a")
    assert settings.is_loud is True
    assert settings.wait_s == 0.25


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024), ("512MiB", 512 << 20), ("2GB", 2 * 10**9), ("1.5 KiB", 1536),
        ("4 g", 4 * 10**9), ("1TiB", 1 << 40), (" 7B ", 7), ("3ki", 3072),
    ],
)  # fmt: skip
def test_sizes_may_be_written_with_units(text, expected):
    assert _load(name="a", pool_bytes=text).pool_bytes == expected


@pytest.mark.parametrize("text", ["", "lots", "-1", "1e9", "5 PiB", "1 2", "MiB"])
def test_a_bad_size_is_refused_with_key_and_value(text):
    assert _refused(name="a", pool_bytes=text) == ("pump.pool_bytes", text)


def test_an_unknown_key_is_refused_wherever_it_comes_from(write):
    assert _refused(name="a", size=1) == ("pump.size", 1)
    assert _refused({"P2P_PUMP_SIZE": "2"}, name="a") == ("pump.size", "2")
    assert _refused(file=write("[pump]\nsize = 3"), name="a") == ("pump.size", 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("wait_s", "soon"), ("wait_s", 0), ("wait_s", "nan"), ("pool_bytes", 0),
        ("pool_bytes", 1.5), ("is_loud", "maybe"), ("name", 7),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_range_is_refused_with_key_and_value(key, value):
    assert _refused(**{"name": "a", key: value}) == (f"pump.{key}", value)


def test_a_bad_value_inside_a_table_is_refused_with_its_dotted_key(write):
    text = '[pump]\nname = "a"\n[pump.place]\nrack = "much too long"'
    key, value = _refused(file=write(text))
    assert key == "pump.place.rack"
    assert value == {"rack": "much too long"}


def test_an_unknown_key_inside_a_table_is_refused(write):
    key, _ = _refused(file=write('[pump]\nname = "a"\nplace = {rack = "r", row = 1}'))
    assert key == "pump.place"


def test_a_missing_required_key_is_named():
    assert _refused() == ("pump.name", None)


def test_the_component_s_own_check_runs():
    assert _refused(name="nobody") == ("pump.name", "nobody")


def test_a_table_that_is_no_table_is_refused(write):
    assert _refused(file=write("pump = 3")) == ("pump", 3)


@pytest.mark.parametrize("content", [b"[pump", b"\xff\xfe", None])
def test_an_unreadable_file_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    assert _refused(file=path) == ("config", str(path))


def test_words_of_the_command_line_become_overrides():
    words = ["pool-bytes=2KiB", " name = a=b "]
    assert parse_assignments(Pump, words) == {"pool_bytes": "2KiB", "name": "a=b"}


def test_a_word_without_equals_sign_is_refused():
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_assignments(Pump, ["name"])
