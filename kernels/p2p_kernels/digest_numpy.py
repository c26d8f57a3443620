"""XXH3-64 in NumPy, over many equally long inputs at once.

This is the definition that device kernels follow, independent of the xxhash library, valid for
every length and seed. Written after the XXH3 chapter of xxHash's specification. All arithmetic is
modulo 2**64 on little-endian words; words of inputs are arrays, words of the secret Python ints,
which become 64-bit only where they meet (NumPy warns of overflow between scalars, not in arrays).

Shapes: N inputs, B bytes of an input, S stripes of 64 bytes, 8 lanes of 8 bytes.
"""

import numpy as np
import numpy.typing as npt

from p2p.errors import ArgumentError
from p2p_kernels.memory import Uint8s

Uint64s = npt.NDArray[np.uint64]

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_PRIME32_1, _PRIME32_2, _PRIME32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_PRIME64_1, _PRIME64_2 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F
_PRIME64_3, _PRIME64_4 = 0x165667B19E3779F9, 0x85EBCA77C2B2AE63
_PRIME64_5 = 0x27D4EB2F165667C5
_PRIME_MX1, _PRIME_MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
_LANES = (
    *(_PRIME32_3, _PRIME64_1, _PRIME64_2, _PRIME64_3),
    *(_PRIME64_4, _PRIME32_2, _PRIME64_5, _PRIME32_1),
)
_STRIPE_BYTES = 64
_STRIPES_PER_BLOCK = (len(_SECRET) - _STRIPE_BYTES) // 8
_BLOCK_BYTES = _STRIPES_PER_BLOCK * _STRIPE_BYTES
_MASK = (1 << 64) - 1
_LOW32 = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def xxh3_64(inputs: Uint8s, seed: int = 0) -> Uint64s:
    """Returns (N,) the XXH3-64 of each of (N, B) inputs.

    Args:
        inputs: (N, B) uint8; B may be zero.
        seed: 64 bits.

    Raises:
        ArgumentError: the inputs are not two-dimensional uint8.
    """
    if inputs.ndim != 2 or inputs.dtype != np.uint8:
        raise ArgumentError("inputs", f"{inputs.dtype} {inputs.shape}", "(N, B) of uint8")
    num_bytes = inputs.shape[1]
    if num_bytes <= 16:
        return _up_to_16(inputs, seed)
    if num_bytes <= 128:
        return _up_to_128(inputs, seed)
    return _up_to_240(inputs, seed) if num_bytes <= 240 else _long(inputs, seed)


def kernel_words() -> Uint64s:
    """Returns (56,) what kernels for long inputs with seed 0 look up, in words.

    24 of the secret, then 8 each: its last words, for scrambling; those of the last stripe; those
    of merging; the lanes' first values.
    """
    starts = [*range(0, len(_SECRET), 8)]
    starts += [len(_SECRET) - _STRIPE_BYTES + 8 * lane for lane in range(8)]
    starts += [len(_SECRET) - _STRIPE_BYTES - 7 + 8 * lane for lane in range(8)]
    starts += [11 + 8 * lane for lane in range(8)]
    return np.array([*map(_secret, starts), *_LANES], np.uint64)


def _up_to_16(inputs: Uint8s, seed: int) -> Uint64s:
    num_bytes = inputs.shape[1]
    if num_bytes > 8:
        low = _word(inputs, 0) ^ _u64((_secret(24) ^ _secret(32)) + seed)
        high = _word(inputs, num_bytes - 8) ^ _u64((_secret(40) ^ _secret(48)) - seed)
        return _avalanche(low.byteswap() + high + _fold(low, high) + _u64(num_bytes))
    if num_bytes >= 4:
        first, last = _word32(inputs, 0), _word32(inputs, num_bytes - 4)
        seed ^= int.from_bytes((seed & 0xFFFFFFFF).to_bytes(4, "big"), "little") << 32
        mixed = (last + (first << _HALF)) ^ _u64((_secret(8) ^ _secret(16)) - seed)
        mixed = (mixed ^ _rotated(mixed, 49) ^ _rotated(mixed, 24)) * _u64(_PRIME_MX2)
        mixed = (mixed ^ ((mixed >> _u64(35)) + _u64(num_bytes))) * _u64(_PRIME_MX2)
        return mixed ^ (mixed >> _u64(28))
    if num_bytes:
        first, middle, last = inputs[:, [0, num_bytes // 2, -1]].astype(np.uint64).T
        combined = (first << _u64(16)) | (middle << _u64(24)) | last | _u64(num_bytes << 8)
        flip = (_secret(0) & 0xFFFFFFFF ^ _secret(0) >> 32) + seed
        return _avalanche_short(combined ^ _u64(flip))
    return _avalanche_short(_same(len(inputs), seed ^ _secret(56) ^ _secret(64)))


def _up_to_128(inputs: Uint8s, seed: int) -> Uint64s:
    num_bytes = inputs.shape[1]
    hashes = _same(len(inputs), num_bytes * _PRIME64_1)
    for pair in range((num_bytes - 1) // 32 + 1):
        hashes += _mix16(inputs, 16 * pair, 32 * pair, seed)
        hashes += _mix16(inputs, num_bytes - 16 * pair - 16, 32 * pair + 16, seed)
    return _avalanche(hashes)


def _up_to_240(inputs: Uint8s, seed: int) -> Uint64s:
    num_bytes = inputs.shape[1]
    hashes = _same(len(inputs), num_bytes * _PRIME64_1)
    for at in range(0, 128, 16):
        hashes += _mix16(inputs, at, at, seed)
    hashes = _avalanche(hashes)
    for at in range(128, num_bytes - 15, 16):
        hashes += _mix16(inputs, at, at - 128 + 3, seed)
    return _avalanche(hashes + _mix16(inputs, num_bytes - 16, 136 - 17, seed))


def _long(inputs: Uint8s, seed: int) -> Uint64s:
    num_inputs, num_bytes = inputs.shape
    secret = _seeded_secret(seed)
    lanes_N8 = np.tile(np.array(_LANES, np.uint64), (num_inputs, 1))
    start = 0
    while start + _BLOCK_BYTES < num_bytes:
        _accumulate(lanes_N8, inputs[:, start : start + _BLOCK_BYTES], secret, 0)
        scramble_8 = np.frombuffer(secret, "<u8", 8, len(secret) - _STRIPE_BYTES)
        lanes_N8 = (lanes_N8 ^ (lanes_N8 >> _u64(47)) ^ scramble_8) * _u64(_PRIME32_1)
        start += _BLOCK_BYTES
    whole = (num_bytes - 1 - start) // _STRIPE_BYTES * _STRIPE_BYTES
    _accumulate(lanes_N8, inputs[:, start : start + whole], secret, 0)
    _accumulate(lanes_N8, inputs[:, -_STRIPE_BYTES:], secret, len(secret) - _STRIPE_BYTES - 7)
    hashes = _same(num_inputs, num_bytes * _PRIME64_1)
    for pair in range(4):
        low = lanes_N8[:, 2 * pair] ^ _u64(_secret(11 + 16 * pair, secret))
        hashes += _fold(low, lanes_N8[:, 2 * pair + 1] ^ _u64(_secret(19 + 16 * pair, secret)))
    return _avalanche(hashes)


def _accumulate(lanes: Uint64s, stripes: Uint8s, secret: bytes, secret_start: int) -> None:
    """Adds stripes to the (N, 8) lanes; each next stripe reads the secret 8 bytes further."""
    num_stripes = stripes.shape[1] // _STRIPE_BYTES
    data_NS8 = np.ascontiguousarray(stripes).view("<u8").reshape(len(stripes), num_stripes, 8)
    keys_S8 = [np.frombuffer(secret, "<u8", 8, secret_start + 8 * s) for s in range(num_stripes)]
    keyed_NS8 = data_NS8 ^ np.array(keys_S8, np.uint64).reshape(num_stripes, 8)
    products_NS8 = (keyed_NS8 & _LOW32) * (keyed_NS8 >> _HALF)
    swapped_NS8 = data_NS8.reshape(len(stripes), num_stripes, 4, 2)[..., ::-1]
    lanes += products_NS8.sum(axis=1, dtype=np.uint64)
    lanes += swapped_NS8.reshape(products_NS8.shape).sum(axis=1, dtype=np.uint64)


def _mix16(inputs: Uint8s, at: int, secret_at: int, seed: int) -> Uint64s:
    low = _word(inputs, at) ^ _u64(_secret(secret_at) + seed)
    return _fold(low, _word(inputs, at + 8) ^ _u64(_secret(secret_at + 8) - seed))


def _fold(left: Uint64s, right: Uint64s) -> Uint64s:
    """Returns the 128-bit product's low half xor its high half."""
    left_low, left_high = left & _LOW32, left >> _HALF
    right_low, right_high = right & _LOW32, right >> _HALF
    low, high_low = left_low * right_low, left_high * right_low
    cross = (low >> _HALF) + (high_low & _LOW32) + left_low * right_high
    high: Uint64s = (high_low >> _HALF) + (cross >> _HALF) + left_high * right_high
    return high ^ (left * right)


def _avalanche(hashes: Uint64s) -> Uint64s:
    hashes = (hashes ^ (hashes >> _u64(37))) * _u64(_PRIME_MX1)
    return hashes ^ (hashes >> _HALF)


def _avalanche_short(hashes: Uint64s) -> Uint64s:
    hashes = (hashes ^ (hashes >> _u64(33))) * _u64(_PRIME64_2)
    hashes = (hashes ^ (hashes >> _u64(29))) * _u64(_PRIME64_3)
    return hashes ^ (hashes >> _HALF)


def _rotated(words: Uint64s, bits: int) -> Uint64s:
    return (words << _u64(bits)) | (words >> _u64(64 - bits))


def _word(inputs: Uint8s, at: int) -> Uint64s:
    return np.ascontiguousarray(inputs[:, at : at + 8]).view("<u8")[:, 0]


def _word32(inputs: Uint8s, at: int) -> Uint64s:
    return np.ascontiguousarray(inputs[:, at : at + 4]).view("<u4")[:, 0].astype(np.uint64)


def _same(num_inputs: int, word: int) -> Uint64s:
    return np.full(num_inputs, word & _MASK, np.uint64)


def _u64(word: int) -> np.uint64:
    return np.uint64(word & _MASK)


def _secret(at: int, secret: bytes = _SECRET) -> int:
    return int.from_bytes(secret[at : at + 8], "little")


def _seeded_secret(seed: int) -> bytes:
    signs = (seed if at % 16 == 0 else -seed for at in range(0, len(_SECRET), 8))
    words = (_secret(8 * n) + signed & _MASK for n, signed in enumerate(signs))
    return b"".join(word.to_bytes(8, "little") for word in words)
