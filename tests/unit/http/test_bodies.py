"""Messages from JSON and from queries, and what is said where they do not fit."""

import json
from http import HTTPStatus

import pytest

from p2p.keys import chunk_keys, join_keys
from p2p.wire.messages import Clear, Locate, Message
from p2p_controller.http.bodies import BodyType
from p2p_controller.http.leases import LeaseQuery
from p2p_controller.http.problems import ProblemError

LOCATE = BodyType(Locate)
WORDS = ["00" * 32, "fF" * 32]


class Explain(Message, frozen=True, kw_only=True):
    """A message that need not have keys."""

    request_id: int = 0
    keys: bytes = b""
    key_bytes: int = 32


def problem_of(body, values: object) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        body.from_json(json.dumps(values).encode())
    return caught.value


def test_keys_are_hex_words_and_become_one_blob():
    content = json.dumps({"namespace": "n", "keys": WORDS, "tenant": "t"}).encode()
    blob = b"".join(map(bytes.fromhex, WORDS))
    assert LOCATE.from_json(content) == Locate(namespace="n", keys=blob, key_bytes=32, tenant="t")


def test_tokens_become_the_keys_that_instances_make():
    values = {"namespace": "n", "tokens": list(range(10)), "chunk_tokens": 4, "seed": "s"}
    blob, key_bytes = join_keys(chunk_keys(range(10), 4, seed="s", salt="x"))
    found = LOCATE.from_json(json.dumps({**values, "salt": "x"}).encode())
    assert (found.keys, found.key_bytes) == (blob, key_bytes)


def test_an_empty_body_has_defaults():
    assert BodyType(Clear).from_json(b"") == Clear()
    assert BodyType(Clear).from_json(b'{"timeout_ms": 5}') == Clear(timeout_ms=5)


def test_keys_may_be_left_out_where_the_message_allows_it():
    assert BodyType(Explain).from_json(b'{"request_id": 3}') == Explain(request_id=3)
    assert BodyType(Explain).from_json(json.dumps({"keys": WORDS}).encode()).key_bytes == 32


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"namespace": "n", "keys": []}, "keys"),
        ({"namespace": "n", "tokens": []}, "keys"),
        ({"namespace": "n", "tokens": [1, 2, 3], "chunk_tokens": 4}, "tokens"),
    ],
)
def test_keys_that_are_named_and_are_none_do_not_mean_all(values, field):
    assert problem_of(BodyType(Clear), values).problem.field == field


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_no_json_is_a_400(content):
    with pytest.raises(ProblemError) as caught:
        LOCATE.from_json(content)
    assert (caught.value.status, caught.value.problem.code) == (HTTPStatus.BAD_REQUEST, "bad_json")


@pytest.mark.parametrize(
    ("values", "field", "theirs"),
    [
        ([], "", "[]"),
        ({"keys": WORDS}, "namespace", "None"),
        ({"namespace": 5, "keys": WORDS}, "namespace", "5"),
        ({"namespace": "n", "keys": [*WORDS, "xyz" * 8]}, "keys[2]", "'xyzxyz"),
        ({"namespace": "n", "keys": [WORDS[0], "00" * 8]}, "keys", ""),
        ({"namespace": "n", "keys": []}, "keys", "[]"),
        ({"namespace": "n"}, "keys", "[]"),
        ({"namespace": "n", "keyz": [1]}, "keyz", "[1]"),
        ({"namespace": "n", "key_bytes": 32}, "key_bytes", "32"),
        ({"namespace": "n", "tokens": [1, -1], "chunk_tokens": 1}, "tokens[1]", "-1"),
        ({"namespace": "n", "tokens": [1, 2]}, "chunk_tokens", "None"),
        ({"namespace": "n", "tokens": [1], "keys": WORDS, "chunk_tokens": 1}, "tokens", "1"),
    ],
)
def test_what_does_not_fit_is_a_422_with_field_and_value(values, field, theirs):
    error = problem_of(LOCATE, values)
    assert (error.status, error.problem.code) == (HTTPStatus.UNPROCESSABLE_ENTITY, "bad_value")
    assert error.problem.field == field
    assert error.problem.theirs.startswith(theirs)
    assert error.problem.ours


def test_a_query_takes_each_field_once():
    query = BodyType(LeaseQuery)
    assert query.from_query([("instance", "p")]) == LeaseQuery(instance="p")
    for pairs in ([("instance", "p"), ("instance", "q")], [("instanse", "p")]):
        with pytest.raises(ProblemError) as caught:
            query.from_query(pairs)
        assert caught.value.problem.field == pairs[-1][0]
