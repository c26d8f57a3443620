"""The fault matrix: which cells there are, and why some cannot be. Pure values."""

import itertools
from dataclasses import dataclass

from p2p.backend.actions import Phase

CHANNELS = ("cma", "nixl-tcp", "shm", "tcp")
SAME_HOST = ("cma", "shm")
ROLES = ("holder", "reader", "controller")
FAULTS = ("kill", "stop", "cut", "slow", "flip")
PHASES = tuple(phase.value for phase in Phase)
NETWORK_FAULTS = ("cut", "slow")

NO_NETWORK = "same-host copies cross no network"
NO_POOL = "only a holder serves bytes"


@dataclass(frozen=True)
class Cell:
    """One fault at one phase.

    Attributes:
        channel: `cma` is NIXL with every transport on one host, `nixl-tcp` is NIXL with TCP alone,
            `shm` and `tcp` are the channels of these names.
        role: whom it strikes.
        fault: `kill` is SIGKILL, `stop` is SIGSTOP and later SIGCONT, `cut` is no network, `slow`
            is a link of 8 Mbit/s, `flip` is a changed byte in every chunk of the holder's pool.
        phase: of the fetch, when it strikes.
    """

    channel: str
    role: str
    fault: str
    phase: str

    @property
    def name(self) -> str:
        """For tables and command lines."""
        return f"{self.channel}-{self.role}-{self.fault}-{self.phase}"

    @property
    def has_network(self) -> bool:
        """True if every process is on a host of its own."""
        return self.fault in NETWORK_FAULTS

    @property
    def why_not(self) -> str:
        """Why the cell does not exist; empty if it does."""
        if self.has_network and self.channel in SAME_HOST:
            return NO_NETWORK
        if self.fault == "flip" and self.role != "holder":
            return NO_POOL
        return ""


ALL = tuple(Cell(*axes) for axes in itertools.product(CHANNELS, ROLES, FAULTS, PHASES))
CELLS = tuple(cell for cell in ALL if not cell.why_not)

_CORE_NAMES = (
    "cma-holder-kill-mid_transfer",
    "cma-holder-stop-after_locate",
    "cma-holder-flip-after_lease",
    "cma-reader-kill-mid_transfer",
    "cma-reader-stop-mid_transfer",
    "cma-controller-kill-after_locate",
    "nixl-tcp-holder-kill-mid_transfer",
    "nixl-tcp-holder-stop-mid_transfer",
    "nixl-tcp-holder-cut-mid_transfer",
    "nixl-tcp-holder-slow-after_lease",
    "nixl-tcp-reader-stop-mid_transfer",
    "nixl-tcp-reader-cut-after_lease",
    "nixl-tcp-controller-stop-after_locate",
    "shm-holder-kill-mid_transfer",
    "shm-holder-flip-after_lease",
    "shm-reader-kill-mid_transfer",
    "tcp-holder-kill-mid_transfer",
    "tcp-holder-stop-mid_transfer",
    "tcp-holder-cut-mid_transfer",
    "tcp-holder-flip-after_lease",
    "tcp-reader-stop-mid_transfer",
    "tcp-reader-cut-after_lease",
)
NUM_ROTATING = 6
ROTATING_CHANNELS = ("cma", "nixl-tcp")  # of `shm` and `tcp`, some cells were never run yet
CORE = tuple(cell for cell in CELLS if cell.name in _CORE_NAMES)


def rotating(seed: int, num_cells: int = NUM_ROTATING) -> tuple[Cell, ...]:
    """Returns cells outside the core; all have had their turn after consecutive seeds."""
    others = (c for c in CELLS if c not in CORE and c.channel in ROTATING_CHANNELS)
    rest = sorted(others, key=lambda cell: cell.phase)
    start = seed * num_cells % len(rest)
    stride = 7 if len(rest) % 7 else 11
    return tuple(rest[(start + number) * stride % len(rest)] for number in range(num_cells))
