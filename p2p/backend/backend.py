"""The public face of an instance: put, locate, fetch."""

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

import numpy as np

from p2p.agent.host_limits import read_place
from p2p.agent.slots import SlotState
from p2p.backend.actions import FetchOutcome
from p2p.backend.assembly import (
    ahead_limits,
    core_of,
    fetch_limits,
    identity_of,
    keys_of,
    pool_of,
)
from p2p.backend.bond import BondThread
from p2p.backend.cache_copies import CacheCopies, CacheDescription
from p2p.backend.engine import FetchEngine
from p2p.backend.engine_cache import CacheParts, EngineCache
from p2p.backend.engine_device import check_usable, parse_device, pin_pool
from p2p.backend.engine_parts import EngineParts, FetchWatch, Observer, Ticket
from p2p.backend.examination import Examination
from p2p.backend.feed import Event
from p2p.backend.fetch_log import check_request_id
from p2p.backend.intake import Intake
from p2p.backend.locator import Locator
from p2p.backend.own_channels import Endpoints, OpenedChannels, channels_of, pairs_of
from p2p.backend.pairs import Pairs
from p2p.backend.peer_service import Callbacks, PeerService
from p2p.backend.pool import SlotBytes
from p2p.backend.present import PresentChunks
from p2p.backend.reader import ReaderCore
from p2p.backend.results import (
    DrainReport,
    FetchRequest,
    FetchResult,
    Handle,
    Hit,
    PutReport,
)
from p2p.backend.settings import (
    BackendConfig,
    advertised_address,
    check_layout,
    pool_place,
)
from p2p.backend.shared_pool import SharedPool
from p2p.backend.sources import ArraySource, ChunkSource
from p2p.config import revalidated
from p2p.errors import ArgumentError, ClosedError
from p2p.keys import ChunkKey
from p2p.layout import Layout
from p2p.wire.context import WireContext
from p2p.wire.messages import RankOffer


def boot_clock() -> float:
    """Returns seconds on CLOCK_BOOTTIME, which counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class P2PBackend:
    """One instance of the fabric, in the engine's process. Thread-safe.

    Make one with `start`; it is a context manager. Nothing here raises because a peer or the
    controller failed: that makes a fetch shorter, with the reason in its result.

    Attributes:
        config: with what was left open filled in.
        layout: of the chunks.
        shared_pool: stores chunks that other processes write into the pool.
    """

    def __init__(self, config: BackendConfig, layout: Layout, observer: Observer | None) -> None:
        self.config = config
        self.layout = layout
        self._lock = threading.RLock()
        self._closed = False
        keys = keys_of(config)
        self._device = parse_device(config.device)
        self._pool = pool_of(config, layout)
        self._pinned = pin_pool(self._pool.region, self._device)
        self._wire = WireContext(keys)
        try:
            self._service = PeerService(self._wire, config.bind)
            bound = self._service.address
            address = advertised_address(config, bound)
            opened = channels_of(config, self._pool, Endpoints(keys, bound, address))
        except BaseException:
            self._wire.close()
            raise
        identity = identity_of(config, layout, address, keys.public if keys else "")
        self._channels = opened.channels
        offer = RankOffer(rank=0, channels=self._channels.offers(), place=read_place())
        self._core = core_of(config, identity, (offer,), self._pool.num_slots)
        self._locator = Locator(self._core, self._lock, self._wire, config.controller, boot_clock)
        self._bond = BondThread(self._core, self._lock, self._wire, config.controller, boot_clock)
        parts = self._parts(pairs_of(config, opened, self._core.counters), observer)
        self._start_threads(parts, opened)
        self._intake = Intake(self._core, self._lock, self._pool, self._bond.wake)
        self.shared_pool = SharedPool(self._pool, self._intake)
        self._put_thread, self._load_thread = (
            ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("p2p-put", "p2p-load")
        )

    @classmethod
    def start(
        cls, config: BackendConfig, layout: Layout, observer: Observer | None = None
    ) -> "P2PBackend":
        """Returns a running backend. It registers with the controller by itself, now or later.

        Args:
            config: see `BackendConfig`.
            layout: how this instance keeps KV.
            observer: watches fetches, for tests and demonstrations.

        Raises:
            ConfigError: a setting cannot be, with its name and value; nothing was started.
            PluginMissingError: the package of a channel that was named is not installed, or NIXL
                has no such plugin.
        """
        checked = revalidated(config).filled()
        check_layout(checked, layout)
        check_usable(parse_device(checked.device), checked.device)
        return cls(checked, layout, observer)

    def register_cache(self, description: CacheDescription) -> EngineCache:
        """Returns an engine's paged cache as chunks go into it and come out of it by block ids.

        Register a cache once, and keep what is returned. A cache on a device has a ring of buffers
        there for each direction, some tens of megabytes.

        Args:
            description: the tensors, and what their axes are.

        Raises:
            ArgumentError: the tensors do not fit axes, layout, or the configured device.
            PluginMissingError: the implementation, or the device, needs a package.
            MemoryUnavailableError: the device has no memory for a ring.
        """
        self._check_open()
        copies = CacheCopies(description, self.layout, self._device, pool_place(self.config))
        self._examination.caches.append(copies)
        parts = CacheParts(
            intake=self._intake,
            put=self.put,
            submit_put=self.submit_put,
            fetch=self._fetch,
            start_fetch=self._start_fetch,
            result_of=self._result,
            present=PresentChunks(self._core, self._lock, self._pool),
            saver=self._put_thread,
            loader=self._load_thread,
        )
        return EngineCache(copies, parts)

    # ------------------------------------------------------------------ the three verbs

    def put(
        self,
        keys: Sequence[ChunkKey],
        kv: ChunkSource | Sequence[SlotBytes] | SlotBytes,
        tenant: str = "",
    ) -> PutReport:
        """Stores chunks in the pool and advertises them; blocks while bytes are copied.

        Args:
            keys: of consecutive chunks of one prompt, from its first chunk on.
            kv: their bytes: uint8 ``[len(keys), chunk_bytes]``, or a `ChunkSource`.
            tenant: who may read them; empty for everybody.

        Raises:
            ArgumentError: keys and chunks do not match, or chunks do not fit the layout.
        """
        self._check_open()
        source = self._source(kv)
        if source.num_chunks != len(keys):
            raise ArgumentError("kv", source.num_chunks, f"chunks for {len(keys)} keys")
        return self._intake.put(keys, source, tenant)

    def locate(
        self,
        keys: Sequence[ChunkKey],
        tenant: str = "",
        timeout_s: float | None = None,
        request_id: str = "",
    ) -> Hit:
        """Returns the longest prefix that is here or, by the directory, at peers.

        A value in any case: a controller that does not answer within ``timeout_s`` (by default
        half of the configured budget) leaves what is here.

        What is reported to the controller bears ``request_id``; one is made up if it is empty.

        Raises:
            ArgumentError: keys differ in length, or the id is longer than 128 characters.
        """
        self._check_open()
        wait_s = self.config.budget_s / 2 if timeout_s is None else timeout_s
        return self._locator.locate(keys, tenant, wait_s, request_id)

    def fetch(
        self,
        keys: Sequence[ChunkKey],
        budget_s: float | None = None,
        tenant: str = "",
        request_id: str = "",
    ) -> FetchResult:
        """Brings the longest prefix that is to be had into the pool, within a budget.

        Args:
            keys: of consecutive chunks of one prompt, from its first chunk on.
            budget_s: the call returns after this time at the latest, with what is verified.
            tenant: on whose behalf.
            request_id: under which it is reported to the controller (`p2p-controller explain`);
                one is made up if it is empty.

        Returns:
            The chunks, pinned until released, and why there are not more.

        Raises:
            ArgumentError: keys differ in length, the budget is not positive, or the id is longer
                than 128 characters.
        """
        return self._result(self._fetch(FetchRequest(keys, budget_s, tenant, request_id)))

    # ------------------------------------------------------------------ the asynchronous twin

    def submit_fetch(
        self,
        keys: Sequence[ChunkKey],
        budget_s: float | None = None,
        tenant: str = "",
        request_id: str = "",
    ) -> Handle[FetchResult]:
        """Starts a fetch and returns a handle to poll; arguments and errors as `fetch`."""
        ticket = self._submit(FetchRequest(keys, budget_s, tenant, request_id))
        self._engine.drive_in_background()

        def take() -> FetchResult | None:
            outcome = ticket.outcome if ticket.done.is_set() else None
            return None if outcome is None else self._result(outcome)

        return Handle(take, lambda timeout_s: _ignore(ticket.done.wait(timeout_s)))

    def submit_put(
        self,
        keys: Sequence[ChunkKey],
        kv: ChunkSource | Sequence[SlotBytes] | SlotBytes,
        tenant: str = "",
    ) -> Handle[PutReport]:
        """Stores chunks on another thread; ``kv`` must not change until the report is there.

        The handle raises what `put` raises.
        """
        self._check_open()
        future = self._put_thread.submit(self.put, keys, kv, tenant)
        return Handle(
            lambda: future.result() if future.done() else None,
            lambda timeout_s: _ignore(wait([future], timeout_s)),
        )

    # ------------------------------------------------------------------ standing

    def clear(self) -> int:
        """Drops every chunk that is not lent or pinned, as after new weights; returns how many."""
        self._check_open()
        with self._lock:
            num_chunks = self._core.clear()
        self._bond.wake()
        return num_chunks

    def report_prefill(self, num_tokens: int, seconds: float) -> None:
        """Tells how long the engine took to compute the KV of so many tokens.

        With ``pull = auto``, a fetch whose reads would take longer than that (by the bandwidth
        measured from its holders in the last minute) is left to the engine, with the reason
        ``recompute_chosen``. Without a report in the last minute everything is read.

        Raises:
            ArgumentError: a number is not positive.
        """
        for name, value in (("num_tokens", num_tokens), ("seconds", seconds)):
            if not value > 0:
                raise ArgumentError(name, value, "must be positive")
        with self._lock:
            self._core.prefill.note(num_tokens, seconds, boot_clock())

    def watch_chunks(self) -> deque[Event]:
        """Returns a queue of what comes into the pool and goes from now on, for one who empties it.

        A chunk is there from its admission to its eviction; what is there already is not told. Any
        thread may take events out, without a lock.
        """
        with self._lock:
            return self._core.feed.watch()

    def drain(self, timeout_s: float) -> DrainReport:
        """Gives what is here to peers, hottest first, before this instance leaves. Blocks.

        Peers fetch it in the usual way. Readers that come for what a peer has taken are sent there;
        once peers have everything, the directory names this instance to nobody. Call `close`
        afterwards.

        Args:
            timeout_s: what is not given by then is lost with this instance.

        Raises:
            ArgumentError: the time is not positive.
        """
        self._check_open()
        if not timeout_s > 0:
            raise ArgumentError("timeout_s", timeout_s, "must be positive")
        began_s = boot_clock()
        self.wait_advertised(min(1.0, timeout_s / 4))
        handover = self._engine.drain(began_s + timeout_s)
        return DrainReport(
            handover.num_chunks, handover.num_kept, handover.num_peers, boot_clock() - began_s
        )

    def wait_advertised(self, timeout_s: float) -> bool:
        """Waits until the directory knows everything that is here; returns whether it does."""
        self._check_open()
        self._bond.wake()
        return self._bond.wait_until(self._core.membership.is_advertised, timeout_s)

    def counters(self) -> Counter[str]:
        """Returns counts of everything unusual and of the work done, by name."""
        with self._lock:
            counts = Counter(self._core.counters)
            counts["chunks"] = len(self._core.index)
            counts["slots_free"] = self._core.slots.num_free
            counts["slots_quarantined"] = self._core.slots.count(SlotState.QUARANTINED)
            counts["chunks_pinned"] = self._core.index.num_kept
            counts["leases"] = len(self._core.leases)
            counts["peers_known"] = self._core.num_peers(boot_clock())
        for kind, number in self._service.dropped.items():
            counts[f"messages_dropped_{kind}"] = number
        return counts

    @property
    def address(self) -> str:
        """Where peers reach this instance."""
        return self._core.identity.address

    @property
    def bond_state(self) -> str:
        """How this instance stands with the controller (`BondState`)."""
        return self._core.membership.state.value

    def close(self) -> None:
        """Ends fetches with what they have, says farewell, and stops serving. Idempotent.

        The directory is told first, and what is lent is left to its readers for ``leave_s``.
        """
        if self._closed:
            return
        self._closed = True
        self._bond.leave()
        with self._lock:
            self._core.is_closing = True
        self._put_thread.shutdown(wait=True)
        self._engine.close()
        self._load_thread.shutdown(wait=True)
        self._bond.wait_returned(self.config.leave_s)
        self._bond.stop()
        self._service.stop()
        self._examination.close()
        self._channels.close()
        self._locator.close()
        self._wire.close()
        self._pool.close()
        if self._pinned is not None:
            self._pinned.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ parts

    def _start_threads(self, parts: EngineParts, opened: OpenedChannels) -> None:
        """Starts what fetches and what answers peers, and has them call each other."""
        self._engine = FetchEngine(parts)
        self._bond.on_wake = self._engine.tidy
        self._bond.on_news = self._engine.nudge
        self._locator.on_named = self._engine.note_named
        self._examination = Examination(self.config, opened, parts)
        callbacks = Callbacks(self._engine.nudge, self._examination.submit)
        self._service.start(self._core, self._pool, self._lock, boot_clock, callbacks)

    def _parts(self, pairs: Pairs, observer: Observer | None) -> EngineParts:
        return EngineParts(
            reader=ReaderCore(self._core, fetch_limits(self.config), ahead_limits(self.config)),
            lock=self._lock,
            wire=self._wire,
            controller=self.config.controller,
            channels=self._channels,
            pairs=pairs,
            pool=self._pool,
            clock=boot_clock,
            quarantine_s=self.config.quarantine_s,
            num_lanes=self.config.num_lanes,
            on_commit=self._bond.wake,
            on_late_answer=self._service.wake,
            observer=observer,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the backend is closed")

    def _source(self, kv: ChunkSource | Sequence[SlotBytes] | SlotBytes) -> ChunkSource:
        if isinstance(kv, np.ndarray | Sequence):
            return ArraySource(kv, self.layout)
        return kv

    def _submit(self, request: FetchRequest, watch: FetchWatch | None = None) -> Ticket:
        self._check_open()
        check_request_id(request.request_id)
        budget_s = self.config.budget_s if request.budget_s is None else request.budget_s
        return self._engine.submit(
            request.keys, request.tenant, budget_s, request.request_id, watch
        )

    def _fetch(self, request: FetchRequest, watch: FetchWatch | None = None) -> FetchOutcome:
        return self._engine.wait(self._submit(request, watch))

    def _start_fetch(self, request: FetchRequest, watch: FetchWatch) -> None:
        self._submit(request, watch)
        self._engine.drive_in_background()

    def _result(self, outcome: FetchOutcome) -> FetchResult:
        memory = [self._pool.view(entry.slot) for entry in outcome.entries]
        return FetchResult(memory, outcome, lambda: self._unpin(outcome))

    def _unpin(self, outcome: FetchOutcome) -> None:
        with self._lock:
            for entry in outcome.entries:
                self._core.unpin(entry)


def _ignore(_: object) -> None:
    """Makes a waiting function out of one that returns something."""
