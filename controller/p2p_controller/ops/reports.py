"""An instance tells what became of its last fetches."""

from p2p.keys import MIN_KEY_BYTES
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
    short = [r.missing for r in message.reports if 0 < len(r.missing) < MIN_KEY_BYTES]
    if short:
        return state.refuse_malformed("missing", f"{len(short[0])} bytes; 8 to 64, or none")
    for report in message.reports:
        if not state.evidence.note_report(member, report, now_s):
            state.counters["reports_repeated"] += 1
    return Done()
