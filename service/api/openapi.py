"""The API's description, OpenAPI 3.1, from the same operations and shapes that serve and validate it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from service import __version__
from service.api import schemas
from service.api.parsing import ID
from service.api.routing import AnyOperation

Description = dict[str, Any]
REF = "#/components/schemas/{name}"
EVENTS = {
    "accepted": schemas.AcceptedEvent,
    "citations": schemas.CitationsEvent,
    "delta": schemas.DeltaEvent,
    "done": schemas.DoneEvent,
    "error": schemas.ErrorEvent,
}
STATUS_WORDS = {
    200: "OK",
    202: "Accepted; it goes on after the answer",
    204: "Done",
    304: "Not changed",
    503: "Not ready",
}


def describe(operations: list[AnyOperation]) -> Description:
    """The whole description as JSON values."""
    shapes = {shape for operation in operations for shape in shapes_of(operation)} | {schemas.Problem, *EVENTS.values()}
    _, components = msgspec.json.schema_components(sorted(shapes, key=lambda shape: shape.__name__), ref_template=REF)
    paths: Description = {}
    for operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = describe_operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Brainstem", "version": __version__, "description": "One AI backend for all your apps."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"idToken": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "responses": {"Problem": {"description": "What went wrong", "content": problem_content()}},
        },
    }


def shapes_of(operation: AnyOperation) -> set[type[msgspec.Struct]]:
    shapes = {shape for shape in operation.answers.values() if shape is not None}
    if issubclass(operation.body, msgspec.Struct):
        shapes.add(operation.body)
    return shapes


def describe_operation(operation: AnyOperation) -> Description:
    described: Description = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": {str(status): answer(operation, status) for status in operation.answers}
        | {"default": {"$ref": "#/components/responses/Problem"}},
    }
    if operation.access != "public":
        described["security"] = [{"idToken": []}]
    if content := body_content(operation):
        described["requestBody"] = {"required": True, "content": content}
    return described


def parameters(operation: AnyOperation) -> list[Description]:
    found: list[Description] = [
        {"name": name, "in": "path", "required": True, "schema": path_schema(operation, name)}
        for name in re.findall(r"<(?:\w+:)?(\w+)>", operation.path)
    ]
    query_schema = msgspec.json.schema_components([operation.query])[1][operation.query.__name__]
    for name, schema in query_schema["properties"].items():
        found.append({"name": name, "in": "query", "required": False, "schema": without_null(schema)})
    for name, description in operation.headers.items():
        found.append({"name": name, "in": "header", "description": description, "schema": {"type": "string"}})
    return found


def path_schema(operation: AnyOperation, name: str) -> Description:
    if operation.access == "public":
        return {"type": "string"}
    pattern = "[a-z][a-z0-9-]{0,31}" if name == "app" else ID.pattern
    return {"type": "string", "pattern": f"^{pattern}$"}


def without_null(schema: Description) -> Description:
    """A query parameter is left out rather than null."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    plain = {key: value for key, value in schema.items() if key != "anyOf" and value is not None}
    return {**plain, **choices[0]} if choices else plain


def body_content(operation: AnyOperation) -> Description | None:
    if operation.upload:
        file = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
        return {"multipart/form-data": {"schema": {**file, "additionalProperties": False}}}
    if operation.any_object:
        return {"application/json": {"schema": {"type": "object"}}}
    if operation.body is type(None):
        return None
    return {"application/json": {"schema": reference(operation.body)}}


def answer(operation: AnyOperation, status: int) -> Description:
    shape = operation.answers[status]
    described: Description = {"description": STATUS_WORDS[status]}
    if shape is not None:
        described["content"] = {"application/json": {"schema": reference(shape)}}
        if operation.streams:
            described["content"]["text/event-stream"] = {
                "schema": {
                    "type": "string",
                    "description": "Events: "
                    + ", ".join(f"`{name}` ({kind.__name__})" for name, kind in EVENTS.items()),
                }
            }
    return described


def reference(shape: type) -> Description:
    return {"$ref": REF.format(name=shape.__name__)}


def problem_content() -> Description:
    return {"application/problem+json": {"schema": reference(schemas.Problem)}}
