"""The channels that the suite runs on.

To put another channel under it, write a `Harness` and add it to `HARNESSES`.
"""

from collections.abc import Callable

import pytest

from tests.contract.harness import FakeHarness, Harness, LocalHarness, ProcessHarness
from tests.contract.shm_harness import READS_ASIDE, READS_INLINE, ShmHarness, ShmLocalHarness
from tests.contract.tcp_harness import (
    PARALLEL,
    WRITABLE,
    TcpHarness,
    TcpHostsHarness,
    TcpLocalHarness,
)
from tests.net.namespaces import is_supported

HARNESSES: dict[str, Callable[[], Harness]] = {
    "fake": FakeHarness,
    "nixl-one-process": LocalHarness,
    "nixl-cma": lambda: ProcessHarness(""),
    "nixl-tcp": lambda: ProcessHarness("tcp"),
    "shm-one-process": ShmLocalHarness,
    "shm": lambda: ShmHarness(READS_INLINE),
    "shm-threads": lambda: ShmHarness(READS_ASIDE),
    "tcp-one-process": TcpLocalHarness,
    "tcp": lambda: TcpHarness(WRITABLE),
    "tcp-streams": lambda: TcpHarness(PARALLEL),
    "tcp-hosts": lambda: TcpHostsHarness(WRITABLE),
}


@pytest.fixture(scope="module", params=HARNESSES)
def module_harness(request):
    if request.param.endswith("-hosts") and (reason := is_supported()):
        pytest.skip(reason)
    harness = HARNESSES[request.param]()
    yield harness
    harness.end()


@pytest.fixture
def harness(module_harness):
    yield module_harness
    module_harness.end_test()


@pytest.fixture
def killable(harness):
    if not harness.can_kill:
        pytest.skip("a peer in our own process cannot be killed")
    return harness


@pytest.fixture
def hanging(harness):
    if not harness.hangs_when_stopped:
        pytest.skip("the kernel copies without the peer's processor: nothing hangs")
    return harness
