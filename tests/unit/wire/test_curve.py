"""Key files: made once, private, and refused when they are broken."""

import stat

import pytest

from p2p.errors import ConfigError
from p2p.wire.curve import load_keys, make_keys


def test_keys_are_made_once_and_are_private(tmp_path):
    folder = tmp_path / "keys"
    written = make_keys(folder, ["controller", "p"])
    assert [path.name for path in written] == ["controller.key_secret", "p.key_secret"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in written)
    before = load_keys(str(folder), "p")
    assert [path.name for path in make_keys(folder, ["controller", "p", "q"])] == ["q.key_secret"]
    assert load_keys(str(folder), "p") == before


def test_loaded_keys_name_the_controller_and_hide_the_secret(tmp_path):
    make_keys(tmp_path, ["controller", "p"])
    keys, controllers = load_keys(str(tmp_path), "p"), load_keys(str(tmp_path), "controller")
    assert keys.controller_public == controllers.public
    assert len(keys.public) == len(keys.secret) == 40
    assert keys.secret not in repr(keys)
    assert sorted(path.name for path in keys.authorized.iterdir()) == ["controller.key", "p.key"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "/etc/passwd"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        make_keys(tmp_path, [name])


@pytest.mark.parametrize("content", [None, "", "rubbish", 'public-key = "short"\n'])
def test_a_missing_or_broken_file_is_named(tmp_path, content):
    make_keys(tmp_path, ["controller", "p"])
    secret = tmp_path / "p.key_secret"
    secret.unlink() if content is None else secret.write_text(content)
    with pytest.raises(ConfigError, match=r"p\.key_secret"):
        load_keys(str(tmp_path), "p")


def test_a_folder_without_the_controllers_key_is_refused(tmp_path):
    make_keys(tmp_path, ["p"])
    with pytest.raises(ConfigError, match=r"controller\.key"):
        load_keys(str(tmp_path), "p")
