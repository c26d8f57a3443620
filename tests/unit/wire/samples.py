"""One or more messages of every kind, with every optional field set somewhere."""

from p2p.keys import Namespace, NamespaceId
from p2p.layout import ByteOrder, Layout
from p2p.regions import MemoryKind, Region, Segment
from p2p.wire import messages as wire

NAMESPACE = Namespace(
    model="tiny",
    weights_digest="d1",
    kv_dtype="bfloat16",
    key_scheme="vllm-sha256_cbor",
    key_seed="0",
)
LAYOUT = Layout(
    num_layers=2,
    num_kv_heads=8,
    head_dim=16,
    kv_dtype="bfloat16",
    block_tokens=16,
    chunk_tokens=64,
    tensor_parallel=2,
    byte_order=ByteOrder.OPAQUE,
    isa="avx512",
    engine_kv_version="1",
)
KEYS = bytes(range(64))
REGION = Region(
    (Segment(1 << 40, 4096, 4096), Segment(0, 8192, 4096)), 16, MemoryKind.VRAM, device=1
)
RANKS = (
    wire.RankOffer(
        rank=0,
        channels=(
            wire.ChannelOffer(channel="nixl", metadata=b"\0\xff" * 9, region=REGION),
            wire.ChannelOffer(channel="tcp", metadata=b"", region=REGION),
        ),
    ),
)

REPORT = wire.FetchReport(
    number=4,
    request="r1",
    num_keys=40,
    num_local=2,
    num_delivered=12,
    reason="peer_refused",
    tenant="acme",
    detail="q refused",
    missing=KEYS[:32],
    age_ms=5,
    took_ms=6,
    troubles=(
        wire.Trouble(
            instance="q",
            reason="peer_refused",
            age_ms=7,
            detail="no",
            field="head_dim",
            ours="64",
            theirs="128",
        ),
    ),
)
VIEW = wire.RequestView(instance="p", namespace="n", report=REPORT)
ORDERS: tuple[wire.Order, ...] = (
    wire.DropAll(id=7, namespace=NamespaceId("n"), ttl_ms=5),
    wire.DropKeys(id=8, namespace=NamespaceId("n"), keys=KEYS, key_bytes=32, tenant="a"),
    wire.EvictKeys(id=9, namespace=NamespaceId("n"), keys=KEYS, key_bytes=32, tenant="a"),
    wire.PinKeys(id=10, namespace=NamespaceId("n"), keys=KEYS, key_bytes=32, pin_ms=4),
    wire.UnpinKeys(id=11, namespace=NamespaceId("n"), keys=KEYS, key_bytes=32),
    wire.TakeKeys(
        id=12, namespace=NamespaceId("n"), keys=KEYS, key_bytes=32, source="q", hold_ms=3
    ),
    wire.GiveAll(id=13, namespace=NamespaceId("n")),
)
REPORTS = (
    wire.InstanceReport(instance="p", did=wire.Deed.TOOK, num_chunks=3),
    wire.InstanceReport(
        instance="q",
        did=wire.Deed.EVICTED,
        left=(wire.Left(reason=wire.LeftReason.PINNED, num_chunks=1, detail="d"),),
    ),
)

CONTROLLER_REQUESTS: tuple[wire.ControllerRequest, ...] = (
    wire.Register(
        instance="p",
        incarnation=(1 << 64) - 1,
        namespace=NAMESPACE,
        layout=LAYOUT,
        address="tcp://10.0.0.1:7700",
        public_key="k" * 40,
        host="h",
        rack="r",
        world_size=8,
    ),
    wire.Heartbeat(
        instance="p",
        incarnation=3,
        epoch=5,
        last_seq=9,
        view_hash=(1 << 64) - 1,
        num_chunks=4,
        load_bytes=1 << 40,
        orders_done=(
            wire.OrderResult(id=7, num_chunks=2),
            wire.OrderResult(
                id=8,
                left=(wire.Left(reason=wire.LeftReason.NO_ROOM, num_chunks=3, detail="pool_full"),),
            ),
        ),
        num_pinned=2,
        is_leaving=True,
        beat=6,
    ),
    wire.Events(
        instance="p",
        incarnation=3,
        epoch=5,
        first_seq=1,
        kinds=bytes([0, 1]),
        keys=KEYS,
        key_bytes=32,
        tenant="acme",
    ),
    wire.SnapshotPage(
        instance="p",
        incarnation=3,
        epoch=5,
        sync=2,
        start_seq=9,
        page=0,
        last=True,
        kinds=bytes([2, 2]),
        keys=KEYS,
        key_bytes=32,
    ),
    wire.Deregister(instance="p", incarnation=3),
    wire.Locate(namespace=NAMESPACE.id, keys=KEYS, key_bytes=8, instance="p", tenant="Zoë"),
    wire.ListInstances(),
    wire.ListPeers(instance="p", incarnation=3),
    wire.GetStatus(),
    wire.GetMetrics(),
    wire.Explain(namespace="n", keys=KEYS, key_bytes=32, instance="p", tenant="acme", request="r1"),
    wire.FetchReports(instance="p", incarnation=3, epoch=5, reports=(REPORT,)),
    wire.ListRequests(instance="p", only_short=False, limit=7),
    wire.Clear(namespace="n", instance="p", keys=KEYS, key_bytes=8, tenant="a", timeout_ms=1),
    wire.Pin(
        namespace="n",
        keys=KEYS,
        key_bytes=32,
        tenant="a",
        instance="p",
        pin_ms=9,
        timeout_ms=1,
    ),
    wire.Unpin(namespace="n", keys=KEYS, key_bytes=32, tenant="a", instance="p", timeout_ms=1),
    wire.Evict(namespace="n", keys=KEYS, key_bytes=32, tenant="a", instance="p", timeout_ms=1),
    wire.Replicate(
        namespace="n", keys=KEYS, key_bytes=32, target="p", source="q", tenant="a", timeout_ms=1
    ),
    wire.Move(
        namespace="n", keys=KEYS, key_bytes=32, target="p", source="q", tenant="a", timeout_ms=1
    ),
    wire.Drain(instance="p", timeout_ms=1),
    wire.Shutdown(),
    wire.SnapshotTurn(instance="p", incarnation=3, epoch=5),
    wire.Follow(instance="p", incarnation=3, epoch=5, round=1, after=0, wait_ms=500),
    wire.CopyEntries(instance="p", incarnation=3, epoch=5, round=1, number=2, page=0, start=0),
)
CONTROLLER_REPLIES: tuple[wire.ControllerReply, ...] = (
    wire.Explained(
        num_keys=40,
        num_held=12,
        first=1,
        findings=(
            wire.Finding(
                position=12,
                count=3,
                why=wire.Why.LAYOUT_DIFFERS,
                instance="q",
                field="head_dim",
                ours="64",
                theirs="128",
                age_ms=3,
                detail="d",
                request="r1",
            ),
        ),
        more=1,
        requests=(VIEW,),
        evidence_ms=9,
        partial=True,
    ),
    wire.RequestList(requests=(VIEW,)),
    wire.Refusal(code=wire.RefusalCode.LAYOUT, field="head_dim", ours="64", theirs="128"),
    wire.Done(),
    wire.Registered(epoch=5, heartbeat_ms=1000, expiry_ms=3000, pages=1),
    wire.FeedStatus(
        epoch=5,
        acked_seq=9,
        want=wire.Want.REPLAY,
        sync=2,
        synced_page=3,
        orders=ORDERS,
        peers=4,
        pages=0,
        is_leaving=True,
        beat=6,
    ),
    wire.DirectoryChanges(
        epoch=5,
        round=1,
        after=3,
        now_ms=7,
        changes=(
            wire.MemberLost(number=1),
            wire.MemberHeard(number=2, load_bytes=3, view_hash=4, at_ms=5),
            wire.EntriesChanged(number=2, kinds=b"\x01", keys=bytes(32), key_bytes=32),
            wire.StageBegun(number=2),
            wire.StageLive(number=2),
        ),
        partial=True,
    ),
    wire.EntriesPage(
        epoch=5, round=1, number=2, page=0, start=3, at=4, is_last=True, tenant="t", is_gone=True
    ),
    wire.PeerList(
        epoch=5,
        version=4,
        peers=(wire.Holder(instance="p", incarnation=3, address="tcp://h:1", public_key="k"),),
    ),
    wire.Located(
        epoch=5,
        runs=(wire.HolderRun(start=0, count=2, holders=(0, 1), more=3, tiers=b"\1\2"),),
        holders=(
            wire.Holder(instance="p", incarnation=3, address="tcp://h:1", host="h", age_ms=7),
            wire.Holder(instance="q", incarnation=4, address="tcp://h:2", load_bytes=1),
        ),
        partial=True,
    ),
    wire.InstanceList(
        instances=(
            wire.InstanceView(
                instance="p",
                incarnation=3,
                state="alive",
                namespace=NAMESPACE,
                layout=LAYOUT,
                address="tcp://h:1",
                host="",
                rack="",
                world_size=2,
                num_chunks=1,
                load_bytes=2,
                silent_ms=3,
                synced=True,
                public_key="k",
                num_pinned=1,
            ),
        )
    ),
    wire.ControllerStatus(
        version="1",
        epoch=5,
        uptime_ms=1,
        num_instances=1,
        num_namespaces=1,
        num_keys=1,
        num_entries=1,
        partial=False,
        counters={"gaps": 3},
        closing=True,
    ),
    wire.ControllerMetrics(
        namespaces=(
            wire.NamespaceMetrics(
                namespace=NAMESPACE.id,
                model="tiny",
                num_alive=1,
                num_silent=2,
                num_keys=3,
                num_entries=4,
            ),
        ),
        requests=(wire.RequestMetrics(kind="Locate", num=9, num_by_bucket=(0, 1, 2), total_ns=5),),
    ),
    wire.Cleared(reports=REPORTS),
    wire.Pinned(reports=REPORTS, num_unheld=3),
    wire.Unpinned(),
    wire.Evicted(reports=REPORTS),
    wire.Replicated(reports=REPORTS),
    wire.Moved(reports=REPORTS),
    wire.Drained(reports=REPORTS),
)
PEER_REQUESTS: tuple[wire.PeerCall, ...] = (
    wire.Diagnose(),
    wire.Hello(instance="p", incarnation=3, namespace=NAMESPACE, layout=LAYOUT, ranks=RANKS),
    wire.LeaseRequest(
        instance="p",
        incarnation=3,
        holder_incarnation=4,
        namespace=NAMESPACE.id,
        keys=KEYS,
        key_bytes=32,
        ttl_ms=500,
        tenant="acme",
    ),
    wire.LeaseRenew(instance="p", incarnation=3, token=1, ttl_ms=9),
    wire.LeaseRelease(instance="p", incarnation=3, token=1),
    wire.ReportMismatch(
        instance="p",
        incarnation=3,
        namespace=NAMESPACE.id,
        key=KEYS[:32],
        slot=1,
        generation=2,
    ),
    wire.ListLeases(),
    wire.TakeOver(
        instance="p",
        incarnation=3,
        namespace=NAMESPACE.id,
        keys=KEYS,
        key_bytes=32,
        ttl_ms=9,
        tenant="acme",
    ),
)
PLACE = wire.ProcessPlace(boot="b", pid_namespace="pid:[1]", network_namespace="net:[2]", user=1000)
PEER_REPLIES: tuple[wire.PeerReply, ...] = (
    wire.Diagnosis(
        instance="q",
        incarnation=4,
        version="0.1.0",
        host="h",
        place=PLACE,
        devices=(wire.DeviceView(kind="cuda", name="none", state="no /dev/nvidia0"),),
        nics=(wire.NicView(name="eth0", kind="ethernet", has_carrier=True, mbit_per_s=25_000),),
        limits=(wire.LimitView(name="ulimit -l", found="64 KiB", fault="little", advice="more"),),
        channels=(wire.OwnChannel(channel="nixl", is_open=False, detail="not installed"),),
        kernels=(wire.KernelView(device="cpu", implementation="numpy", choice="gather"),),
        pairs=(
            wire.PairView(
                instance="r",
                is_near=True,
                channel="shm",
                transport="shm",
                latency_ns=900,
                bytes_per_s=7_000_000_000,
                channels=(
                    wire.ChannelView(channel="shm", state=wire.ChannelState.USED),
                    wire.ChannelView(
                        channel="nixl",
                        state=wire.ChannelState.DEMOTED,
                        reason="nixl: r: transfer failed",
                        retry_ms=4000,
                    ),
                ),
            ),
        ),
    ),
    wire.Welcome(instance="q", incarnation=4, ranks=RANKS),
    wire.LeaseGranted(
        token=1,
        ttl_ms=500,
        slots=(3, 1),
        generations=(1, 9),
        roots=((1, 2), (3, (1 << 64) - 1)),
        missing=(1,),
        retry_after_ms=20,
    ),
    wire.LeaseBusy(retry_after_ms=20, alternates=("r",)),
    wire.LeaseRenewed(token=1, ttl_ms=500),
    wire.LeaseList(
        leases=(
            wire.LeaseView(
                reader="p", incarnation=3, token=1, num_chunks=2, num_bytes=9, left_ms=400
            ),
        ),
        more=1,
    ),
    wire.TakenOver(num_chunks=2),
)
