"""The kinds of jobs that users and admins may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.apps import AppCatalog
from service.backends.interfaces import Backends
from service.config import Settings
from service.ingestion.pipeline import Ingestion
from service.jobs.attempt import Kinds
from service.jobs.erasure import Erasures
from service.jobs.export import Exports
from service.jobs.orders import Order
from service.jobs.reindex import Reindexes
from service.jobs.summaries import Summaries
from service.loop import Loop


@dataclass(frozen=True, slots=True)
class Asked:
    """What carries each of them out."""

    erasures: Erasures
    exports: Exports
    reindexes: Reindexes
    summaries: Summaries

    @property
    def handlers(self) -> Kinds:
        return {
            "erasure": self.erasures.handler,
            "export": self.exports.handler,
            "reindex": self.reindexes.handler,
            "summaries": self.summaries.handler,
        }

    @property
    def orders(self) -> Mapping[str, Order]:
        return {
            "erasure": self.erasures.order,
            "export": self.exports.order,
            "reindex": self.reindexes.order,
            "summaries": self.summaries.order,
        }


def asked_for(settings: Settings, backends: Backends, ingestion: Ingestion, apps: AppCatalog, loop: Loop) -> Asked:
    return Asked(
        erasures=Erasures(backends, settings.max_document_chunks),
        exports=Exports(backends),
        reindexes=Reindexes(backends.documents, ingestion, apps),
        summaries=Summaries(backends, apps, loop, settings.flow_seconds),
    )
