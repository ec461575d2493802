"""The rooms of one process, assembled from settings and backends."""

from __future__ import annotations

from dataclasses import dataclass

from service.apps import AppCatalog, Defaults
from service.backends.interfaces import Backends
from service.chat.machine import Pace
from service.chat.prepare import Turns
from service.config import Settings
from service.context import Context
from service.conversations import Conversations
from service.flows.running import Flows
from service.flows.sources import Sources
from service.ingestion import Ingestion
from service.ingestion.notes import Notes
from service.jobs import Jobs
from service.jobs.asked import Asked, asked_for
from service.jobs.flow_runs import FlowRuns, handler
from service.jobs.kinds import Ingestions, kinds
from service.jobs.orders import Orders
from service.jobs.sweeper import Sweeper
from service.loop import Loop
from service.members import Members
from service.queues import caps
from service.readiness import Readiness
from service.usage import Usage


@dataclass(frozen=True, slots=True)
class Services:
    """What the HTTP edge and the command line stand on."""

    settings: Settings
    backends: Backends
    apps: AppCatalog
    members: Members
    conversations: Conversations
    context: Context
    turns: Turns
    flows: Flows
    flow_runs: FlowRuns
    usage: Usage
    ingestion: Ingestion
    ingestions: Ingestions
    jobs: Jobs
    asked: Asked
    orders: Orders
    sweeper: Sweeper
    notes: Notes
    loop: Loop
    readiness: Readiness


def assemble(settings: Settings, backends: Backends) -> Services:
    """Put the rooms together; nothing is opened or started by it."""
    conversations = Conversations(backends.documents, settings.stage_seconds + settings.lease_seconds)
    context = Context(backends.documents, backends.vectors, backends.embedder)
    pace = Pace(
        first_save=settings.first_save_seconds,
        checkpoint=settings.checkpoint_seconds,
        lease=settings.lease_seconds,
        heartbeat=settings.heartbeat_seconds,
    )
    turns = Turns(
        conversations,
        context,
        backends.model.name,
        pace,
        threads=settings.threads,
        seconds=settings.stage_seconds,
    )
    apps = AppCatalog(settings.apps_dir, Defaults(backends.model.name, backends.embedder.model, settings.free))
    loop = Loop()
    sources = Sources()
    flows = Flows(
        backends.documents,
        backends.model,
        sources,
        loop,
        seconds=settings.flow_seconds,
        lease_seconds=settings.lease_seconds,
    )
    ingestion = Ingestion(settings, backends, apps)
    asked = asked_for(settings, backends, ingestion, apps, loop)
    own = kinds(ingestion, handler(flows, sources, apps, backends.blobs))
    windows = {queue: cap.window for queue, cap in caps(settings).items()}
    jobs = Jobs(backends.documents, backends.queue, {**own, **asked.handlers}, windows=windows)
    ingestions = Ingestions(backends.documents, ingestion, jobs)
    return Services(
        settings=settings,
        backends=backends,
        apps=apps,
        members=Members(backends.documents, settings.membership_seconds),
        conversations=conversations,
        context=context,
        turns=turns,
        flows=flows,
        flow_runs=FlowRuns(flows, jobs),
        usage=Usage(backends.documents),
        ingestion=ingestion,
        ingestions=ingestions,
        jobs=jobs,
        asked=asked,
        orders=Orders(jobs, asked.orders),
        sweeper=Sweeper(jobs, apps.available),
        notes=Notes(backends.documents, ingestion, ingestions.submit),
        loop=loop,
        readiness=Readiness(backends),
    )
