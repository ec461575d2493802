"""The zip package of an Office document; nothing is unpacked before its table of contents is found to be harmless."""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO

from lxml import etree

from service.errors import DocumentRejected
from service.ingestion.formats import OLE

MOST_PARTS = 10_000
MOST_BYTES = 400_000_000
MOST_PART_BYTES = 64_000_000
# Deflated XML is 5 to 50 times smaller; a bomb is a thousand times.
MOST_RATIO = 200
RATIO_MATTERS_BYTES = 1_000_000

DAMAGED = "This Word file is damaged and cannot be read."
PROTECTED = "This Word file is protected by a password. Save a copy without one and upload that."
OLD = "This is a file of an old Word version. Save it as .docx and upload that."
OTHER = "This file is sent as Word, but is a zip archive of another kind."
BOMB = "This Word file unpacks to far more than a document needs, and is not opened."


class Package:
    """An open archive, checked; raises `DocumentRejected` for what is none, or is protected, damaged or a bomb."""

    def __init__(self, file: BinaryIO) -> None:
        if file.read(len(OLE)) == OLE:
            raise DocumentRejected(PROTECTED if "EncryptedPackage".encode("utf-16-le") in file.read() else OLD)
        try:
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
            raise DocumentRejected(DAMAGED) from None
        parts = self.archive.infolist()
        if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_BYTES:
            raise DocumentRejected(BOMB)
        for part in parts:
            check(part)

    def main(self) -> str:
        """Return the name of the main part, as the package's relationships give it."""
        relationships = self.part("_rels/.rels")
        for relationship in () if relationships is None else relationships.iter("{*}Relationship"):
            if relationship.get("Type", "").endswith("/officeDocument"):
                return relationship.get("Target", "").lstrip("/")
        raise DocumentRejected(OTHER)

    def part(self, name: str) -> etree._Element | None:
        """Return the root of a part, `None` if there is none of that name."""
        try:
            data = self.archive.read(name)
        except KeyError:
            return None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError):
            raise DocumentRejected(DAMAGED) from None
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
        try:
            root = etree.fromstring(data, parser)
        except etree.XMLSyntaxError:
            if any(error.type == etree.ErrorTypes.ERR_NO_MEMORY for error in parser.error_log):
                raise MemoryError from None
            raise DocumentRejected(DAMAGED) from None
        # Word writes no document type; entities are only ever declared to do harm.
        if root.getroottree().docinfo.internalDTD is not None:
            raise DocumentRejected(BOMB)
        return root


def check(part: zipfile.ZipInfo) -> None:
    if part.flag_bits & 1:
        raise DocumentRejected(PROTECTED)
    ratio = part.file_size / max(1, part.compress_size)
    packed = part.file_size > RATIO_MATTERS_BYTES and ratio > MOST_RATIO
    is_text = part.filename.endswith((".xml", ".rels"))
    if packed or (is_text and part.file_size > MOST_PART_BYTES):
        raise DocumentRejected(BOMB)
    if part.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DocumentRejected(DAMAGED)
