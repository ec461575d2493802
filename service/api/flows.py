"""Flows: what an app generates by schema."""

from __future__ import annotations

import logging
from functools import partial

import msgspec
from flask import Response

from service import logging as log
from service.api import problems
from service.api.answers import TAKES_OVER, Whole
from service.api.encoders import job_answer
from service.api.flow_schemas import FlowAnswer, FlowDescription, FlowsAnswer, FlowUsageAnswer
from service.api.parsing import idempotency_key
from service.api.routing import AnyOperation, Call, Operation, Reply
from service.api.schemas import JobAnswer, NoQuery
from service.apps import Flow
from service.errors import BrainstemError, NotFound
from service.flows.running import Flows
from service.flows.work import Prepared
from service.models import JSON, FlowResult, TurnError
from service.records import learned
from service.services import Services

BASE = "/v1/apps/<app>/flows"


def flows(services: Services) -> list[AnyOperation]:
    """The operations on an app's flows."""
    room, loop = services.flows, services.loop

    def list_flows(call: Call[NoQuery, None]) -> msgspec.Struct:
        return FlowsAnswer([described(flow) for flow in call.app.flows.values()])

    def run_flow(call: Call[NoQuery, dict[str, JSON]]) -> Response | Reply:
        name, key = call.ids["flow"], idempotency_key(call.request)
        flow = call.app.flows.get(name)
        if flow is None:
            raise NotFound
        if flow.file.mode == "job":
            job = services.flow_runs.submit(call.scope, call.app, name, call.body, key)
            return Reply(202, job_answer(job), {"Location": f"/v1/apps/{call.app.id}/jobs/{job.id}"})
        prepared = room.prepare(call.scope, call.app, name, call.body, call.request_id, key)
        # Who sends a key may come back for the answer.
        answer = Whole(loop, partial(made, room, prepared), call.request_id, outlives_client=key is not None)
        return respond(answer, taken_over=TAKES_OVER in call.request.environ)

    return [
        Operation(
            "list_flows", "GET", BASE, "member", "The app's flows, with the schemas of what they take and give", list_flows,
            {200: FlowsAnswer},
        ),
        Operation(
            "run_flow", "POST", f"{BASE}/<flow>", "member",
            "Run a flow: the body is its input, the answer an object that fits its schema, or the job that makes one", run_flow,
            {200: FlowAnswer, 202: JobAnswer}, any_object=True,
            headers={"Idempotency-Key": "Makes a run safe to send again: the same key is the same run or job, with one answer"},
        ),
    ]  # fmt: skip


async def made(room: Flows, prepared: Prepared) -> tuple[int, dict[str, str], bytes]:
    """Carry a run out, on the loop; return the answer's status, headers and body."""
    request_id = prepared.request_id
    try:
        result = await room.answer(prepared)
    except BrainstemError as error:
        if error.status >= 500:
            fields = {"app": prepared.scope.app, "request": request_id, "code": error.code}
            log.event("request_failed", logging.ERROR, error, **fields)
        return problems.answer(error, request_id)
    except Exception as error:  # noqa: BLE001  # a mistake must not leave the client without an answer
        log.event("request_crashed", logging.ERROR, error, app=prepared.scope.app, request=request_id)
        return problems.answer(BrainstemError(), request_id)
    if isinstance(result, TurnError):
        return problems.answer(result, request_id)
    return 200, {"Content-Type": "application/json"}, msgspec.json.encode(flow_answer(result))


def described(flow: Flow) -> FlowDescription:
    return FlowDescription(
        name=flow.name,
        description=flow.file.description,
        mode=flow.file.mode,
        input=flow.input.value,
        output=flow.output.value,
        sources=[source.name for source in flow.sources],
        report=list(flow.file.report.formats) if flow.file.report else [],
    )


def flow_answer(result: FlowResult) -> FlowAnswer:
    return FlowAnswer(result.output, msgspec.convert(result, learned(FlowUsageAnswer), from_attributes=True))


def respond(answer: Whole, *, taken_over: bool) -> Response:
    """The response whose body is an answer; where the server does not take it over, this waits for it."""
    if not taken_over:
        status, headers, body = answer.wait()
        return Response(body, status, headers)
    return Response(answer, content_type="application/json", direct_passthrough=True)
