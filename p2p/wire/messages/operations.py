"""What people have the instances do, through the controller. No I/O.

Every operation is one request and one reply, which comes when all instances have reported or the
time is over. Keys are those of one prompt, in order, from its first chunk on, and at most
`MAX_OPERATION_KEYS`. What is not asked of a named instance is asked of all that hold some of them.
"""

from typing import Annotated

import msgspec

from p2p.wire.messages.base import (
    KeyBlob,
    KeyBytes,
    Message,
    Millis,
    Name,
    Tenant,
    Unsigned,
)
from p2p.wire.messages.orders import InstanceReport, PinMillis

InstanceName = Annotated[str, msgspec.Meta(max_length=128)]


class Reports(Message, frozen=True, kw_only=True):
    """What was done, by instance; not sent itself.

    Attributes:
        reports: one an instance and deed, by name.
        num_unheld: chunks that should have been somewhere and that nobody holds.
    """

    reports: tuple[InstanceReport, ...] = ()
    num_unheld: Unsigned = 0

    @property
    def is_complete(self) -> bool:
        """True if nothing was left undone."""
        return not self.num_unheld and not any(report.left for report in self.reports)


class Pin(Message, frozen=True, kw_only=True):
    """Keep chunks from being evicted, at an instance or at every holder.

    Attributes:
        pin_ms: for so long; 0 is until they are unpinned.
    """

    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""
    instance: InstanceName = ""
    pin_ms: PinMillis = 0
    timeout_ms: Millis = 5000


class Pinned(Reports, frozen=True, kw_only=True):
    """Answer to `Pin`."""


class Unpin(Message, frozen=True, kw_only=True):
    """Let chunks be evicted again, at an instance or at every holder."""

    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""
    instance: InstanceName = ""
    timeout_ms: Millis = 5000


class Unpinned(Reports, frozen=True, kw_only=True):
    """Answer to `Unpin`."""


class Replicate(Message, frozen=True, kw_only=True):
    """Have an instance fetch chunks, so that it holds them too.

    Attributes:
        target: who fetches.
        source: from whom; empty for whoever is best.
    """

    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    target: Name
    source: InstanceName = ""
    tenant: Tenant = ""
    timeout_ms: Millis = 30_000


class Replicated(Reports, frozen=True, kw_only=True):
    """Answer to `Replicate`."""


class Move(Message, frozen=True, kw_only=True):
    """Have an instance fetch chunks; once all are there, they go at the source.

    Attributes:
        target: who fetches.
        source: from whom, and where they go; empty for all other holders.
    """

    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    target: Name
    source: InstanceName = ""
    tenant: Tenant = ""
    timeout_ms: Millis = 30_000


class Moved(Reports, frozen=True, kw_only=True):
    """Answer to `Move`; without a deed ``evicted`` nothing went anywhere."""


class Evict(Message, frozen=True, kw_only=True):
    """Drop exactly these chunks, but for pinned ones, at an instance or at every holder."""

    namespace: Name
    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""
    instance: InstanceName = ""
    timeout_ms: Millis = 5000


class Evicted(Reports, frozen=True, kw_only=True):
    """Answer to `Evict`."""


class Clear(Message, frozen=True, kw_only=True):
    """Drop chunks, pinned ones too: of a namespace, of an instance, behind a prefix, or all.

    Attributes:
        namespace: only its chunks; empty for all, which keys do not allow.
        instance: only what it holds; empty for everybody.
        keys: only these chunks and all that follow on any of them; empty for all.
    """

    namespace: Annotated[str, msgspec.Meta(max_length=128)] = ""
    instance: InstanceName = ""
    keys: KeyBlob = b""
    key_bytes: KeyBytes = 32
    tenant: Tenant = ""
    timeout_ms: Millis = 5000


class Cleared(Reports, frozen=True, kw_only=True):
    """Answer to `Clear`."""


class Drain(Message, frozen=True, kw_only=True):
    """Have an instance give all it holds to its peers, before it is taken away."""

    instance: Name
    timeout_ms: Millis = 30_000


class Drained(Reports, frozen=True, kw_only=True):
    """Answer to `Drain`."""


OperationRequest = Pin | Unpin | Replicate | Move | Evict | Clear | Drain
OperationReply = Pinned | Unpinned | Replicated | Moved | Evicted | Cleared | Drained
