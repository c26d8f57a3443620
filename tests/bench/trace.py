"""A trace of requests, and what caches without a network would find in it.

One JSON object a line, as in Mooncake's release: of interest is ``hash_ids``, one id a block; equal
ids mean equal content and an equal prefix. A request finds its leading blocks, up to the first one
that is not there; afterwards it has put all of them.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

Request = tuple[int, ...]  # the ids of its blocks
_Count = Annotated[int, msgspec.Meta(ge=0)]


class TraceError(ValueError):
    """A line of a trace is not what it must be; the message names line and field."""


class _Line(msgspec.Struct, frozen=True):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: _Count
    output_length: _Count
    hash_ids: tuple[Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)], ...]


_DECODER = msgspec.json.Decoder(_Line)


def read_trace(path: Path, limit: int | None = None) -> list[Request]:
    """Returns the first requests of a file, or all of them.

    Raises:
        TraceError: a line is malformed.
        OSError: the file cannot be read.
    """
    requests: list[Request] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if limit is not None and len(requests) >= limit:
                break
            if line.strip():
                requests.append(_request(f"{path.name}, line {number}", line))
    return requests


def _request(where: str, line: bytes) -> Request:
    try:
        ids = _DECODER.decode(line).hash_ids
    except (ValueError, RecursionError) as error:  # msgspec names the field
        raise TraceError(f"{where}: {error}") from error
    if len(set(ids)) != len(ids):
        twice = next(one for number, one in enumerate(ids) if one in ids[:number])
        raise TraceError(f"{where}: field `hash_ids` names {twice} twice")
    return ids


def num_blocks(requests: Sequence[Request]) -> int:
    """Returns the blocks of all requests."""
    return sum(map(len, requests))


def num_distinct(requests: Sequence[Request]) -> int:
    """Returns the different blocks of all requests."""
    return len({block for request in requests for block in request})


def dealt(requests: Sequence[Request], number: int, num_instances: int) -> Iterator[Request]:
    """Returns the requests of one instance: they are dealt round robin."""
    return iter(requests[number::num_instances])


def found_by_one(requests: Sequence[Request]) -> int:
    """Returns how many blocks one cache without limit finds."""
    seen: set[int] = set()
    found = 0
    for request in requests:
        found += _prefix(request, seen)
        seen.update(request)
    return found


def found_alone(requests: Sequence[Request], num_instances: int) -> int:
    """Returns how many blocks caches without limit find that share nothing."""
    each = (list(dealt(requests, number, num_instances)) for number in range(num_instances))
    return sum(map(found_by_one, each))


def found_by_lru(requests: Sequence[Request], room: int) -> int:
    """Returns how many blocks one cache finds that drops the least recently used block."""
    return _found_by_lru(requests, room, step=1)


def found_by_leaf_lru(requests: Sequence[Request], room: int) -> int:
    """The same for a cache that uses a request's last block first, so that it goes first."""
    return _found_by_lru(requests, room, step=-1)


def _found_by_lru(requests: Sequence[Request], room: int, step: int) -> int:
    cache: OrderedDict[int, None] = OrderedDict()
    found = 0
    for request in requests:
        found += _prefix(request, cache)
        for block in request[::step]:
            cache[block] = None
            cache.move_to_end(block)
            if len(cache) > room:
                cache.popitem(last=False)
    return found


def _prefix(request: Request, cache: set[int] | OrderedDict[int, None]) -> int:
    for number, block in enumerate(request):
        if block not in cache:
            return number
    return len(request)
