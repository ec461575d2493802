"""What the operations on flows answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.api.schemas import Answer


class FlowDescription(Answer, frozen=True):
    """A flow of an app: `input` and `output` are the JSON Schemas of what it takes and gives.

    `mode` is `sync`, or `job` for one that is answered with a job; `sources` are asked before the model is, and `report` names the
    formats of the files that come of it.
    """

    name: str
    description: str
    mode: str
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    sources: list[str]
    report: list[str]


class FlowsAnswer(Answer, frozen=True):
    flows: list[FlowDescription]


class FlowUsageAnswer(Answer, frozen=True):
    """What the calls of a run took together; `estimated` where the model's provider did not count all of it."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    estimated: bool


class FlowAnswer(Answer, frozen=True):
    """`output` fits the flow's schema."""

    output: Mapping[str, Any]
    usage: FlowUsageAnswer
