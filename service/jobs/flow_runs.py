"""Flows that run as jobs: submitted with their input, carried out step by step, and kept with what they cost."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from service.apps import App, AppCatalog, Flow
from service.backends.interfaces import BlobStore
from service.backends.limits import document_size
from service.errors import (
    BrainstemError,
    InvalidOutput,
    NotFound,
    RequestError,
    Superseded,
    TooLarge,
)
from service.flows.running import Flows
from service.flows.sources import Reading, Sources
from service.jobs import Attempt, Handler, Jobs, Result, artifacts, job_path
from service.jobs.submitting import new_job, submit_once
from service.models import JSON, Artifact, Call, FlowResult, Job, Scope, timestamp
from service.prompt_template import written
from service.records import from_text, to_record, to_text
from service.reports import Report, SourceLine, render
from service.usage import ledger_write

KIND = "flow"
MAX_INPUT_BYTES = 200_000
"""Of an input, which is stored with its job beside what comes of it."""

MAX_TITLE_CHARS = 200
STAND_IN = "stand-in"
STAND_IN_NOTE = "Answered by a stand-in: no language model is set up"
UNKEPT = "The model's answer cannot be kept with a job: it is too large, or has a list in a list."


class FlowRuns:
    """Submits flows as jobs."""

    def __init__(self, flows: Flows, jobs: Jobs) -> None:
        self._flows = flows
        self._jobs = jobs

    def submit(self, scope: Scope, app: App, name: str, given: Mapping[str, JSON], key: str | None = None) -> Job:
        """Have a flow run; with a key, the job that it began is found again.

        Raises what `Flows.prepare` raises without a key, `TooLarge`, and `IdempotencyMismatch` if the key began another input's job.
        """
        self._flows.prepare(scope, app, name, given)
        text = to_text(given)
        if len(text.encode()) > MAX_INPUT_BYTES:
            raise TooLarge(f"The input of a job must not be larger than {MAX_INPUT_BYTES} bytes.")
        told = {"flow": name, "title": title_of(app.flows[name], given), "given": text}
        return submit_once(self._jobs, scope, new_job(scope, KIND, given, told, name, key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is there already when a job is attempted again: what its sources told, and the model's answer with its moment."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    result: FlowResult | None = None
    answered: str = ""


def handler(flows: Flows, sources: Sources, apps: AppCatalog, blobs: BlobStore) -> Handler:
    """Return what carries flows out."""

    def run(attempt: Attempt) -> Result:
        app = apps.get(attempt.scope.app)
        flow = app.flows.get(attempt.job.input["flow"])
        if flow is None:
            raise NotFound("The app has no such flow any more.")
        return FlowJob(attempt, app, flow).run(flows, sources, blobs)

    def fail(scope: Scope, job: Job, reason: str) -> None:
        artifacts.clear(blobs, scope, job.id)

    return Handler(run=run, fail=fail, queue="interactive")


class FlowJob:
    """One attempt at a flow: asks the sources, then the model, then makes the report, each unless an earlier attempt did."""

    def __init__(self, attempt: Attempt, app: App, flow: Flow) -> None:
        job = attempt.job
        self._attempt = attempt
        self._app = app
        self._flow = flow
        self._given: dict[str, JSON] = msgspec.json.decode(job.input["given"])
        self._kept = from_text(Kept, job.state) if job.state else Kept()
        self._paid = job.input_tokens, job.output_tokens
        self._total = len(flow.sources) + 1 + bool(flow.file.report)

    def run(self, flows: Flows, sources: Sources, blobs: BlobStore) -> Result:
        """Raises as `Flows.run` and `Sources.ask` do, and what keeps a report from being made or stored."""
        if self._kept.result is None:
            self._ask_sources(sources)
            self._ask_model(flows)
        result = self._kept.result
        if result is None:
            raise InvalidOutput(UNKEPT)
        made = self._report(result, blobs)
        try:
            self._attempt.progress(self._total, self._total, note_of(result))
        except Superseded:
            for artifact in made:
                blobs.delete(self._attempt.scope, artifact.blob)
            raise
        if made:
            artifacts.tidy(blobs, self._attempt, made)
        (tokens_in, tokens_out), job = self._paid, self._attempt.job
        return Result(dict(result.output), made, job.input_tokens - tokens_in, job.output_tokens - tokens_out)

    def _ask_sources(self, sources: Sources) -> None:
        for n, source in enumerate(self._flow.sources):
            if source.name not in self._kept.readings:
                self._step(n, f"Asking source {source.name}")
                reading = sources.ask(source, self._given)
                self._kept = replace(self._kept, readings={**self._kept.readings, source.name: reading})

    def _ask_model(self, flows: Flows) -> None:
        attempt = self._attempt
        self._step(len(self._flow.sources), "Asking the model")
        flows.run(
            attempt.scope,
            self._app,
            self._flow.name,
            self._given,
            calls=f"{attempt.job.id}.{attempt.job.attempts}",
            job=attempt.job.id,
            readings=self._kept.readings,
            keep=self._keep,
            alive=lambda: not attempt.closed,
        )

    def _keep(self, outcome: FlowResult | BrainstemError | None, calls: Sequence[Call]) -> None:
        """Write the calls with the answer that they paid for, unless the job is another attempt's now."""
        tokens_in, tokens_out = self._paid
        changes: dict[str, object] = {
            "input_tokens": tokens_in + sum(call.input_tokens for call in calls),
            "output_tokens": tokens_out + sum(call.output_tokens for call in calls),
        }
        if isinstance(outcome, FlowResult):
            kept = Kept(readings=without_contents(self._kept.readings), result=outcome, answered=timestamp())
            if storable(replace(self._attempt.job, state=to_text(kept), output=outcome.output)):
                self._kept = kept
                changes["state"] = to_text(kept)
        self._attempt.save([ledger_write(call) for call in calls], **changes)

    def _report(self, result: FlowResult, blobs: BlobStore) -> tuple[Artifact, ...]:
        declared = self._flow.file.report
        if declared is None:
            return ()
        self._step(self._total - 1, "Writing the report")
        files = render(self._content(result), declared.formats)
        put = artifacts.put
        return tuple(put(blobs, self._attempt, file.name, io.BytesIO(file.content), file.media_type) for file in files)

    def _content(self, result: FlowResult) -> Report:
        return Report(
            title=title_of(self._flow, self._given),
            subtitle=f"{self._app.file.name}. {note_of(result)}.",
            value=dict(result.output),
            schema=self._flow.output.value,
            created=self._kept.answered,
            sources=[line(name, reading) for name, reading in self._kept.readings.items()],
        )

    def _step(self, done: int, note: str) -> None:
        """Tell what comes next, and keep what is there."""
        self._attempt.save(done=done, total=self._total, note=note, state=to_text(self._kept))


def note_of(result: FlowResult) -> str:
    return STAND_IN_NOTE if result.model == STAND_IN else f"Answered by {result.model}"


def title_of(flow: Flow, given: Mapping[str, JSON]) -> str:
    """What the report of a flow is called, on one line; nothing where it makes none."""
    title = " ".join(flow.title.render(given, in_title).split()) if flow.title else ""
    return title[:MAX_TITLE_CHARS]


def in_title(value: JSON) -> str:
    """A text stands in a title as it is; what is not there leaves its place empty."""
    if value is None:
        return ""
    return value if isinstance(value, str) else written(value)


def line(name: str, reading: Reading) -> SourceLine:
    """A source as a report names it; one that told nothing says so."""
    failed = reading.told.get("unavailable") or reading.told.get("empty")
    return SourceLine(name, reading.where, str(failed or reading.at))


def without_contents(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """What a report says of sources: where they were, and whether they told anything."""
    return {
        name: replace(reading, told={key: part for key, part in reading.told.items() if key != "content"})
        for name, reading in readings.items()
    }


def storable(job: Job) -> bool:
    """Whether a store takes a job as it is."""
    try:
        document_size(job_path(job.id), to_record(job))
    except RequestError:
        return False
    return True
