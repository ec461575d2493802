"""Print how well passages are found: `python -m bench.retrieval`."""

from __future__ import annotations

from bench.retrieval import lines, run

for line in lines(run()):
    print(line)
