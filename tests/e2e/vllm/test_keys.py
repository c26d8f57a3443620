"""What a key contains beside tokens: adapters, images, salts. And how vLLM finds us by a module."""

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

from vllm.multimodal.inputs import MultiModalFeatureSpec, PlaceholderRange

from tests.e2e.vllm.engine import Engine, EngineSettings
from tests.e2e.vllm.fixtures import CHUNK, introduce, prompt_of, sharing
from tests.e2e.vllm.model_folder import make_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.e2e, pytest.mark.slow]


def image(identifier, offset):
    place = PlaceholderRange(offset=offset, length=64)
    return MultiModalFeatureSpec(None, "image", identifier, place)


def test_a_prompt_with_another_adapter_is_another_prompt(tmp_path, engines, controller):
    red, blue = make_adapter(tmp_path / "red", 1), make_adapter(tmp_path / "blue", 2)
    options = {"enable_lora": True, "max_lora_rank": 8, "max_loras": 2}
    holder, reader = (engines(controller, f"lora-{x}", options=options) for x in "xy")
    introduce(holder, reader)
    prompt = prompt_of(1000)
    cold = {adapter: holder.one(prompt, adapter=adapter) for adapter in (red, blue, None)}
    assert len({answer.tokens for answer in cold.values()}) == 3
    assert {answer.num_cached for answer in cold.values()} == {0}
    holder.settle()
    for adapter, answer in cold.items():
        hit = reader.one(prompt, adapter=adapter)
        assert (hit.tokens, hit.num_cached) == (answer.tokens, 7 * CHUNK)


def test_a_prompt_with_another_image_is_another_prompt_from_the_image_on(a):
    prompt = prompt_of(5 * CHUNK)
    plain = a.call("keys", prompt, {})
    cat = a.call("keys", prompt, {"mm_features": [image("cat", 2 * CHUNK + 5)]})
    dog = a.call("keys", prompt, {"mm_features": [image("dog", 2 * CHUNK + 5)]})
    moved = a.call("keys", prompt, {"mm_features": [image("cat", 2 * CHUNK + 6)]})
    again = a.call("keys", prompt, {"mm_features": [image("cat", 2 * CHUNK + 5)]})
    assert cat == again
    assert plain[:2] == cat[:2] == dog[:2] == moved[:2]
    assert len({keys[2] for keys in (plain, cat, dog, moved)}) == 4
    assert len({keys[4] for keys in (plain, cat, dog, moved)}) == 4


def test_a_salt_is_in_the_first_key_and_in_all_that_follow(a):
    prompt = prompt_of(3 * CHUNK)
    keys = [a.call("keys", prompt, {"cache_salt": salt}) for salt in (None, "red", "blue")]
    assert all(len({each[chunk] for each in keys}) == 3 for chunk in range(3))


def test_the_connector_is_found_by_its_module(plain, model, a, controller):
    """As from a source tree that is not installed: no plugin, and no name that vLLM knows."""
    shared = sharing(model, controller, "module")
    settings = EngineSettings(model, 1, shared.connector, module="p2p.integrations.vllm")
    with Engine(settings) as reader:
        introduce(a, reader)
        prompt = prompt_of(1000)
        a.one(prompt, 1)
        a.settle()
        hit = reader.one(prompt)
        assert (hit.tokens, hit.num_cached) == (plain.one(prompt).tokens, 7 * CHUNK)
