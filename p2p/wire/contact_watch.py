"""How the first contact of a socket goes, as ZMQ reports it beside the messages."""

from enum import Enum

import zmq
from zmq.utils.monitor import parse_monitor_message


class Contact(Enum):
    """What happened to a connection that was being made."""

    REACHED = "reached"  # the other end's ZMQ answers: its process lives, and is not stopped
    REFUSED = "refused"  # nobody listens there, or no way leads there


_CONTACTS = {
    zmq.Event.HANDSHAKE_SUCCEEDED: Contact.REACHED,
    zmq.Event.CLOSED: Contact.REFUSED,
}


class ContactWatch:
    """Watches a socket from before it connects. Used by the thread that uses the socket.

    Close it once the contact is over: an address that refuses connections is tried for ever.

    Args:
        watched: the socket, not connected yet.

    Attributes:
        socket: becomes readable when something has happened.
    """

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self._watched = watched
        address = f"inproc://contact-{watched.FD}"
        watched.monitor(address, zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.CLOSED)
        self.socket = watched.context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.RCVHWM, 0)  # ZMQ's only thread would wait for us at 2,000
        self.socket.connect(address)

    def take(self) -> list[Contact]:
        """Returns what has happened since the last call, without waiting."""
        contacts: list[Contact] = []
        while self.socket.poll(0):
            event = parse_monitor_message(self.socket.recv_multipart(zmq.NOBLOCK))["event"]
            contacts.append(_CONTACTS[zmq.Event(event)])
        return contacts

    def close(self) -> None:
        """Stops watching; before the socket itself is closed."""
        self._watched.monitor(None, 0)
        self.socket.close(0)
