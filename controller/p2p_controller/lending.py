"""Asks instances what they lend, all at once; the controller knows no leases."""

from collections.abc import Sequence

from p2p.wire.context import WireContext
from p2p.wire.messages import InstanceView, LeaseList, ListLeases
from p2p_controller.round import ask_instances
from p2p_controller.views import LeaseReport


async def ask_leases(
    wire: WireContext, views: Sequence[InstanceView], timeout_s: float
) -> LeaseReport:
    """Returns what these instances lend, and who did not answer within ``timeout_s``."""
    answers = await ask_instances(wire, views, ListLeases(), LeaseList, timeout_s)
    return LeaseReport(
        leases_by_holder={
            name: answer.leases for name, answer in answers.items() if answer is not None
        },
        silent=tuple(name for name, answer in answers.items() if answer is None),
    )
