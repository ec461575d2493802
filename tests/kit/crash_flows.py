"""Flows that run as jobs, to be killed: one that asks the model alone, and one that asks a source before and makes a report after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.models import JSON, Job
from tests.kit.apps import write_flow
from tests.kit.crash_stage import Kind, Stage

ANSWER = '{"level": "high"}'
"""What the provider says to everybody."""

SOURCE = "The kettle of the moon base is on record as number 61."
GIVEN: Mapping[str, JSON] = {"number": "K-61"}
WANTED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["number"],
    "properties": {"number": {"type": "string"}},
}
RISK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["level"],
    "properties": {"level": {"enum": ["low", "high"], "title": "Risk"}},
}
AS_JOB = 'mode = "job"\n'
WITH_SOURCE = '[[flows.rate.sources]]\nname = "registry"\nfile = "sources/{{number}}.json"\n'
WITH_REPORT = '[flows.rate.report]\ntitle = "Risk of {{number}}"\nformats = ["html", "json"]\n'


def declared(prompt: str, toml: str = "") -> Callable[[Stage], None]:
    """An app with the flow `rate`."""

    def prepare(stage: Stage) -> None:
        apps = stage.services.settings.apps_dir
        write_flow(apps, stage.scope.app, "rate", WANTED, RISK, prompt, AS_JOB + toml)
        sources = apps / stage.scope.app / "sources"
        sources.mkdir()
        (sources / "K-61.json").write_text(f'"{SOURCE}"')

    return prepare


def submit(stage: Stage) -> str:
    app = stage.services.apps.get(stage.scope.app)
    return stage.services.flow_runs.submit(stage.scope, app, "rate", GIVEN, key="once").id


def answered(*files: str) -> Callable[[Stage, Job], set[str]]:
    """The flow has its output and its files, and what is on record of its calls is what the job says that it cost."""

    def check(stage: Stage, job: Job) -> set[str]:
        assert job.output == {"level": "high"}
        assert (job.done, job.note) == (job.total, f"Answered by {stage.services.backends.model.name}")
        [row] = stage.all(
            "calls"
        )  # one of an attempt that died in the midst of it has no row, nor did it leave anything else
        assert (row.data["job"], row.data["flow"], row.data["outcome"]) == (job.id, "rate", "completed")
        assert (row.data["input_tokens"], row.data["output_tokens"]) == (job.input_tokens, job.output_tokens)
        assert [artifact.name for artifact in job.artifacts] == [*files]
        return {artifact.blob for artifact in job.artifacts}

    return check


FLOWS: Mapping[str, Kind] = {
    "flow": Kind(submit, answered(), declared("Judge {{number}}.")),
    "flow-report": Kind(
        submit,
        answered("report.html", "report.json"),
        declared("Judge {{number}} by {{sources.registry}}.", WITH_SOURCE + WITH_REPORT),
    ),
}
