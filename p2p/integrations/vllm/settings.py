"""The connector's settings: what a user writes under ``kv_connector_extra_config``.

The connector's own keys and those of `BackendConfig` stand side by side; a key that neither knows,
or a bad value, stops vLLM's start with the key, the value and what would be right.
"""

import socket
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from p2p.backend import BackendConfig
from p2p.config import Settings, build_settings
from p2p.errors import ConfigError
from p2p.keys import Namespace

_MIN_CHUNK_TOKENS = 128
_BUDGET_S = 2.0  # a request that waits for its chunks holds up no other one
_FIXED = {"namespace": "made from the model", "pool_memory": "always shared"}


class ConnectorConfig(Settings, frozen=True, kw_only=True):
    """How one vLLM instance shares.

    Attributes:
        chunk_tokens: tokens of a chunk, a multiple of vLLM's block size and the same in the fleet;
            0 takes the smallest multiple that is at least 128.
        load: ``async`` copies before a request is scheduled, while others run; ``step`` within the
            step that schedules it, layer by layer while earlier layers are computed.
        save: ``computed`` shares prompts and answers, ``never`` only reads.
        save_backlog_chunks: chunks on their way into the pool; what is computed beyond is dropped.
        model: name of the model, the same in the fleet; by default the last part of its path.
        weights: digest of the weights, or a hub commit, where vLLM is not given a folder.
    """

    SECTION: ClassVar[str] = "kv_connector_extra_config"

    chunk_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    load: Literal["async", "step"] = "async"
    save: Literal["computed", "never"] = "computed"
    save_backlog_chunks: Annotated[int, msgspec.Meta(ge=1)] = 256
    model: Annotated[str, msgspec.Meta(max_length=256)] = ""
    weights: Annotated[str, msgspec.Meta(max_length=256)] = ""

    def chunk_tokens_for(self, block_tokens: int) -> int:
        """Returns the tokens of a chunk for an engine with blocks of so many.

        Raises:
            ConfigError: it is no multiple of the block size.
        """
        if self.chunk_tokens == 0:
            return -(-_MIN_CHUNK_TOKENS // block_tokens) * block_tokens
        if self.chunk_tokens % block_tokens:
            reason = f"no multiple of vLLM's block size, {block_tokens}"
            raise ConfigError(f"{self.SECTION}.chunk_tokens", self.chunk_tokens, reason)
        return self.chunk_tokens


def read_settings(extra: Mapping[str, object]) -> tuple[ConnectorConfig, dict[str, object]]:
    """Returns the connector's settings, and what is left for `backend_config`.

    Raises:
        ConfigError: a bad value of the connector's, or a key that is not for the user to set.
    """
    for key, reason in _FIXED.items():
        if key in extra:
            raise ConfigError(f"{ConnectorConfig.SECTION}.{key}", extra[key], reason)
    own = set(ConnectorConfig.__struct_fields__)
    known = own | set(BackendConfig.__struct_fields__) - _FIXED.keys()
    for key, value in extra.items():
        if key not in known:
            reason = f"unknown; known: {', '.join(sorted(known))}"
            raise ConfigError(f"{ConnectorConfig.SECTION}.{key}", value, reason)
    settings = build_settings(ConnectorConfig, {key: extra[key] for key in own & extra.keys()})
    return settings, {key: value for key, value in extra.items() if key not in own}


def backend_config(extra: Mapping[str, object], namespace: Namespace) -> BackendConfig:
    """Returns the settings of the coordinator's backend.

    Where nothing is said, peers reach us at the address of ours that faces the controller, so a
    controller's address is all that a user has to give.

    Raises:
        ConfigError: a bad value, with its key.
    """
    if not extra.get("controller"):
        reason = "is required, such as tcp://10.0.0.1:7600"
        raise ConfigError(f"{ConnectorConfig.SECTION}.controller", extra.get("controller"), reason)
    values = {
        "budget_s": _BUDGET_S,
        "bind": f"tcp://{address_facing(str(extra['controller']))}:*",
        **extra,
        "namespace": msgspec.to_builtins(namespace),
        "pool_memory": "shared",
    }
    return build_settings(BackendConfig, values)


def address_facing(controller: str) -> str:
    """Returns the address of this host from which a controller is reached; sends nothing.

    Raises:
        ConfigError: no route leads there.
    """
    host, _, port = controller.removeprefix("tcp://").rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            found = str(probe.getsockname()[0])
    except (OSError, ValueError, IndexError) as error:
        key = f"{ConnectorConfig.SECTION}.controller"
        raise ConfigError(key, controller, f"no way there: {error}") from error
    return f"[{found}]" if ":" in found else found
