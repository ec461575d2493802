"""From an uploaded file to passages that are found: file → text → chunks → vectors → index, and back out again."""

from service.ingestion.pipeline import Ingestion

__all__ = ["Ingestion"]
