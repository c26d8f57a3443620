"""The connector's counts in vLLM's log and its ``/metrics``."""

from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
)

from p2p.integrations.vllm.tallies import (
    COUNTERS,
    COUNTERS_BY_REASON,
    FETCH_BUCKETS_S,
    FETCH_SECONDS,
    add_up,
    by_reason,
)

_PREFIX = "vllm:p2p_"
Metric = Gauge | Counter | Histogram


@dataclass
class P2PStats(KVConnectorStats):
    """What has been counted since the last step: ``counts`` by name, and seconds of fetches."""

    @property
    def counts(self) -> dict[str, int]:
        """By name, as in `tallies`."""
        found: dict[str, int] = self.data.get("counts", {})
        return found

    @property
    def fetch_seconds(self) -> list[float]:
        """Of each lookup."""
        found: list[float] = self.data.get(FETCH_SECONDS, [])
        return found

    def reset(self) -> None:
        """Forgets everything."""
        self.data.clear()

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Returns both together."""
        if not isinstance(other, P2PStats):
            raise TypeError(f"counts of {type(other).__name__} and ours do not add up")
        return stats_of(
            add_up(self.counts, other.counts), [*self.fetch_seconds, *other.fetch_seconds]
        )

    def reduce(self) -> dict[str, int | float]:
        """Returns what the log shows of some seconds."""
        shown: dict[str, int | float] = dict(sorted(self.counts.items()))
        if self.fetch_seconds:
            shown["fetch_ms_median"] = round(_median(self.fetch_seconds) * 1e3, 1)
        return shown

    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.counts and not self.fetch_seconds


def stats_of(counts: dict[str, int], fetch_seconds: list[float]) -> P2PStats:
    """Returns counts as vLLM carries them."""
    return P2PStats(data={"counts": counts, FETCH_SECONDS: fetch_seconds})


class P2PPromMetrics(KVConnectorPromMetrics):
    """Counters and a histogram for each engine."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: dict[type[Metric], type[Metric]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters = {
            name: self._counter_cls(f"{_PREFIX}{name}", documentation, labelnames)
            for name, documentation in COUNTERS.items()
        }
        with_reason = [*labelnames, "reason"]
        self._counters |= {
            name: self._counter_cls(f"{_PREFIX}{name}", documentation, with_reason)
            for name, documentation in COUNTERS_BY_REASON.items()
        }
        self._fetch_seconds = self._histogram_cls(
            f"{_PREFIX}{FETCH_SECONDS}",
            "Seconds that looking for a request and fetching its chunks took",
            labelnames,
            buckets=FETCH_BUCKETS_S,
        )
        for values in per_engine_labelvalues.values():  # a counter at 0 is shown, a missing is not
            for name in COUNTERS:
                self._counters[name].labels(*values)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Adds what was counted."""
        stats = P2PStats(data=transfer_stats_data)
        labels = self.per_engine_labelvalues[engine_idx]
        for full_name, number in stats.counts.items():
            name, reason = by_reason(full_name)
            values = [*labels, reason] if name in COUNTERS_BY_REASON else labels
            self._counters[name].labels(*values).inc(number)
        for seconds in stats.fetch_seconds:
            self._fetch_seconds.labels(*labels).observe(seconds)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
