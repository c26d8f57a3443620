"""The KV kernels, under one name with the rest of the library; see `p2p_kernels`."""

from p2p_kernels import *  # noqa: F403
from p2p_kernels import __all__ as __all__  # noqa: PLC0414 - re-exported for type checkers
