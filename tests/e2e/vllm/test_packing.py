"""What the CPU backend's packed blocks can be cut into, found out with its own kernel.

A head of a block is packed by itself: blocks of instances with other numbers of ranks are made of
the same pieces. The tokens of a head are packed together: a block of another size is not.

The kernel runs in a process of its own: engines of other tests are forked, and hang if torch has
threads in the process that they are forked from.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")

import torch
from vllm import _custom_ops as ops
from vllm.v1.attention.backends.cpu_attn import _get_attn_isa

pytestmark = [pytest.mark.vllm, pytest.mark.e2e]

HEADS, TOKENS, BLOCKS = 6, 128, 3
CASES = [
    (dtype, dim, isa)
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
    for dim in (64, 80, 128)
    for isa in {_get_attn_isa(dtype, TOKENS, dim), "vec16"}
]


def packed(keys, values, isa, tokens=TOKENS):
    """Returns (B, H, bytes) what vLLM's kernel makes of (T, H, D) keys and values."""
    num_tokens, heads, dim = keys.shape
    cache = torch.zeros(num_tokens // tokens, heads, tokens, 2 * dim, dtype=keys.dtype)
    by_plane = cache.view(num_tokens // tokens, heads, 2 * tokens, dim).chunk(2, dim=2)
    places = torch.arange(num_tokens, dtype=torch.int64)
    ops.cpu_attn_reshape_and_cache(keys, values, *by_plane, places, isa)
    return cache.view(torch.uint8).reshape(num_tokens // tokens, heads, -1)


def drawn(dtype, dim):
    torch.manual_seed(1)
    return (torch.randn(BLOCKS * TOKENS, HEADS, dim).to(dtype) for _ in range(2))


def check_heads(dtype, dim, isa):
    keys, values = drawn(dtype, dim)
    whole = packed(keys, values, isa)
    assert whole.any(dim=-1).all()
    for heads in (slice(0, 3), slice(3, 6), slice(2, 3)):
        alone = packed(keys[:, heads].contiguous(), values[:, heads].contiguous(), isa)
        assert torch.equal(whole[:, heads], alone)


def check_tokens(dtype, dim, isa):
    keys, values = drawn(dtype, dim)
    large, small = packed(keys, values, isa), packed(keys, values, isa, TOKENS // 4)
    glued = small.reshape(BLOCKS, 4, HEADS, -1).transpose(1, 2).reshape(large.shape)
    assert not torch.equal(large, glued)


@pytest.fixture(scope="module")
def child():
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        yield pool


@pytest.mark.parametrize(("dtype", "dim", "isa"), CASES)
def test_a_head_is_packed_by_itself(child, dtype, dim, isa):
    child.submit(check_heads, dtype, dim, isa).result(100)


@pytest.mark.parametrize(("dtype", "dim", "isa"), CASES)
def test_tokens_of_a_head_are_not(child, dtype, dim, isa):
    child.submit(check_tokens, dtype, dim, isa).result(100)
