"""Asks over HTTP as a user's program would, with what Python brings along."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

JSON = {"Content-Type": "application/json"}
_WAIT_S = 15.0


@dataclass(frozen=True)
class Reply:
    """Status, headers (names in lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self):
        """The body, decoded."""
        return json.loads(self.content)

    @property
    def error(self):
        """The problem in the body."""
        return self.json["error"]


class HttpClient:
    """Asks one server.

    Args:
        url: of the server.
        headers: sent with everything.
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.url = url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 where to ask
        self._headers = headers or {}

    def get(self, path: str, **headers: str) -> Reply:
        """Returns what a GET is answered."""
        return self.send("GET", path, None, headers)

    def post(self, path: str, body: object = None, **headers: str) -> Reply:
        """Returns what a POST of JSON is answered."""
        content = b"" if body is None else json.dumps(body).encode()
        return self.send("POST", path, content, {**JSON, **headers})

    def send(
        self, verb: str, path: str, content: bytes | None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Returns what any request is answered."""
        request = urllib.request.Request(  # noqa: S310 our own address
            self.url + path, content, {**self._headers, **(headers or {})}, method=verb
        )
        try:
            answer = urllib.request.urlopen(request, timeout=_WAIT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, headers, answer.read())
