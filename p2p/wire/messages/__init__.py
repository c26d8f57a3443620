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
from p2p.wire.messages.mirror import (
    MAX_CHANGES,
    AnyChange,
    CopyEntries,
    DirectoryChanges,
    EntriesChanged,
    EntriesPage,
    Follow,
    MemberHeard,
    MemberLost,
    MemberSeen,
    StageBegun,
    StageLive,
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
    | Follow
    | CopyEntries
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
    | DirectoryChanges
    | EntriesPage
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
    "MAX_CHANGES",
    "MAX_KEYS",
    "MAX_PAGES_UNDER_WAY",
    "PROTOCOL_VERSION",
    "AnyChange",
    "ChannelOffer",
    "Clear",
    "Cleared",
    "ControllerMetrics",
    "ControllerReply",
    "ControllerRequest",
    "ControllerStatus",
    "CopyEntries",
    "Deregister",
    "DirectoryChanges",
    "Done",
    "EntriesChanged",
    "EntriesPage",
    "Epoch",
    "EventKind",
    "Events",
    "FeedStatus",
    "Follow",
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
    "MemberHeard",
    "MemberLost",
    "MemberSeen",
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
    "StageBegun",
    "StageLive",
    "TakeOver",
    "TakenOver",
    "Want",
    "Welcome",
]
