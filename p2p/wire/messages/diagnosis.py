"""What an instance found on its machine, and how it reaches its peers. Asked by people. No I/O."""

from enum import Enum
from typing import Annotated

import msgspec

from p2p.wire.messages.base import Message, Name, ProcessPlace, Text, Unsigned

MAX_PAIRS = 4096
_Short = Annotated[str, msgspec.Meta(max_length=256)]


class Diagnose(Message, frozen=True, kw_only=True):
    """What did you find, and which channel serves each of your peers?"""


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """An accelerator, or what looks like one.

    Attributes:
        kind: such as ``cuda``.
        name: what it calls itself.
        state: empty if it can be used, else why it cannot.
        is_used: the engine's paged cache is there.
        is_tested: our code for this kind has run on such hardware.
    """

    kind: _Short
    name: _Short
    state: Text = ""
    is_used: bool = False
    is_tested: bool = False


class NicView(msgspec.Struct, frozen=True, kw_only=True):
    """A network device.

    Attributes:
        name: the kernel's.
        kind: ``ethernet`` or ``infiniband``.
        has_carrier: it is connected, or has an active port.
        mbit_per_s: as the driver says; 0 if it does not.
    """

    name: _Short
    kind: _Short
    has_carrier: bool
    mbit_per_s: Unsigned = 0


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """A limit or setting of the machine that channels depend on.

    Attributes:
        name: such as ``ulimit -l``.
        found: as people write it.
        fault: what is wrong with it, if anything is.
        advice: what to change then.
    """

    name: _Short
    found: Text
    fault: Text = ""
    advice: Text = ""


class OwnChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel of the instance, or one that it could have.

    Attributes:
        channel: its name.
        is_open: it is offered to peers.
        detail: how it was set up, or why it is not open.
        is_tested: false where part of it never ran on the hardware that it is for.
    """

    channel: _Short
    is_open: bool
    detail: Text = ""
    is_tested: bool = True


class KernelView(msgspec.Struct, frozen=True, kw_only=True):
    """What copies between paged caches and chunks on a device.

    Attributes:
        device: such as ``cpu``.
        implementation: one that can run there.
        choice: how it stands: for what it was chosen, or why it is not used.
        is_tested: it has run on such hardware.
    """

    device: _Short
    implementation: _Short
    choice: Text = ""
    is_tested: bool = True


class ChannelState(Enum):
    """How a channel stands for a pair."""

    USED = "used"
    SPARE = "spare"
    DEMOTED = "demoted"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    ABSENT = "absent"


class ChannelView(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of a pair.

    Attributes:
        channel: its name.
        state: whether it serves.
        reason: why it does not.
        retry_ms: until it is tried again.
    """

    channel: _Short
    state: ChannelState
    reason: Text = ""
    retry_ms: Unsigned = 0


class PairView(msgspec.Struct, frozen=True, kw_only=True):
    """How the instance reads from one peer.

    Attributes:
        instance: the peer.
        is_near: it is on the same host.
        channel: that serves; empty while none does.
        transport: that it really uses.
        latency_ns: of a read of 4 KiB when it was connected.
        bytes_per_s: of reads lately; 0 if there were none.
        slow: why the channel is slower than it should be, and what would help.
        channels: all that one of both has, and why they do not serve.
    """

    instance: Name
    is_near: bool
    channel: _Short
    transport: _Short = ""
    latency_ns: Unsigned = 0
    bytes_per_s: Unsigned = 0
    slow: Text = ""
    channels: Annotated[tuple[ChannelView, ...], msgspec.Meta(max_length=32)] = ()


class Diagnosis(Message, frozen=True, kw_only=True):
    """Answer to `Diagnose`.

    Attributes:
        version: of the package.
        place: where the process runs.
        more: pairs beyond those that are listed.
    """

    instance: Name
    incarnation: Unsigned
    version: _Short
    host: _Short
    place: ProcessPlace
    devices: Annotated[tuple[DeviceView, ...], msgspec.Meta(max_length=64)] = ()
    nics: Annotated[tuple[NicView, ...], msgspec.Meta(max_length=256)] = ()
    limits: Annotated[tuple[LimitView, ...], msgspec.Meta(max_length=64)] = ()
    channels: Annotated[tuple[OwnChannel, ...], msgspec.Meta(max_length=32)] = ()
    kernels: Annotated[tuple[KernelView, ...], msgspec.Meta(max_length=64)] = ()
    pairs: Annotated[tuple[PairView, ...], msgspec.Meta(max_length=MAX_PAIRS)] = ()
    more: Unsigned = 0
