"""What Prometheus reads, and that the dashboard asks for nothing else."""

import json
import re
from importlib import resources

from prometheus_client.parser import text_string_to_metric_families

from p2p.wire.messages import ControllerMetrics, ControllerStatus, NamespaceMetrics, RequestMetrics
from p2p_controller.http.exposition import Exposition, Scrape
from p2p_controller.unusual import DROPPED_KINDS, EVENTS
from tests.e2e.controller_process import ROOT

STATUS = ControllerStatus(
    version="1.2",
    epoch=5,
    uptime_ms=1500,
    num_instances=3,
    num_namespaces=1,
    num_keys=4,
    num_entries=6,
    partial=True,
    counters={"gaps": 2, "dropped_body": 7},
)
METRICS = ControllerMetrics(
    namespaces=(
        NamespaceMetrics(
            namespace="n", model="m", num_alive=2, num_silent=1, num_keys=4, num_entries=6
        ),
    ),
    requests=(
        RequestMetrics(
            kind="Locate", num=240, num_by_bucket=(1, 2, 3, 4, *[0] * 19, 5), total_ns=10**9
        ),
    ),
)
_NO_METRICS = {"sum", "rate", "by", "histogram_quantile", "or", "and", "label_values", "instance"}


def samples(exposition: Exposition) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, content_type = exposition.text("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def names_in(expression: str) -> set[str]:
    """Returns the metrics that a PromQL expression asks for."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    bare = re.sub(r"\bby\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - _NO_METRICS


def dashboard():
    file = resources.files("p2p_controller") / "grafana" / "p2p_controller.json"
    return json.loads(file.read_text())


def test_the_status_becomes_gauges_and_counters():
    exposition = Exposition()
    exposition.scrape = Scrape(STATUS, METRICS)
    found = samples(exposition)
    alone = {name: value for (name, labels), value in found.items() if not labels}
    assert alone["p2p_controller_up"] == 1
    assert alone["p2p_controller_uptime_seconds"] == 1.5
    assert alone["p2p_controller_partial"] == 1
    assert (alone["p2p_controller_keys"], alone["p2p_controller_entries"]) == (4, 6)
    assert found["p2p_controller_events_total", frozenset({("kind", "gaps")})] == 2
    assert found["p2p_controller_dropped_messages_total", frozenset({("kind", "body")})] == 7
    silent = frozenset({("namespace", "n"), ("model", "m"), ("state", "silent")})
    assert found["p2p_controller_instances", silent] == 1


def test_what_never_happened_is_zero_so_that_its_first_time_has_a_rate():
    exposition = Exposition()
    exposition.scrape = Scrape(STATUS, METRICS)
    found = samples(exposition)
    zero = {dict(labels).get("kind") for (_, labels), value in found.items() if value == 0}
    assert zero >= {"instances_silent", "drifts", "handshake"}


def test_every_name_that_is_counted_is_known_and_described():
    """Read from the sources, so that a new counter is not forgotten."""
    folder = resources.files("p2p_controller")
    sources = [file.read_text() for file in folder.rglob("*.py")]  # type: ignore[attr-defined]
    counted = set(re.findall(r"counters\[\"(\w+)\"\]", "".join(sources)))
    counted |= {"instances_forgotten", "http_ended"}  # written in another way
    assert counted == set(EVENTS)
    responder = (ROOT / "p2p/wire/responder.py").read_text()
    assert set(re.findall(r"_count\(\"(\w+)\"", responder)) == set(DROPPED_KINDS)
    table = (ROOT / "docs/operations.md").read_text()
    assert {name for name in EVENTS if f"`{name}`" not in table} == set()


def test_no_rate_is_divided_by_one_that_may_be_zero():
    """Of a message that was not timed lately, 0 / 0 would be NaN, and so would every sum of it."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            for divisor in target["expr"].split("/ ")[1:]:
                assert divisor.startswith("(rate("), target["expr"]
                assert " > 0)" in divisor


def test_times_become_a_histogram():
    exposition = Exposition()
    exposition.scrape = Scrape(STATUS, METRICS)
    found = samples(exposition)
    name = "p2p_controller_handling_seconds"
    locate = ("message", "Locate")
    by_bound = {
        dict(labels)["le"]: value for (n, labels), value in found.items() if n == f"{name}_bucket"
    }
    assert (by_bound["4e-06"], by_bound["8e-06"], by_bound["+Inf"]) == (6, 10, 15)
    assert list(by_bound.values()) == sorted(by_bound.values())
    assert found[f"{name}_count", frozenset({locate})] == 15
    assert found[f"{name}_sum", frozenset({locate})] == 1
    assert found["p2p_controller_requests_total", frozenset({locate})] == 240


def test_a_silent_controller_is_down_and_nothing_else_is_said():
    exposition = Exposition()
    exposition.scrape = Scrape(STATUS, METRICS)
    exposition.scrape = Scrape()
    found = samples(exposition)
    assert found["p2p_controller_up", frozenset()] == 0
    assert not [name for name, _ in found if name.startswith("p2p_controller_instances")]


def test_http_requests_are_counted():
    exposition = Exposition()
    exposition.note("status", 200, 0.003)
    exposition.note("status", 404, 0.1)
    found = samples(exposition)
    labels = frozenset({("operation", "status"), ("code", "404")})
    assert found["p2p_controller_http_requests_total", labels] == 1
    name = "p2p_controller_http_request_duration_seconds_count"
    assert found[name, frozenset({("operation", "status")})] == 2


def test_openmetrics_is_spoken_to_who_asks_for_it():
    text, content_type = Exposition().text("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_the_dashboard_asks_only_for_what_is_there():
    exposition = Exposition()
    exposition.note("status", 200, 0.003)
    with_one_of_each = Scrape(STATUS, METRICS)
    exposition.scrape = with_one_of_each
    exported = {name for name, _ in samples(exposition)}
    board = dashboard()
    expressions = [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]
    expressions += [v["definition"] for v in board["templating"]["list"] if "definition" in v]
    assert len(expressions) > 15
    asked = {name for expression in expressions for name in names_in(expression)}
    assert asked - exported == set()
    assert {"p2p_controller_up", "p2p_controller_handling_seconds_bucket"} <= asked
