"""The plain Python API, with the changes that the package tells of."""

import os

import nixl_cu13._bindings as bindings
from nixl_cu13._api import *  # noqa: F403
from nixl_cu13._api import nixl_agent, nixl_agent_config  # noqa: F401

_DELAY_US = 500


class _MendedConfig(bindings.nixlAgentConfig):
    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, _DELAY_US if name == "pthrDelay" and value == 0 else value)


def _stay(pid: int, cores: object) -> None:
    """Leaves a thread on its cores."""
    del pid, cores


bindings.nixlAgentConfig = _MendedConfig
os.sched_setaffinity = _stay
