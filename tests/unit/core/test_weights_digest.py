"""The digest of a model folder: what must change it, and what must not."""

import json
import shutil

import pytest

from p2p.errors import ArgumentError
from p2p.keys import weights_digest

PADDING = bytes(3 << 20)


def _safetensors(names, body):
    header = json.dumps({name: {"dtype": "BF16", "shape": [4]} for name in names}).encode()
    return len(header).to_bytes(8, "little") + header + body


def _write(folder, file="model.safetensors", names=("a",), body=b"body"):
    (folder / file).write_bytes(_safetensors(names, body))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_text('{"num_hidden_layers": 2}')
    _write(root)
    return root


def test_a_copy_at_another_path_has_the_same_digest(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert weights_digest(copied) == weights_digest(str(folder))


def test_a_link_to_the_weights_counts_as_the_weights(folder, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    assert weights_digest(linked) == weights_digest(folder)


def test_files_that_are_no_weights_and_no_configuration_do_not_count(folder):
    before = weights_digest(folder)
    (folder / "README.md").write_text("hello")
    assert weights_digest(folder) == before


def _change_header(folder):
    _write(folder, names=("b",))


def _change_first_bytes(folder):
    _write(folder, body=b"BODY")


def _grow(folder):
    _write(folder, body=b"body" + bytes(1))


def _rename(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")


def _change_config(folder):
    (folder / "config.json").write_text('{"num_hidden_layers": 3}')


def _add_quantization(folder):
    (folder / "quantize_config.json").write_text("{}")


def _add_tensor_index(folder):
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def _add_shard(folder):
    _write(folder, file="more.safetensors")


CHANGES = [
    _change_header, _change_first_bytes, _grow, _rename, _change_config, _add_quantization,
    _add_tensor_index, _add_shard,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_this_changes_the_digest(folder, change):
    before = weights_digest(folder)
    change(folder)
    assert weights_digest(folder) != before


def test_a_header_longer_than_what_is_probed_counts_as_a_whole(folder):
    names = [f"layer.{number:08}" for number in range(40_000)]
    _write(folder, names=names, body=PADDING)
    before = weights_digest(folder)
    names[30_000] = "layer.9999999x"
    _write(folder, names=names, body=PADDING)
    assert weights_digest(folder) != before


def test_the_last_bytes_of_a_large_file_count(folder):
    _write(folder, body=PADDING + b"x")
    before = weights_digest(folder)
    _write(folder, body=PADDING + b"y")
    assert weights_digest(folder) != before


def test_contents_swapped_between_two_shards_change_the_digest(folder):
    _write(folder, file="1.safetensors", names=("a",))
    _write(folder, file="2.safetensors", names=("b",))
    before = weights_digest(folder)
    _write(folder, file="1.safetensors", names=("b",))
    _write(folder, file="2.safetensors", names=("a",))
    assert weights_digest(folder) != before


def test_one_weight_file_can_be_named(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    before = weights_digest(file)
    file.write_bytes(b"GGUX")
    assert weights_digest(file) != before


@pytest.mark.parametrize("content", [b"", b"short", (1 << 62).to_bytes(8, "little") + b"x"])
def test_a_damaged_safetensors_file_still_has_a_digest(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert len(weights_digest(folder)) == 32


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArgumentError, match="no weight files"):
        weights_digest(tmp_path)
