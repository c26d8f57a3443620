"""First contact: who is refused by which field, and how a reader stands with a holder."""

import msgspec
import pytest

from p2p.backend.handshake import PeerBook, PeerState, refuse_hello
from p2p.layout import ByteOrder
from p2p.wire.messages import RefusalCode, Welcome
from tests.unit.backend.builders import LAYOUT, NAMESPACE, OFFERS, hello, holder, identity

OWN = identity("a")
A1, A2 = holder("a", 1), holder("a", 2)


def _welcome(instance="a", incarnation=1):
    return Welcome(instance=instance, incarnation=incarnation, ranks=OFFERS)


def _linked(book, who=A1):
    book.greet(who, 0.0)
    book.welcomed(who.instance, _welcome(who.instance, who.incarnation))
    book.linked(who.instance, 0.0)


def _refused(**changes):
    refusal = refuse_hello(OWN, msgspec.structs.replace(hello(), **changes))
    assert refusal is not None
    return refusal


def _peer(book):
    peer = book.get("a")
    assert peer is not None
    return peer


def test_who_fits_is_welcome():
    assert refuse_hello(OWN, hello()) is None


def test_another_tensor_parallel_size_is_welcome():
    sliced = msgspec.structs.replace(LAYOUT, tensor_parallel=2)
    assert refuse_hello(OWN, msgspec.structs.replace(hello(), layout=sliced)) is None


@pytest.mark.parametrize("field", NAMESPACE.__struct_fields__)
def test_another_namespace_is_refused_by_field_with_both_values(field):
    theirs = msgspec.structs.replace(NAMESPACE, **{field: "theirs"})
    refusal = _refused(namespace=theirs)
    assert (refusal.code, refusal.field) == (RefusalCode.NAMESPACE, field)
    assert (refusal.ours, refusal.theirs) == (getattr(NAMESPACE, field), "theirs")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("byte_order", ByteOrder.OPAQUE), ("kv_dtype", "int8"), ("num_layers", 2),
        ("num_planes", 1), ("num_kv_heads", 2), ("head_dim", 16), ("chunk_tokens", 8),
        ("pipeline_parallel", 2),
    ],
)  # fmt: skip
def test_another_layout_is_refused_by_field_with_both_values(field, value):
    theirs = msgspec.structs.replace(LAYOUT, **{field: value})
    refusal = _refused(layout=theirs)
    assert (refusal.code, refusal.field) == (RefusalCode.LAYOUT, field)
    is_order = field == "byte_order"
    assert refusal.theirs == ("opaque" if is_order else str(value))
    assert refusal.ours == ("canonical" if is_order else str(getattr(LAYOUT, field)))


def test_a_stranger_is_usable_and_greeted_once():
    book = PeerBook()
    assert book.state("a") is None
    assert book.is_usable(A1, 0.0)
    assert [book.greet(A1, 0.0), book.greet(A1, 0.0)] == [True, False]
    assert book.state("a") is PeerState.GREETED


def test_a_welcome_counts_once():
    book = PeerBook()
    book.greet(A1, 0.0)
    assert book.welcomed("a", _welcome()) is book.get("a")
    assert book.welcomed("a", _welcome()) is None
    book.linked("a", 0.0)
    assert book.state("a") is PeerState.LINKED


@pytest.mark.parametrize("welcome", [_welcome(incarnation=2), _welcome(instance="b")])
def test_a_welcome_of_somebody_else_or_of_another_start_does_not_count(welcome):
    book = PeerBook()
    book.greet(A1, 0.0)
    assert book.welcomed("a", welcome) is None
    assert book.welcomed("b", welcome) is None


def test_who_is_down_is_left_alone_for_a_time_that_doubles_until_a_limit():
    book = PeerBook()
    now_s, pauses = 0.0, []
    for _ in range(9):
        assert book.greet(A1, now_s)
        book.down("a", "silent", now_s)
        retry_at_s = _peer(book).retry_at_s
        assert not book.is_usable(A1, retry_at_s - 0.01)
        assert not book.greet(A1, retry_at_s - 0.01)
        assert book.is_usable(A1, retry_at_s)
        pauses.append(retry_at_s - now_s)
        now_s = retry_at_s
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_link_resets_the_pause():
    book = PeerBook()
    book.greet(A1, 0.0)
    book.down("a", "silent", 0.0)
    book.greet(A1, 1.0)
    book.welcomed("a", _welcome())
    book.linked("a", 0.0)
    book.down("a", "reset", 10.0)
    assert _peer(book).retry_at_s == 10.25


def test_a_second_failure_while_down_does_not_prolong_the_pause():
    book = PeerBook()
    _linked(book)
    book.down("a", "first", 1.0)
    book.down("a", "second", 1.1)
    assert (_peer(book).retry_at_s, _peer(book).reason) == (1.25, "first")


def test_who_refused_us_is_not_asked_again_until_it_starts_anew():
    book = PeerBook()
    book.greet(A1, 0.0)
    book.refused("a", "kv_dtype")
    book.down("a", "reset", 0.0)
    assert not book.is_usable(A1, 1e9)
    assert book.is_usable(A2, 0.0)
    assert book.greet(A2, 0.0)
    assert book.state("a") is PeerState.GREETED


def test_an_earlier_start_of_a_holder_is_not_usable():
    book = PeerBook()
    _linked(book, A2)
    assert not book.is_usable(A1, 0.0)


def test_an_earlier_start_of_a_holder_does_not_take_the_place_of_the_present_one():
    book = PeerBook()
    _linked(book, A2)
    book.greet(A1, 0.0)
    assert book.state("a") is PeerState.LINKED
    assert _peer(book).holder == A2


def test_a_contact_goes_on_from_the_greeting_until_there_is_a_link_or_an_end():
    book = PeerBook()
    assert (book.contacts(), book.num_links) == ([], 0)
    book.greet(A1, 0.0)
    assert [peer.holder for peer in book.contacts()] == [A1]
    book.welcomed("a", _welcome())
    assert (len(book.contacts()), book.num_links) == (1, 1)
    book.linked("a", 1.0)
    assert (book.contacts(), book.num_links) == ([], 1)
    book.down("a", "reset", 2.0)
    assert (book.contacts(), book.num_links) == ([], 0)
    book.greet(A1, 3.0)
    assert _peer(book).contact_s == 3.0
    book.refused("a", "layout")
    assert (book.contacts(), book.num_links) == ([], 0)
    book.greet(A2, 4.0)
    assert [peer.holder for peer in book.contacts()] == [A2]


def test_a_hello_is_repeated_after_pauses_that_double():
    book = PeerBook()
    times = [now_s / 10 for now_s in range(100) if book.greet(A1, now_s / 10)]
    assert times == [0.0, 0.5, 1.5, 3.5, 7.5]
    assert _peer(book).contact_s == 0.0


def test_who_was_reached_has_to_be_reached_again_after_a_failure():
    book = PeerBook()
    book.greet(A1, 0.0)
    book.reached(A2)
    assert not _peer(book).is_reached
    book.reached(A1)
    assert _peer(book).is_reached
    book.down("a", "silent", 1.0)
    book.greet(A1, 2.0)
    assert not _peer(book).is_reached
