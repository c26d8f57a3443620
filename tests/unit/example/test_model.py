"""Where the model comes from, and that its folder is complete or absent."""

import warnings

import pytest

from examples.p2p_sharing import source as source_module
from examples.p2p_sharing.source import cache_folder, find_model
from examples.p2p_sharing.text import alice, oz

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers says while it is imported is not ours
    from examples.p2p_sharing.model import ByteTokenizer, create_folder


def test_the_cache_is_the_users(tmp_path):
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "p2p-kv"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}).name == "p2p-kv"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}).is_absolute()


def test_without_the_package_a_small_model_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(source_module, "PACKAGE", "no_such_package")
    found = find_model()
    assert found.gguf is None
    assert found.name == "random-llama"
    assert not found.is_ready


def test_a_folder_appears_complete(tmp_path):
    folder = tmp_path / "cache" / "model"

    def write(draft):
        (draft / "weights").write_text("w")

    create_folder(folder, write)
    assert (folder / "weights").read_text() == "w"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(draft):
        (draft / "weights").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        create_folder(tmp_path / "model", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_faster_process_wins(tmp_path):
    folder = tmp_path / "model"

    def lose_the_race(draft):
        (draft / "weights").write_text("mine")
        folder.mkdir()
        (folder / "weights").write_text("theirs")

    create_folder(folder, lose_the_race)
    assert (folder / "weights").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [folder]


def test_prompts_with_one_text_share_their_prefix():
    topic = alice()
    prompts = [ByteTokenizer().encode_prompt(topic.text, each) for each in topic.questions]
    lengths = {length for _, length in prompts}
    assert len(lengths) == 1
    length = lengths.pop()
    assert len({tuple(tokens[:length]) for tokens, _ in prompts}) == 1
    assert len({tuple(tokens) for tokens, _ in prompts}) == 3


def test_the_texts_are_there():
    assert [len(topic.questions) for topic in (alice(), oz())] == [3, 2]
    assert all(len(topic.text.split()) > 1_000 for topic in (alice(), oz()))
