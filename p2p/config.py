"""Reads one component's settings from file, environment and command line, in that order.

Each component declares a frozen `Settings` struct; this module fills it, checks every value and
refuses unknown keys. In texts, lists are separated by commas and tables are JSON. Nothing below a
component's start reads the environment.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar, get_origin

import msgspec

from p2p.errors import ConfigError

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_AT_FIELD = re.compile(r" - at `\$\.?([^`]*)`$")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a component's settings.

    Attributes:
        SECTION: the table in the configuration file, and part of the environment's names:
            ``pool_bytes`` of section ``backend`` is ``P2P_BACKEND_POOL_BYTES``.
    """

    SECTION: ClassVar[str] = ""

    def check(self) -> None:
        """Raises `ConfigError` for values that types alone cannot refuse."""


S = TypeVar("S", bound=Settings)


def load_settings(
    kind: type[S],
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> S:
    """Returns checked settings; later sources win.

    Args:
        kind: the settings struct.
        file: a TOML file with a table named as ``kind.SECTION``; other tables are ignored.
        environ: by default the process's environment.
        overrides: what the caller or the command line sets; None values are skipped.

    Raises:
        ConfigError: an unreadable file, an unknown key, or a bad value, with key and value.
    """
    values: dict[str, object] = {}
    if file is not None:
        values.update(_from_file(kind, Path(file)))
    values.update(_from_environment(kind, os.environ if environ is None else environ))
    given = overrides or {}
    values.update({key: value for key, value in given.items() if value is not None})
    return build_settings(kind, values)


def build_settings(kind: type[S], values: Mapping[str, object]) -> S:
    """Returns checked settings from plain values.

    Raises:
        ConfigError: an unknown key or a bad value, with key and value.
    """
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    prepared: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(_dotted(kind, key), value, f"unknown; known: {', '.join(known)}")
        prepared[key] = _from_text(kind, known[key], value)
    for name, field in known.items():
        if field.required and name not in prepared:
            raise ConfigError(_dotted(kind, name), None, "is required")
    try:
        settings = msgspec.convert(prepared, kind, strict=False)
    except msgspec.ValidationError as error:
        text = str(error)
        at = _AT_FIELD.search(text)
        key = at[1] if at else ""
        value = prepared.get(key.partition(".")[0].partition("[")[0], prepared)
        raise ConfigError(_dotted(kind, key), value, _AT_FIELD.sub("", text)) from error
    settings.check()
    return settings


def revalidated(settings: S) -> S:
    """Returns settings that were made in code, checked as if they had been read.

    Raises:
        ConfigError: a bad value, with its key.
    """
    return build_settings(type(settings), msgspec.to_builtins(settings))


def parse_assignments(kind: type[Settings], assignments: Sequence[str]) -> dict[str, object]:
    """Returns overrides from ``key=value`` words of a command line.

    Raises:
        ConfigError: a word without ``=``.
    """
    values: dict[str, object] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(_dotted(kind, word), word, "write KEY=VALUE")
        values[key.strip().replace("-", "_")] = value.strip()
    return values


def _from_file(kind: type[Settings], path: Path) -> dict[str, object]:
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), str(error)) from error
    table = content.get(kind.SECTION, {})
    if not isinstance(table, dict):
        raise ConfigError(kind.SECTION, table, f"write a table, [{kind.SECTION}]")
    return table


def _from_environment(kind: type[Settings], environ: Mapping[str, str]) -> dict[str, object]:
    prefix = f"P2P_{kind.SECTION.upper()}_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environ.items()
        if name.startswith(prefix)
    }


def _from_text(kind: type[Settings], field: msgspec.structs.FieldInfo, value: object) -> object:
    """Returns what a text of the environment or the command line means for a field."""
    if field.name.endswith("_bytes"):
        return _parse_size(kind, field.name, value)
    if isinstance(value, str) and get_origin(field.type) is tuple:
        return [word for part in value.split(",") if (word := part.strip())]
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ConfigError(_dotted(kind, field.name), value, f"is no JSON: {error}") from error
    return value


def _parse_size(kind: type[Settings], key: str, value: object) -> object:
    """Returns bytes for texts such as ``512MiB``; other values as they are."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if match is None:
        raise ConfigError(_dotted(kind, key), value, "write bytes, or a size such as 512MiB or 2GB")
    unit = (match[2] or "").lower()
    return int(float(match[1]) * {**_UNITS, **_BINARY_UNITS}[unit])


def _dotted(kind: type[Settings], key: str) -> str:
    return f"{kind.SECTION}.{key}" if kind.SECTION else key
