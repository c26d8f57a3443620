"""The same question from every rank gets that rank's counterparts."""

import msgspec
import pytest

from p2p.keys import join_keys
from p2p.wire.messages import Locate, RankEndpoint, Refusal, RefusalCode, Registered
from tests.unit.controller.instances import LAYOUT, NAMESPACE, Controller, Instance, keys


def ranks(number: int, version: int = 1) -> tuple[RankEndpoint, ...]:
    return tuple(
        RankEndpoint(rank=rank, address=f"tcp://10.0.0.{rank}:7700", metadata_version=version)
        for rank in range(number)
    )


def split(tensor_parallel: int, pipeline_parallel: int = 1):
    return msgspec.structs.replace(
        LAYOUT, tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel
    )


def counterparts_of(controller: Controller, rank: int) -> list[int]:
    (holder,) = controller.locate(1, asker="reader", rank=rank).holders
    return [endpoint.rank for endpoint in holder.ranks]


@pytest.mark.parametrize(
    ("readers", "holders", "expected"),
    [
        (2, 4, [[0, 1], [2, 3]]),
        (4, 2, [[0], [0], [1], [1]]),
        (1, 2, [[0, 1]]),
        (4, 4, [[0], [1], [2], [3]]),
    ],
)
def test_ranks_of_differing_tensor_parallel_sizes_find_their_heads(readers, holders, expected):
    controller = Controller()
    controller.joined("holder", 1, layout=split(holders), ranks=ranks(holders))
    controller.joined("reader", layout=split(readers))
    assert [counterparts_of(controller, rank) for rank in range(readers)] == expected


def test_pipeline_stages_read_from_their_own_stage():
    controller = Controller()
    controller.joined("holder", 1, layout=split(2, 2), ranks=ranks(4))
    controller.joined("reader", layout=split(1, 2))
    assert [counterparts_of(controller, rank) for rank in range(2)] == [[0, 1], [2, 3]]


def test_one_address_answers_for_all_ranks_where_none_is_named():
    controller = Controller()
    controller.joined("holder", 1, layout=split(2), address="tcp://10.0.0.9:7700")
    controller.joined("reader", layout=split(2))
    (holder,) = controller.locate(1, asker="reader", rank=1).holders
    assert holder.ranks == (RankEndpoint(rank=1, address="tcp://10.0.0.9:7700"),)


def test_a_new_metadata_version_is_told_at_once():
    controller = Controller()
    controller.joined("holder", 1, layout=split(2), ranks=ranks(2, version=1))
    controller.joined("holder", 1, layout=split(2), ranks=ranks(2, version=2), incarnation=2)
    controller.joined("reader", layout=split(2))
    (holder,) = controller.locate(1, asker="reader", rank=0).holders
    assert [endpoint.metadata_version for endpoint in holder.ranks] == [2]


@pytest.mark.parametrize(
    ("asker", "rank", "code", "field"),
    [
        ("reader", 2, RefusalCode.MALFORMED, "rank"),
        ("nobody", 0, RefusalCode.UNKNOWN_INSTANCE, "instance"),
    ],
)
def test_a_rank_that_is_not_there_is_refused_by_name(asker, rank, code, field):
    controller = Controller()
    controller.joined("holder", 1, layout=split(2), ranks=ranks(2))
    controller.joined("reader", layout=split(2))
    blob, key_bytes = join_keys(keys(1))
    question = Locate(
        namespace=NAMESPACE.id, keys=blob, key_bytes=key_bytes, instance=asker, rank=rank
    )
    reply = controller.send(question)
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field) == (code, field)


@pytest.mark.parametrize(
    ("named", "field"),
    [(ranks(3), "world_size"), (ranks(1), "world_size"), (ranks(2)[::-1], "ranks")],
)
def test_ranks_that_do_not_fit_the_layout_are_refused_by_name(named, field):
    controller = Controller()
    reply = controller.send(Instance("holder", layout=split(2), ranks=named).register())
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field) == (RefusalCode.MALFORMED, field)
    accepted = controller.send(Instance("holder", layout=split(2), ranks=ranks(2)).register())
    assert isinstance(accepted, Registered)
