"""What people can name, the documents name, and the other way round."""

import re

import pytest

from p2p.wire.messages import LeftReason, Message, Why
from p2p_controller.cli.parser import parse
from p2p_controller.http.exposition import Exposition
from p2p_controller.http.operations import OPERATIONS
from p2p_controller.settings import ControllerSettings
from tests.e2e.controller_process import ROOT

OPERATIONS_PAGE = (ROOT / "docs/operations.md").read_text()
PROTOCOL_PAGE = (ROOT / "docs/protocol.md").read_text()


def test_every_route_is_in_the_table_and_every_one_there_exists():
    named = set(re.findall(r"/v1/\w+", OPERATIONS_PAGE))
    assert named == {row.path for row in OPERATIONS}


def test_every_command_is_in_the_table_and_every_one_there_exists(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = set(re.findall(r"^    (\w+)(?: |$)", capsys.readouterr().out, re.MULTILINE))
    start, end = OPERATIONS_PAGE.index("| command |"), OPERATIONS_PAGE.index("Every command has")
    first_cells = re.findall(r"^\| (`.*?) \|", OPERATIONS_PAGE[start:end], re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)", cell)}
    assert named == shown


def test_every_reason_is_in_a_table():
    assert {w.value for w in Why if f"`{w.value}`" not in OPERATIONS_PAGE} == {"complete"}
    assert {r.value for r in LeftReason if f"`{r.value}`" not in PROTOCOL_PAGE} == set()


def test_every_setting_is_in_the_table():
    fields = ControllerSettings.__struct_fields__
    assert [name for name in fields if f"`{name}`" not in OPERATIONS_PAGE] == []


def test_every_message_is_in_the_protocol():
    known = {kind.__name__ for kind in _kinds(Message)}
    assert {name for name in known if not re.search(rf"\b{name}\b", PROTOCOL_PAGE)} == set()


def test_every_metric_is_named():
    families = {family.name.removeprefix("p2p_controller_") for family in Exposition().describe()}
    families = {name or "info" for name in families - {"p2p_controller"}} | {"info"}
    assert {name for name in families if f"`{name}" not in OPERATIONS_PAGE} == set()


def _kinds(kind: type[Message]) -> set[type[Message]]:
    below = kind.__subclasses__()
    return {*below, *(one for sub in below for one in _kinds(sub) if not one.__subclasses__())}
