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
    state: ControllerState, sender: Sender, message: CopyEntries, now_s: float
) -> EntriesPage | FeedStatus | Refusal | None:
    """Returns a page of a member's entries, or lines the asker up for its turn.

    A turn is one copy of one member: until its last page, or until nothing is asked any more.
    """
    asker = state.recognise(message, now_s)
    if not isinstance(asker, Member):
        return asker
    state.copy_turns.take(asker, now_s)
    if state.copy_turns.has(asker):
        return _page(state, asker, message)
    state.copies_wanted[asker] = message
    state.copy_turns.wait(asker, sender, now_s)
    return None


def late_copies(state: ControllerState, now_s: float) -> list[Outgoing]:
    """Returns the first pages for those whose turn has come."""
    return [
        Outgoing(sender, _page(state, asker, state.copies_wanted.pop(asker)))
        for asker, sender in state.copy_turns.granted(now_s)
    ]


def _page(state: ControllerState, asker: Member, message: CopyEntries) -> EntriesPage:
    group = state.groups[asker.namespace_id]
    now = group.log.last
    member = next((m for m in group.members.values() if m.number == message.number), None)
    if member is None:
        state.copy_turns.end(asker)
        return EntriesPage(
            epoch=state.epoch,
            round=message.round,
            number=message.number,
            page=0,
            start=now,
            at=now,
            is_last=True,
            is_gone=True,
        )
    start = group.copies.start_of(asker.instance, member.live, message.start, now)
    number = message.page if start == message.start else 0
    page, is_last = group.copies.page(asker.instance, number)
    if is_last:
        group.copies.end(asker.instance)
        state.copy_turns.end(asker)
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
