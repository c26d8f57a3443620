"""Which fetches did instances report?"""

from p2p.wire.messages import ListRequests, RequestList
from p2p_controller.state import ControllerState


def requests(state: ControllerState, message: ListRequests, now_s: float) -> RequestList:
    """Returns the last of them, newest first."""
    views = state.evidence.last_requests(
        message.instance, now_s, message.limit, only_short=message.only_short
    )
    return RequestList(requests=tuple(views))
