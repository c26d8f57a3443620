"""Between an instance that keeps a copy of its namespace's directory and the controller. No I/O."""

from typing import Annotated

import msgspec

from p2p.layout import Layout
from p2p.wire.messages.base import KeyBlob, KeyBytes, Kinds, Message, Millis, Name, Tenant, Unsigned
from p2p.wire.messages.directory import Holder

MAX_CHANGES = 1024


class Change(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of what a log of changes lists; ``number`` names a member since it registered."""

    number: Unsigned


class MemberSeen(Change, frozen=True, kw_only=True, tag="m"):
    """A member registered, with nothing yet, or fell silent, or is heard again.

    Attributes:
        view_hash: of its entries.
        num_entries: how many those are.
        at_ms: the controller's uptime when it was last heard.
    """

    holder: Holder
    layout: Layout
    is_silent: bool = False
    view_hash: Unsigned = 0
    num_entries: Unsigned = 0
    at_ms: Unsigned = 0


class MemberHeard(Change, frozen=True, kw_only=True, tag="h"):
    """A member reported; its entries, after all that is listed before, have this view hash."""

    load_bytes: Unsigned
    view_hash: Unsigned
    at_ms: Unsigned


class MemberLost(Change, frozen=True, kw_only=True, tag="g"):
    """A member is gone, with its entries."""


class EntriesChanged(Change, frozen=True, kw_only=True, tag="e"):
    """Entries of a member changed, or of its snapshot in the making, which nobody sees."""

    kinds: Kinds
    keys: KeyBlob
    key_bytes: KeyBytes
    tenant: Tenant = ""
    is_staged: bool = False


class StageBegun(Change, frozen=True, kw_only=True, tag="b"):
    """A snapshot of a member begins; an earlier one is dropped."""


class StageLive(Change, frozen=True, kw_only=True, tag="l"):
    """The snapshot takes the place of the member's entries."""


AnyChange = MemberSeen | MemberHeard | MemberLost | EntriesChanged | StageBegun | StageLive


class Follow(Message, frozen=True, kw_only=True):
    """What has changed in my namespace?

    Attributes:
        round: number that the answer repeats; answers of other rounds mean nothing.
        after: position of the last change that is known, 0 for none.
        wait_ms: the answer may take so long if nothing changes.
    """

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned
    round: Unsigned
    after: Unsigned
    wait_ms: Millis


class DirectoryChanges(Message, frozen=True, kw_only=True):
    """Answer to `Follow`.

    Attributes:
        after: position before the first change; they have no gaps.
        starts_over: what was asked for is not kept any more: ``changes`` are all members as they
            are at ``after``, and their entries have to be copied.
        partial: as in `Located`.
        now_ms: the controller's uptime.
    """

    epoch: Unsigned
    round: Unsigned
    after: Unsigned
    now_ms: Unsigned
    changes: Annotated[tuple[AnyChange, ...], msgspec.Meta(max_length=1 << 16)] = ()
    starts_over: bool = False
    partial: bool = False


class CopyEntries(Message, frozen=True, kw_only=True):
    """Please send a page of a member's entries.

    Attributes:
        number: of the member.
        start: position at which the copy began, as page 0 said; 0 for page 0.
    """

    instance: Name
    incarnation: Unsigned
    epoch: Unsigned
    round: Unsigned
    number: Unsigned
    page: Unsigned
    start: Unsigned


class EntriesPage(Message, frozen=True, kw_only=True):
    """Answer to `CopyEntries`; page 0 of another start if that copy is not kept any more.

    Attributes:
        start: changes after this position go on top.
        at: position at which the page was made: what it says may already tell of changes so far.
        is_last: no page follows.
        is_gone: there is no such member.
    """

    epoch: Unsigned
    round: Unsigned
    number: Unsigned
    page: Unsigned
    start: Unsigned
    at: Unsigned
    is_last: bool
    kinds: Kinds = b""
    keys: KeyBlob = b""
    key_bytes: KeyBytes = 32
    tenant: Tenant = ""
    is_gone: bool = False
