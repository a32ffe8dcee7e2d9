"""Processes and threads: each program in a fresh interpreter, ended by a watchdog if it hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import run, synthetic

import picopq
from picopq import Index

HEAD = """
import multiprocessing, os, sys, threading, time
import numpy as np, picopq
rng = np.random.default_rng(0)
vecs = rng.standard_normal((4000, 16)).astype(np.float32)
pq = picopq.PQ(4, 16, verbose=False).fit(vecs, iter=3)
index = picopq.Index(pq).add(vecs)
answers = index.search(vecs[:500], 10)[1]

def serve(number):
    index.add(vecs[:100])
    found = index.search(vecs[:500], 10)[1]
    assert len(index) == 4100 and np.isin(found, index.ids).all()
    picopq.PQ(4, 16, verbose=False).fit(vecs, iter=1)
    return index.search(vecs[:500], 10, subset=np.arange(4000))[1]

def check(results):
    results = list(results)
    assert all(np.array_equal(found, answers) for found in results)
    assert len(index) == 4000
    print(len(results))
"""

PROGRAMS = {
    "multiprocessing, fork": """
with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
    check(pool.map(serve, range(4), chunksize=1))
""",
    "multiprocessing, spawn": """
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        check(pool.map(serve, range(4), chunksize=1))
""",
    # A server that loads, forks its workers, and starts another for each that ends.
    "pre-forking": """
def worker(write):
    found = serve(0)
    os.write(write, bytes([np.array_equal(found, answers)]))
    os._exit(0)

good = 0
for generation in range(4):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        worker(write)
    os.close(write)
    good += os.read(read, 1)[0]
    assert os.waitpid(child, 0)[1] == 0
    index.search(vecs[:50], 10)  # the parent works on
check([answers] * good)
""",
    # The child of a child.
    "forks of forks": """
def descend(depth):
    found = serve(0)
    if depth:
        child = os.fork()
        if child == 0:
            index.remove(index.ids[4000:])
            descend(depth - 1)
        assert os.waitpid(child, 0)[1] == 0
    os._exit(not np.array_equal(found, answers))

child = os.fork()
if child == 0:
    descend(3)
assert os.waitpid(child, 0)[1] == 0
check([answers] * 4)
""",
    # Another thread of the parent holds the writer's lock at the moment of each fork.
    "fork during add": """
busy, stop = picopq.Index(pq), threading.Event()

def write():
    while not stop.is_set():
        ids = busy.add(vecs).ids
        busy.remove(ids)

threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()
good = 0
for _ in range(40):
    child = os.fork()
    if child == 0:
        busy.remove(busy.ids)
        busy.add_codes(pq.encode(vecs))
        os._exit(0 if len(busy) == 4000 else 1)
    good += os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
assert good == 40
check([answers] * 4)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_forks(name: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HEAD + PROGRAMS[name])
    assert run(program, timeout=60) == "4\n"


def test_joblib(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        HEAD
        + """
import joblib
if __name__ == "__main__":
    for backend in ("loky", "threading", "multiprocessing"):
        parts = joblib.Parallel(2, backend=backend)(joblib.delayed(pq.encode)(vecs) for _ in "abcd")
        assert all(np.array_equal(part, pq.encode(vecs)) for part in parts)
    check([answers] * 4)
"""
    )
    assert run(program, timeout=60) == "4\n"


def test_many_processes_with_few_threads() -> None:
    program = HEAD + (
        "assert picopq.num_threads() == 2\n"
        "print(len(os.listdir('/proc/self/task')), pq.encode(vecs).sum(), answers.sum())\n"
    )
    command = [sys.executable, "-c", program]
    env = os.environ | {"PICOPQ_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    many = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(12)
    ]
    printed = [process.communicate(timeout=100)[0].split() for process in many]
    assert all(process.returncode == 0 for process in many)
    assert len({tuple(words[1:]) for words in printed}) == 1
    # The main thread, two of the pool, and one of the crew that helps it.
    assert all(int(words[0]) <= 4 for words in printed)


def test_a_machine_that_refuses_threads() -> None:
    """A stack for a thread does not fit the address space; memory for the work does."""
    program = (
        "import resource, numpy as np, picopq\n"
        "rng = np.random.default_rng(0)\n"
        "vecs = rng.standard_normal((20_000, 64)).astype(np.float32)\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**27, size + 2**27))\n"
        "import threading\n"
        "threading.stack_size(2**30)\n"
        "try:\n"
        "    threading.Thread(target=print).start()\n"
        "except RuntimeError:\n"
        "    print('no threads')\n"
        "pq = picopq.PQ(8, 16, verbose=False).fit(vecs, iter=2)\n"
        "index = picopq.Index(pq).add(vecs)\n"
        "print(index.search(vecs, 1)[1].shape)\n"
    )
    found = run("-c", program, PICOPQ_NUM_THREADS="4", RUST_MIN_STACK=str(2**30))
    assert found == "no threads\n(20000, 1)\n"


def test_threads_on_one_index() -> None:
    """Four that search while four add and remove: every answer is that of some moment."""
    vecs = synthetic("clustered", 4000, 16)
    pq = picopq.PQ(4, 16, verbose=False).fit(vecs, iter=3)
    index = Index(pq).add(vecs)
    stays = np.arange(4000)
    expected = index.search(vecs[:200], 10, subset=stays)
    parts = np.array_split(vecs, 4)

    def write(number: int) -> None:
        for turn in range(10):
            ids = 10_000 * (number + 1) + 1000 * turn + np.arange(1000)
            index.add(parts[number], ids)
            assert index.remove(ids[::2]) == 500
            assert np.array_equal(index.reconstruct(ids[1::2]), pq.decode(pq.encode(parts[number]))[1::2])
            assert index.remove(ids) == 500

    def read(number: int) -> None:
        for _ in range(10):
            found = index.search(vecs[:200], 10, subset=stays)
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
            dists, ids = index.search(vecs[:20], 10)
            assert (np.diff(dists) >= 0).all() and (ids >= 0).all()
            assert (pq.encode(parts[number]) == pq.encode(parts[number])).all()

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(call, number) for number in range(4) for call in (write, read)]
        for call in calls:
            call.result(timeout=60)
    assert np.array_equal(index.ids, stays)


# --- a saver that is killed ---

SAVER = """
import os, sys, numpy as np, picopq
path, faiss = sys.argv[1], sys.argv[2] == "faiss"
rng = np.random.default_rng(0)
vecs = rng.standard_normal((300, 16)).astype(np.float32)
pq = picopq.PQ(4, 16, verbose=False).fit(vecs, iter=1)
codes = pq.encode(vecs)
indexes = [picopq.Index(pq).add_codes(np.resize(codes, (n, 4))) for n in (30_000, 60_000)]
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
        continue
    while True:
        for index in indexes:
            if faiss:
                picopq.write_faiss(index, path)
            else:
                index.save(path)
"""


@pytest.mark.parametrize("kind", ["picopq", "faiss"])
def test_killed_while_saving(kind: str, tmp_path: Path) -> None:
    """kill -9, 100 times for each format: the old file or the new one, whole."""
    path = tmp_path / "index"
    load: Callable[[Path], object] = Index.load if kind == "picopq" else picopq.read_faiss
    rng = np.random.default_rng(0)
    # Forked from one process that is ready: starting Python takes longer than saving.
    command = [sys.executable, "-c", SAVER, str(path), kind]
    seen = set()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin and parent.stdout
        assert parent.stdout.readline() == "ready\n"
        for _ in range(100):
            print("fork", file=parent.stdin, flush=True)
            child = int(parent.stdout.readline())
            time.sleep(rng.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "ended\n"
            if path.exists():
                seen.add(len(load(path)))
        parent.stdin.close()
    assert seen == {30_000, 60_000}
    # A killed process cannot remove its temporary file: at most one for each kill, none named as
    # what was saved.
    left = [entry.name for entry in tmp_path.iterdir() if entry.name != "index"]
    assert len(left) <= 100 and all(name.startswith(".picopq-") for name in left)
    load(path).save(path) if kind == "picopq" else None
    assert len(list(tmp_path.iterdir())) == 1 + len(left)


# --- Ctrl-C, in an index ---


def interrupted(call: Callable[[], object], after: float) -> float:
    """Seconds from Ctrl-C to the end of the call."""
    sent = 0.0

    def interrupt() -> None:
        nonlocal sent
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    return time.perf_counter() - sent


@pytest.fixture(scope="module")
def large() -> tuple[Index, np.ndarray]:
    """Adding or searching all of the vectors takes seconds."""
    vecs = synthetic("gaussian", 200_000, 64)
    pq = picopq.PQ(16, 256, verbose=False).fit(vecs[:2000], iter=1)
    return Index(pq).add(vecs), vecs


@pytest.fixture(scope="module")
def slow(large: tuple[Index, np.ndarray]) -> Index:
    """An empty one of 65,536 codewords in each sub-space."""
    vecs = large[1]
    pq = picopq.PQ(8, 2**16, verbose=False)
    pq.codewords, pq.Ds = vecs[: 2**16].reshape(-1, 8, 8).transpose(1, 0, 2).copy(), 8
    return Index(pq)


INDEX_CALLS: dict[str, Callable[[Index, Index, np.ndarray], object]] = {
    "add": lambda index, slow, vecs: slow.add(vecs),
    "search": lambda index, slow, vecs: index.search(vecs, 10),
    "range search": lambda index, slow, vecs: index.range_search(vecs, 100.0),
}


@pytest.mark.parametrize("name", INDEX_CALLS)
def test_interrupt(name: str, large: tuple[Index, np.ndarray], slow: Index) -> None:
    """50 trials, of which 49 within 100 ms; the index stays as it is."""
    index, vecs = large
    rng = np.random.default_rng(0)
    call = lambda: INDEX_CALLS[name](index, slow, vecs)  # noqa: E731
    waited = sorted(interrupted(call, rng.uniform(0.02, 0.3)) for _ in range(50))
    assert len(index) == 200_000 and len(slow) == 0
    assert waited[48] <= 0.1, waited[-5:]


class Enough(Exception):
    pass


@pytest.mark.parametrize("name", ["add", "add_codes", "search", "range_search"])
@pytest.mark.parametrize("kind", [Enough, KeyboardInterrupt, StopIteration, MemoryError])
def test_exception_in_progress(
    name: str, kind: type[BaseException], large: tuple[Index, np.ndarray]
) -> None:
    index, vecs = large
    error = kind("enough")

    def report(done: int, total: int) -> None:
        raise error

    arguments = {
        "add": (vecs[:100_000],),
        "add_codes": (index.codes,),
        "search": (vecs[:2000], 10),
        "range_search": (vecs[:2000], 1.0),
    }
    with pytest.raises(kind) as caught:
        getattr(index, name)(*arguments[name], progress=report)
    assert caught.value is error
    assert len(index) == 200_000
