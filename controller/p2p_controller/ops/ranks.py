"""The directory speaks of instances; this finds the ranks that one rank of an asker reads from."""

import msgspec

from p2p.errors import ArgumentError
from p2p.keys import InstanceId
from p2p.layout import counterparts
from p2p.wire.messages import Holder, Locate, RankEndpoint, Refusal, RefusalCode, Register
from p2p_controller.state import ControllerState


def refuse_bad_ranks(state: ControllerState, message: Register) -> Refusal | None:
    """Returns the refusal of a registration whose ranks cannot be, or None.

    Either none is named, or each once, in order, as many as the layout has.
    """
    numbers = [endpoint.rank for endpoint in message.ranks]
    if not numbers:
        return None
    layout = message.layout
    num_ranks = layout.tensor_parallel * layout.pipeline_parallel
    if message.world_size != num_ranks:
        reason = f"{message.world_size}, but the layout has {num_ranks} ranks"
        return state.refuse_malformed("world_size", reason)
    if numbers != list(range(num_ranks)):
        reason = f"{numbers[:8]}, not 0 to {num_ranks - 1} in order"
        return state.refuse_malformed("ranks", reason)
    return None


def with_counterparts(
    state: ControllerState, question: Locate, holders: tuple[Holder, ...]
) -> tuple[Holder, ...] | Refusal:
    """Returns holders with the endpoints that the asking rank reads from."""
    asker = state.members.by_id.get(InstanceId(question.instance))
    if asker is None:
        code = RefusalCode.UNKNOWN_INSTANCE
        return Refusal(code=code, field="instance", theirs=question.instance[:256])
    found: list[Holder] = []
    try:
        for holder in holders:
            registered = state.members.by_id[InstanceId(holder.instance)].registered
            numbers = counterparts(asker.layout, registered.layout, question.rank or 0)
            endpoints = tuple(_endpoint(registered, number) for number in numbers)
            found.append(msgspec.structs.replace(holder, ranks=endpoints))
    except ArgumentError as error:
        return state.refuse_malformed(error.name, str(error))
    return tuple(found)


def _endpoint(registered: Register, rank: int) -> RankEndpoint:
    if registered.ranks:
        return registered.ranks[rank]
    return RankEndpoint(rank=rank, address=registered.address)
