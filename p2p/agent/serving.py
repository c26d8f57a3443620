"""The serving agent of a rank: memory that peers read, for the rank's whole life.

Peers hold its metadata, so it is never rebuilt. A progress thread answers connection requests
and transports that need the processor; it sleeps until something comes.
"""

from p2p.agent.nixl_agent import NixlAgent, Progress
from p2p.agent.nixl_config import NixlConfig
from p2p.agent.spans import spans
from p2p.regions import Region


class ServingAgent:
    """Registers a region and serves it until closed.

    Args:
        region: what peers may address; its memory stays mapped until the process ends.
        config: settings of NIXL.

    Attributes:
        metadata: what a peer needs to connect, constant.

    Raises:
        PluginMissingError: NIXL is not installed or does not start.
        MemoryUnavailableError: the memory cannot be registered.
    """

    def __init__(self, region: Region, config: NixlConfig) -> None:
        self._agent = NixlAgent("serve", config, Progress.THREAD)
        self._agent.register(spans(region), region.kind, region.device)
        self.metadata = self._agent.metadata()

    def close(self) -> None:
        """Stops serving. Reads under way fail at the peers."""
        self._agent.close()
