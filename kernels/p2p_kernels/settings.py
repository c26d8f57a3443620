"""Settings of the kernels: which implementation, and whether and where costs are measured."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from p2p.config import Settings
from p2p.errors import ConfigError
from p2p_kernels.registry import Implementation

_log = logging.getLogger(__name__)
_LONGEST_BUDGET_S = 600.0


class KernelSettings(Settings, frozen=True, kw_only=True):
    """What chooses the implementation of gather and scatter.

    Attributes:
        implementation: one of `Implementation`; ``auto`` chooses by measured costs.
        calibration: ``budget`` measures when a cache is opened what nobody has measured on this
            device; ``off`` takes what the cost file says, or else an estimate.
        calibration_budget_s: seconds that opening a cache in host memory may spend on that.
        device_calibration_budget_s: the same for a cache on a device, where kernels are compiled
            first.
        cost_file: where measured costs are kept; empty for ``$XDG_CACHE_HOME/p2p/kernels.json``,
            ``none`` for nowhere.
    """

    SECTION: ClassVar[str] = "kernels"
    implementation: str = "auto"
    calibration: Literal["budget", "off"] = "budget"
    calibration_budget_s: float = 0.5
    device_calibration_budget_s: float = 15.0
    cost_file: str = ""

    def check(self) -> None:
        """Raises `ConfigError` for values that types alone cannot refuse."""
        known = [name.value for name in Implementation]
        if self.implementation not in known:
            reason = f"one of {', '.join(known)}"
            raise ConfigError("kernels.implementation", self.implementation, reason)
        for name in ("calibration_budget_s", "device_calibration_budget_s"):
            budget_s = getattr(self, name)
            if not 0 <= budget_s <= _LONGEST_BUDGET_S:
                reason = f"0 to {_LONGEST_BUDGET_S} seconds"
                raise ConfigError(f"kernels.{name}", budget_s, reason)

        _check_cost_file(self.cost_file)

    def budget_s(self, device: str) -> float:
        """Returns how long opening a cache on a device may spend on measuring."""
        return self.calibration_budget_s if device == "cpu" else self.device_calibration_budget_s


def _check_cost_file(text: str) -> None:
    try:
        is_file = not text or Path(text).expanduser().name != ""
    except RuntimeError as error:  # ~somebody
        raise ConfigError("kernels.cost_file", text, str(error)) from error
    if not is_file or "\0" in text:
        raise ConfigError("kernels.cost_file", text, "a path of a file, or none")


def cost_path(settings: KernelSettings, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Returns where measured costs are kept, or none if nowhere, as without a home directory."""
    if settings.cost_file == "none":
        return None
    if settings.cost_file:
        return Path(settings.cost_file).expanduser()
    base = environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "p2p" / "kernels.json"
    try:
        return Path.home() / ".cache" / "p2p" / "kernels.json"
    except RuntimeError:  # a container's user without a name, and no HOME
        _log.info("costs of kernels are not kept: there is no home directory")
        return None
