"""Ctrl-C, cancelling, progress, threads and processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import run, synthetic

import picopq
from picopq import evaluate


class Given(NamedTuple):
    vecs: np.ndarray  # (100_000, 64)
    codes: np.ndarray  # (100_000, 8)
    pq: picopq.PQ
    opq: picopq.OPQ
    slow: picopq.PQ  # 65,536 codewords a sub-space


@pytest.fixture(scope="module")
def given() -> Given:
    vecs = synthetic("gaussian", 100_000, 64)
    pq = picopq.PQ(8, 256, verbose=False).fit(vecs[:2000], iter=1)
    opq = picopq.OPQ(8, 256, verbose=False).fit(vecs[:2000], pq_iter=1, rotation_iter=1)
    slow = picopq.PQ(8, 2**16, verbose=False)
    slow.codewords, slow.Ds = vecs[: 2**16].reshape(-1, 8, 8).transpose(1, 0, 2).copy(), 8
    return Given(vecs, pq.encode(vecs), pq, opq, slow)


# Each would run for many seconds.
LONG_CALLS = {
    "fit": lambda g: g.pq.fit(g.vecs, iter=100_000),
    "fit of long steps": lambda g: g.slow.fit(g.vecs),
    "fit with k-means++": lambda g: g.slow.fit(g.vecs, minit="++"),
    "opq fit": lambda g: g.opq.fit(g.vecs, rotation_iter=100_000),
    "encode": lambda g: g.slow.encode(g.vecs),
    "search": lambda g: g.pq.search(g.vecs, g.codes, 10),
    "ground truth": lambda g: evaluate.ground_truth(g.vecs, g.vecs, 10),
    "distortion": lambda g: evaluate.distortion(g.slow, g.vecs),
}
# With a progress function.
CALLS = {
    "fit": lambda g, report: picopq.PQ(8, 64, verbose=False).fit(g.vecs, progress=report),
    "opq fit": lambda g, report: picopq.OPQ(8, 64, verbose=False).fit(
        g.vecs[:20_000], rotation_iter=3, pq_iter=3, progress=report
    ),
    "encode": lambda g, report: g.pq.encode(g.vecs, progress=report),
    "opq encode": lambda g, report: g.opq.encode(g.vecs, progress=report),
    "decode": lambda g, report: g.pq.decode(g.codes, progress=report),
    "opq decode": lambda g, report: g.opq.decode(g.codes, progress=report),
    "search": lambda g, report: g.pq.search(g.vecs[:500], g.codes, 10, progress=report),
    "search in blocks": lambda g, report: g.pq.search(
        g.vecs[:9000], g.codes[:1000], 10, progress=report
    ),
    "opq search": lambda g, report: g.opq.search(g.vecs[:500], g.codes, 10, progress=report),
    "ground truth": lambda g, report: evaluate.ground_truth(
        g.vecs, g.vecs[:2000], 10, progress=report
    ),
    "distortion": lambda g, report: evaluate.distortion(g.pq, g.vecs, progress=report),
    "opq distortion": lambda g, report: evaluate.distortion(g.opq, g.vecs, progress=report),
}


def fields(given: Given) -> list[object]:
    """What a training would replace."""
    models = (given.pq, given.opq, given.slow)
    return [given.opq.R, *(getattr(m, f) for m in models for f in ("codewords", "Ds", "losses"))]


@contextmanager
def interrupt_after(seconds: float) -> Iterator[list[float]]:
    """Send Ctrl-C during the block; the list then holds the time it was sent."""
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, interrupt)
    timer.start()
    try:
        yield sent
    finally:
        timer.cancel()


@pytest.mark.parametrize("name", LONG_CALLS)
def test_interrupt(name: str, given: Given) -> None:
    waited = []
    for _ in range(3):  # the best of three, as the machine may be busy with something else
        before = fields(given)
        with interrupt_after(0.5) as sent, pytest.raises(KeyboardInterrupt):
            LONG_CALLS[name](given)
        waited.append(time.perf_counter() - sent[0])
        assert all(a is b for a, b in zip(fields(given), before, strict=True))
    assert min(waited) <= 0.1


@pytest.mark.parametrize("name", CALLS)
def test_progress_rises_to_the_total(name: str, given: Given) -> None:
    seen: list[tuple[int, int]] = []
    threads = set()

    def report(done: int, total: int) -> None:
        threads.add(threading.get_ident())
        seen.append((done, total))

    CALLS[name](given, report)
    done, totals = zip(*seen, strict=True)
    assert threads == {threading.get_ident()}
    assert len(set(totals)) == 1 and done[-1] == totals[0] > 0
    assert list(done) == sorted(done) and done[0] >= 0


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", [Cancelled, KeyboardInterrupt, StopIteration])
def test_exception_in_progress_cancels(name: str, kind: type, given: Given) -> None:
    error = kind("enough")

    def report(done: int, total: int) -> None:
        raise error

    with pytest.raises(kind) as caught:
        CALLS[name](given, report)
    assert caught.value is error


def test_cancelled_fit_leaves_the_model(given: Given) -> None:
    def report(done: int, total: int) -> None:
        raise Cancelled

    for kind in (picopq.PQ, picopq.OPQ):
        model = kind(8, 64, verbose=False)
        with pytest.raises(Cancelled):
            model.fit(given.vecs, progress=report)
        assert model == kind(8, 64, verbose=False) and model.losses is None


def test_bar_of_tqdm(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    given.opq.encode(given.vecs, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("\rencode: ") and "100%" in err.splitlines()[-1]


def test_bar_without_tqdm(
    given: Given, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    given.pq.encode(given.vecs, progress=True)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("\rencode: ") and err.endswith("\rencode: 100 %\n")
    given.pq.encode(given.vecs, progress=False)
    assert capsys.readouterr() == ("", "")


def test_python_threads_on_one_object(given: Given) -> None:
    parts = np.array_split(given.vecs[:20_000], 8)
    expected = [given.pq.encode(part) for part in parts]
    table = given.pq.dtable(given.vecs[0])
    with ThreadPoolExecutor(8) as pool:
        encoded = [pool.submit(given.pq.encode, part) for part in parts * 4]
        fitted = [
            pool.submit(picopq.PQ(8, 64, verbose=False).fit, parts[0], iter=3) for _ in range(4)
        ]
        found = [pool.submit(table.topk, given.codes, 10) for _ in range(8)]
    for result, codes in zip(encoded, expected * 4, strict=True):
        assert np.array_equal(result.result(), codes)
    assert all(f.result() == fitted[0].result() for f in fitted)
    assert len({f.result()[1].tobytes() for f in found}) == 1


def test_other_python_threads_run_meanwhile(given: Given) -> None:
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.wait(0.01):
            ticks += 1

    clock = threading.Thread(target=tick)
    clock.start()
    start = time.perf_counter()
    given.pq.search(given.vecs[:1000], given.codes, 10)
    elapsed = time.perf_counter() - start
    stop.set()
    clock.join()
    assert ticks >= elapsed / 0.01 / 5


PROCESSES = """
import multiprocessing, sys
import numpy as np, picopq

def encode(part):
    return pq.encode(part)

def fitted(part):
    return picopq.PQ(4, 16, verbose=False).fit(part, iter=3).codewords

rng = np.random.default_rng(0)
vecs = rng.standard_normal((4000, 16)).astype(np.float32)
pq = picopq.PQ(4, 16, verbose=False).fit(vecs)

if __name__ == "__main__":
    codes = pq.encode(vecs)  # the pool of threads exists before the fork
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        parts = pool.map(encode, np.split(vecs, 8))
        trained = pool.map(fitted, [vecs] * 4)
    assert np.array_equal(np.concatenate(parts), codes)
    assert all(np.array_equal(t, fitted(vecs)) for t in trained)
    assert np.array_equal(pq.encode(vecs), codes)
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROCESSES)
    assert run(program, method, timeout=60) == "done\n"


def test_interrupt_ends_a_program(tmp_path: Path) -> None:
    program = (
        "import os, signal, threading, numpy as np, picopq\n"
        "vecs = np.random.default_rng(0).standard_normal((50_000, 64)).astype('f4')\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    picopq.PQ(8, 256, verbose=False).fit(vecs, iter=100_000)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    assert run("-c", program, timeout=30) == "interrupted\n"
