"""What this machine can do, measured in the same run: prints JSON, in units per second.

`fma`: float32 multiply-adds from registers, the bound of encode and fit; `l1_loads`: scalar loads
from the L1 cache, the bound of adist; `write`: bytes set in memory already mapped; `fresh_write`:
bytes set in memory just allocated, the bound of a call that returns an array. One thread.
"""

import ctypes
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

BYTES = 512 << 20
ROUNDS = 7

# The limit that binds an operation, and what one row of it costs there.
COST = {
    "encode": lambda dim, m, ks: ("fma", dim * ks),
    "fit": lambda dim, m, ks: ("fma", 20 * dim * ks),
    "adist": lambda dim, m, ks: ("l1_loads", m),
    "decode": lambda dim, m, ks: ("fresh_write", 4 * dim),
}


def compiled() -> ctypes.CDLL:
    """limits.c, built for this processor."""
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limits.so"
        flags = ["-O3", "-funroll-all-loops", "-march=native", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, "-o", library, source], check=True)
        loaded = ctypes.CDLL(str(library))
    for function in (loaded.multiply_adds, loaded.l1_loads):
        function.argtypes, function.restype = [ctypes.c_uint64], ctypes.c_uint64
    return loaded


def main():
    core = compiled()
    memory = np.ones(BYTES, dtype=np.uint8)

    def fill(array):
        ctypes.memset(array.ctypes.data, 1, array.nbytes)
        return array.nbytes

    works = {
        "fma": lambda: core.multiply_adds(20_000_000),
        "l1_loads": lambda: core.l1_loads(100_000),
        "write": lambda: fill(memory),
        "fresh_write": lambda: fill(np.empty(BYTES, dtype=np.uint8)),
    }
    for work in works.values():
        work()
    rates = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            amount = work()
            rates[name].append(amount / (time.perf_counter() - start))
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
