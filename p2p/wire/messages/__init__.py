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
from p2p.wire.messages.explain import (
    MAX_FINDINGS,
    MAX_REPORTS,
    MAX_TROUBLES,
    Explain,
    Explained,
    FetchReport,
    FetchReports,
    Finding,
    ListRequests,
    RequestList,
    RequestView,
    Trouble,
    Why,
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
    | Explain
    | FetchReports
    | ListRequests
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
    | Explained
    | RequestList
)
PeerRequest = (
    Hello | LeaseRequest | LeaseRenew | LeaseRelease | ReportMismatch | ListLeases | TakeOver
)
PeerReply = (
    Refusal | Done | Welcome | LeaseGranted | LeaseBusy | LeaseRenewed | LeaseList | TakenOver
)


__all__ = [
    "MAX_CHANGES",
    "MAX_FINDINGS",
    "MAX_KEYS",
    "MAX_PAGES_UNDER_WAY",
    "MAX_REPORTS",
    "MAX_TROUBLES",
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
    "Explain",
    "Explained",
    "FeedStatus",
    "FetchReport",
    "FetchReports",
    "Finding",
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
    "ListRequests",
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
    "RequestList",
    "RequestMetrics",
    "RequestView",
    "Shutdown",
    "SnapshotPage",
    "SnapshotTurn",
    "StageBegun",
    "StageLive",
    "TakeOver",
    "TakenOver",
    "Trouble",
    "Want",
    "Welcome",
    "Why",
]
