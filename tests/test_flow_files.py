"""What an app declares of its flows: what holds, mistakes that name file, place and remedy, and schemas that nobody can be hung up with."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.apps import AppCatalog, Flow, load
from service.backends.local.patterns import shortest
from service.backends.local.samples import smallest
from service.cli import main
from service.errors import ConfigError
from service.json_schema import Fault, read_schema
from service.models import JSON
from tests.kit.apps import write_app, write_flow

ANY: dict[str, Any] = {"type": "object"}
NAMED: dict[str, Any] = {
    **ANY,
    "properties": {"company": {"$ref": "#/$defs/company"}},
    "$defs": {"company": {"$ref": "#/$defs/inner"}, "inner": {"type": "object", "properties": {"name": {}}}},
}
NESTED = "^(a+)+$"
"""Exponential for an engine that goes back and tries again."""


def flow_of(
    apps: Path, *, given: object = NAMED, output: object = ANY, prompt: str = "Judge {{company.name}}.", toml: str = ""
) -> Flow:
    """Load an app with one flow."""
    write_app(apps, "recipes")
    write_flow(apps, "recipes", "risk", given, output, prompt, toml)  # type: ignore[arg-type]
    return load(apps / "recipes").flows["risk"]


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        inner = {"properties": {"a": inner}}
    return inner


def chain(length: int, **last: object) -> dict[str, Any]:
    """Definitions each of which names the next one twice."""
    definitions: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(length)}
    return {**ANY, "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**definitions, f"d{length}": last}}


def field(**schema: object) -> dict[str, Any]:
    return {**ANY, "properties": {"a": schema}}


def test_a_flow_needs_a_prompt_and_two_schemas_only(tmp_path: Path) -> None:
    flow = flow_of(tmp_path)
    assert (flow.name, flow.file.mode, flow.model.max_output_tokens) == ("risk", "sync", 1024)
    assert flow.template.render({"company": {"name": "Acme"}}) == 'Judge "Acme".'


@pytest.mark.parametrize(
    ("toml", "key", "remedy"),
    [
        ('mode = "later"', "`flows.risk.mode`", "Correct"),
        ('report.title = "Risk"', "`flows.risk`", 'needs mode = "job"'),
        ('mode = "job"\nreport.title = "Of {{number}}"', "`flows.risk.report.title`", "no field of the flow's input"),
        ('mode = "job"\nreport = {title = "R", formats = ["docx"]}', "`flows.risk.report.formats[0]`", "Correct"),
        ('mode = "job"\nreport = {title = "R", formats = ["pdf", "pdf"]}', "`flows.risk.report`", "twice"),
        ("nonsense = 1", "`flows.risk.nonsense`", "Remove it"),
        ("[flows.risk.model]\ntemperature = 9", "`flows.risk.model.temperature`", "Correct"),
        ('[flows.other]\nprompt = "p"\ninput = "i"', "`flows.other.output` is missing", "Add it"),
        ('[flows.Bad]\nprompt = "p"\ninput = "i"\noutput = "o"', "a flow is named with a-z", "at most"),
        (
            '[flows.other]\nprompt = "p"\ninput = "../../secret.json"\noutput = "o"',
            "`flows.other.input` leads out",
            "inside",
        ),
        ('[flows.other]\nprompt = "p"\ninput = "none.json"\noutput = "o"', "`flows.other.input` names", "Create it"),
    ],
)
def test_a_mistake_in_app_toml_names_the_flow_and_the_key(tmp_path: Path, toml: str, key: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        flow_of(tmp_path, toml=toml)
    assert "recipes/app.toml" in error.value.detail
    assert key in error.value.detail
    assert remedy in error.value.detail


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('url = "https://{{company.name}}/x"', "`flows.risk.sources[0].url` is no address with a host"),
        ('url = "https://a.{{company.name}}.example/x"', "is no address with a host"),
        ('url = "https://registry.example:{{company.name}}/"', "is no address with a host"),
        ('url = "{{company.name}}://registry.example/"', "is no address with a host"),
        ('url = "https://ada@registry.example/"', "is no address with a host"),
        ('url = "https://registry.example\\\\@evil.example/"', "is no address with a host"),
        ('url = "ftp://registry.example/{{company.name}}"', "is no address with a host"),
        ('url = "https://registry.example/#{{company.name}}"', "is no address with a host"),
        ('url = "https://registry.example/a-{{company.name}}"', "mixes a placeholder with other text"),
        ('url = "https://registry.example/{{company.name}}.json"', "mixes a placeholder with other text"),
        ('url = "https://registry.example/?a=b{{company.name}}"', "mixes a placeholder with other text"),
        ('url = "https://registry.example/?{{company.name}}=b"', "mixes a placeholder with other text"),
        ('url = "https://registry.example/a b"', "holds spaces"),
        ('url = "https://registry.example/{{number}}"', "{{number}} is no field of the flow's input"),
        ('url = "https://registry.example/{{number"', "holds {{ or }}"),
        ('file = "../{{company.name}}.json"', "`flows.risk.sources[0].file` leads out of the app's folder"),
        ('file = "/etc/{{company.name}}"', "leads out of the app's folder"),
        ('file = "a/../../b"', "leads out of the app's folder"),
        ("", "a source has either `url` or `file`"),
        ('url = "https://a.example/"\nfile = "b"', "a source has either `url` or `file`"),
        ('file = "b"\nrequierd = true', "`flows.risk.sources[0].requierd` is not a key"),
        ('file = "b"\n[[flows.risk.sources]]\nname = "registry"\nfile = "c"', "two sources named registry"),
        ('file = "b"\n[[flows.risk.sources]]\nname = "media"\nfile = "c"', "the source media has no place in it"),
    ],
)
def test_a_mistake_in_a_source_names_it(tmp_path: Path, toml: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        flow_of(
            tmp_path,
            prompt="Judge {{sources.registry}}.",
            toml=f'[[flows.risk.sources]]\nname = "registry"\n{toml}',
        )
    assert told in error.value.detail


def test_places_of_sources_are_checked(tmp_path: Path) -> None:
    source = '[[flows.risk.sources]]\nname = "registry"\nfile = "sources/{{company.name}}.json"'
    assert [each.name for each in flow_of(tmp_path, prompt="{{sources.registry}}", toml=source).sources] == ["registry"]
    with pytest.raises(ConfigError, match=r"risk.md: \{\{sources.media\}\} is no source of the flow"):
        flow_of(tmp_path, prompt="{{sources.registry}} {{sources.media}}", toml=source)
    given = {**NAMED, "properties": {**NAMED["properties"], "sources": {}}}
    with pytest.raises(ConfigError, match="have one name"):
        flow_of(tmp_path, given=given, prompt="{{sources.registry}}", toml=source)


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ([], "It is no JSON object"),
        ({"type": "array"}, "The root is not"),
        ({**ANY, "$schema": "http://json-schema.org/draft-07/schema#"}, "`$schema` names another dialect"),
        (field(maxLenght=3), "`properties.a.maxLenght` is not a keyword"),
        (field(unevaluatedProperties=False), "`properties.a.unevaluatedProperties` is not a keyword"),
        (field(**{"$dynamicRef": "#x"}), "`properties.a.$dynamicRef` is not a keyword"),
        (field(**{"$id": "http://example.com/x"}), "`properties.a.$id` is not a keyword"),
        (field(**{"$ref": "https://example.com/schema.json"}), "leads to `#/$defs/<name>` of the same file alone"),
        (field(**{"$ref": "other.json"}), "leads to `#/$defs/<name>` of the same file alone"),
        (field(**{"$ref": "file:///etc/passwd"}), "leads to `#/$defs/<name>` of the same file alone"),
        (field(**{"$ref": "#"}), "leads to `#/$defs/<name>` of the same file alone"),
        (field(**{"$ref": "#/$defs/none"}), "leads nowhere"),
        ({**ANY, "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "leads back to itself"),
        ({**ANY, "$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "leads back to itself"),
        (field(type="strin"), "`properties.a.type` does not hold"),
        (field(minLength=-1), "`properties.a.minLength` does not hold"),
        (field(required="a"), "`properties.a.required` does not hold"),
        (field(pattern="("), "`properties.a.pattern` is no pattern that can be used"),
        (field(pattern="(?=a)b"), "`properties.a.pattern` is no pattern that can be used"),
        (field(pattern=r"(a)\1"), "`properties.a.pattern` is no pattern that can be used"),
        (field(pattern="((a{1,200}){1,200}){1,200}"), "`properties.a.pattern` is no pattern that can be used"),
        (field(patternProperties={"(?!a)": True}), "`properties.a.patternProperties.(?!a)` is no pattern"),
        (field(items=[1]), "`properties.a.items` is no schema"),
        (field(anyOf={}), "`properties.a.anyOf` is no list"),
        (field(properties=[]), "`properties.a.properties` is no object"),
        ({**ANY, **nested(60)}, "nested deeper than 48"),
        ({**ANY, **nested(200)}, "nested deeper than 48"),
        (chain(16, type="string"), "more than 2000 parts"),
        (chain(40, type="string"), "nested deeper than 48"),
        (field(enum=[*range(3000)]), "more than 2000 parts"),
        (field(enum=["x" * 200_000]), "larger than 100000 bytes"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["given", "output"])
def test_a_schema_that_does_not_hold_says_where_and_what_to_do(
    tmp_path: Path, schema: object, told: str, where: str
) -> None:
    schemas = {"given": ANY, "output": ANY, where: schema}
    began = time.thread_time()
    with pytest.raises(ConfigError) as error:
        flow_of(tmp_path, prompt="Judge.", given=schemas["given"], output=schemas["output"])
    assert time.thread_time() - began < 1
    assert f"recipes/schemas/risk.{'in' if where == 'given' else 'out'}.json: " in error.value.detail
    assert told in error.value.detail
    assert len(error.value.detail) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '{"type": "object", "a": NaN}'])
def test_a_schema_that_is_no_json_is_a_mistake(tmp_path: Path, text: str) -> None:
    flow_of(tmp_path)
    (tmp_path / "recipes" / "schemas" / "risk.out.json").write_text(text)
    with pytest.raises(ConfigError, match=r"risk\.out\.json: It is (not valid JSON|larger)"):
        load(tmp_path / "recipes")


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("Judge {{compnay.name}}.", "{{compnay.name}} is no field of the flow's input"),
        ("Judge {{company.age}}.", "{{company.age}} is no field of the flow's input"),
        ("Judge {{company.__class__}}.", "{{company.__class__}} is no field"),
        ("Judge {{company.name | upper}}.", "holds a placeholder that is none"),
        ("Judge {{7 * 7 + x()}}.", "holds a placeholder that is none"),
        ("Judge {{}}.", "holds a placeholder that is none"),
        ("Judge {{company.name}.", "holds {{ or }} that is no part of a placeholder"),
        ("Judge company.name}}.", "holds {{ or }} that is no part of a placeholder"),
        (" \n", "the prompt is empty"),
    ],
)
def test_a_placeholder_that_is_unknown_is_a_mistake(tmp_path: Path, prompt: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        flow_of(tmp_path, prompt=prompt)
    assert "recipes/prompts/risk.md" in error.value.detail
    assert told in error.value.detail


def test_the_command_that_checks_apps_shows_the_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow_of(tmp_path)
    monkeypatch.setenv("APPS_DIR", str(tmp_path))
    assert CliRunner().invoke(main, ["apps", "check"]).exit_code == 0
    (tmp_path / "recipes" / "prompts" / "risk.md").write_text("Judge {{compnay}}.")
    checked = CliRunner().invoke(main, ["apps", "check"])
    assert checked.exit_code == 1
    assert "{{compnay}} is no field of the flow's input" in checked.output


def test_a_running_catalog_sees_a_changed_schema_and_keeps_the_last_good_one(tmp_path: Path) -> None:
    flow_of(tmp_path)
    catalog = AppCatalog(tmp_path)
    file = tmp_path / "recipes" / "schemas" / "risk.out.json"
    assert catalog.get("recipes").flows["risk"].output.faults({}) == []
    for number, text in enumerate((json.dumps({**ANY, "required": ["a"]}), "broken"), 1):
        file.write_text(text)
        os.utime(file, (time.time() + 5 * number, time.time() + 5 * number))
        assert catalog.get("recipes").flows["risk"].output.faults({}) == [Fault("$.a", "is missing")]


# What no value can do


@pytest.mark.parametrize("pattern", [NESTED, "^(a|a)*$", "^(a|aa)+$", r"^([a-zA-Z0-9])(([\-.]|[_]+)?([a-zA-Z0-9]+))*$"])
def test_no_pattern_takes_longer_than_its_text_is_long(tmp_path: Path, pattern: str) -> None:
    output = field(pattern=pattern)["properties"] | {"b": {"patternProperties": {pattern: {"type": "integer"}}}}
    flow = flow_of(tmp_path, output={**ANY, "properties": output})
    began = time.thread_time()
    text = "a" * 200_000 + "!"
    assert [fault.path for fault in flow.output.faults({"a": text})] == ["$"]
    assert flow.output.faults({"b": {text: "x"}}) == []
    assert [fault.path for fault in flow.output.faults({"a": "a" * 30 + "!", "b": {"aa": "x"}})] == ["$.a", "$.b.*"]
    assert time.thread_time() - began < 1


def test_no_value_is_checked_for_longer_than_a_second() -> None:
    wide = read_schema(
        json.dumps({**ANY, "properties": {"a": {"allOf": [{"items": {"minimum": n}} for n in range(60)]}}}).encode()
    )
    same = read_schema(json.dumps(field(uniqueItems=True)).encode())
    several = read_schema(json.dumps(field(anyOf=[{"items": {"type": "string"}}] * 5)).encode())
    many: list[JSON] = [{"n": n} for n in range(50_000)]
    for schema, value, fits in ((wide, [*range(100, 100_000)], True), (same, many, True), (several, many, False)):
        began = time.thread_time()
        assert (schema.faults({"a": value}) == []) is fits
        assert time.thread_time() - began < 1


def test_a_value_that_is_nested_deep_is_a_fault() -> None:
    deep: JSON = 1
    for _ in range(100_000):
        deep = [deep]
    assert read_schema(b'{"type": "object"}').faults({"a": deep}) == [Fault("$", "is nested deeper than 32")]


def test_a_format_describes_and_checks_nothing(tmp_path: Path) -> None:
    schema = read_schema(json.dumps(field(type="string", format="email")).encode())
    assert schema.faults({"a": "no address"}) == []


def test_faults_hold_no_word_of_the_value() -> None:
    schema = read_schema(
        json.dumps({
            **ANY,
            "properties": {
                "e": {"enum": ["yes", "no"]}, "c": {"const": 1}, "o": {"oneOf": [{"type": "string"}, {"maxLength": 99}]},
                "n": {"propertyNames": {"maxLength": 2}}, "f": False, "x": {"not": {"type": "string"}},
                "d": {"dependentRequired": {"CANARY": ["b"]}}, "u": {"uniqueItems": True}, "m": {"additionalProperties": {"type": "null"}},
            },
            "additionalProperties": False,
        }).encode()
    )  # fmt: skip
    value: dict[str, JSON] = dict.fromkeys("ecofx", "CANARY") | {
        "n": {"CANARY": 1}, "d": {"CANARY": 1}, "u": ["CANARY"] * 2, "m": {"CANARY": "CANARY"}, "CANARY": 1,
    }  # fmt: skip
    faults = schema.faults(value)
    assert {fault.path for fault in faults} >= {"$.e", "$.c", "$.o", "$.f", "$.x", "$.n", "$.u", "$.m.*", "$"}
    assert "CANARY" not in str(faults)


# The smallest value


OBJECT = {"type": "object", "required": ["a"], "properties": {"a": {"const": 1}}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"enum": ["long", "a"]}, "a"),
        ({"type": ["string", "null"]}, None),
        ({"type": "string"}, "No language model is set up."),
        ({"type": "string", "maxLength": 3, "minLength": 2}, ".."),
        ({"type": "string", "format": "date"}, "1970-01-01"),
        ({"pattern": r"^[A-Z]{2}\d+$"}, "AA0"),
        ({"pattern": r"^(?<=a)", "examples": ["x"]}, "x"),
        ({"type": "integer", "minimum": 3, "multipleOf": 5}, 5),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}, 0.25),
        ({"maximum": -3}, -3),
        ({"type": "boolean"}, False),
        ({"minItems": 2, "items": {"type": "boolean"}, "uniqueItems": True}, [False, True]),
        ({"prefixItems": [{"const": 1}, {"const": 2}], "minItems": 3, "items": {"const": 3}}, [1, 2, 3]),
        ({"contains": {"const": 7}}, [7]),
        (OBJECT, {"a": 1}),
        ({"type": "object", "minProperties": 2, "properties": {"q": {"const": 1}}}, {"q": 1, "field0": None}),
        ({"anyOf": [False, OBJECT]}, {"a": 1}),
        ({"oneOf": [{**OBJECT, "required": ["a"]}, {"type": "string"}]}, {"a": 1}),
        ({"allOf": [{"minLength": 3}, {"minLength": 30, "type": "string"}]}, "No language model is set up..."),
    ],
)
def test_the_smallest_value_is_one_that_the_schema_admits(schema: dict[str, Any], value: JSON) -> None:
    whole = {**ANY, "required": ["v"], "properties": {"v": schema}}
    assert json.loads(smallest(json.dumps(whole))) == {"v": value}
    if "(?<=" not in str(schema):
        assert read_schema(json.dumps(whole).encode()).faults({"v": value}) == []


@pytest.mark.parametrize("schema", [{"minItems": 10**9}, {"minLength": 10**9}, {"pattern": "a{1000000}"}, False])
def test_a_value_that_would_be_huge_is_not_made(schema: object) -> None:
    began = time.thread_time()
    smallest(json.dumps({**ANY, "required": ["v"], "properties": {"v": schema}}))
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("pattern", ["(", "[", "a{", "*", r"(a)\1", "(?=a)", ")", "[z-a]", "\\"])
def test_a_pattern_that_is_too_much_has_no_shortest_text(pattern: str) -> None:
    assert shortest(pattern) is None
