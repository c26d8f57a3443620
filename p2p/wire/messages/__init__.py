"""Every message of the control plane, as typed structs. No I/O.

A message travels as MessagePack: a map whose ``type`` names the struct. Keys of a request are one
blob of equal-length keys. Times are durations in milliseconds, never points on a clock: clocks are
not compared between machines. ``docs/protocol.md`` tells who sends what when.
"""

from p2p.wire.messages.admin import (
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
    MeasuredRate,
    Message,
    ProcessPlace,
    RankOffer,
    Refusal,
    RefusalCode,
)
from p2p.wire.messages.diagnosis import (
    MAX_PAIRS,
    ChannelState,
    ChannelView,
    DeviceView,
    Diagnose,
    Diagnosis,
    KernelView,
    LimitView,
    NicView,
    OwnChannel,
    PairView,
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
from p2p.wire.messages.operations import (
    Clear,
    Cleared,
    Drain,
    Drained,
    Evict,
    Evicted,
    Move,
    Moved,
    OperationReply,
    OperationRequest,
    Pin,
    Pinned,
    Replicate,
    Replicated,
    Reports,
    Unpin,
    Unpinned,
)
from p2p.wire.messages.orders import (
    MAX_OPERATION_KEYS,
    MAX_ORDERS,
    Deed,
    DropAll,
    DropKeys,
    EvictKeys,
    GiveAll,
    InstanceReport,
    Left,
    LeftReason,
    Order,
    OrderResult,
    PinKeys,
    TakeKeys,
    UnpinKeys,
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
    | Explain
    | FetchReports
    | ListRequests
    | Shutdown
    | OperationRequest
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
    | Explained
    | RequestList
    | OperationReply
)
PeerRequest = (
    Hello | LeaseRequest | LeaseRenew | LeaseRelease | ReportMismatch | ListLeases | TakeOver
)
PeerCall = PeerRequest | Diagnose  # the machine is asked, and not the state of the instance
PeerReply = (
    Refusal
    | Done
    | Welcome
    | LeaseGranted
    | LeaseBusy
    | LeaseRenewed
    | LeaseList
    | TakenOver
    | Diagnosis
)


__all__ = [
    "MAX_CHANGES",
    "MAX_FINDINGS",
    "MAX_KEYS",
    "MAX_OPERATION_KEYS",
    "MAX_ORDERS",
    "MAX_PAGES_UNDER_WAY",
    "MAX_PAIRS",
    "MAX_REPORTS",
    "MAX_TROUBLES",
    "PROTOCOL_VERSION",
    "AnyChange",
    "ChannelOffer",
    "ChannelState",
    "ChannelView",
    "Clear",
    "Cleared",
    "ControllerMetrics",
    "ControllerReply",
    "ControllerRequest",
    "ControllerStatus",
    "CopyEntries",
    "Deed",
    "Deregister",
    "DeviceView",
    "Diagnose",
    "Diagnosis",
    "DirectoryChanges",
    "Done",
    "Drain",
    "Drained",
    "DropAll",
    "DropKeys",
    "EntriesChanged",
    "EntriesPage",
    "Epoch",
    "EventKind",
    "Events",
    "Evict",
    "EvictKeys",
    "Evicted",
    "Explain",
    "Explained",
    "FeedStatus",
    "FetchReport",
    "FetchReports",
    "Finding",
    "Follow",
    "GetMetrics",
    "GetStatus",
    "GiveAll",
    "Heartbeat",
    "Hello",
    "Holder",
    "HolderRun",
    "Incarnation",
    "InstanceList",
    "InstanceReport",
    "InstanceView",
    "KernelView",
    "LeaseBusy",
    "LeaseGranted",
    "LeaseList",
    "LeaseRelease",
    "LeaseRenew",
    "LeaseRenewed",
    "LeaseRequest",
    "LeaseToken",
    "LeaseView",
    "Left",
    "LeftReason",
    "LimitView",
    "ListInstances",
    "ListLeases",
    "ListPeers",
    "ListRequests",
    "Locate",
    "Located",
    "MeasuredRate",
    "MemberHeard",
    "MemberLost",
    "MemberSeen",
    "Message",
    "Move",
    "Moved",
    "NamespaceMetrics",
    "NicView",
    "OperationReply",
    "OperationRequest",
    "Order",
    "OrderResult",
    "OwnChannel",
    "PairView",
    "PeerCall",
    "PeerList",
    "PeerReply",
    "PeerRequest",
    "Pin",
    "PinKeys",
    "Pinned",
    "ProcessPlace",
    "RankEndpoint",
    "RankOffer",
    "Refusal",
    "RefusalCode",
    "Register",
    "Registered",
    "Replicate",
    "Replicated",
    "ReportMismatch",
    "Reports",
    "RequestList",
    "RequestMetrics",
    "RequestView",
    "Shutdown",
    "SnapshotPage",
    "SnapshotTurn",
    "StageBegun",
    "StageLive",
    "TakeKeys",
    "TakeOver",
    "TakenOver",
    "Trouble",
    "Unpin",
    "UnpinKeys",
    "Unpinned",
    "Want",
    "Welcome",
    "Why",
]
