"""What a channel brings as a rule, for choosing one before anything was measured.

Bytes per second of one reader with large chunks. Those of one host, and of TCP, were measured on
two cores (`docs/benchmarks.md`); those of devices and adapters are their makers' figures and
untested on hardware. Only the order of the numbers counts. Pure values.
"""

from collections.abc import Mapping

_SLOW = 1e9
_RATE_BY_TRANSPORT: Mapping[str, float] = {
    "cuda_ipc": 150e9,
    "rocm_ipc": 100e9,
    "dc_mlx5": 25e9,
    "rc_mlx5": 25e9,
    "srd": 12e9,
    "ud_mlx5": 10e9,
    "rc_verbs": 10e9,
    "ud_verbs": 5e9,
    "cma": 6.5e9,
    "tcp": 2.2e9,
}
_BEST_BY_CHANNEL: Mapping[str, tuple[float, float]] = {  # on one host, and elsewhere
    "shm": (7e9, 7e9),
    "nixl": (6.5e9, 25e9),
    "tcp": (4.5e9, 4.5e9),
}


def best_rate(channel: str, *, is_near: bool) -> float:
    """Returns what a channel brings at best, before it is known what will move the bytes."""
    near, far = _BEST_BY_CHANNEL.get(channel, (_SLOW, _SLOW))
    return near if is_near else far


def typical_rate(channel: str, transport: str) -> float:
    """Returns what a channel brings over a transport as a rule; several are joined by ``+``."""
    if channel != "nixl":
        return best_rate(channel, is_near=False)
    rates = [_RATE_BY_TRANSPORT.get(name, _SLOW) for name in transport.split("+")]
    return max(rates)
