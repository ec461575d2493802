"""Time for a part of a long job: its progress is written now and then, and after some minutes another delivery goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from service.backends.interfaces import Write
from service.jobs.attempt import Attempt, Unfinished
from service.models import JSON

SLICE_SECONDS = 240.0
"""Long enough that little is done twice, and far below what an attempt may take."""

SAVE_SECONDS = 2.0


class Slice:
    """One attempt's part of a job. `state` is what the next one needs to go on."""

    def __init__(self, attempt: Attempt, seconds: float = SLICE_SECONDS) -> None:
        self.attempt = attempt
        self._end = time.monotonic() + seconds
        self._saved = 0.0

    def step(
        self,
        state: JSON,
        done: int,
        total: int,
        note: str,
        *,
        now: bool = False,
        writes: Sequence[Write] = (),
        **changes: int,
    ) -> None:
        """Tell how far the job is (at once, if `now`, with other changes of it and the writes that belong to them).

        Raises `Unfinished` when this part is over, and what `Attempt.save` raises.
        """
        over = time.monotonic() > self._end
        if over or now or time.monotonic() > self._saved + SAVE_SECONDS:
            self.attempt.save(writes, state=state, done=done, total=total, note=note, **changes)
            self._saved = time.monotonic()
        if over:
            raise Unfinished
