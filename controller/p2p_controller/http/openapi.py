"""The OpenAPI 3.1 description, made from the table of operations and its structs."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

from p2p import __version__
from p2p_controller.http.operations import Operation, Verb
from p2p_controller.http.probes import Health, Readiness
from p2p_controller.http.problems import ErrorBody

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
SchemaByKind: TypeAlias = Mapping[type[msgspec.Struct], Json]
_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_ABOUT = (
    "What the controller of a KV cache fabric knows, and what it can be asked to do. "
    "Every answer with a status of 400 or more has the body ErrorBody."
)
_MEANINGS = {
    "400": "The body is no JSON.",
    "401": "The bearer token is missing or wrong.",
    "403": "Not allowed from there; the message says why.",
    "404": "The controller knows no such instance or namespace.",
    "408": "The body came too slowly.",
    "409": "The controller refused: `field` differs, `ours` is its value.",
    "413": "The body is too large.",
    "415": "The body is declared as something else than JSON.",
    "422": "A field does not fit: `field` names it, `theirs` is its value.",
    "502": "The controller answered something else.",
    "503": "The controller is silent, closing, or busy.",
}
_OF_BODIES = frozenset({"400", "408", "413", "415"})


def describe(operations: Iterable[Operation]) -> dict[str, Json]:
    """Returns the description of these operations and of what is always there."""
    rows = tuple(operations)
    kinds = [kind for row in rows for kind in (row.body.struct, row.reply)]
    kinds += [ErrorBody, Readiness, Health]
    unique = list(dict.fromkeys(kinds))
    references, components = msgspec.json.schema_components(unique, ref_template=_REF)
    schema_by_kind: SchemaByKind = dict(zip(unique, references, strict=True))
    paths: dict[str, Json] = {
        row.path: {row.verb.value.lower(): _described(row, schema_by_kind)} for row in rows
    }
    paths.update(_always(schema_by_kind))
    return {
        "openapi": "3.1.0",
        "info": {"title": "p2p-controller", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                status: _answer(meaning, schema_by_kind[ErrorBody])
                for status, meaning in _MEANINGS.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(row: Operation, schema_by_kind: SchemaByKind) -> Json:
    statuses = [s for s in _MEANINGS if row.verb is Verb.POST or s not in _OF_BODIES]
    responses: dict[str, Json] = {
        "200": _answer("Done.", schema_by_kind[row.reply]),
        **{status: {"$ref": f"#/components/responses/{status}"} for status in statuses},
    }
    described: dict[str, Json] = {
        "operationId": row.name,
        "summary": (row.request.__doc__ or row.name).strip().partition("\n")[0],
        "responses": responses,
    }
    fields = msgspec.structs.fields(row.body.struct)
    if row.verb is Verb.GET:
        described["parameters"] = [
            {
                "name": field.encode_name,
                "in": "query",
                "required": field.required,
                "schema": msgspec.json.schema(field.type),
            }
            for field in fields
        ]
    else:
        content: Json = {_JSON: {"schema": schema_by_kind[row.body.struct]}}
        is_needed = any(field.required for field in fields)
        described["requestBody"] = {"required": is_needed, "content": content}
    described["security"] = [{"token": []}] if row.is_change else [{}, {"token": []}]
    return described


def _answer(meaning: str, schema: Json) -> Json:
    return {"description": meaning, "content": {_JSON: {"schema": schema}}}


def _always(schema_by_kind: SchemaByKind) -> dict[str, Json]:
    forbidden: Json = {"$ref": "#/components/responses/403"}
    silent: Json = {"$ref": "#/components/responses/503"}
    text: Json = {"text/plain": {"schema": {"type": "string"}}}
    description: Json = {_JSON: {"schema": {"type": "object"}}}
    health = _answer("It answered within a second.", schema_by_kind[Health])
    ready = _answer("Answers are complete.", schema_by_kind[Readiness])
    not_ready = _answer("They are not, or nobody answers.", schema_by_kind[Readiness])
    rows: list[tuple[str, str, dict[str, Json]]] = [
        ("healthz", "Does the controller's loop answer?", {"200": health, "503": silent}),
        ("readyz", "Is the directory complete?", {"200": ready, "503": not_ready}),
        ("metrics", "Everything for Prometheus.", {"200": _plain("Metrics.", text)}),
        ("openapi.json", "This description.", {"200": _plain("OpenAPI.", description)}),
    ]
    return {
        f"/{name}": {
            "get": {
                "operationId": name.replace(".", "_"),
                "summary": summary,
                "security": [{}],
                "responses": {**responses, "403": forbidden},
            }
        }
        for name, summary, responses in rows
    }


def _plain(meaning: str, content: Json) -> Json:
    return {"description": meaning, "content": content}
