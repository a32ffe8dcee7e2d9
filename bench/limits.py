"""What this machine can do, measured in the same run: prints JSON, in units per second.

`sgemm`: float32 operations of a square product in numpy's BLAS, the nearest thing to the
multiply-add peak that is there to be measured; `write`: bytes set in memory already mapped;
`fresh_write`: bytes set in memory just allocated, the bound of a call that returns an array.
"""

import ctypes
import json
import time

import numpy as np

SIDE = 2048
BYTES = 512 << 20
ROUNDS = 5

# The limit that binds an operation, and what one row of it costs there.
COST = {
    "encode": lambda dim, ks: ("sgemm", 2 * dim * ks),
    "decode": lambda dim, ks: ("fresh_write", 4 * dim),
}


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    a = np.random.default_rng(1).random((SIDE, SIDE), dtype=np.float32)
    out = np.empty_like(a)
    memory = np.ones(BYTES, dtype=np.uint8)
    fill = lambda array: ctypes.memset(array.ctypes.data, 1, array.nbytes)
    works = {
        "sgemm": (2 * SIDE**3, lambda: np.matmul(a, a, out=out)),
        "write": (BYTES, lambda: fill(memory)),
        "fresh_write": (BYTES, lambda: fill(np.empty(BYTES, dtype=np.uint8))),
    }
    for _, work in works.values():
        work()
    rates = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, (amount, work) in works.items():
            rates[name].append(amount / seconds(work))
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
