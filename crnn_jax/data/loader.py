"""Batches in the order of the plan, read ahead by threads or by spawned processes.

for batch in batches(plan, source, preprocessing, start=step, workers=4):
    ...
"""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.batch import Augment, Batch, collate, get_augment
from crnn_jax.data.plan import Plan, PlanRow
from crnn_jax.data.source import Source

AHEAD = 2  # batches a worker has waiting
THREADS = 8  # at most, where nobody says: more fight over Python's lock


def batches(
    plan: Plan,
    source: Source,
    preprocessing: Preprocessing,
    *,
    start: int = 0,
    stop: int | None = None,
    workers: int = 0,
    host: tuple[int, int] = (0, 1),
    augment: Augment | str | None = None,
    seed: int = 0,
) -> Iterator[Batch]:
    """The batches of steps start, start + 1, ...; the same for any number of workers.

    Args:
        plan: tells which samples stand in which batch.
        source: the samples.
        preprocessing: the rule for resizing.
        start: first step.
        stop: step after the last; None goes on for ever.
        workers: processes to spawn, to which source and augmentation are pickled; 0 reads with
            threads, which are enough while decoding (Pillow lets other threads run) is most of
            the work.
        host: (index, count): only this host's rows of each batch.
        augment: of photographed pictures: a function as `collate` takes it, or its name in
            `data.augment` ('none', 'light', 'strong').
        seed: of the augmentation.

    Yields:
        `Batch`, each with arrays of its own.

    Raises:
        RuntimeError: a worker process was killed.
        Whatever reading a batch raises.
    """
    read = functools.partial(
        collate, source=source, preprocessing=preprocessing, augment=get_augment(augment), seed=seed
    )
    with contextlib.ExitStack() as stack:
        if workers:
            # Spawned: a fork of a process that runs JAX's threads can hang.
            context = multiprocessing.get_context("spawn")
            processes = concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (read,))
            stack.callback(processes.shutdown, cancel_futures=True)

        def make(step: int) -> Batch:
            row = plan.row(step).part(*host)
            return processes.submit(_work, row).result() if workers else read(row)

        # In processes too the rows are planned by threads of this one (a window of rendered words
        # takes a while to lay out); the number of futures bounds what is read ahead.
        ahead = AHEAD * (workers or min(THREADS, os.cpu_count() or 1))
        threads = ahead if workers else ahead // AHEAD
        pool = concurrent.futures.ThreadPoolExecutor(threads, "read")
        stack.callback(pool.shutdown, cancel_futures=True)
        steps = iter(itertools.count(start) if stop is None else range(start, stop))
        waiting = collections.deque(
            pool.submit(make, step) for step in itertools.islice(steps, ahead)
        )
        while waiting:
            try:
                batch = waiting.popleft().result()
            except BrokenProcessPool as error:
                raise RuntimeError("a process that reads pictures was killed") from error
            waiting.extend(pool.submit(make, step) for step in itertools.islice(steps, 1))
            yield batch


_read: list[Callable[[PlanRow], Batch]] = []  # of a worker process


def _begin(read: Callable[[PlanRow], Batch]) -> None:
    """In a worker process, before its first batch."""
    _read[:] = [read]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(row: PlanRow) -> Batch:
    return _read[0](row)
