"""The compiled half of picopq: functions over arrays that the caller owns.

Every array is C-contiguous with exactly the dtype shown; outputs are written in place.
Input errors are raised as `picopq.PicoPQError`, an out-of-range code as IndexError, a refused
allocation as MemoryError, a refusal of the operating system as OSError. Each function releases the GIL and answers Ctrl-C.
"""

from collections.abc import Callable
from os import PathLike
from typing import final

from ._arrays import F32, F64, I64, Codes
from ._progress import Report

__all__ = [
    "PicoPQError",
    "Rows",
    "adist",
    "decode",
    "eigenvalue_allocation",
    "encode",
    "finite_rows",
    "instruction_set",
    "load",
    "num_threads",
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

def save(
    path: str | PathLike[str],
    kind: str,  # "picopq" or "faiss"
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

@final
class Rows:
    """Rows of a file of vectors, in order."""
    def __new__(cls, path: str | PathLike[str]) -> Rows: ...
    @property
    def dim(self) -> int: ...
    @property
    def rows(self) -> int | None: ...
    def read(self, rows: int) -> F32:
        """At most so many rows (count, dim), none at the end."""

def num_threads() -> int: ...
def set_num_threads(threads: int) -> None:
    """0 = one thread per available processor."""

def instruction_set() -> str:
    """The kernels in use: "scalar", "avx2", ..."""
