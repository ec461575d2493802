"""Print how well passages are found: `python -m bench.retrieval`."""

from __future__ import annotations

from bench.retrieval import run

if __name__ == "__main__":
    run()
