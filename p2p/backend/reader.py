"""All fetches of one instance and its standing with every holder: routes outcomes to fetches.

No I/O, no clock, no threads: the owner takes the actions, carries them out and reports back.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from p2p.backend.actions import (
    Action,
    AskController,
    AskPeer,
    DropPeer,
    DropSocket,
    Phase,
    ReadId,
    Tag,
    TellPeer,
)
from p2p.backend.chunks import ChunkTable
from p2p.backend.connecting_ahead import AheadLimits, ConnectingAhead
from p2p.backend.desk import ReaderDesk
from p2p.backend.fetch import Fetch
from p2p.backend.fetch_context import Behalf, FetchContext, FetchLimits
from p2p.backend.giving import Giving
from p2p.backend.greetings import Greetings
from p2p.backend.handshake import PeerBook, PeerState
from p2p.backend.instance import InstanceCore
from p2p.backend.parting import Partings
from p2p.backend.taking import Taking
from p2p.errors import ArgumentError
from p2p.keys import ChunkKey, check_keys, split_keys
from p2p.wire.messages import (
    Holder,
    LeaseGranted,
    LeaseRelease,
    Locate,
    Located,
    Message,
    Refusal,
    RefusalCode,
)

_MAX_OPEN_QUESTIONS = 10_000


class ReaderCore:
    """The reading half of an instance.

    Args:
        instance: the other half, whose pool is filled.
        limits: of every fetch.
        ahead: how far it connects ahead of need; by default not at all.

    Attributes:
        is_watched: whether phases are kept for `take_phases`.
        giving: what peers are asked to take over.
        taking: what peers and the controller have us take over.
    """

    def __init__(
        self, instance: InstanceCore, limits: FetchLimits, ahead: AheadLimits | None = None
    ) -> None:
        self.instance = instance
        self.book = PeerBook()
        self.limits = limits
        self.is_watched = True
        self.giving = Giving(instance, self._ask_plainly, self.book.is_usable)
        self.partings = Partings(instance, self._ask_greeted, self.give_back, self._on_refusal)
        self.taking = Taking(self, self.giving)
        self._greetings = Greetings(self, self._ask_plainly)
        self._ahead = ConnectingAhead(self, ahead or AheadLimits())
        self._actions: list[Action] = []
        self._tags = itertools.count(1)
        self._read_ids = itertools.count(1)
        self._fetch_by_tag: dict[Tag, Fetch] = {}
        self._holder_by_tag: dict[Tag, Holder] = {}
        self._fetch_by_read: dict[ReadId, Fetch] = {}
        self._fetches: dict[int, Fetch] = {}
        self._question_by_fetch: dict[int, Tag] = {}
        self._phases: list[tuple[Fetch, Phase]] = []
        self._changed: list[str] = []  # holders whose new standing fetches must hear of

    @property
    def fetches(self) -> Sequence[Fetch]:
        """Fetches that are not finished."""
        return list(self._fetches.values())

    @property
    def is_fetching(self) -> bool:
        """True while somebody waits for a fetch."""
        return any(fetch.outcome is None for fetch in self._fetches.values())

    @property
    def is_idle(self) -> bool:
        """True if nothing is under way."""
        return not self._fetches and self.next_deadline_s() is None

    @property
    def has_actions(self) -> bool:
        """True if the shell has something to do or to tell. May be asked without the lock."""
        return bool(self._actions or self._phases)

    def take_phases(self) -> list[tuple[Fetch, Phase]]:
        """Returns the phases that fetches reached since the last call, in order."""
        phases, self._phases = self._phases, []
        return phases

    def submit(
        self,
        keys: Sequence[ChunkKey],
        tenant: str,
        budget_s: float,
        now_s: float,
        behalf: Behalf | None = None,
        request_id: str = "",
    ) -> Fetch:
        """Starts a fetch.

        With ``behalf`` it is for somebody else: read and kept in any case, at the cost of older
        chunks only, and not reported. Without a ``request_id`` one is made up.

        Raises:
            ArgumentError: the budget is not positive, or keys differ in length.
        """
        if not budget_s > 0:
            raise ArgumentError("budget_s", budget_s, "a budget is positive")
        check_keys(keys)
        desk = ReaderDesk(self)
        context = FetchContext(
            desk=desk,
            keys=tuple(keys),
            tenant=tenant,
            started_s=now_s,
            budget_s=budget_s,
            limits=self.limits
            if behalf is None
            else replace(self.limits, pull="always", keep="always"),
            chunks=ChunkTable(keys),
            behalf=behalf,
            request_id=self._request_id(request_id) if behalf is None else "",
        )
        fetch = desk.fetch = Fetch(context, desk.on_phase)
        self._fetches[id(fetch)] = fetch
        is_small = fetch.num_chunks * self.instance.chunk_bytes <= self.limits.ahead_bytes
        may_guess = is_small and (behalf is None or behalf.source is None)
        fetch.start(self.book.likely_holder() if may_guess else None)
        self._sweep(fetch)
        return fetch

    def take_actions(self) -> list[Action]:
        """Returns what the shell must do, in order."""
        actions, self._actions = self._actions, []
        return actions

    def connect(self, holder: Holder, now_s: float) -> None:
        """Begins the first contact with a holder, before anything is asked of it."""
        self._greetings.connect(holder, now_s)

    # ------------------------------------------------------------------ what the shell reports

    def note_named(self, holders: Sequence[Holder]) -> bool:
        """The directory has named holders; returns whether `on_time` has something to do now."""
        return self._ahead.note_named(holders)

    def on_controller(self, tag: Tag, answer: Message | None, now_s: float) -> None:
        """Takes the controller's answer, or None if it is silent."""
        fetch = self._fetch_by_tag.pop(tag, None)
        if isinstance(answer, Located):
            self.note_named(answer.holders)
        if fetch is not None:
            fetch.on_located(answer, now_s)
            self._settle(fetch, now_s)

    def ask_mirror(self, tag: Tag, question: Locate, now_s: float) -> bool:
        """Answers a question for the controller from our own copy; returns whether it could."""
        following = self.instance.following
        if following is None:
            return False
        keys = split_keys(question.keys, question.key_bytes)
        answer = following.locate(keys, question.tenant, now_s)
        if answer is not None:
            self.on_controller(tag, answer, now_s)
        return answer is not None

    def on_peer(self, tag: Tag, answer: Message | None, now_s: float) -> None:
        """Takes a holder's answer, or None if it is unreachable."""
        takers = (self._greetings, self.partings)
        if any(taker.on_answer(tag, answer, now_s) for taker in takers):
            self._tell_fetches(now_s)
        elif not self.giving.on_answer(tag, answer, now_s):
            self._on_holder(tag, answer, now_s)

    def _on_holder(self, tag: Tag, answer: Message | None, now_s: float) -> None:
        holder = self._holder_by_tag.pop(tag, None)
        if holder is None:
            return
        if answer is not None:
            self.book.heard(holder.instance)
            if not isinstance(answer, Refusal):
                self.book.answered_late(holder.instance)
        fetch = self._fetch_by_tag.pop(tag, None)
        if fetch is None:
            return
        if isinstance(answer, LeaseGranted) and not fetch.waits_for(tag):
            if answer.slots:  # it came after the fetch had stopped waiting for it
                self.give_back(holder, answer.token)
            return
        if isinstance(answer, Refusal):
            self._on_refusal(holder, answer, now_s)
        fetch.on_answer(tag, answer, now_s)
        self._settle(fetch, now_s)

    def awaits_link(self, holder: Holder) -> bool:
        """Returns whether the outcome of an `OpenLink` still matters."""
        peer = self.book.get(holder.instance)
        return (
            peer is not None
            and peer.state is PeerState.WELCOMED
            and peer.holder.incarnation == holder.incarnation
        )

    def on_reached(self, holder: Holder) -> None:
        """Somebody answers at a holder's address, though nothing was asked of it yet."""
        self.book.reached(holder)

    def on_unreachable(self, holder: Holder, now_s: float) -> None:
        """A holder's address refuses connections: nobody is there, and a contact ends at once."""
        self._greetings.on_unreachable(holder, now_s)
        self._tell_fetches(now_s)

    def is_linked(self, holder: Holder) -> bool:
        """Returns whether a holder, at this start of its, can be read from."""
        peer = self.book.get(holder.instance)
        return (
            peer is not None
            and peer.state is PeerState.LINKED
            and peer.holder.incarnation == holder.incarnation
        )

    def on_channel_failed(self, instance: str) -> None:
        """A read failed over one of several channels: the holder may be greeted at once."""
        self.book.answered_late(instance)

    def on_link(self, holder: Holder, problem: str | None, now_s: float) -> None:
        """The channel is connected to a holder, or could not be."""
        if not self.awaits_link(holder):
            return
        if problem is None:
            self.book.linked(holder.instance, now_s)
            self.instance.counters["links_made"] += 1
            self._changed.append(holder.instance)
        else:
            self.down(holder.instance, problem, now_s)
        self._tell_fetches(now_s)

    def on_link_lost(self, instance: str) -> None:
        """A link that worked is gone, through no fault of the holder: greet it anew."""
        self.book.unlinked(instance)

    def on_read_done(self, read_id: ReadId, now_s: float) -> bool:
        """All bytes of a read are there; returns whether `Verify` follows."""
        fetch = self._fetch_by_read[read_id]
        fetch.on_read_done(read_id, now_s)
        is_wanted = fetch.is_reading(read_id)
        if not is_wanted:
            del self._fetch_by_read[read_id]
        self._settle(fetch, now_s)
        return is_wanted

    def on_read_failed(
        self, read_id: ReadId, reason: str, now_s: float, *, is_stale: bool = False
    ) -> None:
        """A read ended badly and has quiesced.

        A stale one was under way over an earlier link, and tells nothing of the holder.
        """
        fetch = self._fetch_by_read.pop(read_id)
        fetch.on_read_failed(read_id, reason, now_s, is_stale=is_stale)
        self._settle(fetch, now_s)

    def on_read_broken(
        self, read_id: ReadId, reason: str, now_s: float, *, is_stale: bool = False
    ) -> None:
        """A read ended badly and may still touch memory; `on_quiesced` follows."""
        fetch = self._fetch_by_read[read_id]
        fetch.on_read_broken(read_id, reason, now_s, is_stale=is_stale)
        self._settle(fetch, now_s)

    def on_quiesced(self, read_id: ReadId) -> None:
        """A given-up read can no longer touch memory."""
        fetch = self._fetch_by_read.pop(read_id, None)
        if fetch is not None:
            fetch.on_quiesced(read_id)
            self._sweep(fetch)

    def on_verified(self, read_id: ReadId, roots: Sequence[tuple[int, ...]], now_s: float) -> None:
        """The digests of a read's chunks were computed."""
        fetch = self._fetch_by_read.pop(read_id)
        fetch.on_verified(read_id, roots, now_s)
        self._settle(fetch, now_s)

    def on_time(self, now_s: float) -> None:
        """Time alone, and what the instance's other half has heard or was asked for."""
        self._take_news(now_s)
        self._greetings.on_time(now_s)
        self._ahead.on_time(now_s)
        self._tell_fetches(now_s)
        self.taking.on_time(now_s)
        self.giving.on_time(now_s)
        self.partings.on_time(now_s)
        for fetch in self.fetches:
            fetch.on_time(now_s)
            self._settle(fetch, now_s)

    def next_deadline_s(self) -> float | None:
        """Returns when `on_time` has something to do."""
        deadlines = [fetch.next_deadline_s() for fetch in self._fetches.values()]
        machines = (self._greetings, self._ahead, self.giving, self.partings)
        deadlines += [machine.next_deadline_s() for machine in machines]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def close(self, now_s: float) -> None:
        """Ends every fetch with what it has."""
        for fetch in self.fetches:
            fetch.close(now_s)
            self._sweep(fetch)

    # ------------------------------------------------------------------ what fetches need

    def emit(self, action: Action) -> None:
        """Asks the shell for something."""
        self._actions.append(action)

    def ask_controller(self, fetch: Fetch, question: Locate) -> None:
        """Sends a fetch's question to the directory."""
        tag = self._next_tag()
        self._fetch_by_tag[tag] = fetch
        self._question_by_fetch[id(fetch)] = tag
        self._actions.append(AskController(tag, question))

    def ask(self, fetch: Fetch, holder: Holder, message: Message, now_s: float) -> Tag:
        """Sends a request to a holder, after a hello where that is due."""
        self._greetings.connect(holder, now_s)
        self.book.asked(holder.instance, now_s)
        tag = self._next_tag()
        self._fetch_by_tag[tag] = fetch
        self._holder_by_tag[tag] = holder
        self._forget_old_tags()
        self._actions.append(AskPeer(tag, holder, message))
        return tag

    def down(self, instance: str, reason: str, now_s: float) -> None:
        """A holder does not work; whoever caused this call settles what follows for others."""
        if self.book.state(instance) is PeerState.GREETED:
            self._actions.append(DropSocket(instance))
        self.book.down(instance, reason, now_s)
        self._changed.append(instance)

    def refused(self, instance: str, reason: str, refusal: Refusal) -> None:
        """A holder does not fit; whoever caused this call settles what follows for fetches."""
        self.book.refused(instance, reason, refusal)
        self._changed.append(instance)

    def give_back(self, holder: Holder, token: int) -> None:
        """Releases a lease at its holder, without waiting for an answer."""
        identity = self.instance.identity
        message = LeaseRelease(
            instance=identity.instance, incarnation=identity.incarnation, token=token
        )
        self._actions.append(TellPeer(holder, message))

    def note_phase(self, fetch: Fetch, phase: Phase) -> None:
        """A fetch reached a phase."""
        if self.is_watched:
            self._phases.append((fetch, phase))

    def next_read(self, fetch: Fetch) -> ReadId:
        """Returns a fresh read id whose outcome comes back to the fetch."""
        read_id = ReadId(next(self._read_ids))
        self._fetch_by_read[read_id] = fetch
        return read_id

    # ------------------------------------------------------------------ parts

    def _request_id(self, given: str) -> str:
        return given or self.instance.fetch_log.next_id(self.instance.identity)

    def _take_news(self, now_s: float) -> None:
        """Members that are not heard any more are left by every fetch, at once."""
        while self.instance.news:
            gone = self.instance.news.popleft()
            peer = self.book.get(gone.instance)
            if peer is not None and peer.holder.incarnation <= gone.incarnation:
                self.down(gone.instance, "the controller does not hear it any more", now_s)
        self._tell_fetches(now_s)

    def _ask_plainly(self, holder: Holder, message: Message) -> Tag:
        """Sends a question that needs no link."""
        tag = self._next_tag()
        self._actions.append(AskPeer(tag, holder, message))
        return tag

    def _ask_greeted(self, holder: Holder, message: Message, now_s: float) -> Tag:
        """Sends a question that needs no link to who has to know us."""
        self._greetings.connect(holder, now_s)
        return self._ask_plainly(holder, message)

    def _on_refusal(self, holder: Holder, refusal: Refusal, now_s: float) -> None:
        """A holder that forgot us, restarted or leaves must be greeted anew, after a while."""
        codes = {RefusalCode.UNKNOWN_INSTANCE, RefusalCode.STALE_INCARNATION, RefusalCode.CLOSING}
        if refusal.code in codes:
            self.down(holder.instance, refusal.code.value, now_s)
            self._actions.append(DropPeer(holder.instance))

    def _settle(self, fetch: Fetch, now_s: float) -> None:
        """A fetch has moved: drops it if it is over, and tells all of holders that it gave up."""
        self._sweep(fetch)
        self._tell_fetches(now_s)

    def _tell_fetches(self, now_s: float) -> None:
        """Tells every fetch of the holders whose standing has changed, and of what follows."""
        while self._changed:
            instance = self._changed.pop()
            for fetch in self.fetches:
                fetch.on_peer(instance, now_s)
                self._sweep(fetch)

    def _sweep(self, fetch: Fetch) -> None:
        if fetch.outcome is None:
            return
        self.taking.settle(fetch)
        if fetch.is_finished and self._fetches.pop(id(fetch), None) is not None:
            tag = self._question_by_fetch.pop(id(fetch), None)
            if tag is not None:
                self._fetch_by_tag.pop(tag, None)

    def _forget_old_tags(self) -> None:
        """Questions that nobody answered for very long are not waited for."""
        while len(self._holder_by_tag) > _MAX_OPEN_QUESTIONS:
            oldest = next(iter(self._holder_by_tag))
            del self._holder_by_tag[oldest]
            self._fetch_by_tag.pop(oldest, None)

    def _next_tag(self) -> Tag:
        return Tag(next(self._tags))
