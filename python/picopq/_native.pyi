"""The compiled half of picopq: functions over arrays that the caller owns.

Every array is C-contiguous with exactly the dtype shown; outputs are written in place.
Input errors are raised as `picopq.PicoPQError`, an out-of-range code as IndexError, a refused
allocation as MemoryError, a refusal of the operating system as OSError. Each function releases the GIL and answers Ctrl-C.
"""

from collections.abc import Callable

from os import PathLike
from typing import final

from ._arrays import F32, F64, I64, Bools, Codes
from ._progress import Report

__all__ = [
    "Blocks",
    "Index",
    "PicoPQError",
    "Rows",
    "adist",
    "decode",
    "distortion",
    "eigenvalue_allocation",
    "encode",
    "encode_file",
    "finite_rows",
    "ground_truth",
    "instruction_set",
    "is_dense",
    "load",
    "main",
    "num_threads",
    "rerank",
    "rotate",
    "save",
    "search",
    "set_num_threads",
    "tables",
    "train_opq",
    "train_pq",
]

class PicoPQError(ValueError, AssertionError): ...

def train_pq(
    vecs: F32,  # (N, D)
    m: int,
    ks: int,
    iterations: int,
    seed: int,
    minit: str,
    init: F32 | None,  # (M, Ks, Ds), used by minit="matrix"
    allow_few_rows: bool,
    max_rows: int | None,
    progress: Report | None,
) -> tuple[F32, F64, int]:
    """Codewords (M, Ks, Ds), mean squared error at each step, number of empty clusters."""

def train_opq(
    vecs: F32,  # (N, D)
    m: int,
    ks: int,
    pq_iterations: int,
    rotation_iterations: int,
    seed: int,
    minit: str,
    init: F32 | None,
    parametric: bool,
    allow_few_rows: bool,
    max_rows: int | None,
    progress: Report | None,
    on_step: Callable[[int, float], object] | None,  # (rotation step, mean squared error)
) -> tuple[F32, F32, F64, int]:
    """Codewords (M, Ks, Ds), rotation (D, D), mean squared error per step, empty clusters."""

def eigenvalue_allocation(vecs: F32, m: int) -> F32:
    """Rotation (D, D) for Gaussian data."""

def is_dense(value: object, dim: int) -> bool:
    """Whether `value` is float32 (dim,) or (nq, dim), as the functions here want it."""

def finite_rows(vecs: F32) -> I64:
    """Row numbers without NaN or infinity, ascending."""

def encode(
    codewords: F32, vecs: F32, codes: Codes, progress: Report | None, rotation: F32 | None = None
) -> None: ...
def decode(
    codewords: F32, codes: Codes, vecs: F32, progress: Report | None, rotation: F32 | None = None
) -> None: ...
def rotate(rotation: F32, vecs: F32, out: F32, inverse: bool, progress: Report | None) -> None:
    """out = vecs @ rotation, or vecs @ rotation.T when inverse."""

def tables(
    codewords: F32,
    queries: F32,  # (nq, D)
    metric: str,
    out: F32,  # (nq, M, Ks)
    rotation: F32 | None = None,
) -> None:
    """Squared distances or dot products of the queries' sub-vectors and the codewords."""

def adist(table: F32, codes: Codes, dists: F32) -> None: ...
def search(
    tables: F32,  # (nq, M, Ks)
    metric: str,
    codes: Codes,  # (N, M)
    dists: F32,  # (nq, k), k <= N
    ids: I64,  # (nq, k)
    progress: Report | None,
) -> None:
    """The k best codes of every table, best first, ties to the lower id."""

@final
class Index:
    """Stored codes and their model; safe to share between threads."""

    def __new__(cls, codewords: F32, metric: str, rotation: F32 | None) -> Index: ...
    def __len__(self) -> int: ...
    def memory(self) -> int:
        """Bytes of what is stored."""

    def next_id(self) -> int: ...
    def skip_ids(self, id: int) -> None: ...
    def add(self, vecs: F32, ids: I64 | None, progress: Report | None) -> None: ...
    def add_codes(self, codes: Codes, ids: I64 | None, progress: Report | None) -> None: ...
    def remove(self, ids: I64) -> int: ...
    def reconstruct(self, ids: I64) -> F32: ...
    def search(
        self,
        queries: F32,  # (D,) or (nq, D)
        k: int,
        subset: Bools | I64 | None,
        progress: Report | None,
    ) -> tuple[F32, I64]:
        """Distances and ids, (k,) or (nq, k): where there are fewer, infinite ones and -1."""

    def search_as_is(self, queries: object, k: object) -> tuple[F32, I64] | None:
        """`search` of all rows; None where `search` does not take these arguments as they are."""

    def range_search(
        self, queries: F32, radius: float, subset: Bools | I64 | None, progress: Report | None
    ) -> tuple[I64, F32, I64]:
        """Where each query's answers begin (nq + 1,), distances, ids."""

    def ids(self) -> I64: ...
    def codes(self) -> Codes: ...
    def blocks(self) -> Blocks: ...

@final
class Blocks:
    """Iterator over the ids and codes of an index, a block at a time."""

    def __iter__(self) -> Blocks: ...
    def __next__(self) -> tuple[I64, Codes]: ...

def rerank(
    query: F32,  # (D,)
    vecs: F32,  # (n, D)
    candidates: I64,  # (n,)
    metric: str,
    k: int,
) -> tuple[F32, I64]:
    """Distances and ids (k,) of the best candidates by exact distance, filled up as `search` does."""

def ground_truth(
    base: F32,  # (N, D)
    queries: F32,  # (nq, D)
    metric: str,
    dists: F32,  # (nq, k), k <= N
    ids: I64,  # (nq, k)
    progress: Report | None,
) -> None:
    """The k nearest rows of every query, best first, ties to the lower row."""

def distortion(
    codewords: F32, vecs: F32, progress: Report | None, rotation: F32 | None = None
) -> float:
    """Mean squared reconstruction error; 0 for no rows."""

def save(
    path: str | PathLike[str],
    kind: str,  # "picopq", "faiss" or "faiss_id_map2"
    metric: str,
    codewords: F32,
    rotation: F32 | None = None,
    codes: Codes | None = None,  # (N, M)
    ids: I64 | None = None,  # (N,)
    block: int = 0,  # rows of a block of a fast scan; 0 = row by row
) -> None:
    """Writes a whole file, or leaves what the path holds."""

def load(
    path: str | PathLike[str], kind: str
) -> tuple[str, F32, F32 | None, Codes | None, I64 | None, int]:
    """Metric, codewords, rotation, codes, ids, block as for `save`."""

def encode_file(
    codewords: F32,
    source: str | PathLike[str],
    output: str | PathLike[str],
    resume: bool,
    block_rows: int | None,
    progress: Report | None,
    rotation: F32 | None = None,
    column: str | None = None,
) -> int:
    """Codes of a file of vectors into an .npy file; the number of rows."""

def main(arguments: list[str]) -> int:
    """Runs the command line, the program's name first; the exit code."""

@final
class Rows:
    """Rows of a file of vectors, in order."""
    def __new__(cls, path: str | PathLike[str], column: str | None = None) -> Rows: ...
    @property
    def dim(self) -> int: ...
    @property
    def rows(self) -> int | None: ...
    def read(self, rows: int) -> F32:
        """At most so many rows (count, dim), none at the end."""

def num_threads() -> int: ...
def set_num_threads(threads: int) -> None:
    """0 = one thread for each processor that is available now."""

def instruction_set() -> str:
    """The kernels in use: "scalar", "avx2", ..."""
