"""Firestore: the document store of the cloud, and the vector index that costs nothing while nobody asks it."""

from __future__ import annotations

from service.backends.google.firestore.documents import FirestoreDocuments
from service.backends.google.firestore.vectors import FirestoreVectors

__all__ = ["FirestoreDocuments", "FirestoreVectors"]
