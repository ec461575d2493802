"""`python -m tests.kit.upstream`: the scripted server as a program, for benches and other processes."""

from __future__ import annotations

import argparse
import sys
import threading
from dataclasses import replace

from tests.kit.upstream import Answer, Pause, Request, Response, Upstream
from tests.kit.upstream.replies import embeddings


class Slow(Upstream):
    """A server whose embeddings take some seconds."""

    embedding_seconds = 0.0

    def respond(self, request: Request) -> Response:
        if request.path != "/v1/embeddings" or not self.embedding_seconds:
            return super().respond(request)
        answer = embeddings(request)
        return replace(answer, steps=[Pause(self.embedding_seconds), *answer.steps])


def main() -> None:
    parser = argparse.ArgumentParser(prog="upstream", description="A scripted OpenAI-compatible server.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument(
        "--words", type=int, default=0, help="words of each answer; 0 repeats the question's first ones"
    )
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each word")
    parser.add_argument("--first", type=float, default=0.0, help="seconds before the first word")
    parser.add_argument("--embedding", type=float, default=0.0, help="seconds before an embedding is answered")
    options = parser.parse_args()
    slow = Slow(options.port, record=False)
    slow.embedding_seconds = options.embedding
    with slow as upstream:
        if options.words:
            words = [f"word{n} " for n in range(options.words)]
            upstream.always(Answer([Pause(options.first), *words] if options.first else words, pause=options.pause))
        sys.stdout.write(f"{upstream.url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
