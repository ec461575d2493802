"""PostgreSQL with pgvector as the index of passages. The driver is imported with the first call."""

from __future__ import annotations

from service.backends.postgres.vectors import PostgresVectors

__all__ = ["PostgresVectors"]
