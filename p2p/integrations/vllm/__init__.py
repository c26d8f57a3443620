"""Shares the KV cache of vLLM instances.

``"kv_connector": "P2PConnector"`` is enough where this package is installed beside vLLM; from a
source tree, add ``"kv_connector_module_path": "p2p.integrations.vllm"``. Only `connector`,
`describe`, `scheduler_side`, `worker_side`, `kv_events`, `metrics` and `plugin` import vLLM, and
nothing here does until the connector is asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2p.integrations.vllm.connector import P2PConnector

__all__ = ["P2PConnector"]


def __getattr__(name: str) -> object:
    """Imports vLLM only for who asks for the connector: the rest is of use without it."""
    if name != "P2PConnector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from p2p.integrations.vllm.connector import P2PConnector  # noqa: PLC0415  see above

    return P2PConnector
