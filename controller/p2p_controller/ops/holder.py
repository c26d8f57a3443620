"""How answers name a member."""

from p2p.wire.messages import Holder
from p2p_controller.members import Member


def holder_of(member: Member, now_s: float) -> Holder:
    """Returns what a reader needs to know of a member."""
    registered = member.registered
    return Holder(
        instance=registered.instance,
        incarnation=registered.incarnation,
        address=registered.address,
        public_key=registered.public_key,
        host=registered.host,
        rack=registered.rack,
        load_bytes=member.load_bytes,
        age_ms=max(0, int((now_s - member.last_seen_s) * 1000)),
    )
