"""Settings of the controller: table ``[controller]``, environment ``P2P_CONTROLLER_*``."""

import re
from typing import ClassVar

from p2p.config import Settings
from p2p.errors import ConfigError

DEFAULT_ADDRESS = "tcp://127.0.0.1:7600"
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_DAY_S = 86_400.0
_HTTP_ADDRESS = re.compile(r"^(?:\[([0-9a-fA-F:.%]+)\]|([^\s:/\[\]]+)):(\d{1,5}|\*)$")


class ControllerSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the controller runs.

    Attributes:
        bind: address of the control plane; port ``*`` takes a free one.
        heartbeat_s: how often instances report.
        silent_after_s: an instance that was not heard for so long is not returned any more.
        forget_after_s: after so long its entries go; it has to register again.
        recovery_s: for so long after a start, answers are marked partial.
        max_kept_events: events kept per instance while earlier ones or a snapshot are missing.
        snapshot_pages: pages of snapshots that may be under way to the controller, over all
            instances; others wait for their turn.
        max_instances: instances that may be registered at a time; others are refused.
        max_namespaces: namespaces that may have instances at a time.
        keys_dir: folder of CURVE keys; empty runs without authentication.
        key_name: whose secret key in that folder is the controller's.
        http: HOST:PORT of the HTTP side, port ``*`` takes a free one; empty for none.
        http_token_file: holds the word that HTTP requests must show to change something.
        log_level: of the process's log on stderr.
    """

    SECTION: ClassVar[str] = "controller"

    bind: str = DEFAULT_ADDRESS
    heartbeat_s: float = 1.0
    silent_after_s: float = 3.0
    forget_after_s: float = 60.0
    recovery_s: float = 10.0
    max_kept_events: int = 1 << 18
    snapshot_pages: int = 4
    max_instances: int = 4096
    max_namespaces: int = 256
    keys_dir: str = ""
    key_name: str = "controller"
    http: str = ""
    http_token_file: str = ""
    log_level: str = "INFO"

    def check(self) -> None:
        """Raises `ConfigError` for times that contradict each other and for unknown levels."""
        self._check_range("heartbeat_s", self.heartbeat_s, 0.01, 3_600.0)
        self._check_range("silent_after_s", self.silent_after_s, 0.02, _DAY_S)
        self._check_range("forget_after_s", self.forget_after_s, 0.02, _DAY_S)
        self._check_range("recovery_s", self.recovery_s, 0.0, _DAY_S)
        self._check_range("max_kept_events", self.max_kept_events, 1, 1 << 26)
        self._check_range("snapshot_pages", self.snapshot_pages, 1, 1 << 10)
        self._check_range("max_instances", self.max_instances, 1, 1 << 20)
        self._check_range("max_namespaces", self.max_namespaces, 1, 1 << 20)
        if self.silent_after_s < 2 * self.heartbeat_s:
            reason = f"at least twice heartbeat_s = {self.heartbeat_s:g}: one may get lost"
            raise ConfigError("controller.silent_after_s", self.silent_after_s, reason)
        if self.forget_after_s < self.silent_after_s:
            reason = f"at least silent_after_s = {self.silent_after_s:g}"
            raise ConfigError("controller.forget_after_s", self.forget_after_s, reason)
        if self.log_level not in _LOG_LEVELS:
            reason = f"one of {', '.join(_LOG_LEVELS)}"
            raise ConfigError("controller.log_level", self.log_level, reason)
        if self.keys_dir and not self.key_name:
            raise ConfigError("controller.key_name", self.key_name, "a name in keys_dir")

        if self.http:
            http_host_and_port(self.http)

    def _check_range(self, key: str, value: float, lowest: float, highest: float) -> None:
        if not lowest <= value <= highest:  # also refuses NaN
            raise ConfigError(f"controller.{key}", value, f"between {lowest:g} and {highest:g}")


def http_host_and_port(address: str) -> tuple[str, int]:
    """Returns the parts of the setting ``http``; port 0 takes a free one.

    Raises:
        ConfigError: it is no HOST:PORT.
    """
    match = _HTTP_ADDRESS.match(address)
    port = 0 if match is None or match[3] == "*" else int(match[3])
    if match is None or port > 65535:
        raise ConfigError("controller.http", address, "use HOST:PORT, such as 127.0.0.1:7680")
    return match[1] or match[2], port
