"""``p2p-controller explain`` and ``requests`` with real instances and staged losses."""

import json
import signal

import numpy as np
import pytest

from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import (
    NAMESPACE,
    HolderProcess,
    content_of,
    keys_of,
    start_backend,
)

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 6
KEYS = keys_of(NUM_CHUNKS)
WORDS = [key.hex() for key in KEYS]
QUICK = ("--set", "heartbeat_s=0.1", "--set", "silent_after_s=0.5", "--set", "recovery_s=0")


@pytest.fixture
def controller():
    with ControllerProcess(*QUICK) as process:
        yield process


def wait_for_request(controller, request):
    def is_listed():
        listed = json.loads(controller.cli("requests", "--all", "--json").stdout)
        return request in [view["report"]["request"] for view in listed["requests"]]

    assert until(is_listed)


def test_an_eviction_is_named_with_its_instance(controller):
    with (
        start_backend(controller.address, "a", NUM_CHUNKS) as holder,
        start_backend(controller.address, "b", NUM_CHUNKS) as reader,
    ):
        holder.put(KEYS, content_of(1, NUM_CHUNKS))
        assert holder.wait_advertised(10)
        assert reader.wait_advertised(10)
        full = controller.cli("explain", "--namespace", NAMESPACE.id, *WORDS)
        assert (full.returncode, full.stdout) == (
            0,
            f"{NUM_CHUNKS} of {NUM_CHUNKS} chunks are held\n",
        )
        assert holder.clear() == NUM_CHUNKS
        assert holder.wait_advertised(10)
        with reader.fetch(KEYS, request_id="cmpl-1") as result:
            assert (result.num_chunks, result.request_id) == (0, "cmpl-1")
        wait_for_request(controller, "cmpl-1")
        by_keys = controller.cli("explain", "--as-instance", "b", *WORDS)
        assert by_keys.returncode == 0, by_keys.stderr
        assert "0 to 5" in by_keys.stdout
        last = by_keys.stdout.splitlines()[-1]
        assert last.startswith(f"0 of {NUM_CHUNKS} chunks are held; chunk 0 was evicted by a ")
        assert last.endswith(" ago, nobody else holds it")
        by_id = controller.cli("explain", "--request", "cmpl-1", "--json")
        answer = json.loads(by_id.stdout)
        reasons = {(one["why"], one["instance"]) for one in answer["explained"]["findings"]}
        assert reasons == {("evicted", "a"), ("no_holder", "b")}
        shown = controller.cli("requests").stdout
        assert "cmpl-1" in shown
        assert "no_holder" in shown


def test_damaged_memory_is_a_digest_mismatch_at_its_holder(controller):
    with (
        start_backend(controller.address, "a", NUM_CHUNKS) as holder,
        start_backend(controller.address, "b", NUM_CHUNKS) as reader,
    ):
        holder.put(KEYS, content_of(1, NUM_CHUNKS))
        assert holder.wait_advertised(10)
        assert reader.wait_advertised(10)
        entry = holder._core.index.get(KEYS[2])
        assert entry is not None
        content = holder._pool.view(entry.slot)
        assert isinstance(content, np.ndarray)
        content[:64] ^= 0xFF
        with reader.fetch(KEYS, budget_s=5) as result:
            assert result.num_chunks == 2
            request = result.request_id
        wait_for_request(controller, request)
        shown = controller.cli("explain", "--request", request)
        assert shown.returncode == 0, shown.stderr
        last = shown.stdout.splitlines()[-1]
        expected = f"2 of {NUM_CHUNKS} chunks were delivered; chunk 2 arrived damaged from a "
        assert last.startswith(expected)
        assert "digest_mismatch" in shown.stdout


def test_a_holder_that_died_is_silent(controller):
    with start_backend(controller.address, "b", NUM_CHUNKS) as reader:
        assert reader.wait_advertised(10)
        with HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as holder:
            holder.kill()

            def is_silent():
                shown = controller.cli("explain", "--namespace", NAMESPACE.id, *WORDS)
                return "is held by a, which was last heard" in shown.stdout

            assert until(is_silent)


def test_a_fetch_that_closing_ends_is_still_reported(controller):
    reader = start_backend(controller.address, "b", NUM_CHUNKS)
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS) as holder:
        assert reader.wait_advertised(10)
        holder.process.send_signal(signal.SIGSTOP)
        handle = reader.submit_fetch(KEYS, budget_s=60, request_id="last")
        assert handle.wait(0.05) is None
        reader.close()
        wait_for_request(controller, "last")
        holder.process.send_signal(signal.SIGCONT)
    shown = controller.cli("explain", "--request", "last")
    assert shown.returncode == 0, shown.stderr
    assert "closed" in shown.stdout


def test_a_request_that_is_not_known_is_a_failure(controller):
    shown = controller.cli("explain", "--request", "nope")
    assert shown.returncode == 1
    assert "no instance has reported this request" in shown.stdout


def test_an_asker_that_nobody_knows_is_refused(controller):
    for command in ("locate", "explain"):
        shown = controller.cli(
            command, "--namespace", NAMESPACE.id, "--as-instance", "nobody", *WORDS
        )
        assert (shown.returncode, shown.stdout) == (1, "")
        assert "unknown_instance: instance = 'nobody'" in shown.stderr


def test_explain_wants_keys_or_a_request(controller):
    assert controller.cli("explain", "--namespace", NAMESPACE.id).returncode == 2
    assert controller.cli("explain", *WORDS).returncode == 2
