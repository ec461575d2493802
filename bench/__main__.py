"""Runs every measurement and prints what it finds."""

from __future__ import annotations

import os
import platform

from bench import latency, retrieval, turns

if __name__ == "__main__":
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("The whole turn beside the upstream called directly")
    turns.run()
    print("\nThe first token behind slow services")
    latency.run()
    print("\nRetrieval")
    retrieval.run()
