"""What Prometheus reads: the controller's answers as metrics, and the HTTP side's own."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from p2p.wire.messages import ControllerMetrics, ControllerStatus, RequestMetrics
from p2p_controller.unusual import DROPPED, DROPPED_KINDS, EVENTS

_NONE = dict.fromkeys([*EVENTS, *(DROPPED + kind for kind in DROPPED_KINDS)], 0)
_FIRST_BUCKET = 2  # below 4 microseconds


class Scrape(NamedTuple):
    """What the controller said, or None if it was silent."""

    status: ControllerStatus | None = None
    metrics: ControllerMetrics | None = None


class Exposition(Collector):
    """All metrics, with the controller's as they were last put in.

    Attributes:
        scrape: what the next exposition shows of the controller.
    """

    def __init__(self) -> None:
        self.scrape = Scrape()
        self._registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._requests = Counter(
            "p2p_controller_http_requests",
            "HTTP requests that were answered.",
            ("operation", "code"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "p2p_controller_http_request_duration_seconds",
            "Time from an HTTP request to its answer.",
            ("operation",),
            registry=self._registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def note(self, operation: str, code: int, seconds: float) -> None:
        """Counts one HTTP request."""
        self._requests.labels(operation, str(code)).inc()
        self._durations.labels(operation).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Returns everything in the form that the scraper accepts, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Returns every metric without samples."""
        return [*_of_status(None), *_of_metrics(None)]

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics of the last scrape."""
        return [*_of_status(self.scrape.status), *_of_metrics(self.scrape.metrics)]


def _of_status(status: ControllerStatus | None) -> Iterable[Metric]:
    up = GaugeMetricFamily("p2p_controller_up", "1 if the controller's loop answered.")
    up.add_metric([], float(status is not None))
    yield up
    info = InfoMetricFamily("p2p_controller", "Version and epoch of this start.")
    gauges = {
        name: GaugeMetricFamily(f"p2p_controller_{name}", about)
        for name, about in (
            ("uptime_seconds", "Time since the start."),
            ("partial", "1 while a miss may be due to a restart."),
            ("closing", "1 once somebody asked for the end."),
            ("keys", "Distinct chunk keys in the directory."),
            ("entries", "Chunks that instances hold, by the directory."),
        )
    }
    events = CounterMetricFamily(
        "p2p_controller_events", "Everything unusual, by kind.", labels=["kind"]
    )
    dropped = CounterMetricFamily(
        "p2p_controller_dropped_messages", "Messages that were dropped.", labels=["kind"]
    )
    if status is not None:
        info.add_metric([], {"version": status.version, "epoch": str(status.epoch)})
        values = {
            "uptime_seconds": status.uptime_ms / 1000,
            "partial": status.partial,
            "closing": status.closing,
            "keys": status.num_keys,
            "entries": status.num_entries,
        }
        for name, value in values.items():
            gauges[name].add_metric([], float(value))
        for kind, number in (_NONE | status.counters).items():
            family = dropped if kind.startswith(DROPPED) else events
            family.add_metric([kind.removeprefix(DROPPED)], number)
    yield from (info, *gauges.values(), events, dropped)


def _of_metrics(metrics: ControllerMetrics | None) -> Iterable[Metric]:
    instances = GaugeMetricFamily(
        "p2p_controller_instances", "Instances.", labels=["namespace", "model", "state"]
    )
    keys = GaugeMetricFamily(
        "p2p_controller_namespace_keys", "Distinct keys.", labels=["namespace", "model"]
    )
    entries = GaugeMetricFamily(
        "p2p_controller_namespace_entries", "Held chunks.", labels=["namespace", "model"]
    )
    requests = CounterMetricFamily(
        "p2p_controller_requests", "Requests over ZMQ, by message.", labels=["message"]
    )
    times = HistogramMetricFamily(
        "p2p_controller_handling_seconds",
        "Time from a decoded request to its answer, of one in 16 of each message.",
        labels=["message"],
    )
    if metrics is not None:
        for space in metrics.namespaces:
            labels = [space.namespace, space.model]
            instances.add_metric([*labels, "alive"], space.num_alive)
            instances.add_metric([*labels, "silent"], space.num_silent)
            keys.add_metric(labels, space.num_keys)
            entries.add_metric(labels, space.num_entries)
        for request in metrics.requests:
            requests.add_metric([request.kind], request.num)
            times.add_metric([request.kind], _buckets(request), request.total_ns / 1e9)
    yield from (instances, keys, entries, requests, times)


def _buckets(request: RequestMetrics) -> list[tuple[str, float]]:
    """Returns cumulative counts by upper bound in seconds."""
    buckets: list[tuple[str, float]] = []
    num = 0
    last = len(request.num_by_bucket) - 1
    for bucket, count in enumerate(request.num_by_bucket):
        num += count
        if bucket == last:
            buckets.append(("+Inf", num))
        elif bucket >= _FIRST_BUCKET:
            buckets.append((f"{2**bucket / 1e6:g}", num))
    return buckets
