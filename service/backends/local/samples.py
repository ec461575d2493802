"""The smallest value that a JSON Schema admits: what the stand-in answers where a model would have to think of something."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from service.backends.local.patterns import shortest
from service.models import JSON

SAID = "No language model is set up."
FORMATS = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "nobody@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
SIGNS = {
    "object": ("properties", "required", "minProperties", "patternProperties", "dependentSchemas"),
    "array": ("items", "prefixItems", "minItems", "contains"),
    "string": ("minLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
"""By which keywords a schema without `type` shows what it means."""

LARGER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
SMALLER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
MAX_PARTS = 10_000

Part = Mapping[str, JSON]


class NoneSuch(Exception):
    """No value was found."""


def smallest(schema: str) -> str:
    """Return the smallest value, as JSON; texts that may say anything say that there is no model.

    It looks at what is required, at bounds and at alternatives, not at `not`, `if` and what depends on other fields: a schema that
    turns on those may not admit what this returns.
    """
    root: dict[str, JSON] = msgspec.json.decode(schema)
    try:
        value = Sampler(root).value(root)
    except NoneSuch:
        value = {}
    return msgspec.json.encode(value).decode()


class Sampler:
    """Makes values; `NoneSuch` where there is none, or where they would become too many."""

    def __init__(self, root: Part) -> None:
        self._definitions = root.get("$defs")
        self._parts = 0

    def value(self, schema: JSON) -> JSON:
        self._parts += 1
        if self._parts > MAX_PARTS or schema is False:
            raise NoneSuch
        part = self._whole(schema) if isinstance(schema, dict) else {}
        for key in ("anyOf", "oneOf"):
            if isinstance(choices := part.get(key), list):
                return self._first({name: value for name, value in part.items() if name != key}, choices)
        if "const" in part:
            return part["const"]
        if isinstance(values := part.get("enum"), list):
            return min(values, key=lambda value: len(msgspec.json.encode(value)))
        return self._of_type(kind(part), part)

    def _first(self, part: Part, choices: Sequence[JSON]) -> JSON:
        """A value of the first alternative that has one."""
        for choice in choices:
            try:
                return self.value(
                    merged(part, self._whole(choice)) if isinstance(choice, dict) else dict(part) if choice else False
                )
            except NoneSuch:
                continue
        raise NoneSuch

    def _whole(self, schema: Part) -> dict[str, JSON]:
        """A schema together with what its `$ref` and its `allOf` say."""
        part = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        name = schema.get("$ref")
        others = schema.get("allOf")
        found = [*others] if isinstance(others, list) else []
        if isinstance(name, str) and isinstance(self._definitions, dict):
            found.append(self._definitions.get(name.removeprefix("#/$defs/")))
        for other in found:
            if isinstance(other, dict):
                part = merged(part, self._whole(other))
        return part

    def _of_type(self, name: str, part: Part) -> JSON:
        match name:
            case "object":
                return self._object(part)
            case "array":
                return self._array(part)
            case "string":
                return text(part)
            case "integer" | "number":
                return number(part, whole=name == "integer")
            case "boolean":
                return False
        return None

    def _object(self, part: Part) -> JSON:
        properties, required = part.get("properties"), part.get("required")
        known = properties if isinstance(properties, dict) else {}
        names = [str(name) for name in required] if isinstance(required, list) else []
        names += [name for name in known if name not in names][: max(0, integer(part, "minProperties") - len(names))]
        names += [f"field{n}" for n in range(integer(part, "minProperties") - len(names))]
        other = part.get("additionalProperties", True)
        return {name: self.value(known.get(name, other)) for name in names}

    def _array(self, part: Part) -> JSON:
        first, rest, inner = part.get("prefixItems"), part.get("items", True), part.get("contains")
        least = integer(part, "minItems")
        if inner is not None:
            least = max(least, integer(part, "minContains", 1))
        schemas = [*first] if isinstance(first, list) else []
        schemas = [*schemas[:least], *([rest if inner is None else inner] * min(least - len(schemas), MAX_PARTS))]
        found: list[JSON] = []
        for schema in schemas:
            value = self.value(schema)
            found.append(
                next(other for other in variants(value, schema) if other not in found)
                if part.get("uniqueItems")
                else value
            )
        return found


def kind(part: Part) -> str:
    """Return the simplest type that a schema allows."""
    given = part.get("type")
    if isinstance(given, list):
        return min((str(name) for name in given), key=TYPES.index)
    if isinstance(given, str):
        return given
    return next((name for name, signs in SIGNS.items() if any(sign in part for sign in signs)), "null")


def merged(one: Part, other: Part) -> dict[str, JSON]:
    """Return what two schemas say together, as far as bounds, properties and required names go."""
    both = {**one, **other}
    for key in one.keys() & other.keys():
        a, b = one[key], other[key]
        if isinstance(a, dict) and isinstance(b, dict):
            both[key] = {**a, **b}
        elif key == "required" and isinstance(a, list) and isinstance(b, list):
            both[key] = [*a, *(name for name in b if name not in a)]
        elif isinstance(a, int | float) and isinstance(b, int | float) and key in LARGER | SMALLER:
            both[key] = max(a, b) if key in LARGER else min(a, b)
    return both


def integer(part: Part, key: str, default: int = 0) -> int:
    value = part.get(key, default)
    return int(value) if isinstance(value, int | float) else default


def text(part: Part) -> str:
    least, most = integer(part, "minLength"), integer(part, "maxLength", len(SAID))
    if isinstance(pattern := part.get("pattern"), str):
        examples = part.get("examples")
        given = [*(examples if isinstance(examples, list) else []), part.get("default"), shortest(pattern)]
        return next((each for each in given if isinstance(each, str)), "")
    said = FORMATS.get(str(part.get("format")), SAID)
    if len(said) > most:
        said = ""
    if least > MAX_PARTS:
        raise NoneSuch
    return said.ljust(least, ".")


def number(part: Part, *, whole: bool) -> int | float:
    """Return the number nearest to 0 that the bounds allow."""
    step = part.get("multipleOf", 1 if whole else None)
    low, high = bound(part, "minimum", -math.inf), bound(part, "maximum", math.inf)
    unit = step if isinstance(step, int | float) else 1
    above, below = bound(part, "exclusiveMinimum", -math.inf), bound(part, "exclusiveMaximum", math.inf)
    low = max(low, (math.floor(above / unit) + 1) * unit) if math.isfinite(above) else low
    high = min(high, (math.ceil(below / unit) - 1) * unit) if math.isfinite(below) else high
    if low > high and step is None:
        return (above + below) / 2
    if low <= 0 <= high:
        return 0
    nearest = math.ceil(low / unit) * unit if low > 0 else math.floor(high / unit) * unit
    if step is None:
        nearest = low if low > 0 else high
    return int(nearest) if nearest == int(nearest) else nearest


def bound(part: Part, key: str, default: float) -> float:
    value = part.get(key)
    return value if isinstance(value, int | float) else default


def variants(value: JSON, schema: JSON) -> Iterator[JSON]:
    """A value and others like it, for a list in which none may be twice."""
    yield value
    values = schema.get("enum") if isinstance(schema, dict) else None
    if isinstance(values, list):
        yield from values
        raise NoneSuch
    for n in range(1, MAX_PARTS):
        if isinstance(value, str):
            yield f"{value} {n}"
        elif isinstance(value, bool | None):
            yield True
        elif isinstance(value, int | float):
            yield value + n
        elif isinstance(value, list):
            yield [*value, n]
        else:
            yield {**value, f"field{n}": None}
    raise NoneSuch
