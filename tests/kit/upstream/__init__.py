"""A scripted OpenAI-compatible server on a real socket: it says what a test enqueues, and fails as upstreams fail.

    with Upstream() as upstream:                          # upstream.url is the base URL, ending in /v1
        upstream.enqueue("Hello", " world")               # the next answer, one delta each, then finish and usage
        upstream.enqueue("Hello", gate := Gate(), "!")    # stops there: gate.reached.wait(5), then gate.open()
        upstream.enqueue("Hello", Reset())                # also Close() Hang() Pause(0.1) Repeat(b": ping\n\n", 0.01)
        upstream.enqueue("Hel", finish="length", usage=(7, 1))          # finish=None and usage=False leave them out
        upstream.script(faults.rate_limited(retry_after=1), times=3)    # the next three calls; see `faults`
        upstream.script(faults.status(500), on="embeddings")
        upstream.script(Verbatim([b"HTTP/1.1 200 OK\r\n\r\n", Close()]))      # every byte of a response, the head as well
        upstream.always(Answer(("one ", "two"), pause=0.01))            # what unscripted calls get from now on
        upstream.requests[-1].json["messages"]            # what came in; also .path .headers (lower case) .body .at
        upstream.connections, upstream.accepted           # connections open now, and ever
        upstream.until(lambda: upstream.disconnects == 1, seconds=1)    # clients that left in the midst of an answer

Scripts are used in the order of the calls, each once. Without one, the answer repeats the first words of the last user message.
`/v1/chat/completions` streams or not, as asked; `/v1/embeddings` gives vectors in which texts with common words are near
each other, of OpenAI's own sizes for its models and of 64 dimensions for others; `/v1/models` lists some names.

As a program it prints its URL and serves until it is ended: `python -m tests.kit.upstream --port 0 --words 200 --pause 0.01`.
"""

from __future__ import annotations

from tests.kit.upstream import faults
from tests.kit.upstream.replies import DIMENSIONS, Answer, text_vector
from tests.kit.upstream.script import (
    Close,
    Gate,
    Hang,
    Pause,
    Raw,
    Repeat,
    Request,
    Reset,
    Response,
    Verbatim,
    json_response,
)
from tests.kit.upstream.server import Upstream, blackhole

__all__ = [
    "DIMENSIONS",
    "Answer",
    "Close",
    "Gate",
    "Hang",
    "Pause",
    "Raw",
    "Repeat",
    "Request",
    "Reset",
    "Response",
    "Upstream",
    "Verbatim",
    "blackhole",
    "faults",
    "json_response",
    "text_vector",
]
