"""Encode a file larger than memory with the command line, beside a short script over Faiss.

The file (fbin) repeats the real rows of examples/definitions. Before each run its pages leave the
system's cache, as far as the system lets them go. Peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import data
import picopq

CLI = data.ROOT / "target" / "release" / "picopq"
MEMORY_ROWS = 50_000
BLOCK_ROWS = 65_536
KILL_AT = 0.4  # of the seconds of a whole run

FAISS = f"""
import sys
import faiss, numpy as np
source, model, output, threads = sys.argv[1:]
faiss.omp_set_num_threads(int(threads))
index = faiss.read_index(model)
rows, dim = np.fromfile(source, np.uint32, 2)
vecs = np.memmap(source, np.float32, "r", offset=8, shape=(int(rows), int(dim)))
for first in range(0, len(vecs), {BLOCK_ROWS}):
    index.add(np.ascontiguousarray(vecs[first : first + {BLOCK_ROWS}]))
faiss.write_index(index, output)
"""


def make(path: Path, gigabytes: float) -> int:
    """An fbin file of about that size; its number of rows."""
    rows = np.load(data.ROOT / "examples" / "definitions" / "vectors.npy").astype(np.float32)
    total = int(gigabytes * 1e9) // rows[0].nbytes
    with open(path, "wb") as file:
        np.array([total, rows.shape[1]], np.uint32).tofile(file)
        for first in range(0, total, len(rows)):
            rows[: total - first].tofile(file)
        file.flush()
        os.fsync(file.fileno())
    return total


def forget(path: Path) -> None:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_seconds(path: Path) -> float:
    forget(path)
    start, block = time.perf_counter(), bytearray(1 << 24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(block):
            pass
    return time.perf_counter() - start


def measured(arguments: list[object], environment: dict[str, str]) -> dict[str, float]:
    """Seconds and peak resident bytes of a process that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen([str(argument) for argument in arguments], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[0]} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - start, "peak_bytes": usage.ru_maxrss * 1024}


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if sys.version_info >= (3, 11) else (
            hashlib.sha256(file.read()).hexdigest()
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=8.0, help="size of the file, 10^9 bytes")
    parser.add_argument("--m", type=int, default=16, help="sub-spaces")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the file is made, on the disk to measure")
    parser.add_argument("--output", type=Path, default=data.ROOT / "target" / "stream.json")
    options = parser.parse_args()
    names = ("OMP", "OPENBLAS", "PICOPQ")
    environment = os.environ | {f"{name}_NUM_THREADS": str(options.threads) for name in names}
    picopq.set_num_threads(options.threads)

    parent = options.folder or data.ROOT / "target"
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        source = folder / "base.fbin"
        rows = make(source, options.gb)
        some = next(picopq.io.blocks(source, MEMORY_ROWS))
        pq = picopq.PQ(options.m, verbose=False).fit(some[:20_000])
        pq.save(folder / "model.safetensors")
        picopq.write_faiss(pq, folder / "model.faiss")
        codes, partial = folder / "codes.npy", folder / "codes.npy.partial"
        encode = [CLI, "encode", folder / "model.safetensors", source, "-o", codes, "--quiet"]
        script = [sys.executable, "-c", FAISS, source, folder / "model.faiss"]
        script += [folder / "index.faiss", options.threads]

        rounds = []
        for _ in range(options.rounds):
            start = time.perf_counter()
            pq.encode(some)
            memory = (time.perf_counter() - start) * rows / len(some)
            reading = read_seconds(source)
            forget(source)
            ours = measured(encode, environment)
            forget(source)
            theirs = measured(script, environment)
            rounds.append(
                {"memory_seconds": memory, "read_seconds": reading, "picopq": ours, "faiss": theirs}
            )
        whole = digest(codes)
        answer = picopq.read_faiss(folder / "index.faiss")
        assert isinstance(answer, picopq.Index)
        equal = float((np.load(codes, mmap_mode="r") == answer.codes).all(axis=1).mean())

        codes.unlink()
        process = subprocess.Popen([*map(str, encode)], env=environment)
        time.sleep(KILL_AT * ours["seconds"])
        process.send_signal(signal.SIGKILL)
        process.wait()
        taken_up = partial.exists()
        resumed = measured([*encode, "--resume"], environment)
        if digest(codes) != whole:
            raise SystemExit("the resumed file has other bytes")

        shares = [
            max(one["memory_seconds"], one["read_seconds"]) / one["picopq"]["seconds"]
            for one in rounds
        ]
        peak = max(one["picopq"]["peak_bytes"] for one in rounds)
        record = {
            "bytes": source.stat().st_size,
            "rows": rows,
            "m": options.m,
            "threads": options.threads,
            "rounds": rounds,
            "share_of_the_slower_of_memory_and_disk": shares,
            "equal_rows": equal,
            "killed_and_resumed_seconds": resumed["seconds"],
            "partial_was_there": taken_up,
        }
        options.output.write_text(json.dumps(record, indent=1) + "\n")

        def middle(pick) -> float:
            return statistics.median(pick(one) for one in rounds)

        print(f"{options.gb:g} GB, {rows:,} rows of {some.shape[1]}, M = {options.m}")
        print(f"read alone        {middle(lambda one: one['read_seconds']):8.2f} s")
        print(f"encode in memory  {middle(lambda one: one['memory_seconds']):8.2f} s (scaled)")
        for peer in ("picopq", "faiss"):
            seconds = middle(lambda one: one[peer]["seconds"])
            most = max(one[peer]["peak_bytes"] for one in rounds) / 2**20
            print(f"{peer:<17} {seconds:8.2f} s, peak {most:.0f} MiB resident")
        share = statistics.median(shares)
        print(f"picopq runs at {share:.0%} of the slower of the two, {equal:.2%} of rows equal")
        print(f"resumed after a kill: same bytes, {resumed['seconds']:.2f} s, peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
