"""One file per library under test.

A peer is an object with one method per kind of work. `method(inputs)` prepares and returns
(work, answer): `work()` is what is timed, `answer(result)` turns its result into plain
arrays outside the clock. What an answer holds is written in checks.py. `kernels()` names the
instruction set that the library chose.
"""

from importlib import import_module

import numpy as np


def load(name: str, threads: int):
    """The peer called `name`, held to this many threads."""
    return import_module(f"peers.{name}_").peer(threads)


def searched(search, inputs):
    """Work and answer of `search(queries, k)` -> (distances, ids), batch after batch."""
    work = lambda: [search(queries, inputs.k) for queries in inputs.batches]
    return work, lambda found: tuple(map(np.concatenate, zip(*found)))
