"""An instance with a mirror looks up without the controller, and asks it when the mirror is old."""

import pytest

from p2p.backend import ShortReason
from tests.e2e.controller_process import ControllerProcess, until
from tests.e2e.holder_process import HolderProcess, content_of, keys_of, start_backend

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_CHUNKS = 8
KEYS = keys_of(NUM_CHUNKS)


def test_lookups_and_fetches_are_answered_here_until_the_controller_is_silent():
    with (
        ControllerProcess() as controller,
        HolderProcess(controller.address, "a", 1, NUM_CHUNKS),
        start_backend(controller.address, "reader", NUM_CHUNKS, mirror="yes") as reader,
    ):

        def is_answered_here() -> bool:
            before = reader.counters()["mirror_answers"]
            hit = reader.locate(KEYS)
            return hit.num_chunks == NUM_CHUNKS and reader.counters()["mirror_answers"] > before

        assert until(is_answered_here)
        assert reader.locate(KEYS).holders == ("a",)
        with reader.fetch(KEYS, budget_s=10) as result:
            assert result.reason is ShortReason.COMPLETE
            assert (result.chunks[0] == content_of(1, NUM_CHUNKS)[0]).all()
        controller.end()
        others = keys_of(NUM_CHUNKS + 1)
        assert until(
            lambda: reader.locate(others, timeout_s=0.05).reason is ShortReason.CONTROLLER_SILENT
        )
