"""Requests as JSON: what a message of the wire looks like in a body or a query. No I/O.

Everything is derived from the message: its fields and their limits. Unknown fields are refused,
since a mistyped ``namespace`` must not clear all of them. Where a message takes a blob of keys,
JSON takes a list of hex words, or tokens from which the keys are made as instances make them.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec.structs import FieldInfo

from p2p.errors import ArgumentError
from p2p.keys import MAX_KEY_BYTES, MIN_KEY_BYTES, ChunkKey, chunk_keys, join_keys
from p2p.wire.messages import MAX_KEYS
from p2p_controller.http.problems import Problem, ProblemError, bad_value

R = TypeVar("R", bound=msgspec.Struct)
_HexKey = Annotated[
    str,
    msgspec.Meta(
        pattern="^([0-9a-fA-F]{2})+$", min_length=2 * MIN_KEY_BYTES, max_length=2 * MAX_KEY_BYTES
    ),
]
_Token = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_KEYED = frozenset({"keys", "key_bytes"})
_SOURCES = frozenset({"keys", "tokens"})
_AT_PATH = re.compile(r" - at `\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_NAMED = re.compile(r"^Object (?:contains unknown|missing required) field `(.*)`$")


class KeySource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the keys of a request come from.

    Attributes:
        keys: hex words, in the order of the prompt.
        tokens: token ids, instead of keys; with them ``chunk_tokens``, ``seed`` and ``salt``.
        chunk_tokens: tokens of one chunk.
        seed: the namespace's key seed.
        salt: the caller's cache salt.
    """

    keys: Annotated[tuple[_HexKey, ...], msgspec.Meta(max_length=MAX_KEYS)] = ()
    tokens: tuple[_Token, ...] = ()
    chunk_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | None = None
    seed: str = ""
    salt: str = ""

    def chunk_keys(self) -> list[ChunkKey]:
        """Returns the keys; none for fewer tokens than a chunk has.

        Raises:
            ArgumentError: both are given, or tokens without ``chunk_tokens``.
        """
        if not self.tokens:
            return [ChunkKey(bytes.fromhex(word)) for word in self.keys]
        if self.keys:
            raise ArgumentError("tokens", len(self.tokens), "give keys or tokens, not both")
        if self.chunk_tokens is None:
            raise ArgumentError("chunk_tokens", None, "is needed with tokens")
        return chunk_keys(self.tokens, self.chunk_tokens, seed=self.seed, salt=self.salt)


class BodyType(Generic[R]):
    """The JSON form of one request.

    Args:
        request: the struct that is made from it.

    Attributes:
        struct: the form, from which the description is made.
    """

    def __init__(self, request: type[R]) -> None:
        self._request = request
        fields = msgspec.structs.fields(request)
        self._is_keyed = {field.name for field in fields} >= _KEYED
        kept = [field for field in fields if not (self._is_keyed and field.name in _KEYED)]
        self._kept = [field.name for field in kept]
        self._needs_keys = any(field.name == "keys" and field.required for field in fields)
        added = msgspec.structs.fields(KeySource) if self._is_keyed else ()
        self.struct: type[msgspec.Struct] = msgspec.defstruct(
            f"{request.__name__}Body",
            [_definition(field) for field in (*kept, *added)],
            kw_only=True,
            frozen=True,
            forbid_unknown_fields=True,
            namespace={"__doc__": request.__doc__},
        )

    def from_json(self, content: bytes) -> R:
        """Returns the request of a body; an empty body has no fields.

        Raises:
            ProblemError: 400 for what is no JSON, 422 for what does not fit.
        """
        try:
            values = msgspec.json.decode(content) if content.strip() else {}
        except (ValueError, RecursionError) as error:
            problem = Problem(code="bad_json", message=f"the body is no JSON: {error}")
            raise ProblemError(HTTPStatus.BAD_REQUEST, problem) from error
        return self._request_of(values, is_text=False)

    def from_query(self, pairs: Iterable[tuple[str, str]]) -> R:
        """Returns the request of a URL's query.

        Raises:
            ProblemError: 422 for what does not fit.
        """
        values: dict[str, str] = {}
        for name, text in pairs:
            if name in values:
                raise bad_value(name, text, "is there twice")
            values[name] = text
        return self._request_of(values, is_text=True)

    def _request_of(self, values: object, *, is_text: bool) -> R:
        try:
            body = msgspec.convert(values, self.struct, strict=not is_text)
        except msgspec.ValidationError as error:
            raise _misfit(values, str(error)) from error
        fields: dict[str, object] = {name: getattr(body, name) for name in self._kept}
        if self._is_keyed:
            source = msgspec.convert(body, KeySource, from_attributes=True)
            is_named = isinstance(values, dict) and not values.keys().isdisjoint(_SOURCES)
            fields.update(self._keys_of(source) if is_named else self._without_keys())
        return self._request(**fields)

    def _keys_of(self, source: KeySource) -> dict[str, object]:
        """Returns the named keys, of which there must be one: none at all may mean all."""
        if not source.keys and not source.tokens:
            raise bad_value("keys", [], "give at least one, or tokens with chunk_tokens")
        try:
            keys = source.chunk_keys()
            blob, key_bytes = join_keys(keys)
        except ArgumentError as error:
            raise bad_value(error.name, error.value, error.reason) from error
        if not keys:
            expected = f"make no chunk of {source.chunk_tokens} tokens"
            raise bad_value("tokens", len(source.tokens), expected)
        if len(keys) > MAX_KEYS:
            raise bad_value("tokens", len(source.tokens), f"make more than {MAX_KEYS} keys")
        return {"keys": blob, "key_bytes": key_bytes}

    def _without_keys(self) -> dict[str, object]:
        if self._needs_keys:
            raise bad_value("keys", [], "give at least one, or tokens with chunk_tokens")
        return {}


def _definition(field: FieldInfo) -> tuple[str, object] | tuple[str, object, object]:
    if field.default is not msgspec.NODEFAULT:
        return field.name, field.type, field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.name, field.type, msgspec.field(default_factory=field.default_factory)
    return field.name, field.type


def _misfit(values: object, text: str) -> ProblemError:
    """Returns the problem with the field and the value that msgspec's sentence points at."""
    found = _AT_PATH.search(text)
    path = found[1] if found else ""
    reason = _AT_PATH.sub("", text)
    for name, index in _STEP.findall(path):
        values = _step(values, name, index)
    field = path.removeprefix(".")
    named = _NAMED.match(reason)
    if named is not None:
        field = f"{field}.{named[1]}".removeprefix(".")
        values = _step(values, named[1], "")
    return bad_value(field, values, reason)


def _step(values: object, name: str, index: str) -> object:
    if isinstance(values, dict):
        return values.get(name)
    return values[int(index)] if isinstance(values, list) and index else values
