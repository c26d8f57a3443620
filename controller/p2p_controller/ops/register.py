"""An instance reports for duty."""

from p2p.errors import ArgumentError
from p2p.keys import InstanceId
from p2p.wire.messages import Refusal, RefusalCode, Register, Registered
from p2p_controller.changelog import FeedLog
from p2p_controller.evidence import GoneKind
from p2p_controller.feed import Feed
from p2p_controller.members import Given, Member
from p2p_controller.namespaced import Namespaced
from p2p_controller.ops.ranks import refuse_bad_ranks
from p2p_controller.state import ControllerState


def register(state: ControllerState, message: Register, now_s: float) -> Registered | Refusal:
    """Takes the instance in, with empty entries; a new incarnation fences the old one at once."""
    newest = state.members.newest_incarnation(message.instance)
    if message.incarnation < newest:
        return state.refuse_stale(newest, message.incarnation)
    refusal = refuse_bad_ranks(state, message)
    if refusal is not None:
        return refusal
    try:
        message.layout.check()
    except ArgumentError as error:
        state.counters["layouts_refused"] += 1
        return Refusal(
            code=RefusalCode.LAYOUT, field=error.name, ours=error.reason, theirs=str(error.value)
        )
    refusal = _refuse_beyond_limits(state, message)
    if refusal is not None:
        return refusal
    orders = _replace(state, message, now_s)
    state.evidence.note_namespace(message.namespace)
    namespace_id = message.namespace.id
    group = state.groups.setdefault(namespace_id, Namespaced())
    number = next(state.numbers)
    log = FeedLog(number, group.log)
    feed = Feed(group.directory, state.counters, state.settings.max_kept_events, log)
    member = Member(number, message, namespace_id, feed, now_s, orders=orders)
    state.members.add(member)
    group.members[member.instance] = member
    group.on_members_changed()
    group.log.add(state.seen(member))
    state.turns.take(member, now_s)  # in case that it comes with history
    return Registered(
        epoch=state.epoch,
        heartbeat_ms=round(state.settings.heartbeat_s * 1000),
        expiry_ms=round(state.settings.silent_after_s * 1000),
        pages=state.turns.pages_of(member),
    )


def _refuse_beyond_limits(state: ControllerState, message: Register) -> Refusal | None:
    """Returns the refusal of somebody new where there is no room; who is known may come again."""
    known = state.members.by_id.get(InstanceId(message.instance))
    namespace_id = message.namespace.id
    if known is None and len(state.members.by_id) >= state.settings.max_instances:
        return _too_many(state, "max_instances", state.settings.max_instances)
    num_groups = len(state.groups)
    if namespace_id not in state.groups and num_groups >= state.settings.max_namespaces:
        return _too_many(state, "max_namespaces", state.settings.max_namespaces)
    return None


def _too_many(state: ControllerState, setting: str, limit: int) -> Refusal:
    state.counters["registrations_refused"] += 1
    return Refusal(code=RefusalCode.LIMIT, field=setting, ours=str(limit))


def _replace(state: ControllerState, message: Register, now_s: float) -> dict[int, Given]:
    """Removes what is known of the instance; returns the orders that are still to be done."""
    known = state.members.by_id.get(InstanceId(message.instance))
    if known is None:
        return {}
    if known.incarnation < message.incarnation:
        kind = GoneKind.RESTARTED
        state.counters["incarnations_fenced"] += 1
        state.orders.on_gone(known)
    else:
        kind = GoneKind.REGISTERED_AGAIN
        state.counters["registered_again"] += 1
    state.evidence.note_gone(known, kind, now_s)
    state.remove(known)
    return known.orders
