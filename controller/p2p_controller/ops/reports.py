"""An instance tells what became of its last fetches."""

from p2p.wire.messages import Done, FeedStatus, FetchReports, Refusal
from p2p_controller.members import Member
from p2p_controller.state import ControllerState


def reports(
    state: ControllerState, message: FetchReports, now_s: float
) -> Done | FeedStatus | Refusal:
    """Keeps what is new; numbers that are known were sent twice."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    for report in message.reports:
        if not state.evidence.note_report(member, report, now_s):
            state.counters["reports_repeated"] += 1
    return Done()
