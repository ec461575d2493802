"""numpy's linear algebra, kept to the thread that calls it."""

from __future__ import annotations

from functools import cache


@cache
def use_calling_thread_only() -> None:
    """Keep BLAS from sharing a product out among threads of its own, for the whole process.

    They wait for each other by spinning: with anything else on the processor, embedding a question took ten times as long.
    Who wants several cores runs several products at once.
    """
    import numpy  # noqa: F401  # its BLAS must be loaded to be limited
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")
