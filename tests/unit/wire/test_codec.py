"""Bytes to messages and back, judged by another MessagePack implementation; and what is refused."""

import enum
import typing

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.errors import ProtocolError
from p2p.wire import messages as wire
from p2p.wire.codec import (
    MAX_BODY_BYTES,
    BodyDecoder,
    VersionError,
    encode,
    encode_body,
    split,
)
from tests.unit.wire import samples

REQUESTS: BodyDecoder[wire.ControllerRequest] = BodyDecoder(wire.ControllerRequest)
UNIONS = (
    (wire.ControllerRequest, samples.CONTROLLER_REQUESTS),
    (wire.ControllerReply, samples.CONTROLLER_REPLIES),
    (wire.PeerCall, samples.PEER_REQUESTS),
    (wire.PeerReply, samples.PEER_REPLIES),
)
EVERY = [(union, message) for union, group in UNIONS for message in group]


def plain(value: object) -> object:
    """Returns what a MessagePack reader that knows nothing of our structs should see."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        if config.array_like:
            return [plain(getattr(value, name)) for name in value.__struct_fields__]
        shown: dict[object, object] = {}
        if config.tag is not None:
            shown[config.tag_field] = config.tag
        for field in msgspec.structs.fields(type(value)):
            content = getattr(value, field.name)
            if not (config.omit_defaults and content == field.default):
                shown[field.name] = plain(content)
        return shown
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def test_there_is_a_sample_of_every_message():
    for union, group in UNIONS:
        shared = {wire.Refusal, wire.Done} if union is wire.PeerReply else set()
        assert {type(message) for message in group} | shared == set(typing.get_args(union))


@pytest.mark.parametrize(("union", "message"), EVERY, ids=lambda value: type(value).__name__)
def test_a_message_comes_back_equal_and_others_can_read_it(union, message):
    body = encode_body(message)
    assert BodyDecoder(union).decode(body) == message
    assert msgpack.unpackb(body, strict_map_key=False) == plain(message)


@pytest.mark.parametrize(("union", "message"), EVERY, ids=lambda value: type(value).__name__)
def test_what_others_write_can_be_read(union, message):
    assert BodyDecoder(union).decode(msgpack.packb(plain(message))) == message


@pytest.mark.parametrize(("union", "message"), EVERY, ids=lambda value: type(value).__name__)
def test_a_message_cut_anywhere_is_refused(union, message):
    body = encode_body(message)
    decoder = BodyDecoder(union)
    for length in range(0, len(body), max(1, len(body) // 50)):
        with pytest.raises(ProtocolError):
            decoder.decode(body[:length])


def test_a_message_of_another_set_is_refused():
    for union, group in UNIONS:
        others = [m for other, more in UNIONS for m in more if other is not union]
        for message in others:
            if type(message) not in typing.get_args(union):
                with pytest.raises(ProtocolError):
                    BodyDecoder(union).decode(encode_body(message))
        assert group


def located(**changes: object) -> bytes:
    sample = plain(samples.CONTROLLER_REQUESTS[5])
    assert isinstance(sample, dict)
    return msgpack.packb(sample | changes)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Nonsense"},
        {"type": 5},
        {"namespace": ""},
        {"namespace": "n" * 129},
        {"namespace": 7},
        {"keys": "text"},
        {"key_bytes": 7},
        {"key_bytes": 65},
        {"key_bytes": -1},
        {"key_bytes": 2**63},
        {"tenant": "t" * 129},
        {"tenant": None},
        {"keys": bytes(wire.MAX_KEYS * 64 + 1)},
    ],
)
def test_fields_outside_their_limits_are_refused(changes):
    REQUESTS.decode(located())
    with pytest.raises(ProtocolError):
        REQUESTS.decode(located(**changes))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81\xa4type",
        b"\x91" * 100_000,  # nested deeper than any stack
        b"\x81\xa4type\xa1\xff",  # not UTF-8
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xc6\xff\xff\xff\xff",
        msgpack.packb({"type": "Locate"}),
        msgpack.packb(["Locate"]),
        msgpack.packb(2**64 - 1),
        encode_body(wire.GetStatus()) + b"\0",
        bytes(MAX_BODY_BYTES + 1),
    ],
    ids=range(12),
)
def test_bodies_that_are_no_message_are_refused(body):
    with pytest.raises(ProtocolError):
        REQUESTS.decode(body)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_random_bytes_raise_nothing_but_protocol_errors(body):
    try:
        REQUESTS.decode(body)
    except ProtocolError:
        return


def test_a_body_that_is_too_large_is_not_sent():
    page = samples.CONTROLLER_REQUESTS[3]
    too_large = msgspec.structs.replace(page, keys=bytes(MAX_BODY_BYTES))
    with pytest.raises(ProtocolError, match="SnapshotPage"):
        encode_body(too_large)


@given(st.integers(0, (1 << 64) - 1))
def test_request_ids_come_back(request_id):
    found, body = split(encode(wire.GetStatus(), request_id))
    assert (found, bytes(body)) == (request_id, encode_body(wire.GetStatus()))


def test_another_version_names_itself_and_the_request():
    header = (wire.PROTOCOL_VERSION + 1).to_bytes(2, "big") + (77).to_bytes(8, "big")
    with pytest.raises(VersionError) as caught:
        split(header + b"body")
    assert (caught.value.version, caught.value.request_id) == (wire.PROTOCOL_VERSION + 1, 77)


@pytest.mark.parametrize("length", [0, 9])
def test_a_frame_without_a_whole_header_is_refused(length):
    with pytest.raises(ProtocolError):
        split(bytes(length))


def test_fields_of_a_newer_minor_version_are_ignored():
    assert REQUESTS.decode(located(colour="blue")) == REQUESTS.decode(located())
