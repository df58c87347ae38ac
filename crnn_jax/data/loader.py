"""Batches in the order of the plan, read ahead by threads or by spawned processes.

for batch in batches(plan, source, preprocessing, start=step, workers=4):
    ...
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from crnn_jax.core.preprocessing import Preprocessing
from crnn_jax.data.collate import Augment, Batch, collate, named_augment
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
        workers: processes to spawn; 0 reads with threads, which are enough while decoding
            (Pillow lets other threads run) is most of the work. A source or an augmentation that
            cannot be pickled is read with threads too, and a line on stderr says so.
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
    task = (source, preprocessing, named_augment(augment), seed)
    if workers and not _picklable(task):
        print(f"{source.name}: cannot be sent to processes, read by threads", file=sys.stderr)
        pool, call = _threads(workers, task)
    elif workers:
        pool, call = _processes(workers, task)
    else:
        workers = min(THREADS, os.cpu_count() or 1)
        pool, call = _threads(workers, task)
    # The plan's rows take time too (a window of rendered words is laid out), so they are made by
    # a thread of their own; the queue's length bounds what is read ahead.
    waiting: queue.Queue[Any] = queue.Queue(maxsize=AHEAD * workers)
    ended = threading.Event()
    planner = threading.Thread(
        target=_submit,
        args=(plan, start, stop, host, pool, call, waiting, ended),
        name="plan",
        daemon=True,
    )
    planner.start()
    try:
        while (future := waiting.get()) is not None:
            if isinstance(future, BaseException):
                raise future
            try:
                yield future.result()
            except BrokenProcessPool as error:
                raise RuntimeError("a process that reads pictures was killed") from error
    finally:
        ended.set()
        while not waiting.empty():  # the planner may be waiting for a free place
            waiting.get_nowait()
        planner.join()
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    plan: Plan,
    start: int,
    stop: int | None,
    host: tuple[int, int],
    pool: concurrent.futures.Executor,
    call: Callable[[PlanRow], Batch],
    waiting: "queue.Queue[Any]",
    ended: threading.Event,
) -> None:
    """Hands row after row to the pool; the queue gets futures, an exception, or None at the end."""
    step = start
    last: Any = None
    try:
        while not ended.is_set() and (stop is None or step < stop):
            future = pool.submit(call, plan.row(step).part(*host))
            _put(waiting, future, ended)
            step += 1
    except BaseException as error:  # noqa: BLE001 (raised again where the batches are asked for)
        last = error
    _put(waiting, last, ended)


def _put(waiting: "queue.Queue[Any]", item: Any, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(queue.Full):
            waiting.put(item, timeout=0.1)
            return


Task = tuple[Source, Preprocessing, Augment | None, int]


def _read(row: PlanRow, task: Task) -> Batch:
    source, preprocessing, augment, seed = task
    return collate(row, source, preprocessing, augment=augment, seed=seed)


def _threads(count: int, task: Task) -> tuple[concurrent.futures.Executor, Any]:
    pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="read")
    return pool, lambda row: _read(row, task)


def _processes(count: int, task: Task) -> tuple[concurrent.futures.Executor, Any]:
    # Spawned: a fork of a process that runs JAX's threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(count, context, _begin, (task,))
    return pool, _work


_task: list[Task] = []  # of a worker process


def _begin(task: Task) -> None:
    """In a worker process, before its first batch."""
    _task[:] = [task]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers to end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(row: PlanRow) -> Batch:
    return _read(row, _task[0])


def _picklable(task: Task) -> bool:
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True
