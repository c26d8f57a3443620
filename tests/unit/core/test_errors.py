"""Errors: whose fault, whether a retry helps, and that the numbers are in them."""

import pytest

from p2p import errors


@pytest.mark.parametrize(
    ("error", "can_retry"),
    [
        (errors.ConfigError("a.b", 3, "too small"), False),
        (errors.ArgumentError("count", 3, "too small"), False),
        (errors.PeerUnreachableError("p", "no answer"), True),
        (errors.PeerRefusedError("p", "kv_dtype", "a", "b"), False),
        (errors.TransferError("p", "reset"), True),
        (errors.LinkDownError("p", "reset"), True),
        (errors.ProtocolError("short frame"), False),
    ],
)
def test_every_error_says_whether_a_retry_helps(error, can_retry):
    assert isinstance(error, errors.P2PError)
    assert error.can_retry is can_retry


def test_our_faults_and_those_of_peers_are_told_apart():
    assert not issubclass(errors.LocalError, errors.PeerError)
    assert issubclass(errors.MemoryUnavailableError, errors.LocalError)
    assert issubclass(errors.LinkDownError, errors.PeerError)


def test_messages_carry_names_and_values():
    assert str(errors.ConfigError("a.b", "3x", "no size")) == "a.b = '3x': no size"
    refused = errors.PeerRefusedError("p", "kv_dtype", "fp8", "bf16")
    assert str(refused) == "p: kv_dtype differs: ours 'fp8', theirs 'bf16'"
    assert (refused.peer, refused.field, refused.ours, refused.theirs) == (
        "p", "kv_dtype", "fp8", "bf16",
    )  # fmt: skip
