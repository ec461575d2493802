"""The kinds of jobs that users and admins may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.backends.interfaces import Backends
from service.config import Settings
from service.jobs.attempt import Kinds
from service.jobs.erasure import Erasures
from service.jobs.orders import Order


@dataclass(frozen=True, slots=True)
class Asked:
    """What carries each of them out."""

    erasures: Erasures

    @property
    def handlers(self) -> Kinds:
        return {"erasure": self.erasures.handler}

    @property
    def orders(self) -> Mapping[str, Order]:
        return {"erasure": self.erasures.order}


def asked_for(settings: Settings, backends: Backends) -> Asked:
    return Asked(erasures=Erasures(backends, settings.max_document_chunks))
