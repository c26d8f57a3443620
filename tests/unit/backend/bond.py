"""An instance and a tiny controller, joined by a line that loses what it is told to."""

from p2p.wire.messages import Heartbeat
from tests.unit.backend.builders import instance_core
from tests.unit.backend.tiny_controller import TinyController


class Bond:
    """An instance and its controller, with a line on which messages get lost by name."""

    def __init__(self, num_slots=64):
        self.core = instance_core("a", num_slots)
        self.member = self.core.membership
        self.controller = TinyController()
        self.now_s = 0.0
        self.lost: set[type] = set()

    def turn(self, seconds=0.0):
        """Time passes; everything due is exchanged; returns the types that were sent."""
        self.now_s += seconds
        self.core.carry_out_orders(self.now_s)
        sent = self.member.poll(self.now_s, 0)
        for message in sent:
            if type(message) not in self.lost:
                answer = self.controller.take(message)
                if type(answer) not in self.lost:
                    self.member.on_answer(answer, self.now_s)
        return [type(message) for message in sent]

    def settle(self):
        """Turns until there is nothing to say but heartbeats."""
        for _ in range(200):
            if set(self.turn(0.1)) <= {Heartbeat} and self.member.is_advertised():
                return
        raise AssertionError("the bond does not settle")

    def is_true(self):
        here = {(entry.key, tenant) for entry in self.core.index for tenant in entry.tenants}
        return self.controller.entries == here
