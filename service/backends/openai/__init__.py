"""Any OpenAI-compatible endpoint: OpenAI, Ollama, vLLM, Vertex AI's compatible one. The SDK and the HTTP client are imported with the first call."""

from __future__ import annotations

from service.backends.openai.chat import OpenAIModel
from service.backends.openai.embeddings import OpenAIEmbedder
from service.backends.openai.vertex import VertexModel

__all__ = ["OpenAIEmbedder", "OpenAIModel", "VertexModel"]
