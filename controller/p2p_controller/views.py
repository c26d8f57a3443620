"""Answers that are put together from several, the same for the command line and HTTP. No I/O."""

import msgspec

from p2p.wire.messages import (
    InstanceList,
    InstanceView,
    LeaseView,
    Located,
    Refusal,
    RefusalCode,
)


class LeaseReport(msgspec.Struct, frozen=True):
    """What the instances say they lend.

    Attributes:
        leases_by_holder: of each instance that answered.
        silent: instances that did not.
    """

    leases_by_holder: dict[str, tuple[LeaseView, ...]]
    silent: tuple[str, ...]


class LocateReport(msgspec.Struct, frozen=True):
    """How much of a prompt is held, and by whom.

    Attributes:
        num_keys: that were asked for.
        num_held: of these, from the first one on.
        located: the controller's answer.
    """

    num_keys: int
    num_held: int
    located: Located

    @classmethod
    def of(cls, located: Located, num_keys: int) -> "LocateReport":
        """Returns the report of an answer about so many keys."""
        return cls(num_keys, sum(run.count for run in located.runs), located)


def named_views(listed: InstanceList, instance: str) -> list[InstanceView] | Refusal:
    """Returns all instances, or the one that is named."""
    views = [view for view in listed.instances if instance in {"", view.instance}]
    if instance and not views:
        return Refusal(code=RefusalCode.UNKNOWN_INSTANCE, field="instance", theirs=instance)
    return views
