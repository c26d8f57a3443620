"""Who may ask what over HTTP. No I/O but reading the token once.

On a loopback address everybody on this host may do everything, unless a token is set; so requests
that a browser could have been tricked into are refused there: those for another host's name (DNS
rebinding), and changes from another origin or from a form. Elsewhere changes need the token.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from p2p.errors import ConfigError
from p2p_controller.http.problems import Problem, ProblemError

_MIN_TOKEN = 16
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Gate:
    """Lets requests through, or says why not.

    Args:
        host: name or address that was configured.
        ip: address that was bound.
        token: what changes must show; None if there is none.
        is_guarded: views need what changes need too: the controller runs with keys.
    """

    def __init__(self, host: str, ip: str, token: bytes | None, *, is_guarded: bool) -> None:
        self._hosts = {host.lower(), ip, "localhost"}
        self._is_loopback = is_loopback(ip)
        self._token = token
        self._is_guarded = is_guarded

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Raises a 403 where a loopback address is called by a name that is not this host's."""
        host = headers.get("host")
        if not self._is_loopback or host is None:
            return
        name = _host_name(host)
        if name not in self._hosts and not is_loopback(name):
            raise _forbidden(f"this address is for this host only, not for {host[:80]!r}", "Host")

    def check_request(self, headers: Mapping[str, str], *, is_change: bool) -> None:
        """Raises a 401 or 403 if this request needs something that it does not show."""
        origin = headers.get("origin")
        if is_change and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise _forbidden("pages of other origins may not change anything", "Origin")
        if not is_change and not self._is_guarded:
            return
        if self._token is not None:
            self._check_token(headers)
        elif not self._is_loopback:
            reason = "without http_token_file, only a loopback address allows this"
            raise _forbidden(reason, "http_token_file")
        elif any(name in headers for name in _FORWARDED):
            reason = "without http_token_file, what came through a proxy is not allowed this"
            raise _forbidden(reason, "http_token_file")

    def _check_token(self, headers: Mapping[str, str]) -> None:
        scheme, _, word = headers.get("authorization", "").partition(" ")
        shown = word.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer" and hmac.compare_digest(shown, self._token or b""):
            return
        message = "this needs the header 'Authorization: Bearer TOKEN' with the right token"
        problem = Problem(code="unauthorized", message=message, field="Authorization")
        raise ProblemError(HTTPStatus.UNAUTHORIZED, problem, {"WWW-Authenticate": "Bearer"})


def is_loopback(host: str) -> bool:
    """Returns whether this is an address that only this host reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_token(file: str) -> bytes | None:
    """Returns the token of a file, or None if no file is named.

    Raises:
        ConfigError: the file cannot be read, or holds no token.
    """
    if not file:
        return None
    try:
        token = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("controller.http_token_file", file, str(error)) from error
    if len(token) < _MIN_TOKEN or not token.isascii() or len(token.split()) != 1:
        reason = f"must hold one word of at least {_MIN_TOKEN} ASCII characters"
        raise ConfigError("controller.http_token_file", file, reason)
    return token.encode()


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _forbidden(message: str, field: str) -> ProblemError:
    problem = Problem(code="forbidden", message=message, field=field)
    return ProblemError(HTTPStatus.FORBIDDEN, problem)
