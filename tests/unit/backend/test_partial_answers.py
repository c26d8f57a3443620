"""While the directory recovers, a miss proves nothing: nobody remembers it."""

import pytest

from p2p.backend.actions import ShortReason
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.handshake import Guess
from tests.unit.backend.builders import holder_of, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS, OTHERS = prompt(4), prompt(4, salt="other")


def test_a_reader_asks_again_after_a_partial_miss_and_finds():
    shell = Shell([instance_core("a")], is_partial=True)
    missed = shell.outcome(shell.fetch(KEYS))
    assert missed.reason is ShortReason.DIRECTORY_PARTIAL
    shell.put(shell.holders[0], KEYS)  # as the directory hears of it now
    assert shell.check_delivered(shell.fetch(KEYS), KEYS) == 4


@pytest.mark.parametrize("is_partial", [False, True])
def test_a_holder_is_not_distrusted_for_what_a_partial_answer_leaves_out(is_partial):
    cores = [instance_core("a"), instance_core("b")]
    shell = Shell(cores, limits=FetchLimits(ahead_bytes=0))
    shell.put(shell.holders[0], KEYS)
    shell.fetch(KEYS)
    book = shell.reader.book
    assert book.likely_holder() == Guess(holder_of(shell.holders[0]), is_sure=False)
    peer = book.get("a")
    assert peer is not None
    before = peer.trust
    shell.put(shell.holders[1], OTHERS)
    shell.is_partial = is_partial
    shell.fetch(OTHERS)
    assert (peer.trust == before) == is_partial
