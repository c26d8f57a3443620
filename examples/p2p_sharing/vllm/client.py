"""Asks a vLLM server over HTTP, streaming, with tokens in and tokens out."""

import http.client
import re
import time
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

_TIMEOUT_S = 180.0


class _Choice(msgspec.Struct):
    token_ids: list[int] | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Sharing(msgspec.Struct):
    p2p: dict[str, object] = msgspec.field(default_factory=dict)


class _Event(msgspec.Struct):
    """What a server sends, as far as it is of use here."""

    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    kv_transfer_params: _Sharing | None = None


class Completion(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        tokens: of the answer.
        first_token_s: from the request to the first token.
        num_prompt: tokens of the prompt.
        num_cached: of these, not computed.
    """

    tokens: tuple[int, ...]
    first_token_s: float
    num_prompt: int
    num_cached: int


class Client:
    """One server.

    Args:
        port: on this host.
        model: as the server calls it.
    """

    def __init__(self, port: int, model: str) -> None:
        self.port = port
        self._model = model

    def is_ready(self) -> bool:
        """Whether the server answers."""
        try:
            return self._ask("GET", "/health", None)[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def complete(
        self,
        prompt: list[int],
        num_tokens: int,
        salt: str = "",
        more: Mapping[str, object] = MappingProxyType({}),
    ) -> Completion:
        """Returns the answer to a prompt; a salt hides it from everything that is cached.

        Args:
            prompt: as tokens.
            num_tokens: of the answer.
            salt: vLLM's ``cache_salt``.
            more: fields of the request, as another connector wants them.

        Raises:
            OSError: the server does not answer, or not well.
        """
        body = self._body(prompt, num_tokens, salt) | {
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        connection = self._connect()
        began_s = time.monotonic()
        connection.request("POST", "/v1/completions", msgspec.json.encode(body), _JSON)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise OSError(f"HTTP {response.status}: {response.read()[:500]!r}")
        tokens: list[int] = []
        first_s = 0.0
        usage = _Usage()
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = msgspec.json.decode(line.removeprefix(b"data: "), type=_Event)
            for choice in event.choices:
                first_s = first_s or time.monotonic() - began_s
                tokens += choice.token_ids or ()
            usage = event.usage or usage
        connection.close()
        details = usage.prompt_tokens_details or _Details()
        return Completion(tuple(tokens), first_s, usage.prompt_tokens, details.cached_tokens or 0)

    def abandon(self, prompt: list[int], num_tokens: int, after_s: float) -> None:
        """Asks and hangs up after a while, whatever has come by then."""
        body = self._body(prompt, num_tokens, "") | {"stream": True}
        connection = self._connect()
        try:
            connection.request("POST", "/v1/completions", msgspec.json.encode(body), _JSON)
            time.sleep(after_s)
        finally:
            connection.close()

    def shared(self, prompt: list[int], num_tokens: int) -> dict[str, object]:
        """Returns what a response says of sharing (``kv_transfer_params``)."""
        body = msgspec.json.encode(self._body(prompt, num_tokens, ""))
        status, content = self._ask("POST", "/v1/completions", body)
        if status != http.HTTPStatus.OK:
            raise OSError(f"HTTP {status}: {content[:500]!r}")
        answer = msgspec.json.decode(content, type=_Event)
        return answer.kv_transfer_params.p2p if answer.kv_transfer_params else {}

    def metrics(self) -> dict[str, float]:
        """Returns the connector's counters, by name and reason."""
        text = self._ask("GET", "/metrics", None)[1].decode()
        found: dict[str, float] = {}
        for name, labels, value in _METRIC.findall(text):
            reason = _REASON.search(labels)
            key = f"{name}/{reason[1]}" if reason else name
            found[key] = found.get(key, 0.0) + float(value)
        return found

    def read(self, start: str) -> float:
        """Returns the sum of all metrics whose line starts so (labels in any order)."""
        name, _, label = start.partition("{")
        lines = self._ask("GET", "/metrics", None)[1].decode().splitlines()
        wanted = [line for line in lines if line.startswith(name + "{") and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in wanted)

    def forget(self, *, external: bool = False) -> None:
        """Empties the server's prefix cache, and the pool too if asked (VLLM_SERVER_DEV_MODE)."""
        query = "?reset_external=true" if external else ""
        status, content = self._ask("POST", f"/reset_prefix_cache{query}", b"")
        if status != http.HTTPStatus.OK:
            raise OSError(f"HTTP {status}: {content[:500]!r}")

    def _body(self, prompt: list[int], num_tokens: int, salt: str) -> dict[str, object]:
        return {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
            **({"cache_salt": salt} if salt else {}),
        }

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = self._connect()
        try:
            connection.request(method, path, body, _JSON)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)


_JSON = {"Content-Type": "application/json"}
_METRIC = re.compile(r"^vllm:p2p_([a-z_]+?)_total\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
_REASON = re.compile(r'reason="([^"]*)"')
