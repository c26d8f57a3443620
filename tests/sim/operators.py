"""People at the command line, who have instances pin, fetch, drop and give chunks away."""

from functools import partial
from typing import TYPE_CHECKING

from p2p.keys import ChunkKey, join_keys
from p2p.wire.codec import RequestId
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    Clear,
    Deed,
    Drain,
    Drained,
    Evict,
    InstanceReport,
    Move,
    Moved,
    OperationRequest,
    Pin,
    Refusal,
    Replicate,
    Reports,
    Unpin,
)
from tests.sim.clock import require

if TYPE_CHECKING:
    from tests.sim.instance import SimInstance
    from tests.sim.world import World

ROUTE = b"command line"
_KINDS = ("pin", "unpin", "evict", "clear", "replicate", "move", "move", "move", "drain")


class Operators:
    """Asks for operations and looks whether the answers are true.

    Args:
        world: in which they are asked for.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._num_asked = 0
        self._moves: dict[int, Moving] = {}

    def ask(self) -> None:
        """Somebody asks for something."""
        world, draw = self._world, self._world.clock.random
        kind = draw.choice(_KINDS)
        timeout_ms = draw.choice([300, 1500])
        keys, tenant = world.prompts.choose()
        if kind in {"replicate", "move"}:
            keys = keys[: max(1, self._num_held(keys, tenant))]
        one, other = draw.sample(list(world.instances), 2)
        namespace = world.instances[one].core.namespace_id
        blob, key_bytes = join_keys(keys)
        names = {"instance": draw.choice(["", one]), "source": draw.choice(["", other])}
        common = {"namespace": namespace, "keys": blob, "key_bytes": key_bytes, "tenant": tenant}
        request = _request(kind, one, names, common, timeout_ms)
        self._num_asked += 1
        if isinstance(request, Move):
            self._moves[self._num_asked] = Moving(world, world.instances[one], keys)
        sender = Sender(ROUTE, RequestId(self._num_asked))
        world.controller.run("peers", partial(world.controller.operate, sender, request))

    def _num_held(self, keys: list[ChunkKey], tenant: str) -> int:
        """Returns how much of a prompt somebody holds."""
        up = [instance for instance in self._world.instances.values() if instance.is_up]
        return max((len(one.core.index.prefix(keys, tenant)) for one in up), default=0)

    def on_reply(self, outgoing: Outgoing) -> None:
        """Takes an answer of the controller."""
        number, message = outgoing.to.request_id, outgoing.message
        require(isinstance(message, Reports | Refusal), "an operation has a strange answer")
        if not isinstance(message, Reports):
            return
        self._count(message)
        moving = self._moves.pop(number, None)
        if isinstance(message, Moved) and moving is not None:
            moving.check(message)
        if isinstance(message, Drained) and message.is_complete:
            for report in message.reports:
                self._world.faults.leave(self._world.instances[report.instance])

    def _count(self, message: Reports) -> None:
        for report in message.reports:
            name = f"order_{report.did.value}"
            self._world.work[name] += report.num_chunks
            self._world.work[f"{name}_not_all"] += bool(report.left)


class Moving:
    """A move whose answer has not come.

    Args:
        world: of it.
        target: who fetches.
        keys: of the chunks.
    """

    def __init__(self, world: "World", target: "SimInstance", keys: list[ChunkKey]) -> None:
        self._world = world
        self._target = target
        self._life = target.life
        self._keys = keys
        self._began_s = world.clock.now_s
        self._num_damaged = target.core.counters["damaged_chunks"]

    def check(self, moved: Moved) -> None:
        """Chunks have gone nowhere unless they are where they were to go."""
        evicted = [report for report in moved.reports if report.did is Deed.EVICTED]
        took = [report for report in moved.reports if report.did is Deed.TOOK]
        require(len(took) == 1, "a move has no target")
        require(not evicted or _is_whole(took[0], self._keys), "a part of a prompt was moved")
        target, controller = self._target, self._world.controller
        is_same = target.is_up and target.life == self._life
        is_sound = target.core.counters["damaged_chunks"] == self._num_damaged
        stood = controller.went_on_s > self._began_s  # its time stood still, that of others not
        self._world.work["moves"] += bool(evicted)
        if evicted and is_same and is_sound and not stood:
            is_there = all(target.core.index.get(key) is not None for key in self._keys)
            require(is_there, "chunks were dropped that the target of a move has lost")


def _is_whole(took: InstanceReport, keys: list[ChunkKey]) -> bool:
    return took.num_chunks == len(keys) and not took.left


def _request(
    kind: str, one: str, names: dict[str, str], common: dict[str, object], timeout_ms: int
) -> OperationRequest:
    fields: dict[str, object] = {**common, "timeout_ms": timeout_ms}
    kinds: dict[str, tuple[type[OperationRequest], dict[str, object]]] = {
        "pin": (Pin, {**fields, "instance": names["instance"], "pin_ms": 700}),
        "unpin": (Unpin, {**fields, "instance": names["instance"]}),
        "evict": (Evict, {**fields, "instance": names["instance"]}),
        "clear": (Clear, {**fields, "instance": names["instance"]}),
        "replicate": (Replicate, {**fields, "target": one, "source": names["source"]}),
        "move": (Move, {**fields, "target": one, "source": names["source"]}),
        "drain": (Drain, {"instance": one, "timeout_ms": timeout_ms}),
    }
    struct, values = kinds[kind]
    return struct(**values)  # type: ignore[arg-type]
