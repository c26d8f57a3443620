"""An instance follows the changes of its namespace, and copies what was there before."""

from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    CopyEntries,
    DirectoryChanges,
    EntriesPage,
    FeedStatus,
    Follow,
    Refusal,
)
from p2p_controller.changelog import Following
from p2p_controller.members import Member
from p2p_controller.namespaced import Namespaced
from p2p_controller.state import ControllerState


def follow(
    state: ControllerState, sender: Sender, message: Follow, now_s: float
) -> FeedStatus | Refusal | None:
    """Notes who waits for what; the answer comes when there is news, or the time is up."""
    member = state.recognise(message, now_s)
    if not isinstance(member, Member):
        return member
    if message.epoch != state.epoch:
        return state.status_of(member)
    state.groups[member.namespace_id].log.follow(sender, message, now_s)
    return None


def news(state: ControllerState, now_s: float) -> list[Outgoing]:
    """Returns the answers to those who follow that are due."""
    return [
        Outgoing(one.sender, _changes(state, group, one, now_s))
        for group in state.groups.values()
        if group.log.is_kept
        for one in group.log.due(now_s)
    ]


def copy_entries(
    state: ControllerState, message: CopyEntries, now_s: float
) -> EntriesPage | FeedStatus | Refusal:
    """Returns a page of a member's entries."""
    asker = state.recognise(message, now_s)
    if not isinstance(asker, Member):
        return asker
    group = state.groups[asker.namespace_id]
    member = next((m for m in group.members.values() if m.number == message.number), None)
    if member is None:
        return EntriesPage(
            epoch=state.epoch,
            round=message.round,
            number=message.number,
            page=0,
            start=group.log.last,
            at=group.log.last,
            is_last=True,
            is_gone=True,
        )
    now = group.log.last
    start = group.copies.start_of(member.number, member.live, message.start, now)
    number = message.page if start == message.start else 0
    page, is_last = group.copies.page(member.number, number)
    return EntriesPage(
        epoch=state.epoch,
        round=message.round,
        number=message.number,
        page=number,
        start=start,
        at=now,
        is_last=is_last,
        kinds=page.kinds,
        keys=page.keys,
        key_bytes=page.key_bytes,
        tenant=page.tenant,
    )


def _changes(
    state: ControllerState, group: Namespaced, one: Following, now_s: float
) -> DirectoryChanges:
    request = one.request
    kept = group.log.after(request.after)
    starts_over = kept is None
    members = (state.seen(member) for member in group.members.values())
    return DirectoryChanges(
        epoch=state.epoch,
        round=request.round,
        after=group.log.last if starts_over else request.after,
        now_ms=int(state.uptime_s(now_s) * 1000),
        changes=tuple(members) if kept is None else kept,
        starts_over=starts_over,
        partial=state.is_partial(now_s),
    )
