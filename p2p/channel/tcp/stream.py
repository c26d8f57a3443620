"""One stream of a link: requests go out ahead of the answers, which one thread receives.

A request for bytes is sent by whoever submits it, if the kernel takes it at once, else by the
thread. Requests are answered in order. Never more of them are on their way than the kernels on both
sides hold: a holder that is sending, and so not reading, never stops us from receiving. A write has
the stream for itself.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from p2p.channel.tcp import frames
from p2p.channel.tcp.frames import HEADER_BYTES, Header, Kind
from p2p.channel.tcp.pipe import Pipe
from p2p.channel.tcp.transfer import TcpTransfer
from p2p.errors import P2PError, ProtocolError

_AHEAD_BYTES = 48 << 10  # of requests; below the least window of a receiving kernel


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One parcel of a transfer.

    Attributes:
        transfer: whose.
        header: of the request.
        request: header and spans as they travel.
        views: our memory.
    """

    transfer: TcpTransfer
    header: Header
    request: bytes
    views: list[memoryview]


class Stream:
    """Carries out jobs in order, on a thread that starts with the first one.

    Args:
        peer: for messages.
        connect: opens the stream's connection; blocks.
        pipe: one that is open already.
        on_down: told once why the stream has ended; any thread, without locks.
    """

    def __init__(
        self,
        peer: str,
        connect: Callable[[], Pipe],
        pipe: Pipe | None,
        on_down: Callable[[str], None],
    ) -> None:
        self._peer = peer
        self._connect = connect
        self._pipe = pipe
        self._on_down = on_down
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._asked: deque[Job] = deque()  # requests that were sent, or stand in `_unsent`
        self._unsent = b""
        self._asked_bytes = 0
        self._current: Job | None = None  # whose memory the thread may be touching
        self._down = ""
        self._thread: threading.Thread | None = None
        self.load_bytes = 0  # of jobs that have not ended

    def submit(self, job: Job) -> None:
        """Takes a job, which ends in any case; never blocks."""
        with self._changed:
            if not self._down:
                self._start()
                self.load_bytes += job.header.num_bytes
                self._take(job)
                self._changed.notify()
                return
        job.transfer.end_parcel(self._down)

    def drop(self, transfer: TcpTransfer) -> None:
        """Ends the jobs of a given-up transfer for which nothing was asked yet."""
        with self._changed:
            dropped = [job for job in self._waiting if job.transfer is transfer]
            self._waiting = deque(job for job in self._waiting if job.transfer is not transfer)
            self.load_bytes -= sum(job.header.num_bytes for job in dropped)
        for job in dropped:
            job.transfer.end_parcel("given up")

    def is_open(self) -> bool:
        """Returns false once it has ended, or an idle one's other end has. Never waits."""
        with self._changed:
            is_idle = not (self._asked or self._waiting or self._current)
            if self._down or self._pipe is None or not is_idle:
                return not self._down
            return self._pipe.is_open()

    def stop(self, reason: str) -> None:
        """Ends the stream: jobs end at once, the one that is being received a moment later."""
        with self._changed:
            if self._down:
                return
            self._down = reason
            ended = [job for job in (*self._asked, *self._waiting) if job is not self._current]
            self._asked.clear()
            self._waiting.clear()
            self._unsent = b""
            self._changed.notify()
            if self._pipe is not None:
                self._pipe.shut()
                if self._thread is None:
                    self._pipe.close()
        for job in ended:
            job.transfer.end_parcel(reason)

    def join(self, timeout_s: float) -> None:
        """Waits for the thread of a stopped stream."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _start(self) -> None:
        if self._thread is None:
            name = f"p2p-tcp-{self._peer}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    # -------------------------------------------------------------- under the lock

    def _take(self, job: Job) -> None:
        is_next = not (self._waiting or self._unsent or self._pipe is None)
        if not (is_next and self._may_ask(job)):
            self._waiting.append(job)
            return
        self._ask(job)
        self._push()

    def _may_ask(self, job: Job) -> bool:
        """Returns whether a request may go out now."""
        is_alone = not self._asked and self._current is None
        if job.header.kind is Kind.WRITE:
            return False
        is_writing = self._current is not None and self._current.header.kind is Kind.WRITE
        has_room = self._asked_bytes + len(job.request) <= _AHEAD_BYTES
        return (is_alone or has_room) and not is_writing

    def _ask(self, job: Job) -> None:
        self._asked.append(job)
        self._asked_bytes += len(job.request)
        self._unsent += job.request

    def _push(self) -> None:
        """Sends what the kernel takes; what fails, the thread finds out."""
        if self._unsent and self._pipe is not None:
            try:
                self._unsent = self._unsent[self._pipe.try_send(self._unsent) :]
            except OSError:
                return

    # -------------------------------------------------------------- on the thread

    def _run(self) -> None:
        reason = "the stream has ended"
        try:
            pipe = self._connected()
            while (job := self._next(pipe)) is not None:
                self._carry_out(pipe, job)
                self._finish(job)
        except (OSError, P2PError) as error:
            reason = str(error) or type(error).__name__
        finally:
            self._end(reason)

    def _connected(self) -> Pipe:
        pipe = self._pipe or self._connect()
        with self._changed:
            self._pipe = pipe
        return pipe

    def _next(self, pipe: Pipe) -> Job | None:
        """Returns the next job, which is asked for; None once the stream was stopped."""
        with self._changed:
            while not (self._asked or self._waiting or self._down):
                self._changed.wait()
            if self._down:
                return None
            job = self._choose()
            unsent = self._must_send(pipe, job)
        if unsent:
            pipe.send([memoryview(unsent)])
        return job if self._begin(job, len(unsent)) else None

    def _choose(self) -> Job:
        """Returns what the next answer is for; asks for what may follow it."""
        while self._waiting and self._may_ask(self._waiting[0]):
            self._ask(self._waiting.popleft())
        self._push()
        if not self._asked:
            self._current = self._waiting.popleft()
            return self._current
        return self._asked[0]

    def _must_send(self, pipe: Pipe, job: Job) -> bytes:
        """Returns what must go out before this job's answer can come; nobody else sends then."""
        if job.header.kind is Kind.WRITE or not pipe.is_shared:
            return self._unsent
        later = sum(len(other.request) for other in self._asked) - len(job.request)
        return self._unsent[: max(0, len(self._unsent) - later)]

    def _begin(self, job: Job, num_sent: int) -> bool:
        """From here on memory may be touched; false if the stream was stopped before."""
        with self._changed:
            self._unsent = self._unsent[num_sent:]
            if not self._down:
                self._current = job
            return not self._down

    def _carry_out(self, pipe: Pipe, job: Job) -> None:
        """Moves a job's bytes."""
        if job.header.kind is Kind.READ:
            self._hear(pipe, job, Kind.BYTES)
            pipe.receive(job.views)
        else:
            pipe.send([memoryview(job.request), *job.views])
            self._hear(pipe, job, Kind.WRITTEN)

    def _hear(self, pipe: Pipe, job: Job, kind: Kind) -> None:
        """Takes the header of a job's answer.

        Raises:
            ProtocolError: what came is another.
        """
        content = bytearray(HEADER_BYTES)
        pipe.receive([memoryview(content)])
        found, _ = frames.decode(self._peer, content)
        expected = Header(kind, job.header.number, job.header.num_bytes, 0)
        if found != expected:
            raise ProtocolError(f"{self._peer}: header: {found} is no answer to {job.header}")

    def _finish(self, job: Job) -> None:
        with self._changed:
            self._current = None
            self.load_bytes -= job.header.num_bytes
            if job.header.kind is Kind.READ and self._asked:
                self._asked.popleft()
                self._asked_bytes -= len(job.request)
        job.transfer.end_parcel("")

    def _end(self, reason: str) -> None:
        """The thread's last act: memory is at rest."""
        self.stop(reason)
        with self._changed:
            job, self._current = self._current, None
            if self._pipe is not None:
                self._pipe.close()
        if job is not None:
            job.transfer.end_parcel(self._down)
        self._on_down(self._down)
