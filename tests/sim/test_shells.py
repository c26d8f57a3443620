"""Shells take no decision: what is not in a state machine, the simulator cannot prove."""

from pathlib import Path

import pytest

from tests.sim.shells import decisions, imports, used_of

ROOT = Path(__file__).parents[2]
ALSO_SHELLS = ("p2p/backend/lane.py", "p2p/backend/links.py")  # through what they are given
FACES = {
    "p2p/backend/backend.py": "the public face: says who we are, and puts results into words",
    "p2p/backend/loading.py": "what callers hold",
    "p2p/backend/locator.py": "the public face's waiting question: puts the answer into words",
    "p2p/backend/results.py": "what callers hold",
    "p2p/backend/settings.py": "asks the host for its name",
    "p2p/wire/context.py": "makes sockets",
    "p2p/wire/curve.py": "reads key files",
    "controller/p2p_controller/cli/parser.py": "the command line",
}
INPUT_AND_OUTPUT = {"asyncio", "concurrent.futures", "os", "queue", "select", "selectors", "socket"}
INPUT_AND_OUTPUT |= {"threading", "time", "zmq"}

ALLOWED = {
    ("BondThread.__init__", "uses BondState"): "what was logged last",
    ("BondThread._log", "uses BondState"): "chooses a log level",
    ("ControllerServer._handle_now", "branches on count"): "which handlings are timed",
    ("ControllerServer.handle", "branches on is_full"): "in what order, see Backlog",
    ("FetchEngine._on_read_end", "branches on roots"): "digests, if a lane made any",
    ("FetchEngine._on_dialled", "branches on holder"): "passes on what the reader says",
    ("Lane._on_piece", "branches on keys"): "without keys there is nothing to digest",
    ("Lanes.submit", "branches on num_bytes"): "the lane with the least to do",
    ("_LaneThread._tell", "branches on orders"): "its own queue",
    ("Links.attach", "branches on channel"): "a channel ends its own earlier link",
    ("PeerLines._line", "branches on holder"): "one socket for each start",
    ("PeerLines._line", "branches on incarnation"): "one socket for each start",
    ("_is_same_start", "branches on incarnation"): "one socket for each start",
    ("_is_same_start", "branches on public_key"): "one socket for each start",
    ("identity_of", "makes a RankEndpoint"): "from settings, before anything runs",
    ("identity_of", "makes a Register"): "from settings, before anything runs",
    ("run", "makes a Diagnose"): "a person's question, passed on",
    ("Responder._decode", "makes a Refusal"): "no core sees what is no message",
    ("Responder._decode", "uses RefusalCode"): "no core sees what is no message",
}
CORES = {"_core", "_reader", "core", "leases", "membership", "reader"}
REPORTS = {
    "book",
    "count",
    "epoch",
    "fetches",
    "has_actions",
    "has_late_answers",
    "instance",
    "is_idle",
    "is_linked",
    "is_shutting_down",
    "is_watched",
    "on_channel_failed",
    "pleas",
    "refusal",
    "shut_down",
    "state",
    "times",
    "wants_reader",
}  # for logs and metrics, the end of a process, or to skip a call that would do nothing; simulated
#  pairs have one channel: what follows a failed one is what follows an answer that comes late


def _shells() -> list[Path]:
    """Returns the modules with input or output, threads or clocks, but for the faces."""
    folders = ((ROOT / "p2p/backend"), (ROOT / "p2p/wire"), (ROOT / "controller"))
    modules = [module for folder in folders for module in folder.rglob("*.py")]
    shells = {module for module in modules if imports(module.read_text()) & INPUT_AND_OUTPUT}
    shells |= {ROOT / shell for shell in ALSO_SHELLS}
    return sorted(shells - {ROOT / face for face in FACES})


def test_shells_are_where_they_are_looked_for():
    names = {shell.name for shell in _shells()}
    assert names >= {"bond.py", "engine.py", "lanes.py", "peer_service.py", "server.py"}
    assert all((ROOT / face).exists() for face in FACES)


def test_no_shell_takes_a_decision():
    found = {
        (decision.function, decision.what): f"{shell.relative_to(ROOT)}:{decision.line}"
        for shell in _shells()
        for decision in decisions(shell.read_text())
    }
    unknown = {decision: place for decision, place in found.items() if decision not in ALLOWED}
    assert unknown == {}, "move these into a state machine"
    assert set(ALLOWED) - set(found) == set(), "nothing does this any more: allow it no longer"


def test_the_simulated_shells_use_the_state_machines_as_the_real_ones_do():
    real = set().union(*(used_of(shell.read_text(), CORES) for shell in _shells()))
    simulated = set().union(
        *(used_of(path.read_text(), CORES) for path in (ROOT / "tests/sim").glob("*.py"))
    )
    assert real - simulated - REPORTS == set(), "what the simulator never calls, it never proves"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("if lease.token == 1: pass", "branches on token"),
        ("while message.epoch < 3: pass", "branches on epoch"),
        ("x = 1 if answer.ttl_ms else 2", "branches on ttl_ms"),
        ("is_old = message.incarnation < ours", "branches on incarnation"),
        ("x = [h for h in holders if h.want]", "branches on want"),
        ("x = min(peers, key=lambda p: p.load_bytes)", "branches on load_bytes"),
        ("match m:\n  case A() if m.generation > 1: pass", "branches on generation"),
        ("send(LeaseRelease(instance='a', incarnation=1, token=2))", "makes a LeaseRelease"),
        ("state = PeerState.DOWN", "uses PeerState"),
        ("core.leases._leases.clear()", "reaches into _leases"),
        ("from random import choice", "draws lots with random"),
    ],
)
def test_a_decision_is_found(source: str, what: str):
    assert what in {decision.what for decision in decisions(source)}


@pytest.mark.parametrize(
    "source",
    [
        "match action:\n  case Read(): self._read(action)",
        "if end.problem: self._failed(end)",
        "if socket in ready: take(socket)",
        "lines[action.holder.instance].send(action.message, action.tag)",
        "if self._is_closing: raise ClosedError('closed')",
    ],
)
def test_carrying_something_is_no_decision(source: str):
    assert decisions(source) == []
