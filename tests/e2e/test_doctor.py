"""`doctor` asks living instances: shows their channels, says what to change, fails if it must."""

import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from p2p_controller.advice import DoctorReport, Level
from tests.e2e import holder_process
from tests.e2e.controller_process import ControllerProcess, environment
from tests.e2e.holder_process import HolderProcess, keys_of, start_backend

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 8
KEYS = keys_of(NUM_CHUNKS)
_UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def controller() -> Iterator[ControllerProcess]:
    with ControllerProcess() as process:
        yield process


def doctor(controller: ControllerProcess, *words: str) -> tuple[int, DoctorReport]:
    """Returns the exit code and the report."""
    done = controller.cli("doctor", "--json", *words)
    return done.returncode, msgspec.json.decode(done.stdout, type=DoctorReport)


def test_instances_tell_what_they_found_and_over_what_they_read(controller):
    with HolderProcess(controller.address, "a", 1, NUM_CHUNKS, "") as holder:
        with start_backend(controller.address, "reader", NUM_CHUNKS, channel="") as reader:
            reader.fetch(KEYS, budget_s=10).release()
            code, report = doctor(controller)
            assert code == 0
            found = report.diagnoses["reader"]
            assert {one.channel for one in found.channels if one.is_open} >= {"shm", "nixl"}
            assert {one.kind for one in found.devices} >= {"cpu", "cuda", "npu"}
            (pair,) = found.pairs
            assert (pair.instance, pair.channel, pair.transport) == ("a", "shm", "shm")
            assert pair.latency_ns > 0

            text = controller.cli("doctor", "--instance", "reader").stdout
            assert "same host" in text
            assert "channel  nixl open: plugin UCX" in text

            holder.kill()
            code, report = doctor(controller, "--timeout", "1")
            assert code == 1
            assert report.silent == ("a",)
            (broken,) = [one for one in report.advice if one.level is Level.BROKEN]
            assert (broken.instance, broken.text[:15]) == ("a", "does not answer")


def test_a_peer_in_another_pid_namespace_is_slow_for_that_reason(controller):
    if subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no leave to make a PID namespace")
    words = [controller.address, "a", "1", str(NUM_CHUNKS), "nixl"]
    process = subprocess.Popen(
        [*_UNSHARE, sys.executable, holder_process.__file__, *words],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with start_backend(controller.address, "reader", NUM_CHUNKS) as reader:
            with reader.fetch(KEYS, budget_s=20) as result:
                assert result.num_chunks == NUM_CHUNKS
                (source,) = result.sources
                assert (source.channel, source.transport) == ("nixl", "tcp")
            assert reader.counters()["channel_slow"] == 1
            _, report = doctor(controller, "--instance", "reader")
            (slow,) = [one for one in report.advice if one.subject == "reads from a"]
            assert "another PID namespace" in slow.text
            assert "hostPID" in slow.remedy
    finally:
        process.kill()
        process.communicate()
