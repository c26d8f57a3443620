"""The table, and its description."""

import json

import msgspec
import pytest

from p2p.wire.messages import Refusal, RefusalCode
from p2p_controller.http.openapi import describe
from p2p_controller.http.operations import OPERATIONS, Operation, Verb
from p2p_controller.http.problems import refused

STATUS_BY_CODE = {"malformed": 422, "unknown_instance": 404, "namespace": 404, "closing": 503}


def described():
    """Returns the description as a client reads it."""
    return json.loads(msgspec.json.encode(describe(OPERATIONS)))


def test_names_are_unique_and_changes_are_posted():
    assert len({row.name for row in OPERATIONS}) == len(OPERATIONS)
    assert all(row.verb is Verb.POST for row in OPERATIONS if row.is_change)


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_every_operation_is_described(row: Operation):
    document = described()
    operation = document["paths"][row.path][row.verb.value.lower()]
    content = operation["responses"]["200"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert name == row.reply.__name__
    assert set(schema["properties"]) >= {field.encode_name for field in fields(row.reply)}
    if row.verb is Verb.GET:
        names = {parameter["name"] for parameter in operation["parameters"]}
    else:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        body = document["components"]["schemas"][reference.rpartition("/")[2]]
        assert body["additionalProperties"] is False
        names = set(body["properties"])
    assert names >= {f.name for f in fields(row.request)} - {"key_bytes"}
    assert ({"token": []} in operation["security"], {} in operation["security"]) == (
        True,
        not row.is_change,
    )


def fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def test_the_description_is_openapi():
    validator = pytest.importorskip("openapi_spec_validator", reason="in the extra dev")
    validator.validate(described())


@pytest.mark.parametrize("code", RefusalCode)
def test_a_refusal_keeps_its_code_and_values(code):
    error = refused(Refusal(code=code, field="f", ours="a", theirs="b"))
    assert error.status == STATUS_BY_CODE.get(code.value, 409)
    problem = error.problem
    assert (problem.code, problem.field, problem.ours, problem.theirs) == (
        code.value,
        "f",
        "a",
        "b",
    )
    ends = {RefusalCode.MALFORMED: "f: a", RefusalCode.LIMIT: "f = a are there already"}
    assert problem.message.endswith(ends.get(code, "f = 'b'; the controller has 'a'"))
