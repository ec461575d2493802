"""Embeddings by Vertex AI."""

from __future__ import annotations

from service.backends.google.embeddings.embedder import VertexEmbedder

__all__ = ["VertexEmbedder"]
