"""Tells vLLM of the connector by name; vLLM's plugin group calls it at start-up."""

from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

NAME = "P2PConnector"
_registered: set[str] = set()


def register() -> None:
    """Registers the connector once per process, as vLLM may call its plugins several times."""
    if NAME not in _registered:
        _registered.add(NAME)
        KVConnectorFactory.register_connector(NAME, "p2p.integrations.vllm.connector", NAME)
