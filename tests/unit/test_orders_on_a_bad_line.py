"""Orders between a real controller and a real instance, over a line that does what it likes.

Messages are lost, doubled and late, the controller restarts, time passes. Every operation is
answered in its time; no order is carried out twice; what is reported as done was done.
"""

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p.keys import join_keys
from p2p.wire.codec import RequestId
from p2p.wire.exchange import Sender
from p2p.wire.messages import Clear, Evict, LeftReason, Pin, Refusal, Reports, Unpin
from p2p_controller.core import ControllerCore
from p2p_controller.settings import ControllerSettings
from tests.unit.backend.builders import NAMESPACE, instance_core, prompt, put

if TYPE_CHECKING:
    from p2p.wire.messages import ControllerReply, Message

KEYS = prompt(4)
BLOB, KEY_BYTES = join_keys(KEYS)
PROMPT = {"namespace": NAMESPACE.id, "keys": BLOB, "key_bytes": KEY_BYTES, "instance": "a"}
KINDS = {"pin": Pin, "unpin": Unpin, "evict": Evict, "clear": Clear}
INSTANCE, PEOPLE = b"instance", b"people"
TIMEOUT_S = 3.0


class BadLine(RuleBasedStateMachine):
    """An instance, a controller, messages under way both ways, and people who wait."""

    def __init__(self):
        super().__init__()
        self.now_s = 1000.0
        self.epoch = 1
        self.core = instance_core("a")
        self.controller = ControllerCore(ControllerSettings(), self.epoch)
        self.requests: list[Message] = []
        self.answers: list[ControllerReply] = []
        self.asked_s: dict[int, float] = {}
        self.done: Counter[int] = Counter()
        self.num_asked = 0

    def _send(self, outgoing):
        for one in outgoing:
            if one.to.route == INSTANCE:
                self.answers.append(one.message)
                continue
            assert isinstance(one.message, Reports | Refusal)
            asked_s = self.asked_s.pop(one.to.request_id)
            assert self.now_s <= asked_s + TIMEOUT_S + 1.1, "an answer came late"

    def _deliver(self, message):
        sender = Sender(INSTANCE, RequestId(1))
        self._send(self.controller.handle(sender, message, self.now_s))

    @rule()
    def turn(self):
        for order in self.core.membership.open_orders():
            assert not self.done[order.id], "an order was carried out again"
        for result in self.core.errands.carry_out(self.core.membership.open_orders(), self.now_s):
            self.done[result.id] += 1
            reasons = {left.reason for left in result.left}
            assert reasons <= {LeftReason.NOT_HERE, LeftReason.PINNED, LeftReason.PIN_LIMIT}
            self.core.membership.order_done(result)
        self.requests += self.core.membership.poll(self.now_s, 0)

    @rule()
    def put(self):
        put(self.core, KEYS)

    @rule(kind=st.sampled_from(sorted(KINDS)))
    def ask(self, kind):
        self.num_asked += 1
        self.asked_s[self.num_asked] = self.now_s
        request = KINDS[kind](**PROMPT, timeout_ms=int(TIMEOUT_S * 1000))
        sender = Sender(PEOPLE, RequestId(self.num_asked))
        self._send(self.controller.handle(sender, request, self.now_s))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), is_kept=st.booleans())
    def hear(self, data, is_kept):
        number = data.draw(st.integers(0, len(self.requests) - 1))
        message = self.requests[number] if is_kept else self.requests.pop(number)
        self._deliver(message)

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), is_kept=st.booleans())
    def answer(self, data, is_kept):
        number = data.draw(st.integers(0, len(self.answers) - 1))
        message = self.answers[number] if is_kept else self.answers.pop(number)
        self.core.membership.on_answer(message, self.now_s)

    @rule(are_answers_late=st.booleans())
    def exchange(self, are_answers_late):
        """A heartbeat reaches the controller; the newest answer comes at once, or none does."""
        self.wait(1.0)
        self.turn()
        while self.requests:
            self._deliver(self.requests.pop(0))
        if self.answers and not are_answers_late:
            self.core.membership.on_answer(self.answers.pop(), self.now_s)

    @rule(which=st.sampled_from(["requests", "answers"]))
    def lose_all(self, which):
        getattr(self, which).clear()

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.0]))
    def wait(self, seconds):
        self.now_s += seconds
        self._send(self.controller.tick(self.now_s))

    @rule()
    def restart_controller(self):
        self.epoch += 1
        self.controller = ControllerCore(ControllerSettings(), self.epoch)
        self.asked_s.clear()  # their connections broke

    @rule()
    def quiet(self):
        """The line works for a while: everybody is answered, and nothing is open."""
        self.requests.clear()
        self.answers.clear()
        for _ in range(8):
            self.turn()
            while self.requests or self.answers:
                while self.requests:
                    self._deliver(self.requests.pop(0))
                while self.answers:
                    self.core.membership.on_answer(self.answers.pop(0), self.now_s)
            self.wait(0.6)
        assert not self.asked_s
        assert not self.core.membership.open_orders()

    @invariant()
    def sound(self):
        self.core.check_integrity()
        assert self.core.index.num_kept <= self.core.errands.pins.num_max


BadLine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestBadLine = BadLine.TestCase
