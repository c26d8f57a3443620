"""Looks for the reasons why chunks cannot be had, in the directory and in what is remembered.

No I/O, no clock. Only the first chunks of a prompt that are missing are looked at, so that a
question cannot hold the controller up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from p2p.keys import ChunkKey, Namespace, NamespaceId
from p2p.layout import Layout, Refused, compare
from p2p.wire.messages import Finding, Why
from p2p_controller.evidence import Eviction, GoneKind
from p2p_controller.members import Member
from p2p_controller.namespaced import Namespaced
from p2p_controller.state import ControllerState

MAX_CHUNKS = 512
MAX_FOREIGN_CHUNKS = 16
_MAX_HOLDERS = 8
_MAX_GONE = 8
_NEAR_FIELDS = 2
_CLEARED_WITHIN_S = 60.0
_SAME_AGE_MS = 2000


@dataclass(frozen=True, slots=True)
class Question:
    """What is not to be had, and who wants it.

    Attributes:
        namespace_id: of the keys.
        tenant: whose entries count besides nobody's.
        layout: of the asker; None if everybody can be read.
        first: position of the first missing chunk.
        keys: from that chunk on.
    """

    namespace_id: NamespaceId
    tenant: str
    layout: Layout | None
    first: int
    keys: Sequence[ChunkKey]


class Inquiry:
    """One question."""

    def __init__(self, state: ControllerState, question: Question, now_s: float) -> None:
        self._state = state
        self._question = question
        self._now_s = now_s
        self._mask: int | None = None
        self._group = state.groups.get(question.namespace_id) or Namespaced()

    def findings(self) -> list[Finding]:
        """Returns everything that is known, by position, the nearest cause first."""
        question = self._question
        if not question.keys:
            return []
        looked_at = question.keys[:MAX_CHUNKS]
        evictions = self._state.evidence.evictions_of(
            question.namespace_id, set(looked_at), question.tenant
        )
        found: list[Finding] = []
        for number, key in enumerate(looked_at):
            position = question.first + number
            of_chunk = list(self._of_chunk(position, key, evictions.get(key, [])))
            if number < MAX_FOREIGN_CHUNKS:
                of_chunk += self._in_other_namespaces(position, key)
            found += of_chunk or [self._of_nobody(position)]
        general = [*self._of_restart(), *self._of_gone(found), *self._of_near_namespaces(found)]
        return merged(found) + general

    # ------------------------------------------------------------------ one chunk

    def _of_chunk(
        self, position: int, key: ChunkKey, evictions: Sequence[Eviction]
    ) -> Iterator[Finding]:
        holders: set[str] = set()
        for tenant, mask in self._group.directory.masks_of(key).items():
            for member in self._members_of(mask):
                if tenant in {"", self._question.tenant}:
                    holders.add(member.instance)
                    yield self._of_holder(position, member)
                elif position - self._question.first < MAX_FOREIGN_CHUNKS:
                    yield Finding(
                        position=position,
                        count=1,
                        why=Why.OTHER_TENANT,
                        instance=member.instance,
                        field="tenant",
                        ours=self._question.tenant,
                        theirs=tenant,
                    )
        for eviction in evictions:
            if eviction.instance not in holders:
                yield self._of_eviction(position, eviction)

    def _of_holder(self, position: int, member: Member) -> Finding:
        found = Finding(
            position=position, count=1, why=Why.HELD_BEHIND_GAP, instance=member.instance
        )
        if member.is_silent:
            silent_ms = self._ms_since(member.last_seen_s)
            return msgspec.structs.replace(found, why=Why.HOLDER_SILENT, age_ms=silent_ms)
        layout = self._question.layout
        verdict = None if layout is None else compare(layout, member.layout)
        if not isinstance(verdict, Refused):
            return found
        return msgspec.structs.replace(
            found,
            why=Why.LAYOUT_DIFFERS,
            field=verdict.field,
            ours=verdict.ours,
            theirs=verdict.theirs,
        )

    def _of_eviction(self, position: int, eviction: Eviction) -> Finding:
        detail = "its snapshot lacked it, so it went before" if eviction.is_of_snapshot else ""
        for gone in reversed(self._state.evidence.gone):
            is_it = gone.instance == eviction.instance and gone.kind is GoneKind.CLEARED
            if is_it and 0 <= eviction.at_s - gone.at_s <= _CLEARED_WITHIN_S:
                order_s = self._now_s - gone.at_s
                detail = f"it had been ordered to clear {order_s:.0f} s ago"
                break
        return Finding(
            position=position,
            count=1,
            why=Why.EVICTED,
            instance=eviction.instance,
            age_ms=self._ms_since(eviction.at_s),
            detail=detail,
        )

    def _of_nobody(self, position: int) -> Finding:
        """Nobody holds it, and nothing tells of anybody who did."""
        since_s = self._state.evidence.evictions_since_s
        why, detail = Why.NO_HOLDER, "nobody has reported it since the controller started"
        if not self._group.members:
            detail = "no instance is registered in this namespace"
        elif since_s is not None:
            why = Why.UNKNOWN
            back_s = self._now_s - since_s
            detail = f"nobody holds it; evictions are recorded for the last {back_s:.0f} s only"
        return Finding(position=position, count=1, why=why, detail=detail)

    def _in_other_namespaces(self, position: int, key: ChunkKey) -> Iterator[Finding]:
        for namespace_id, group in self._state.groups.items():
            if namespace_id == self._question.namespace_id:
                continue
            mask = 0
            for tenant_mask in group.directory.masks_of(key).values():
                mask |= tenant_mask
            member = next((m for m in group.members.values() if m.feed.live.mask & mask), None)
            if member is not None:
                yield self._of_namespace(position, 1, member, "holds it under the same key")

    # ------------------------------------------------------------------ what concerns all of them

    def _of_restart(self) -> Iterator[Finding]:
        if self._state.is_partial(self._now_s):
            up_s = self._state.uptime_s(self._now_s)
            yield self._of_all(
                Why.DIRECTORY_PARTIAL,
                age_ms=int(up_s * 1000),
                detail="the controller has restarted; the directory is still being filled",
            )
            for member in self._group.members.values():
                if not member.feed.is_synced:
                    yield self._of_all(
                        Why.DIRECTORY_PARTIAL,
                        instance=member.instance,
                        detail="has not been in step since it registered",
                    )

    def _of_gone(self, found: Sequence[Finding]) -> Iterator[Finding]:
        """Instances of this namespace whose chunks went out of sight."""
        explained = {one.instance for one in found}
        num_left = _MAX_GONE
        for gone in reversed(self._state.evidence.gone):
            if gone.namespace_id != self._question.namespace_id or gone.instance in explained:
                continue
            explained.add(gone.instance)
            yield self._of_all(
                Why.HOLDER_GONE,
                instance=gone.instance,
                age_ms=self._ms_since(gone.at_s),
                detail=f"{gone.kind.value} with {gone.num_chunks} chunks of this namespace",
            )
            num_left -= 1
            if not num_left:
                return

    def _of_near_namespaces(self, found: Sequence[Finding]) -> Iterator[Finding]:
        """Instances whose keys cannot match, for the sake of a field or two."""
        named = {one.instance for one in found if one.why is Why.NAMESPACE_DIFFERS}
        ours = self._state.evidence.namespaces.get(self._question.namespace_id)
        for group in self._state.groups.values() if ours is not None else ():
            member = next(iter(group.members.values()), None)
            if member is None or member.instance in named or ours is None:
                continue
            fields = ours.differing(member.registered.namespace)
            if 0 < len(fields) <= _NEAR_FIELDS:
                yield self._of_namespace(
                    self._question.first,
                    len(self._question.keys),
                    member,
                    "its keys never match these",
                )

    def _of_namespace(self, position: int, count: int, member: Member, detail: str) -> Finding:
        ours = self._state.evidence.namespaces.get(self._question.namespace_id)
        theirs = member.registered.namespace
        fields: Sequence[str] = ours.differing(theirs) if ours is not None else ()
        return Finding(
            position=position,
            count=count,
            why=Why.NAMESPACE_DIFFERS,
            instance=member.instance,
            field=", ".join(fields) or "namespace",
            ours=_values(ours, fields) if ours is not None else self._question.namespace_id,
            theirs=_values(theirs, fields) if ours is not None else member.namespace_id,
            detail=detail,
        )

    # ------------------------------------------------------------------ parts

    def _of_all(
        self, why: Why, instance: str = "", age_ms: int | None = None, detail: str = ""
    ) -> Finding:
        return Finding(
            position=self._question.first,
            count=len(self._question.keys),
            why=why,
            instance=instance,
            age_ms=age_ms,
            detail=detail,
        )

    def _members_of(self, mask: int) -> list[Member]:
        return self._group.best_holders(mask & self._known_mask, _MAX_HOLDERS)

    @property
    def _known_mask(self) -> int:
        """Bits of live holdings; those of staged and discarded ones name nobody."""
        if self._mask is None:
            self._mask = 0
            for member in self._group.members.values():
                self._mask |= member.feed.live.mask
        return self._mask

    def _ms_since(self, at_s: float) -> int:
        return max(0, int((self._now_s - at_s) * 1000))


def merged(found: Sequence[Finding]) -> list[Finding]:
    """Returns findings with those of consecutive chunks that say the same made one."""
    last: dict[tuple[object, ...], int] = {}
    runs: list[Finding] = []
    for one in found:
        cause = (one.why, one.instance, one.field, one.ours, one.theirs, one.detail)
        number = last.get(cause)
        if number is not None:
            run = runs[number]
            gap_ms = abs((run.age_ms or 0) - (one.age_ms or 0))
            if run.position + run.count == one.position and gap_ms <= _SAME_AGE_MS:
                runs[number] = msgspec.structs.replace(run, count=run.count + 1)
                continue
        last[cause] = len(runs)
        runs.append(one)
    return runs


def _values(namespace: Namespace, fields: Sequence[str]) -> str:
    return ", ".join(getattr(namespace, field) for field in fields)
