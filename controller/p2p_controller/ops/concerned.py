"""Whom an operation concerns, and with which chunks; or why it cannot be."""

from dataclasses import dataclass

from p2p.errors import ArgumentError
from p2p.keys import ChunkKey, InstanceId, NamespaceId, join_keys, split_keys
from p2p.wire.messages import (
    MAX_OPERATION_KEYS,
    Clear,
    Evict,
    Move,
    Pin,
    Refusal,
    RefusalCode,
    Replicate,
    Unpin,
)
from p2p_controller.members import Member
from p2p_controller.namespaced import Namespaced
from p2p_controller.state import ControllerState

_BLOCK_KEYS = 256
WithKeys = Pin | Unpin | Replicate | Move | Evict | Clear


@dataclass(frozen=True, slots=True)
class Share:
    """Chunks that are asked of one member, as one blob."""

    member: Member
    num_keys: int
    keys: bytes


@dataclass(frozen=True, slots=True)
class Shares:
    """What is asked of whom.

    Attributes:
        num_unheld: chunks that are asked of nobody, since nobody holds them.
    """

    shares: tuple[Share, ...]
    num_unheld: int = 0


def asked_keys(state: ControllerState, message: WithKeys) -> list[ChunkKey] | Refusal:
    """Returns the keys of an operation."""
    num_keys = len(message.keys) // message.key_bytes
    if not 1 <= num_keys <= MAX_OPERATION_KEYS:
        reason = f"{num_keys} keys, not 1 to {MAX_OPERATION_KEYS}"
        return state.refuse_malformed("keys", reason)
    try:
        return split_keys(message.keys, message.key_bytes)
    except ArgumentError as error:
        return state.refuse_malformed("keys", str(error))


def asked_group(state: ControllerState, namespace: str) -> Namespaced | Refusal:
    """Returns the members of a namespace."""
    group = state.groups.get(NamespaceId(namespace))
    if group is None:
        return Refusal(code=RefusalCode.NAMESPACE, field="namespace", theirs=namespace)
    return group


def asked_member(state: ControllerState, field: str, instance: str) -> Member | Refusal:
    """Returns the member that a field names."""
    member = state.members.by_id.get(InstanceId(instance))
    if member is None:
        return Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field=field, theirs=instance)
    return member


def asked_member_of(group: Namespaced, field: str, instance: str) -> Member | Refusal:
    """Returns the member of a namespace that a field names."""
    member = group.members.get(InstanceId(instance))
    if member is None:
        return Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field=field, theirs=instance)
    return member


def shares_of(state: ControllerState, message: Pin | Unpin | Evict) -> Shares | Refusal:
    """Returns what is asked of a named instance, or of everybody who holds some of the chunks."""
    keys = asked_keys(state, message)
    if isinstance(keys, Refusal):
        return keys
    group = asked_group(state, message.namespace)
    if isinstance(group, Refusal):
        return group
    if not message.instance:
        return shares_by_holder(group, keys, message.tenant)
    member = asked_member_of(group, "instance", message.instance)
    if isinstance(member, Refusal):
        return member
    return Shares((Share(member, len(keys), message.keys),))


def shares_by_holder(group: Namespaced, keys: list[ChunkKey], tenant: str) -> Shares:
    """Returns the chunks that each member holds, by the directory; silent members count."""
    everybody = 0
    for member in group.members.values():
        everybody |= member.feed.live.mask
    keys_by_member: dict[Member, list[ChunkKey]] = {}
    position = num_unheld = 0
    while position < len(keys):
        block = keys[position : position + _BLOCK_KEYS]
        runs = group.directory.find_runs(join_keys(block), tenant, everybody)
        for run in runs:
            held = block[run.start : run.start + run.num_chunks]
            for member in group.members.values():
                if member.feed.live.mask & run.mask:
                    keys_by_member.setdefault(member, []).extend(held)
        num_held = sum(run.num_chunks for run in runs)
        is_gap = num_held < len(block)  # a search ends at the first chunk that nobody holds
        position += num_held + is_gap
        num_unheld += is_gap
    shares = tuple(
        Share(member, len(held), join_keys(held)[0]) for member, held in keys_by_member.items()
    )
    return Shares(shares, num_unheld)
