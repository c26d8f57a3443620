"""The controller as a plain object: messages and time in, answers out. No I/O, no clock.

The server's loop and the simulator drive the same object. `handle` takes one message, `tick` lets
time pass, `next_deadline_s` says when the latter is due.
"""

from typing import assert_never

from p2p.keys import ChunkKey, InstanceId
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    ControllerReply,
    ControllerRequest,
    CopyEntries,
    Deregister,
    Events,
    Explain,
    FetchReports,
    Follow,
    GetMetrics,
    GetStatus,
    Heartbeat,
    ListInstances,
    ListPeers,
    ListRequests,
    Locate,
    OperationRequest,
    Refusal,
    RefusalCode,
    Register,
    Shutdown,
    SnapshotPage,
    SnapshotTurn,
)
from p2p_controller.handling import HandlingTimes
from p2p_controller.ops.deregister import deregister
from p2p_controller.ops.events import events
from p2p_controller.ops.explain import explain
from p2p_controller.ops.follow import copy_entries, follow, late_copies, news
from p2p_controller.ops.heartbeat import heartbeat
from p2p_controller.ops.instances import instances
from p2p_controller.ops.locate import locate
from p2p_controller.ops.metrics import metrics
from p2p_controller.ops.operations import operate
from p2p_controller.ops.peers import peers
from p2p_controller.ops.register import register
from p2p_controller.ops.reports import reports
from p2p_controller.ops.requests import requests
from p2p_controller.ops.shutdown import shutdown
from p2p_controller.ops.snapshot import snapshot
from p2p_controller.ops.status import status
from p2p_controller.ops.turn import turn
from p2p_controller.settings import ControllerSettings
from p2p_controller.state import ControllerState

SWEEP_ENTRIES = 4096
_FAR_S = 3600.0


class ControllerCore:
    """Decides everything that a controller decides.

    Args:
        settings: how it runs.
        epoch: number of this start, positive and below 2**63, different from any other's.
    """

    def __init__(self, settings: ControllerSettings, epoch: int) -> None:
        self._state = ControllerState(settings, epoch)

    @property
    def epoch(self) -> int:
        """Number of this start."""
        return self._state.epoch

    @property
    def is_shutting_down(self) -> bool:
        """True once somebody asked for the end; nothing but the state is answered any more."""
        return self._state.is_shutting_down

    @property
    def times(self) -> HandlingTimes:
        """Where the shell notes how long requests took; shown among the metrics."""
        return self._state.times

    def handle(self, sender: Sender, message: ControllerRequest, now_s: float) -> list[Outgoing]:
        """Returns what is to be sent now: the answer, unless it comes later, and others' answers.

        Args:
            sender: whom the answer is for.
            message: a decoded request.
            now_s: on a clock that never goes back.
        """
        self._state.expire(now_s)
        if type(message) is Locate and not self.is_shutting_down:  # what is late waits for the tick
            return [Outgoing(sender, locate(self._state, message, now_s))]
        reply = self._answer(sender, message, now_s)
        outgoing = [] if reply is None else [Outgoing(sender, reply)]
        outgoing.extend(self._late_answers(now_s))
        return outgoing

    def tick(self, now_s: float) -> list[Outgoing]:
        """Lets time pass; returns what has become due."""
        self._state.expire(now_s)
        self._state.sweep(SWEEP_ENTRIES, now_s)
        return self._late_answers(now_s)

    def next_deadline_s(self, now_s: float) -> float:
        """Returns when `tick` has to be called next; ``now_s`` means at once."""
        if self._state.must_sweep:
            return now_s
        members_s = self._state.members.next_deadline_s()
        state = self._state
        turns_s = min(state.turns.next_deadline_s(), state.copy_turns.next_deadline_s())
        answers_s = min(state.orders.next_deadline_s(), turns_s)
        logs_s = min(
            (group.log.next_deadline_s(now_s) for group in self._state.groups.values()),
            default=float("inf"),
        )
        due_s = min(members_s, answers_s, logs_s, now_s + _FAR_S)
        return max(due_s, now_s)

    def shut_down(self, now_s: float) -> list[Outgoing]:
        """Ends as if somebody had asked for it; returns the answers that are still owed."""
        self._state.is_shutting_down = True
        return self.tick(now_s)

    def count(self, name: str, number: int) -> None:
        """Shows a count of the shell's among the counters of the status."""
        self._state.counters[name] = number

    def entries_of(self, instance: str) -> dict[tuple[str, ChunkKey], int]:
        """Returns the tier of each tenant and key that is looked up for an instance, for checks."""
        member = self._state.members.by_id.get(InstanceId(instance))
        if member is None:
            return {}
        directory = self._state.groups[member.namespace_id].directory
        held = directory.entries_of(member.feed.live)
        return {(tenant, key): tier for tenant, key, tier in held}

    def _late_answers(self, now_s: float) -> list[Outgoing]:
        """Returns the answers to earlier questions that have become due."""
        before_s = float("inf") if self.is_shutting_down else now_s
        late = self._state.orders.answers(before_s, self._state.members.by_id.values())
        for member, sender in self._state.turns.granted(now_s):
            late.append(Outgoing(sender, self._state.status_of(member)))
        late.extend(late_copies(self._state, now_s))
        late.extend(news(self._state, now_s))
        return late

    def _answer(
        self, sender: Sender, message: ControllerRequest, now_s: float
    ) -> ControllerReply | None:
        state = self._state
        if state.is_shutting_down and not isinstance(message, GetStatus | Shutdown):
            return Refusal(code=RefusalCode.CLOSING)
        if isinstance(message, OperationRequest | SnapshotTurn | Follow | CopyEntries):
            return _answer_later(state, sender, message, now_s)
        if isinstance(message, Register | Heartbeat | Events | SnapshotPage | Deregister):
            return _answer_member(state, message, now_s)
        if isinstance(message, FetchReports | Explain | ListRequests):
            return _answer_evidence(state, message, now_s)
        return _answer_question(state, message, now_s)


def _answer_later(
    state: ControllerState,
    sender: Sender,
    message: OperationRequest | SnapshotTurn | Follow | CopyEntries,
    now_s: float,
) -> ControllerReply | None:
    match message:
        case SnapshotTurn():
            return turn(state, sender, message, now_s)
        case Follow():
            return follow(state, sender, message, now_s)
        case CopyEntries():
            return copy_entries(state, sender, message, now_s)
        case _:
            return operate(state, sender, message, now_s)


def _answer_member(
    state: ControllerState,
    message: Register | Heartbeat | Events | SnapshotPage | Deregister,
    now_s: float,
) -> ControllerReply:
    match message:
        case Events():
            return events(state, message, now_s)
        case SnapshotPage():
            return snapshot(state, message, now_s)
        case Heartbeat():
            return heartbeat(state, message, now_s)
        case Register():
            return register(state, message, now_s)
        case Deregister():
            return deregister(state, message, now_s)
        case _:
            assert_never(message)


def _answer_evidence(
    state: ControllerState, message: FetchReports | Explain | ListRequests, now_s: float
) -> ControllerReply:
    match message:
        case FetchReports():
            return reports(state, message, now_s)
        case Explain():
            return explain(state, message, now_s)
        case ListRequests():
            return requests(state, message, now_s)
        case _:
            assert_never(message)


def _answer_question(
    state: ControllerState,
    message: Locate | ListPeers | ListInstances | GetStatus | GetMetrics | Shutdown,
    now_s: float,
) -> ControllerReply:
    match message:
        case Locate():
            return locate(state, message, now_s)
        case ListPeers():
            return peers(state, message, now_s)
        case _:
            return _answer_people(state, message, now_s)


def _answer_people(
    state: ControllerState,
    message: ListInstances | GetStatus | GetMetrics | Shutdown,
    now_s: float,
) -> ControllerReply:
    match message:
        case ListInstances():
            return instances(state, now_s)
        case GetStatus():
            return status(state, now_s)
        case GetMetrics():
            return metrics(state)
        case Shutdown():
            return shutdown(state)
        case _:
            assert_never(message)
