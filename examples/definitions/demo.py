"""Search 10,000 sentence embeddings in codes of 12 to 96 bytes.

Trains PQ and OPQ at four sizes, measures what their codes lose against the float32 vectors,
answers six queries in words, and writes all of it as a page:

    python examples/definitions/demo.py [--output target/demo.html]
"""

import argparse
import shutil
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import picopq
from numpy.typing import NDArray

import report
from results import MARKS, Findings, Result, Search, side_by_side, table

HERE = Path(__file__).parent
SEED = 123
SIZES = (12, 24, 48, 96)  # bytes a vector: M sub-spaces of one byte each, as Ks = 256
N_QUERIES = 1_000
N_ANSWERS = 10
SHOWN = ("OPQ", 48)  # the codes that answer the queries in words
N_SHOWN = 3
# violin, espresso maker, speed of light, codetalker, metamorphosis, navigate
SHOWN_QUERIES = np.array([865, 8508, 2219, 3704, 5433, 9322])

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Codes = NDArray[np.uint8]
Model = picopq.PQ | picopq.OPQ
T = TypeVar("T")


def timed(step: str, work: Callable[[], T]) -> tuple[T, float]:
    """The result of `work()` and its seconds, printed as soon as it is there."""
    print(f"  {step}", end="", flush=True)
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    print(f" {seconds:.3f} s", end="", flush=True)
    return result, seconds


def leave_out(ids: I64, own: I64) -> I64:
    """ids (nq, k + 1) without each query's own row, own (nq,): (nq, k)."""
    others = ids != own[:, None]
    # A query's own code need not be among the k + 1 best; then the last answer goes.
    others[others.all(axis=1), -1] = False
    return ids[others].reshape(len(ids), -1)


def exact_search(vecs: F32, queries: F32, k: int) -> I64:
    """Rows of the k vecs (n, dim) nearest to each of queries (nq, dim), best first: (nq, k)."""
    # Squared L2 less |query|^2, which is the same for all answers of a query.
    dists = np.square(vecs).sum(axis=1) - 2 * (queries @ vecs.T)  # (nq, n)
    nearest = np.argpartition(dists, k, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(dists, nearest, axis=1), axis=1)
    return np.take_along_axis(nearest, order, axis=1)


def codebook_bytes(model: Model) -> int:
    """What a reader of the codes needs beside them."""
    rotation = model.R.nbytes if isinstance(model, picopq.OPQ) else 0
    return model.codewords.nbytes + rotation


def measure(model: Model, vecs: F32, query_ids: I64, nearest: I64) -> tuple[Result, Codes]:
    """Train, encode and search; nearest (nq,) holds the exact answers. Gives the codes too."""
    method = type(model).__name__
    queries = vecs[query_ids]
    print(f"{method}, {model.M} bytes:", end="")
    _, train_s = timed("train", lambda: model.fit(vecs, seed=SEED))
    codes, encode_s = timed("encode", lambda: model.encode(vecs))
    (_, ids), search_s = timed("search", lambda: model.search(queries, codes, N_ANSWERS + 1))
    print()

    # All errors are relative to the variance: 1 is the error of the mean vector.
    variance = np.square(vecs - vecs.mean(axis=0)).sum(axis=1).mean()
    found = leave_out(ids, query_ids) == nearest[:, None]  # (nq, N_ANSWERS)
    result = Result(
        method=method,
        n_bytes=codes[0].nbytes,
        ratio=vecs[0].nbytes / codes[0].nbytes,
        error=float(np.square(vecs - model.decode(codes)).sum(axis=1).mean() / variance),
        recall_1=float(found[:, 0].mean()),
        recall_10=float(found.any(axis=1).mean()),
        train_s=train_s,
        encode_s=encode_s,
        search_s=search_s,
        losses=model.losses / variance,
        codebook_mb=codebook_bytes(model) / 1e6,
    )
    return result, codes


def search_in_words(model: Model, codes: Codes, vecs: F32, texts: list[str]) -> list[Search]:
    """The definitions nearest to `SHOWN_QUERIES`, exact and from the codes alone."""
    queries = vecs[SHOWN_QUERIES]
    exact = leave_out(exact_search(vecs, queries, N_SHOWN + 1), SHOWN_QUERIES)
    found = leave_out(model.search(queries, codes, N_SHOWN + 1)[1], SHOWN_QUERIES)
    return [
        Search(texts[own], [texts[i] for i in exact_row], [texts[i] for i in found_row])
        for own, exact_row, found_row in zip(SHOWN_QUERIES, exact, found, strict=True)
    ]


def run(vecs: F32, texts: list[str]) -> Findings:
    """Measure every method at every size, and search in words."""
    n, dim = vecs.shape
    query_ids = np.random.default_rng(SEED).choice(n, N_QUERIES, replace=False)
    queries = vecs[query_ids]
    print(f"float32, {vecs[0].nbytes} bytes:", end="")
    ids, exact_search_s = timed("search", lambda: exact_search(vecs, queries, N_ANSWERS + 1))
    print()
    nearest = leave_out(ids, query_ids)[:, 0]

    results = []
    for kind in (picopq.PQ, picopq.OPQ):
        for size in SIZES:
            model = kind(M=size, verbose=False)
            result, codes = measure(model, vecs, query_ids, nearest)
            results.append(result)
            if (result.method, result.n_bytes) == SHOWN:
                shown, searches = result, search_in_words(model, codes, vecs, texts)
    return Findings(n, dim, N_QUERIES, exact_search_s, results, shown, searches)


def show(findings: Findings) -> None:
    """Print the table and the searches, as wide as the terminal."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 140)
    print(f"\n{table(findings)}\n")
    for note in findings.notes():
        print(textwrap.fill(note, width, subsequent_indent="  "))

    shown = findings.shown
    print(f"\nSix searches: the {N_SHOWN} nearest definitions, exact on the left, from the codes")
    print(f"of {shown.method} at {shown.n_bytes} bytes on the right. Between them:")
    for mark, meaning in MARKS.items():
        print(f"  {mark}  {meaning}")
    for search in findings.searches:
        print(f"\n{side_by_side(search, width)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=Path("target/demo.html"), help="page to write (%(default)s)"
    )
    output = parser.parse_args().output
    start = time.perf_counter()

    vecs = np.load(HERE / "vectors.npy").astype(np.float32)  # (n, dim)
    texts = (HERE / "texts.txt").read_text(encoding="utf-8").splitlines()
    kernels, threads = picopq.instruction_set(), picopq.num_threads()
    print(f"picopq {picopq.__version__}, {kernels} kernels, {threads} threads")
    n, dim = vecs.shape
    print(f"{n:,} definitions, {dim} float32 values each, {vecs.nbytes / 1e6:.1f} MB\n")

    findings = run(vecs, texts)
    show(findings)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.page(findings), encoding="utf-8")
    seconds = time.perf_counter() - start
    print(f"\n{seconds:.0f} s in total. The same with plots: {output.resolve()}")


if __name__ == "__main__":
    main()
