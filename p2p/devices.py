"""Devices, their streams and host memory beside them; see `p2p_kernels.devices`."""

from p2p_kernels.devices import *  # noqa: F403
from p2p_kernels.devices import __all__ as __all__  # noqa: PLC0414 - re-exported for type checkers
