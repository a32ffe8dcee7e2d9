"""The compiled half of picopq: functions over arrays that the caller owns.

Every array is C-contiguous with exactly the dtype shown; outputs are written in place.
Input errors are raised as `picopq.PicoPQError`, an out-of-range code as IndexError, a refused
allocation as MemoryError. Each function releases the GIL and answers Ctrl-C.
"""

from collections.abc import Callable

from ._arrays import F32, F64, I64, Codes
from ._progress import Report

__all__ = [
    "PicoPQError",
    "adist",
    "decode",
    "distortion",
    "eigenvalue_allocation",
    "encode",
    "finite_rows",
    "ground_truth",
    "instruction_set",
    "num_threads",
    "rotate",
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

def num_threads() -> int: ...
def set_num_threads(threads: int) -> None:
    """0 = one thread per available processor."""

def instruction_set() -> str:
    """The kernels in use: "scalar", "avx2", ..."""
