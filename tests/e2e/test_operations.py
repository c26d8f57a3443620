"""Operations from the command line on real instances: pin, replicate, move, evict, clear, drain."""

import json
import signal
import threading
import time

import pytest

from p2p.backend import P2PBackend
from p2p.errors import ArgumentError
from p2p.keys import chunk_keys
from p2p_controller.client import ControllerClient
from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import (
    LAYOUT,
    NAMESPACE,
    HolderProcess,
    content_of,
    keys_of,
    start_backend,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 8
_HEARD_S = 1.5  # an order comes with the next heartbeat
KEYS = keys_of(NUM_CHUNKS)
PROMPT = ("--namespace", NAMESPACE.id, *(key.hex() for key in KEYS))


@pytest.fixture
def controller():
    with ControllerProcess() as process:
        yield process


def _start(controller: ControllerProcess, name: str, num_slots: int = 4 * NUM_CHUNKS) -> P2PBackend:
    backend = start_backend(controller.address, name, num_slots)
    assert backend.wait_advertised(10)
    return backend


def _other(number: int):
    return chunk_keys(
        range(NUM_CHUNKS * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens, salt=f"other {number}"
    )


def _num_local(backend: P2PBackend, keys, seed: int) -> int:
    """Returns how many chunks are here without any peer, each compared byte for byte."""
    with backend.fetch(keys, budget_s=0.2) as result:
        content = content_of(seed, NUM_CHUNKS)
        chunks = result.chunks[: result.num_local]
        assert all((chunk == content[number]).all() for number, chunk in enumerate(chunks))
        return result.num_local


def _held_by(controller: ControllerProcess) -> set[str]:
    with ControllerClient(controller.address) as client:
        located = client.locate(NAMESPACE.id, KEYS)
    return {located.holders[index].instance for run in located.runs for index in run.holders}


def _reports(done):
    return {(r["instance"], r["did"]): r for r in json.loads(done.stdout)["reports"]}


def test_a_pinned_prompt_survives_pressure_that_evicts_everything_else(controller):
    with _start(controller, "a") as a:
        a.put(KEYS, content_of(1, NUM_CHUNKS))
        a.put(_other(0), content_of(2, NUM_CHUNKS))
        assert a.wait_advertised(10)
        done = controller.cli("pin", *PROMPT, "--json")
        assert done.returncode == 0, done.stderr
        assert _reports(done) == {
            ("a", "pinned"): {"instance": "a", "did": "pinned", "num_chunks": NUM_CHUNKS}
        }
        for number in range(1, 9):
            a.put(_other(number), content_of(3, NUM_CHUNKS))
        assert _num_local(a, KEYS, 1) == NUM_CHUNKS
        assert _num_local(a, _other(0), 2) == 0
        (row,) = json.loads(controller.cli("instances", "--json").stdout)["instances"]
        assert row["num_pinned"] == a.counters()["chunks_pinned"] == NUM_CHUNKS
        assert controller.cli("unpin", *PROMPT, "--instance", "a").returncode == 0
        assert a.counters()["chunks_pinned"] == 0
        for number in range(9, 18):
            a.put(_other(number), content_of(3, NUM_CHUNKS))
        assert _num_local(a, KEYS, 1) == 0


def test_what_cannot_be_pinned_is_named_with_its_reason(controller):
    with _start(controller, "a", NUM_CHUNKS) as a:
        a.put(KEYS, content_of(1, NUM_CHUNKS))
        assert a.wait_advertised(10)
        done = controller.cli("pin", *PROMPT)
        half = NUM_CHUNKS // 2
        assert done.returncode == 1
        row = done.stdout.splitlines()[1].split(maxsplit=4)
        assert row[:4] == ["a", "pinned", str(half), str(half)]
        assert row[4] == f"more than may be pinned there: at most {half} chunks"


def test_a_replica_is_byte_for_byte_what_the_holder_stored(controller):
    with (
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as holder,
        _start(controller, "b") as b,
    ):
        done = controller.cli("replicate", *PROMPT, "--to", "b", "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        assert _reports(done)["b", "took"]["num_chunks"] == NUM_CHUNKS
        assert _held_by(controller) == {"a", "b"}
        holder.kill()
        assert _num_local(b, KEYS, 1) == NUM_CHUNKS


def test_a_move_takes_from_the_named_source_and_drops_there_only(controller):
    with (
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS),
        HolderProcess(controller.address, "c", 2, NUM_CHUNKS),
        _start(controller, "b") as b,
    ):
        done = controller.cli("move", *PROMPT, "--from", "a", "--to", "b")
        assert done.returncode == 0, done.stderr + done.stdout
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        assert rows == [["a", "evicted", str(NUM_CHUNKS)], ["b", "took", str(NUM_CHUNKS)]]
        assert _num_local(b, KEYS, 1) == NUM_CHUNKS
        assert until(lambda: _held_by(controller) == {"b", "c"}, 10)


def test_a_move_without_a_source_leaves_the_target_alone_with_them(controller):
    with (
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS),
        HolderProcess(controller.address, "c", 2, NUM_CHUNKS),
        _start(controller, "b") as b,
    ):
        done = controller.cli("move", *PROMPT, "--to", "b", "--json")
        assert done.returncode == 0, done.stderr + done.stdout
        assert set(_reports(done)) == {("a", "evicted"), ("b", "took"), ("c", "evicted")}
        assert until(lambda: _held_by(controller) == {"b"}, 10)
        with b.fetch(KEYS) as result:
            assert result.num_local == NUM_CHUNKS


def test_a_target_without_room_takes_what_it_can_and_nothing_is_dropped(controller):
    with (
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS),
        _start(controller, "b", NUM_CHUNKS - 3) as b,
    ):
        done = controller.cli("move", *PROMPT, "--to", "b", "--json")
        assert done.returncode == 1
        reports = _reports(done)
        assert set(reports) == {("b", "took")}
        (left,) = reports["b", "took"]["left"]
        assert (left["reason"], left["num_chunks"]) == ("no_room", 3)
        assert _num_local(b, KEYS, 1) == NUM_CHUNKS - 3
        assert "a" in _held_by(controller)


def test_a_target_that_dies_in_the_middle_fails_with_the_reason_and_costs_nothing(controller):
    with (
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as source,
        HolderProcess(controller.address, "b", 2, 1) as target,
    ):
        source.process.send_signal(signal.SIGSTOP)  # the target's fetch comes to a halt there
        answers = []
        words = ("move", *PROMPT, "--to", "b", "--json", "--wait", "20")
        asking = threading.Thread(target=lambda: answers.append(controller.cli(*words)))
        began_s = time.monotonic()
        asking.start()
        time.sleep(_HEARD_S)
        target.kill()
        source.process.send_signal(signal.SIGCONT)
        asking.join()
        (done,) = answers
        assert done.returncode == 1
        assert time.monotonic() - began_s < 15, "its silence is enough"
        assert set(_reports(done)) == {("b", "took")}
        (left,) = _reports(done)["b", "took"]["left"]
        assert left["reason"] == "silent"
        with _start(controller, "c") as c, c.fetch(KEYS, budget_s=10) as result:
            assert [source.instance for source in result.sources] == ["a"]
            content = content_of(1, NUM_CHUNKS)
            assert all((chunk == content[i]).all() for i, chunk in enumerate(result.chunks))
            assert result.num_chunks == NUM_CHUNKS


def test_what_is_lent_is_evicted_once_it_comes_back(controller):
    with _start(controller, "a") as a:
        a.put(KEYS, content_of(1, NUM_CHUNKS))
        assert a.wait_advertised(10)
        result = a.fetch(KEYS)
        done = controller.cli("evict", *PROMPT, "--wait", "2")
        assert done.returncode == 1
        row = done.stdout.splitlines()[1].split(maxsplit=4)
        assert row == ["a", "evicted", "0", str(NUM_CHUNKS), "lent or in use all the time"]
        releasing = threading.Timer(1.0, result.release)
        releasing.start()
        done = controller.cli("evict", *PROMPT, "--wait", "10", "--json")
        assert done.returncode == 0, done.stdout
        assert _reports(done)["a", "evicted"]["num_chunks"] == NUM_CHUNKS
        assert a.counters()["chunks"] == 0


def test_keys_that_turn_out_to_be_none_clear_nothing(controller, tmp_path):
    """An empty file, a prompt shorter than a chunk, an empty shell variable."""
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.write_text("\n")
    short.write_text("1 2 3")
    with _start(controller, "a") as holder:
        holder.put(KEYS, content_of(1, NUM_CHUNKS))
        of_tokens = ("--tokens-file", str(short), "--chunk-tokens", "64")
        for words in (
            ("--namespace", NAMESPACE.id, "--keys-file", str(empty)),
            ("--namespace", NAMESPACE.id, "--keys-file", ""),
            ("--namespace", NAMESPACE.id, *of_tokens),
            ("--namespace", ""),
            ("--instance", ""),
        ):
            done = controller.cli("clear", *words)
            assert (done.returncode, done.stdout) == (2, ""), done
        with ControllerClient(controller.address) as client, pytest.raises(ArgumentError):
            client.clear(NAMESPACE.id, keys=[])
        assert _num_local(holder, KEYS, 1) == NUM_CHUNKS


def test_clear_by_prefix_takes_what_follows_and_leaves_the_rest(controller):
    trunk = KEYS[:4]
    branch = chunk_keys(
        [*range(4 * LAYOUT.chunk_tokens), *[7] * (4 * LAYOUT.chunk_tokens)], LAYOUT.chunk_tokens
    )
    assert branch[:4] == trunk
    with _start(controller, "a") as a:
        for keys in (KEYS, branch, _other(1)):
            a.put(keys, content_of(1, NUM_CHUNKS))
        assert a.wait_advertised(10)
        words = [key.hex() for key in KEYS[4:6]]
        done = controller.cli("clear", "--namespace", NAMESPACE.id, *words, "--json")
        assert done.returncode == 0, done.stderr
        assert _reports(done)["a", "dropped"]["num_chunks"] == 4
        assert _num_local(a, KEYS, 1) == 4
        assert _num_local(a, branch, 1) == NUM_CHUNKS
        words = [key.hex() for key in trunk]
        done = controller.cli("clear", "--namespace", NAMESPACE.id, *words, "--json")
        assert _reports(done)["a", "dropped"]["num_chunks"] == NUM_CHUNKS
        assert _num_local(a, _other(1), 1) == NUM_CHUNKS
        assert controller.cli("clear", *words).returncode == 1, "keys without a namespace"


def test_a_drained_instance_is_shown_as_leaving_and_named_to_nobody(controller):
    with _start(controller, "a") as a, _start(controller, "b") as b:
        a.put(KEYS, content_of(1, NUM_CHUNKS))
        assert a.wait_advertised(10)
        assert until(lambda: a.counters()["peers_known"] == 1, 10)
        done = controller.cli("drain", "a", "--wait", "20", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert _reports(done)["a", "gave"]["num_chunks"] == NUM_CHUNKS
        rows = json.loads(controller.cli("instances", "--json").stdout)["instances"]
        assert {row["instance"]: row["state"] for row in rows} == {"a": "leaving", "b": "alive"}
        assert _held_by(controller) == {"b"}
        assert _num_local(b, KEYS, 1) == NUM_CHUNKS


def test_a_drain_with_nobody_there_fails_and_the_instance_stays(controller):
    with _start(controller, "a") as a:
        a.put(KEYS, content_of(1, NUM_CHUNKS))
        assert a.wait_advertised(10)
        done = controller.cli("drain", "a", "--wait", "5")
        assert done.returncode == 1
        row = done.stdout.splitlines()[1].split(maxsplit=4)
        assert row == ["a", "gave", "0", str(NUM_CHUNKS), "no room"]
        assert _held_by(controller) == {"a"}


def test_who_closes_is_named_to_nobody_while_its_last_lease_ends(controller):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as holder:
        assert _held_by(controller) == {"a"}
        holder.end()
        assert _held_by(controller) == set()
        assert json.loads(controller.cli("instances", "--json").stdout)["instances"] == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("pin", *PROMPT, "--instance", "x"), "unknown_instance"),
        (("replicate", *PROMPT, "--to", "x"), "unknown_instance"),
        (("move", *PROMPT, "--to", "a", "--from", "a"), "is the target, too"),
        (("evict", "--namespace", "x", KEYS[0].hex()), "namespace"),
        (("drain", "x"), "unknown_instance"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(controller, words, problem):
    with _start(controller, "a") as a:
        assert a.address
        done = controller.cli(*words)
        assert done.returncode == 1
        assert problem in done.stderr
