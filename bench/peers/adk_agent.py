"""An agent that only passes the question on, for ADK's own environment."""

import os

from google.adk.agents import LlmAgent  # type: ignore[import-untyped]  # installed beside ADK alone
from google.adk.models.lite_llm import LiteLlm  # type: ignore[import-untyped]

model = LiteLlm(model="openai/m", api_base=os.environ["BENCH_UPSTREAM"], api_key="none")
root_agent = LlmAgent(name="bench", model=model, instruction="Answer briefly.")
