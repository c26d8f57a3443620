"""The holder's side: accepts readers that prove themselves, and answers what they ask for.

A thread for each stream: a reader that takes nothing holds up itself alone. Its end is the end of
the connection.
"""

import logging
import secrets
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from p2p.channel.access import Access
from p2p.channel.forks import close_in_children
from p2p.channel.tcp import frames
from p2p.channel.tcp.frames import HEADER_BYTES, Header, Kind
from p2p.channel.tcp.greeting import TOKEN_BYTES, VERSION, TcpMetadata
from p2p.channel.tcp.handshake import Admitted, Ends, admit
from p2p.channel.tcp.pipe import Pipe, shut_down
from p2p.channel.tcp.settings import TcpConfig
from p2p.channel.tcp.share import BandwidthShare
from p2p.channel.tcp.spans import Bounds, Views, decode_spans
from p2p.errors import ConfigError, P2PError, ProtocolError
from p2p.regions import Region

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGGER = logging.getLogger(__name__)
_BACKLOG = 256
_MAX_STREAMS = 4096
_GREETING_S = 5.0
_FULL_S = 0.05
_WAKE_S = 0.2


class PoolServer:
    """Serves one region until it is closed.

    Args:
        region: ours.
        config: where we listen and what readers may do.
        ends: our keys.

    Raises:
        ConfigError: we cannot listen there.

    Attributes:
        metadata: what a reader must know.
    """

    def __init__(self, region: Region, config: TcpConfig, ends: Ends) -> None:
        self._config = config
        self._ends = ends
        self._readable, self._writable = Bounds(region), Bounds(region, has_probe=False)
        self._views = Views(region)
        self._share = BandwidthShare(config.bytes_per_s)
        self._lock = threading.Lock()
        self._streams: dict[threading.Thread, Callable[[], None]] = {}  # and what ends each
        self._is_closed = False
        self._listener = _listen(config)
        self.metadata = TcpMetadata(
            version=VERSION,
            host=config.advertise or config.host,
            port=int(self._listener.getsockname()[1]),
            token=secrets.token_bytes(TOKEN_BYTES),
            key=ends.identity.public,
            is_tls=config.tls is not None,
        )
        self._thread = threading.Thread(target=self._accept, name="p2p-tcp", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving: every reader's link goes down, and nothing touches memory. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        shut_down(self._listener)
        self._thread.join()
        with self._lock:
            streams = dict(self._streams)
        for shut in streams.values():
            shut()
        for thread in streams:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                connection, address = self._listener.accept()
            except OSError as error:
                if not self._is_closed:
                    _LOGGER.warning("tcp: a reader cannot be accepted: %s", error)
                    time.sleep(_FULL_S)  # out of descriptors: it stays in the queue
                continue
            name = f"{address[0]}:{address[1]}"
            thread = threading.Thread(
                target=self._serve, args=(connection, name), name="p2p-tcp-serve", daemon=True
            )
            if self._has_room(thread, connection):
                thread.start()
            else:
                connection.close()

    def _serve(self, connection: socket.socket, name: str) -> None:
        """One stream, from its greeting to its end."""
        try:
            ours = self.metadata, self._config.access
            admitted = admit(name, connection, ours, self._ends, _GREETING_S)
        except (OSError, P2PError) as error:
            _LOGGER.warning("tcp: a reader at %s was not let in: %s", name, error)
            self._forget()
            return
        try:
            if self._is_kept(admitted.pipe):
                self._answer_all(name, admitted)
        finally:
            admitted.pipe.close()
            self._forget()

    def _has_room(self, thread: threading.Thread, connection: socket.socket) -> bool:
        """Lets `close` end a new connection; false if there are too many, or after `close`."""
        with self._lock:
            has_room = not self._is_closed and len(self._streams) < _MAX_STREAMS
            if has_room:
                self._streams[thread] = partial(shut_down, connection)
            return has_room

    def _is_kept(self, pipe: Pipe) -> bool:
        """Lets `close` end this thread's stream; false if it was there first."""
        with self._lock:
            self._streams[threading.current_thread()] = pipe.shut
            return not self._is_closed

    def _forget(self) -> None:
        with self._lock:
            self._streams.pop(threading.current_thread(), None)

    def _answer_all(self, name: str, admitted: Admitted) -> None:
        try:
            while True:
                self._answer(name, admitted)
        except ProtocolError as error:
            _LOGGER.warning("tcp: a reader was dropped: %s", error)
        except OSError as error:
            _LOGGER.debug("tcp: the stream of %s has ended: %s", name, error)

    def _answer(self, name: str, admitted: Admitted) -> None:
        """Answers one request; nothing outside of the region's blocks is touched.

        Raises:
            ProtocolError: it is none.
            OSError: the stream has ended.
        """
        pipe = admitted.pipe
        content = bytearray(HEADER_BYTES)
        pipe.receive([memoryview(content)])
        header, checksum = frames.decode(name, content)
        if header.kind not in {Kind.READ, Kind.WRITE}:
            raise ProtocolError(f"{name}: header.kind: {header.kind.name} is no request")
        if header.kind is Kind.WRITE and admitted.access is not Access.WRITE:
            raise ProtocolError(f"{name}: header.kind: it may not write")
        views = self._wanted(name, pipe, header, checksum)
        if header.kind is Kind.WRITE:
            pipe.receive(views)
            answer = Header(Kind.WRITTEN, header.number, header.num_bytes, 0)
            pipe.send([memoryview(frames.encode(answer))])
            return
        answer = Header(Kind.BYTES, header.number, header.num_bytes, 0)
        self._send(admitted, memoryview(frames.encode(answer)), views)

    def _wanted(self, name: str, pipe: Pipe, header: Header, checksum: int) -> list[memoryview]:
        """Returns the memory that a request names."""
        content = bytearray(header.spans_bytes)
        pipe.receive([memoryview(content)])
        frames.check_spans(name, content, checksum)
        spans = decode_spans(name, bytes(content))
        bounds = self._writable if header.kind is Kind.WRITE else self._readable
        bounds.check(name, spans)
        wanted = spans.tolist()
        found = sum(length for _, length, _ in wanted)
        if found != header.num_bytes:
            raise ProtocolError(f"{name}: header.num_bytes: {header.num_bytes}, spans have {found}")
        return self._views.of(wanted)

    def _send(self, admitted: Admitted, frame: memoryview, views: list[memoryview]) -> None:
        """Sends an answer, piece by piece where the bandwidth is shared."""
        piece_bytes = self._share.piece_bytes
        if not piece_bytes:
            admitted.pipe.send([frame, *views])
            return
        admitted.pipe.send([frame])
        for view in views:
            for start in range(0, len(view), piece_bytes):
                piece = view[start : start + piece_bytes]
                self._wait_turn(admitted.reader, len(piece))
                admitted.pipe.send([piece])

    def _wait_turn(self, reader: bytes, num_bytes: int) -> None:
        with self._lock:
            until_s = time.monotonic()
            until_s += self._share.delay_s(reader, num_bytes, until_s)
        while (left_s := until_s - time.monotonic()) > 0 and not self._is_closed:
            time.sleep(min(left_s, _WAKE_S))


def _listen(config: TcpConfig) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        ConfigError: that cannot be.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if config.port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError("tcp", f"{config.host}:{config.port}", str(error)) from error
    close_in_children(listener)
    return listener
