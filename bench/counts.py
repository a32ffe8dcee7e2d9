"""Instructions per vector, counted by valgrind: python bench/counts.py

Unlike seconds they are the same on a busy machine, so that two versions of the code can be
compared anywhere. Valgrind knows no AVX-512, so the AVX2 kernels are counted. Needs the example
`counts` of crates/picopq, built in release mode; `make counts` does both and writes
bench/records/counts.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "target" / "release" / "examples" / "counts"
RECORD = ROOT / "bench" / "records" / "counts.json"
ENVIRONMENT = os.environ | {"PICOPQ_KERNELS": "avx2"}

# (work, M, Ks, rows): codes of 128 values; a fit has 5 iterations.
CASES = [
    ("encode", 8, 256, 2048),
    ("encode", 16, 256, 2048),
    ("encode", 32, 256, 2048),
    ("encode", 32, 16, 2048),
    ("encode", 64, 16, 2048),
    ("fit", 8, 256, 4096),
    ("fit", 16, 256, 4096),
    ("fit", 32, 256, 4096),
    ("fit", 16, 32, 4096),  # enough rows for each codeword to prune
]


def instructions(case: tuple[str, int, int, int]) -> int:
    """Instructions of one run of the work, without the making of its inputs."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    only = ["--toggle-collect=*measured*"]
    command = [*valgrind, *only, str(EXAMPLE), *map(str, case)]
    done = subprocess.run(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def main() -> None:
    print(f"{'work':8} {'M':>3} {'Ks':>4} {'instructions per vector':>24}")
    counts = []
    for case in CASES:
        work, m, ks, rows = case
        each = round(instructions(case) / rows)
        counts.append({"work": work, "m": m, "ks": ks, "rows": rows, "per_vector": each})
        print(f"{work:8} {m:3} {ks:4} {each:24,}", flush=True)
    RECORD.write_text(json.dumps({"kernels": "avx2", "counts": counts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
