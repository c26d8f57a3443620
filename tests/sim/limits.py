"""What instances are set to: drawn for each of them, so that they differ within one run."""

import random
from dataclasses import replace

from p2p.backend.connecting_ahead import AheadLimits
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.hot import HotLimits
from p2p.backend.plan import PlanLimits
from tests.sim.pool import CHUNK_BYTES

_BASE = FetchLimits(
    window_bytes=2 * CHUNK_BYTES,
    num_windows=4,
    ask_timeout_s=0.3,
    contact_s=1.5,
    stall_s=0.8,
    lease_slack_s=0.1,
    plan=PlanLimits(stripe_bytes=4 * CHUNK_BYTES),
)
_NEVER = 0.02  # that an instance reads nothing


def fetch_limits(draw: random.Random, ahead_bytes: int) -> FetchLimits:
    """Returns how an instance fetches."""
    pull = draw.choice(["auto", "auto", "always"]) if draw.random() > _NEVER else "never"
    return replace(
        _BASE,
        ahead_bytes=ahead_bytes,
        hedge_share=draw.choice([0.0, 0.1, 0.25, 0.5]),
        late_s=draw.choice([0.001, 0.01, 0.05]),
        patience_s=draw.choice([0.05, 0.5]),
        company_s=draw.choice([0.0, 0.02, 0.1]),
        look_left_s=draw.choice([0.1, 0.3, 2.0]),
        pull=pull,
    )


def ahead_limits(draw: random.Random) -> AheadLimits:
    """Returns how far an instance connects ahead of need."""
    links = draw.choice([0, 2, 8])
    return AheadLimits(links, near=draw.choice([0, 1, 4]), pause_s=draw.choice([0.01, 0.25]))


def hot_limits(draw: random.Random) -> HotLimits:
    """Returns when an instance sends readers to each other, and when it asks for copies."""
    return HotLimits(
        readers_per_chunk=draw.choice([0, 1, 1, 2]),
        memory_s=draw.choice([0.2, 2.0, 10.0]),
        idle_s=draw.choice([0.05, 0.25, 5.0]),
        long_s=draw.choice([0.0, 0.0, 0.2]),
        least_bytes=draw.choice([1, 2, 4]) * CHUNK_BYTES,
        refusals=draw.choice([1, 2, 4]),
        window_s=draw.choice([0.3, 3.0]),
        pause_s=draw.choice([0.1, 1.0, 30.0]),
    )


def compute_s(draw: random.Random) -> float:
    """Returns how long an instance's engine computes one chunk; 0 if it does not tell."""
    return draw.choice([0.0, 0.0, 0.004, 0.02])
