"""Bare socket loops: what the `tcp` channel is measured against, with as many streams.

A header of eight bytes, then the chunk in pieces of 1 MiB by `sendall`; received by ``recv_into``
with MSG_WAITALL where it belongs. 64 requests are in flight.
"""

import socket
import struct
import threading

import numpy as np

PIECE = 1 << 20
_REQUEST = struct.Struct("<Q")
_IN_FLIGHT = 64


class BareServer:
    """Serves chunks of a buffer by their number, a thread for each connection."""

    def __init__(self, buffer: np.ndarray, chunk_bytes: int) -> None:
        self._view = memoryview(buffer)
        self._chunk_bytes = chunk_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        request = bytearray(_REQUEST.size)
        size = self._chunk_bytes
        while connection.recv_into(request, 0, socket.MSG_WAITALL) == len(request):
            start = _REQUEST.unpack(request)[0] * size
            connection.sendall(_REQUEST.pack(size))
            for offset in range(start, start + size, PIECE):
                connection.sendall(self._view[offset : min(offset + PIECE, start + size)])


class BareReader:
    """Reads chunks onto the same places of a buffer, over some streams."""

    def __init__(self, port: int, buffer: np.ndarray, chunk_bytes: int, num_streams: int) -> None:
        self._view = memoryview(buffer)
        self._chunk_bytes = chunk_bytes
        self._streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(num_streams)]
        for stream in self._streams:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self, chunks: np.ndarray) -> None:
        """Reads chunks and returns when they are there."""
        parts = [chunks[number :: len(self._streams)] for number in range(len(self._streams))]
        threads = [
            threading.Thread(target=self._read, args=pair)
            for pair in zip(self._streams[1:], parts[1:], strict=True)
        ]
        for thread in threads:
            thread.start()
        self._read(self._streams[0], parts[0])
        for thread in threads:
            thread.join()

    def _read(self, stream: socket.socket, chunks: np.ndarray) -> None:
        size, header = self._chunk_bytes, bytearray(_REQUEST.size)
        numbers = chunks.tolist()
        for number in numbers[:_IN_FLIGHT]:
            stream.send(_REQUEST.pack(number))
        for position, number in enumerate(numbers):
            stream.recv_into(header, 0, socket.MSG_WAITALL)
            start = number * size
            for offset in range(start, start + size, PIECE):
                piece = self._view[offset : min(offset + PIECE, start + size)]
                assert stream.recv_into(piece, 0, socket.MSG_WAITALL) == len(piece)
            if position + _IN_FLIGHT < len(numbers):
                stream.send(_REQUEST.pack(numbers[position + _IN_FLIGHT]))
