"""The receipts of erasures, for who was erased: their own jobs are gone with all the rest."""

from __future__ import annotations

import msgspec

from service.api.orders import ErasureAnswer
from service.api.routing import AnyOperation, Call, Operation
from service.api.schemas import NoQuery
from service.errors import NotFound
from service.jobs.erasure import Receipt, receipt_path, subject_of
from service.records import from_record
from service.scope import shared
from service.services import Services


def erasures(services: Services) -> list[AnyOperation]:
    """The operation that shows a receipt."""
    documents = services.backends.documents

    def get_erasure(call: Call[NoQuery, None]) -> msgspec.Struct:
        [found] = documents.get(shared(call.scope), receipt_path(call.ids["erasure"]))
        receipt = from_record(Receipt, found.data) if found else None
        if receipt is None or receipt.subject != subject_of(call.scope):
            raise NotFound
        return msgspec.convert(receipt, ErasureAnswer, from_attributes=True)

    return [
        Operation(
            "get_erasure", "GET", "/v1/apps/<app>/erasures/<erasure>", "member",
            "The receipt of your erasure: how far it is, and how much was removed", get_erasure, {200: ErasureAnswer},
        ),
    ]  # fmt: skip
