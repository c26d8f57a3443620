"""Sockets that end with their process, though a forked child got copies of them.

A peer notices our death by the end of a connection: a child that outlives us must not hold it open.
"""

import os
import socket
import weakref

_open: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


def close_in_children(connection: socket.socket) -> None:
    """Closes a socket in every child that is forked from now on."""
    _open.add(connection)


def _close_all() -> None:
    for connection in list(_open):
        connection.close()


os.register_at_fork(after_in_child=_close_all)
