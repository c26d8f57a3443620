"""Every message of the control plane, as typed structs. No I/O.

A message travels as MessagePack: a map whose ``type`` names the struct. Keys of a request are one
blob of equal-length keys. Times are durations in milliseconds, never points on a clock: clocks are
not compared between machines. ``docs/protocol.md`` tells who sends what when.
"""

from p2p.wire.messages.admin import (
    Clear,
    Cleared,
    ControllerMetrics,
    ControllerStatus,
    GetMetrics,
    GetStatus,
    InstanceList,
    InstanceView,
    ListInstances,
    NamespaceMetrics,
    RequestMetrics,
    Shutdown,
)
from p2p.wire.messages.base import (
    MAX_KEYS,
    PROTOCOL_VERSION,
    ChannelOffer,
    Done,
    Epoch,
    Incarnation,
    LeaseToken,
    Message,
    RankOffer,
    Refusal,
    RefusalCode,
)
from p2p.wire.messages.directory import (
    MAX_PAGES_UNDER_WAY,
    Deregister,
    EventKind,
    Events,
    FeedStatus,
    Heartbeat,
    Holder,
    HolderRun,
    ListPeers,
    Locate,
    Located,
    Order,
    PeerList,
    RankEndpoint,
    Register,
    Registered,
    SnapshotPage,
    SnapshotTurn,
    Want,
)
from p2p.wire.messages.peer import (
    Hello,
    LeaseBusy,
    LeaseGranted,
    LeaseList,
    LeaseRelease,
    LeaseRenew,
    LeaseRenewed,
    LeaseRequest,
    LeaseView,
    ListLeases,
    ReportMismatch,
    TakenOver,
    TakeOver,
    Welcome,
)

ControllerRequest = (
    Register
    | Heartbeat
    | Events
    | SnapshotPage
    | SnapshotTurn
    | Deregister
    | Locate
    | ListPeers
    | ListInstances
    | GetStatus
    | GetMetrics
    | Clear
    | Shutdown
)
ControllerReply = (
    Refusal
    | Done
    | Registered
    | FeedStatus
    | Located
    | PeerList
    | InstanceList
    | ControllerStatus
    | ControllerMetrics
    | Cleared
)
PeerRequest = (
    Hello | LeaseRequest | LeaseRenew | LeaseRelease | ReportMismatch | ListLeases | TakeOver
)
PeerReply = (
    Refusal | Done | Welcome | LeaseGranted | LeaseBusy | LeaseRenewed | LeaseList | TakenOver
)


__all__ = [
    "MAX_KEYS",
    "MAX_PAGES_UNDER_WAY",
    "PROTOCOL_VERSION",
    "ChannelOffer",
    "Clear",
    "Cleared",
    "ControllerMetrics",
    "ControllerReply",
    "ControllerRequest",
    "ControllerStatus",
    "Deregister",
    "Done",
    "Epoch",
    "EventKind",
    "Events",
    "FeedStatus",
    "GetMetrics",
    "GetStatus",
    "Heartbeat",
    "Hello",
    "Holder",
    "HolderRun",
    "Incarnation",
    "InstanceList",
    "InstanceView",
    "LeaseBusy",
    "LeaseGranted",
    "LeaseList",
    "LeaseRelease",
    "LeaseRenew",
    "LeaseRenewed",
    "LeaseRequest",
    "LeaseToken",
    "LeaseView",
    "ListInstances",
    "ListLeases",
    "ListPeers",
    "Locate",
    "Located",
    "Message",
    "NamespaceMetrics",
    "Order",
    "PeerList",
    "PeerReply",
    "PeerRequest",
    "RankEndpoint",
    "RankOffer",
    "Refusal",
    "RefusalCode",
    "Register",
    "Registered",
    "ReportMismatch",
    "RequestMetrics",
    "Shutdown",
    "SnapshotPage",
    "SnapshotTurn",
    "TakeOver",
    "TakenOver",
    "Want",
    "Welcome",
]
