"""Finds decisions in shells, by reading their source.

A shell waits, carries bytes, and hands what came in to a state machine. It may branch on the kind
of an action or event, on whether input or output worked, and on its own bookkeeping. It decides if
it makes a message, branches on what a message or a state machine says, keeps such vocabulary,
reaches into others, or draws lots.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import msgspec

from p2p.agent.slots import SlotState
from p2p.backend.actions import ShortReason
from p2p.backend.chunks import ChunkState
from p2p.backend.handshake import PeerState
from p2p.backend.membership import BondState
from p2p.wire import messages

_ENUMS: tuple[type[Enum], ...] = (BondState, ChunkState, PeerState, ShortReason, SlotState)
_OWN = {"self", "cls"}
_ORDERING = {"filter", "max", "min", "sort", "sorted"}
_CHANCE = {"random", "secrets", "uuid"}
_MESSAGES = {
    name: kind
    for name, kind in vars(messages).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
}
_CODES = {
    name
    for name, kind in vars(messages).items()
    if isinstance(kind, type) and issubclass(kind, Enum)
}
VOCABULARY = {enum.__name__ for enum in _ENUMS} | _CODES
_NAMES_OF_PLACES = {"address", "instance"}  # where to send something is no decision
CONTENT = {
    field.name for kind in _MESSAGES.values() for field in msgspec.structs.fields(kind)
} - _NAMES_OF_PLACES


@dataclass(frozen=True, order=True)
class Decision:
    """Something that a shell must not do.

    Attributes:
        function: where, within the module.
        what: it does.
    """

    function: str
    what: str
    line: int


def decisions(source: str) -> list[Decision]:
    """Returns the decisions in a module's source."""
    found: set[Decision] = set()
    for function, node in _walk(ast.parse(source), ""):
        seen = (*_branches(node), *_acts(node))
        found |= {Decision(function, what, line) for what, line in seen}
    return sorted(found)


def used_of(source: str, owners: set[str]) -> set[str]:
    """Returns the public names that are used of the state machines with some names."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and _last_name(node.value) in owners
        and not node.attr.startswith("_")
    }


def imports(source: str) -> set[str]:
    """Returns the modules that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def _walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        name = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{function}.{child.name}".lstrip(".")
        yield name, child
        yield from _walk(child, name)


def _branches(node: ast.AST) -> Iterator[tuple[str, int]]:
    for condition in _conditions(node):
        for part in ast.walk(condition):
            if isinstance(part, ast.Attribute) and part.attr in CONTENT:
                yield f"branches on {part.attr}", part.lineno


def _acts(node: ast.AST) -> Iterator[tuple[str, int]]:
    match node:
        case ast.Call() if _last_name(node.func) in _MESSAGES:
            yield f"makes a {_last_name(node.func)}", node.lineno
        case ast.Attribute(value=ast.Name(id=name)) if name in VOCABULARY:
            yield f"uses {name}", node.lineno
        case ast.Attribute() if _is_private(node.attr) and _last_name(node.value) not in _OWN:
            yield f"reaches into {node.attr}", node.lineno
        case ast.Import() | ast.ImportFrom():
            for name in sorted(_imported(node) & _CHANCE):
                yield f"draws lots with {name}", node.lineno
        case _:
            pass


def _conditions(node: ast.AST) -> list[ast.expr]:
    """Returns what a node branches or orders by."""
    conditions: list[ast.expr | None] = []
    match node:
        case ast.If() | ast.While() | ast.IfExp() | ast.Assert():
            conditions = [node.test]
        case ast.comprehension():
            conditions = [*node.ifs]
        case ast.match_case():
            conditions = [node.guard]
        case ast.Compare() | ast.BoolOp():
            conditions = [node]
        case ast.Call() if _last_name(node.func) in _ORDERING:
            conditions = [*node.args, *(keyword.value for keyword in node.keywords)]
        case _:
            pass
    return [condition for condition in conditions if condition is not None]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]}
    return {alias.name.split(".")[0] for alias in node.names}
