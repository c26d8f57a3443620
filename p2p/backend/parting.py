"""Dropping what was moved: chunks go only while their new holder is bound to keep them.

Nobody's clock says whether the target of a move still holds what it took: an order may have been on
its way for minutes. So the source borrows the chunks from the target, as if it wanted to read them,
and drops its own under that lease. Two instances that move the same chunks to each other find them
in use, and both keep them. No I/O, no clock, no threads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2p.backend.actions import Tag
from p2p.backend.borrow import usable_until_s
from p2p.backend.instance import InstanceCore
from p2p.backend.lease_messages import is_consistent
from p2p.keys import ChunkKey, join_keys
from p2p.wire.messages import (
    EvictKeys,
    Holder,
    LeaseBusy,
    LeaseGranted,
    LeaseRequest,
    LeftReason,
    Message,
    Refusal,
)

if TYPE_CHECKING:
    from p2p.backend.errands import Errand

_RETRY_S = 0.05
_PATIENCE_S = 0.5
_LEASE_MS = 2000
_MAX_ASKED = 256  # chunks of one lease


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question for a lease, sent at ``at_s``."""

    tag: Tag
    holder: Holder
    keys: list[ChunkKey]
    at_s: float


@dataclass(slots=True, eq=False)
class _Parting:
    """One order.

    Attributes:
        waiting: chunks that are still here, those that others follow on last.
        retry_at_s: the target is not asked before.
        asked: the question under way.
    """

    errand: "Errand"
    order: EvictKeys
    waiting: list[ChunkKey]
    retry_at_s: float
    asked: _Asked | None = None


class Partings:
    """All of one instance.

    Args:
        instance: whose chunks go.
        ask: sends a question to a holder, after a hello where that is due.
        give_back: ends a lease.
        on_refusal: a holder refused to lend anything.
    """

    def __init__(
        self,
        instance: InstanceCore,
        ask: Callable[[Holder, Message, float], Tag],
        give_back: Callable[[Holder, int], None],
        on_refusal: Callable[[Holder, Refusal, float], None],
    ) -> None:
        self._instance = instance
        self._ask = ask
        self._give_back = give_back
        self._on_refusal = on_refusal
        self._open: list[_Parting] = []

    def begin(self, errand: "Errand", order: EvictKeys, now_s: float) -> None:
        """Takes charge of an order whose chunks have gone to ``order.heir``."""
        entries = self._instance.index.readable(errand.keys(), order.tenant)
        found = [entry for entry in reversed(entries) if entry is not None]
        free = [entry.key for entry in found if entry.kept_until_s is None]
        if len(free) < len(found):
            errand.left[LeftReason.PINNED] = len(found) - len(free)
        self._open.append(_Parting(errand, order, free, now_s))

    def on_time(self, now_s: float) -> None:
        """Asks what is due, and ends what is over."""
        for parting in self._open:
            if parting.asked is not None and now_s >= parting.asked.at_s + _PATIENCE_S:
                parting.asked = None
            if parting.asked is None and parting.waiting and now_s >= parting.retry_at_s:
                self._ask_target(parting, now_s)
        over = [p for p in self._open if not p.waiting or now_s >= p.errand.deadline_s]
        self._open = [parting for parting in self._open if parting not in over]
        for parting in over:
            self._end(parting)

    def on_answer(self, tag: Tag, answer: Message | None, now_s: float) -> bool:
        """Takes the target's answer; false if the question was not asked here."""
        parting = next((p for p in self._open if p.asked is not None and p.asked.tag == tag), None)
        if parting is None or parting.asked is None:
            return False
        asked, parting.asked = parting.asked, None
        parting.retry_at_s = now_s + _RETRY_S
        match answer:
            case LeaseGranted() if is_consistent(answer, len(asked.keys)):
                self._on_grant(parting, asked, answer, now_s)
            case LeaseBusy():
                parting.retry_at_s = now_s + max(_RETRY_S, answer.retry_after_ms / 1000)
            case Refusal():
                self._on_refusal(asked.holder, answer, now_s)
            case _:
                pass
        self.on_time(now_s)
        return True

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do."""
        return min(map(_due_s, self._open), default=None)

    # ------------------------------------------------------------------ parts

    def _ask_target(self, parting: _Parting, now_s: float) -> None:
        order, identity = parting.order, self._instance.identity
        parting.retry_at_s = now_s + _RETRY_S
        holder = self._instance.membership.roster.find(order.heir, now_s)
        if holder is None:
            return
        keys = parting.waiting[:_MAX_ASKED]
        request = LeaseRequest(
            instance=identity.instance,
            incarnation=identity.incarnation,
            holder_incarnation=holder.incarnation,
            namespace=self._instance.namespace_id,
            keys=join_keys(keys)[0],
            key_bytes=order.key_bytes,
            ttl_ms=_LEASE_MS,
            tenant=order.tenant,
            is_urgent=True,
        )
        parting.asked = _Asked(self._ask(holder, request, now_s), holder, keys, now_s)

    def _on_grant(
        self, parting: _Parting, asked: _Asked, answer: LeaseGranted, now_s: float
    ) -> None:
        num_looked = len(answer.slots) + len(answer.missing)
        missing = {asked.keys[number] for number in answer.missing}
        lent = [key for key in asked.keys[:num_looked] if key not in missing]
        is_bound = now_s < usable_until_s(asked.at_s, answer.ttl_ms)
        in_use = self._drop(lent) if is_bound else lent
        if answer.slots:
            self._give_back(asked.holder, answer.token)
        parting.errand.num_done += len(lent) - len(in_use)
        parting.errand.left[LeftReason.NOT_AT_TARGET] += len(missing)
        settled = missing.union(lent)  # what is in use has to wait for the others
        parting.waiting = [key for key in parting.waiting if key not in settled] + in_use
        if not in_use:
            parting.retry_at_s = now_s

    def _drop(self, keys: list[ChunkKey]) -> list[ChunkKey]:
        """Drops chunks that the target keeps for us now; returns those that are in use."""
        in_use: list[ChunkKey] = []
        for key in keys:
            entry = self._instance.index.get(key)
            if entry is None:
                continue
            if entry.num_pins or entry.kept_until_s is not None:
                in_use.append(key)
            else:
                self._instance.drop(entry)
                self._instance.counters["chunks_parted_with"] += 1
        return in_use

    def _end(self, parting: _Parting) -> None:
        errand = parting.errand
        errand.left[LeftReason.IN_USE] += len(parting.waiting)
        errand.left = +errand.left  # without zeros
        self._instance.errands.finish(errand)


def _due_s(parting: _Parting) -> float:
    asked = parting.asked
    due_s = parting.retry_at_s if asked is None else asked.at_s + _PATIENCE_S
    return min(due_s, parting.errand.deadline_s)
