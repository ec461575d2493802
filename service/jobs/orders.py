"""Jobs that are asked for: which kinds there are, what each takes, and the same job for the same key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from service.backends.interfaces import Write
from service.errors import Unprocessable
from service.jobs import Jobs
from service.jobs.submitting import new_job, submit_once
from service.models import Job, Scope
from service.records import to_record
from service.scope import shared

Whose: TypeAlias = Literal["own", "shared"]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a kind of job takes; a field that is not listed is refused."""


Begin: TypeAlias = Callable[[Scope, Job], tuple[Job, Sequence[Write]]]


def as_it_is(scope: Scope, job: Job) -> tuple[Job, Sequence[Write]]:
    return job, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A kind of job that may be asked for.

    `own` is the shape of its input for a job over what is one user's, `shared` for one over the app's; without a shape there is
    none. `check` raises `Unprocessable` for an input that fits its shape and yet will not do. A kind that is `apart` is carried out
    beside its user's data, because it removes them: its job is one of the app's, with the user in its input. `begin` returns the
    job as it is stored, and the writes that go with it.
    """

    own: type[Input] | None = None
    shared: type[Input] | None = None
    check: Callable[[Scope, Input], None] = lambda scope, given: None
    apart: bool = False
    begin: Begin = as_it_is


class Orders:
    """Submits the jobs that users and admins ask for."""

    def __init__(self, jobs: Jobs, kinds: Mapping[str, Order]) -> None:
        self._jobs = jobs
        self._kinds = kinds

    def shape(self, kind: str, whose: Whose) -> type[Input]:
        """Return the shape of a kind's input; raises `Unprocessable`, which names the kinds that there are."""
        shapes = {name: shape for name, order in self._kinds.items() if (shape := shape_of(order, whose))}
        if kind not in shapes:
            raise Unprocessable(f"`kind`: there are {listed(shapes)}.")
        return shapes[kind]

    def submit(self, scope: Scope, kind: str, given: Input, key: str | None) -> tuple[Scope, Job]:
        """Submit a job over what a scope has, and return it with the scope that it lies in.

        With a key it is the same job however often it is asked for; raises `IdempotencyMismatch` for another input under that key,
        and what the kind's check raises.
        """
        order = self._kinds[kind]
        order.check(scope, given)
        told = to_record(given)
        job, writes = order.begin(scope, new_job(scope, kind, told, told, key))
        where = shared(scope) if order.apart else scope
        return where, submit_once(self._jobs, where, job, writes)


def shape_of(order: Order, whose: Whose) -> type[Input] | None:
    return order.own if whose == "own" else order.shared


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
