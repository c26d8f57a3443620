"""What is lent, over HTTP."""

from typing import Annotated

import msgspec

from p2p.wire.messages import InstanceList, ListInstances, Refusal
from p2p_controller.http.asking import Asking, ask_controller
from p2p_controller.http.problems import refused
from p2p_controller.lending import ask_leases
from p2p_controller.views import LeaseReport, named_views

_ANSWER_S = 2.0


class LeaseQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What does every instance lend, and to whom?

    Attributes:
        instance: only this one.
    """

    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""


async def lease_report(
    asking: Asking, request: msgspec.Struct, kind: type[msgspec.Struct]
) -> LeaseReport:
    """Returns the leases of all instances, or of the named one, and who did not answer.

    Raises:
        ProblemError: nobody has that name, or the controller refused or was silent.
    """
    if not isinstance(request, LeaseQuery):
        raise TypeError(f"{type(request).__name__} for {kind.__name__}")
    listed = await ask_controller(asking, ListInstances(), InstanceList)
    views = named_views(listed, request.instance)
    if isinstance(views, Refusal):
        raise refused(views)
    return await ask_leases(asking.wire, views, _ANSWER_S)
