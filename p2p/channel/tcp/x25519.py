"""Curve25519's key agreement, as RFC 7748 defines it: what CURVE keys are made for.

Pure arithmetic on whole numbers, about 2 ms. Not in constant time, so nobody but members of the
cluster may choose the points: check a public key first, and keep what came out of it.
"""

from p2p.errors import ArgumentError

KEY_BYTES = 32
_P = (1 << 255) - 19
_A24 = 121665


def x25519(secret: bytes, public: bytes) -> bytes:
    """Returns the 32 bytes that the owners of both key pairs share.

    Raises:
        ArgumentError: a key has another size, or the public one is of a small subgroup.
    """
    for name, key in (("secret", secret), ("public", public)):
        if len(key) != KEY_BYTES:
            raise ArgumentError(f"len({name})", len(key), f"must be {KEY_BYTES}")
    clamped = bytearray(secret)
    clamped[0] &= 248
    clamped[31] = clamped[31] & 127 | 64
    scalar = int.from_bytes(clamped, "little")
    point = int.from_bytes(public, "little") & ((1 << 255) - 1)
    shared = _ladder(scalar, point).to_bytes(KEY_BYTES, "little")
    if not any(shared):
        raise ArgumentError("public", public.hex(), "is of a small subgroup: it hides nothing")
    return shared


def _ladder(scalar: int, point: int) -> int:
    """The Montgomery ladder of RFC 7748, section 5, in its names."""
    x1 = x3 = point % _P
    x2, z2, z3 = 1, 0, 1
    swap = 0
    for bit in range(254, -1, -1):
        k = scalar >> bit & 1
        if swap ^ k:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = k
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb = a * a % _P, b * b % _P
        e = aa - bb
        da, cb = d * a % _P, c * b % _P
        x3 = (da + cb) ** 2 % _P
        z3 = x1 * ((da - cb) ** 2 % _P) % _P
        x2 = aa * bb % _P
        z2 = e * (aa + _A24 * e) % _P
    if swap:
        x2, z2 = x3, z3
    return x2 * pow(z2, _P - 2, _P) % _P
