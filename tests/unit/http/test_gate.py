"""Who may ask what."""

import pytest

from p2p.errors import ConfigError
from p2p_controller.http.gate import Gate, load_token
from p2p_controller.http.problems import ProblemError

TOKEN = b"0123456789abcdef"
SHOWN = {"authorization": "Bearer " + TOKEN.decode()}


def gate(ip: str = "127.0.0.1", token: bytes | None = None, *, is_guarded: bool = False) -> Gate:
    return Gate("box", ip, token, is_guarded=is_guarded)


def refusal(of: Gate, headers: dict[str, str], *, is_change: bool = True) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        of.check_request(headers, is_change=is_change)
    return caught.value.status.value, caught.value.problem.field


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "localhost", "LOCALHOST:7", "[::1]:8", "127.1.2.3", "box:80", None]
)
def test_a_loopback_address_goes_by_the_names_of_this_host(host):
    gate().check_host({} if host is None else {"host": host})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1", "", "[", "@"])
def test_and_by_no_other(host):
    with pytest.raises(ProblemError, match="this host only"):
        gate().check_host({"host": host})
    gate("10.0.0.1").check_host({"host": host})


def test_without_a_token_changes_are_for_loopback():
    gate().check_request({}, is_change=True)
    assert refusal(gate("10.0.0.1"), SHOWN) == (403, "http_token_file")
    assert refusal(gate("::"), {}) == (403, "http_token_file")
    gate("10.0.0.1").check_request({}, is_change=False)


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "via"])
def test_and_not_for_who_comes_through_a_proxy(header):
    assert refusal(gate(), {header: "10.0.0.1"}) == (403, "http_token_file")
    gate(token=TOKEN).check_request({header: "10.0.0.1", **SHOWN}, is_change=True)


@pytest.mark.parametrize(
    "word", ["", "Bearer", "Bearer x", "Basic " + TOKEN.decode(), "Bearer \u00e9", TOKEN.decode()]
)
def test_with_a_token_changes_must_show_it(word):
    for ip in ("127.0.0.1", "10.0.0.1"):
        assert refusal(gate(ip, TOKEN), {"authorization": word}) == (401, "Authorization")
        gate(ip, TOKEN).check_request(SHOWN, is_change=True)
        gate(ip, TOKEN).check_request({}, is_change=False)


def test_where_zmq_needs_keys_views_need_the_token_as_well():
    guarded = gate("10.0.0.1", TOKEN, is_guarded=True)
    assert refusal(guarded, {}, is_change=False)[0] == 401
    guarded.check_request(SHOWN, is_change=False)
    assert refusal(gate("10.0.0.1", is_guarded=True), {}, is_change=False)[0] == 403
    gate(is_guarded=True).check_request({}, is_change=False)


def test_pages_of_other_origins_change_nothing():
    own = {"host": "localhost:80", "origin": "http://localhost:80"}
    gate().check_request(own, is_change=True)
    for origin in ("http://evil.example", "null", "http://localhost:81"):
        assert refusal(gate(), {**own, "origin": origin}) == (403, "Origin")
        assert refusal(gate(token=TOKEN), {**own, **SHOWN, "origin": origin}) == (403, "Origin")


def test_a_token_is_read_from_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(TOKEN + b"\n")
    assert load_token(str(file)) == TOKEN
    assert load_token("") is None


@pytest.mark.parametrize("content", [b"", b"short", b"two words of text", b"\xff" * 20, None])
def test_a_file_without_a_token_is_named(tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="http_token_file"):
        load_token(str(file))
