"""huey's queue in SQLite, as `bench.queues` measures it: run by its own Python, prints one line of JSON."""

from __future__ import annotations

import json
import sys
import threading
import time

from huey import SqliteHuey  # type: ignore[import-not-found]  # it is in an environment of its own


def main() -> None:
    path, count, rounds, workers = sys.argv[1], *map(int, sys.argv[2:5])
    # As durable as ours while a task waits: WAL, and each commit on the disk.
    huey = SqliteHuey("bench", filename=path, fsync=True, results=False)
    done, arrived = threading.Semaphore(0), list[float]()

    @huey.task()  # type: ignore[untyped-decorator]
    def job(n: int) -> None:
        arrived.append(time.perf_counter())
        done.release()

    begun = time.perf_counter()
    for n in range(count):
        job(n)
    enqueued = count / (time.perf_counter() - begun)
    consumer = huey.create_consumer(workers=workers, worker_type="thread", periodic=False)
    begun = time.perf_counter()
    consumer.start()
    for _ in range(count):
        done.acquire()
    delivered = count / (time.perf_counter() - begun)
    delays = []
    for n in range(rounds):
        time.sleep(0.1)
        begun = time.perf_counter()
        job(n)
        done.acquire()
        delays.append(arrived[-1] - begun)
    delays.sort()
    figures = {
        "enqueued": enqueued,
        "delivered": delivered,
        "p50": delays[rounds // 2],
        "p95": delays[rounds * 19 // 20],
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    consumer.stop(graceful=False)


if __name__ == "__main__":
    main()
