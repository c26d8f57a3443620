"""Every counter has a name that vLLM's metrics know, and growth is counted once."""

import re
from pathlib import Path

import p2p.integrations.vllm.coordinator as coordinator_module
from p2p.integrations.vllm.tallies import COUNTERS, COUNTERS_BY_REASON, Growth, add_up, by_reason

_SOURCES = Path(coordinator_module.__file__).parent.glob("*.py")
_COUNTED = re.compile(r"(?:counters|_refused)\[f?\"([a-z_]+)(/?)")


def test_everything_that_is_counted_is_shown():
    found = {match.groups() for path in _SOURCES for match in _COUNTED.finditer(path.read_text())}
    assert {name for name, slash in found if slash} == COUNTERS_BY_REASON.keys()
    assert {name for name, slash in found if not slash} == COUNTERS.keys()


def test_growth_is_told_once():
    growth = Growth()
    counts = {"a": 2, "b": 0}
    assert growth.take(counts) == {"a": 2}
    assert growth.take(counts) == {}
    assert growth.take({"a": 5, "b": 1}) == {"a": 3, "b": 1}


def test_counts_add_up():
    assert add_up({"a": 1, "b/x": 2}, {"b/x": 3}) == {"a": 1, "b/x": 5}
    assert by_reason("b/x = 1/2") == ("b", "x = 1/2")
    assert by_reason("a") == ("a", "")
