"""Key agreement and proofs of the `tcp` channel: test vectors, and everything that must differ."""

import msgspec
import pytest
import zmq

from p2p.channel.access import Access
from p2p.channel.tcp.greeting import Greeting, decode_greeting, encode, pair_key, proof_of
from p2p.channel.tcp.x25519 import x25519
from p2p.errors import ArgumentError, ProtocolError
from p2p.wire.curve import authorized_keys, load_keys, make_keys, raw_key

BASE = b"\x09" + bytes(31)
GREETING = Greeting(1, b"n" * 32, b"k" * 32, b"o" * 16, Access.READ)


@pytest.mark.parametrize(
    ("secret", "public", "shared"),
    [  # RFC 7748, section 5.2
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_the_agreement_of_the_standard(secret, public, shared):
    found = x25519(bytes.fromhex(secret), bytes.fromhex(public))
    assert found.hex() == shared


def test_two_curve_key_pairs_agree_and_a_third_does_not():
    pairs = [[raw_key(key.decode()) for key in zmq.curve_keypair()] for _ in range(3)]
    for public, secret in pairs:
        assert x25519(secret, BASE) == public
    (a, b, c) = pairs
    assert x25519(a[1], b[0]) == x25519(b[1], a[0])
    assert x25519(c[1], b[0]) != x25519(b[1], a[0])


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31), b"short"])
def test_a_key_that_hides_nothing_is_refused(public):
    with pytest.raises(ArgumentError):
        x25519(b"s" * 32, public)


def test_a_proof_depends_on_everything_that_was_said():
    key = pair_key(b"t" * 32, b"s" * 32)
    proofs = [proof_of("holder", key, GREETING, b"h" * 32, b"m" * 32)]
    proofs.append(proof_of("reader", key, GREETING, b"h" * 32, b"m" * 32))
    proofs.append(proof_of("holder", key, GREETING, b"i" * 32, b"m" * 32))
    proofs.append(proof_of("holder", key, GREETING, b"h" * 32, b"o" * 32))
    others = pair_key(b"u" * 32, b"s" * 32), pair_key(b"t" * 32, b"z" * 32)
    proofs += [proof_of("holder", other, GREETING, b"h" * 32, b"m" * 32) for other in others]
    changes = {"nonce": b"p" * 32, "key": b"q" * 32, "origin": b"r" * 16, "access": Access.WRITE}
    for field, value in changes.items():
        greeting = msgspec.structs.replace(GREETING, **{field: value})
        proofs.append(proof_of("holder", key, greeting, b"h" * 32, b"m" * 32))
    assert len(set(proofs)) == len(proofs)


def test_garbage_is_no_greeting():
    assert decode_greeting("peer", encode(GREETING)) == GREETING
    content = encode(GREETING)
    for bad in (b"", b"\xff" * 100, content[:-1], content + b"x", b"\x91" * 4000):
        with pytest.raises(ProtocolError, match="peer"):
            decode_greeting("peer", bad)


def test_keys_are_read_from_the_clusters_folder(tmp_path):
    make_keys(tmp_path, ["controller", "a", "b"])
    keys = load_keys(str(tmp_path), "a")
    known = authorized_keys(keys.authorized)
    assert len(known) == 3
    assert raw_key(keys.public) in known
