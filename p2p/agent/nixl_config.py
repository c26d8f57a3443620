"""Settings of NIXL agents, checked when built, and their translation into UCX options.

Pure values. No NIXL, no environment.
"""

from dataclasses import dataclass

from p2p.errors import ConfigError

UCX = "UCX"
_TRANSPORTS = frozenset(
    (
        *("all", "self", "tcp", "ib", "rc", "rc_x", "rc_v", "rc_verbs", "rc_mlx5", "dc", "dc_x"),
        *("dc_mlx5", "ud", "ud_x", "ud_v", "ud_verbs", "ud_mlx5", "srd", "efa", "ugni", "gda"),
        *("gga", "sm", "shm", "mm", "posix", "sysv", "xpmem", "cma", "knem", "cuda", "cuda_copy"),
        *("cuda_ipc", "gdr_copy", "rocm", "rocm_copy", "rocm_ipc", "ze", "ze_copy", "ze_ipc"),
    )
)


@dataclass(frozen=True, slots=True)
class NixlConfig:
    """How a rank uses NIXL. The defaults fit hosts with and without RDMA.

    Variables ``UCX_*`` in the environment win over what is set here: UCX decides so.

    Attributes:
        plugin: NIXL's name of the transport plugin.
        transports: UCX transports that may be used, such as ``("tcp",)``, or all but some, such as
            ``("^cma", "^tcp")``; empty allows all. On hosts with NVIDIA devices a list must name a
            CUDA transport too, or NIXL refuses it.
        net_devices: network devices that may be used, such as ``("mlx5_0:1",)``; empty allows all.
        tcp_user_timeout_s: after this long without an acknowledgement a TCP link is dead.
        tcp_syn_retries: connection requests that may be lost; 2 gives up after about 7 s.
        tcp_segment_bytes: TCP segment of UCX; 256 KiB reads 1.5 times as fast as its default.
        num_threads: UCX worker threads that post large transfers, 0 posts in the caller.
        split_batch_size: block count from which a transfer is split over these threads.
        wakeup_ms: safety timeout of a serving agent's progress thread, which sleeps otherwise.
        max_quarantined: transfers given up in flight on one agent from which it is torn down
            without waiting for a fence.
    """

    plugin: str = UCX
    transports: tuple[str, ...] = ()
    net_devices: tuple[str, ...] = ()
    tcp_user_timeout_s: int = 5
    tcp_syn_retries: int = 2
    tcp_segment_bytes: int = 256 << 10
    num_threads: int = 0
    split_batch_size: int = 1024
    wakeup_ms: int = 10
    max_quarantined: int = 64

    def __post_init__(self) -> None:
        _check_range("nixl.tcp_user_timeout_s", self.tcp_user_timeout_s, 1, 3600)
        _check_range("nixl.tcp_syn_retries", self.tcp_syn_retries, 1, 127)
        _check_range("nixl.tcp_segment_bytes", self.tcp_segment_bytes, 8 << 10, 16 << 20)
        _check_range("nixl.num_threads", self.num_threads, 0, 64)
        _check_range("nixl.split_batch_size", self.split_batch_size, 1, 1 << 20)
        _check_range("nixl.wakeup_ms", self.wakeup_ms, 1, 1000)
        _check_range("nixl.max_quarantined", self.max_quarantined, 1, 1 << 20)
        _check_transports("nixl.transports", self.transports)
        _check_names("nixl.net_devices", self.net_devices)

    def ucx_options(self) -> dict[str, str]:
        """Returns UCX options by their name without the prefix ``UCX_``."""
        options = {
            "TCP_USER_TIMEOUT": f"{self.tcp_user_timeout_s}s",
            "TCP_SYN_CNT": str(self.tcp_syn_retries),
            "TCP_TX_SEG_SIZE": str(self.tcp_segment_bytes),
            "TCP_RX_SEG_SIZE": str(self.tcp_segment_bytes),
        }
        if self.transports:
            names = ",".join(name.removeprefix("^") for name in self.transports)
            options["TLS"] = f"^{names}" if self.transports[0].startswith("^") else names
        if self.net_devices:
            options["NET_DEVICES"] = ",".join(self.net_devices)
        return options

    def plugin_options(self) -> dict[str, str]:
        """Returns the plugin's own options, without UCX's; other plugins than UCX get none."""
        if self.plugin != UCX:
            return {}
        options = {"split_batch_size": str(self.split_batch_size)}
        if self.num_threads:
            options["num_threads"] = str(self.num_threads)
        return options


def _check_range(key: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(key, value, f"must be from {low} to {high}")


def _check_transports(key: str, names: tuple[str, ...]) -> None:
    """Refuses what UCX would ignore without a word: unknown names, and a list of both kinds."""
    for name in names:
        if name.removeprefix("^") not in _TRANSPORTS:
            known = ", ".join(sorted(_TRANSPORTS))
            raise ConfigError(key, name, f"UCX has no such transport; there are: {known}")
    if len({name.startswith("^") for name in names}) > 1:
        reason = "either names what may be used, or what may not (with ^)"
        raise ConfigError(key, ",".join(names), reason)


def _check_names(key: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not name or any(character in name for character in ",= \t\n"):
            raise ConfigError(key, name, "must be one name, without commas, spaces and '='")
