"""`python -m tests.kit.upstream`: the scripted server as a program, for benches and other processes."""

from __future__ import annotations

import argparse
import sys
import threading

from tests.kit.upstream import Answer, Upstream


def main() -> None:
    parser = argparse.ArgumentParser(prog="upstream", description="A scripted OpenAI-compatible server.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument(
        "--words", type=int, default=0, help="words of each answer; 0 repeats the question's first ones"
    )
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each word")
    options = parser.parse_args()
    with Upstream(options.port, record=False) as upstream:
        if options.words:
            upstream.always(Answer([f"word{n} " for n in range(options.words)], pause=options.pause))
        sys.stdout.write(f"{upstream.url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
