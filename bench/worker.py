"""One process per peer and case, alive while its rounds last, doing one thing at a time.

A fresh process makes the thread settings true (they are set before any library loads) and
the memory of a call measurable. The parent holds a `Worker` for each and asks in turn.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
import traceback
from contextlib import suppress
from pathlib import Path

import numpy as np

import checks
import data
import peers

# A shorter call is repeated within one sample. What the pause before it leaves cold (caches, threads
# asleep) takes milliseconds, which would weigh more on a faster peer in a shorter sample.
LEAST_SECONDS = 0.2
LONG = 1.0  # seconds: such a call is its own warm-up
STATUS = Path("/proc/self/status")


def pinned(threads: int) -> dict[str, str]:
    """The environment that holds every library to this many threads."""
    names = ("OMP", "OPENBLAS", "MKL", "PICOPQ")
    return {f"{name}_NUM_THREADS": str(threads) for name in names}


def timed(work, calls: int):
    """Seconds per call, and processor time per second: the cores really used."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall / calls, "cores": cpu / wall}, result


def status(field: str) -> int:
    """A memory field of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def size(arrays) -> int:
    arrays = arrays if isinstance(arrays, tuple) else (arrays,)
    return sum(array.nbytes for array in arrays if array is not None)


class Bench:
    """The work of one peer on one case, inside its process."""

    def __init__(self, peer: str, threads: int, case, rows: int):
        library = peers.load(peer, threads)
        self.kernels = library.kernels()
        self.inputs = data.inputs(case, rows)
        self.work, self.answer = getattr(library, case.op)(self.inputs)
        self.check = getattr(checks, case.op)
        self.calls = 1

    def sample(self):
        return timed(self.work, self.calls)[0]

    def first(self):
        """The warm-up: one call, its memory beyond inputs and outputs, its answer checked.

        Memory is the resident high-water mark (VmHWM, reset through clear_refs) less what
        was resident before and less the bytes of the answer; `held` is what stays resident
        with the answer, without the pages of files, such as the library's code.
        """
        ctypes.CDLL(None).malloc_trim(0)  # else freed memory kept by malloc hides some
        Path("/proc/self/clear_refs").write_text("5")
        before, own = status("VmRSS"), status("RssAnon")
        sample, result = timed(self.work, 1)
        peak = status("VmHWM") - before
        ctypes.CDLL(None).malloc_trim(0)
        held = status("RssAnon") - own
        answer = self.answer(result)
        output = size(result if isinstance(result, np.ndarray) else answer)
        report = self.check(self.inputs, answer)
        if sample["seconds"] < LEAST_SECONDS:
            while self.sample()["seconds"] * self.calls < LEAST_SECONDS:
                self.calls *= 2
        return sample, {
            "kernels": self.kernels,
            "calls_per_sample": self.calls,
            "memory_bytes": max(0, peak - output),
            "held_bytes": held,
            "answer": report,
        }


def serve(pipe, *args):
    try:
        bench = Bench(*args)
        while request := pipe.recv():
            pipe.send((True, getattr(bench, request)()))
    except Exception:
        pipe.send((False, traceback.format_exc()))


class Failed(Exception):
    """A peer raised an error or its process died."""


class Worker:
    """The parent's end of one process."""

    def __init__(self, peer: str, threads: int, case, rows: int):
        self.peer, self.threads, self.case, self.rows = peer, threads, case, rows
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(other, peer, threads, case, rows), daemon=True
        )
        os.environ.update(pinned(threads))
        self.process.start()
        other.close()

    def start(self):
        sample, self.first = self.ask("first")
        self.samples = [sample] if sample["seconds"] >= LONG else []

    def ask(self, request: str):
        with suppress(BrokenPipeError):  # it failed while starting, and its report is waiting
            self.pipe.send(request)
        try:
            fine, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise Failed(f"{self.peer} died with status {self.process.exitcode}") from None
        if not fine:
            raise Failed(f"{self.peer} failed\n{value}")
        return value

    def stop(self):
        if self.process.is_alive():
            self.process.terminate()
        self.process.join()
