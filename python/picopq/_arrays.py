"""Input checks: any layout and number type in, the arrays `_native` wants out.

Each check takes the argument's name and raises a PicoPQError that says what came and what was
wanted. Checks that need no copy come first, so callers can refuse a bad shape before any work.
"""

from __future__ import annotations

import operator
import secrets
from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._errors import PicoPQError

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Codes: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32]
CodeDtype: TypeAlias = type[np.uint8] | type[np.uint16] | type[np.uint32]
# Unions, as stubtest takes a Literal of several values for something else.
Metric: TypeAlias = Literal["l2"] | Literal["dot"]
Minit: TypeAlias = Literal["random"] | Literal["++"] | Literal["points"] | Literal["matrix"]

METRICS: Sequence[Metric] = ("l2", "dot")
MINITS: Sequence[Minit] = ("random", "++", "points", "matrix")

_Name = TypeVar("_Name", bound=str)


def integer(name: str, value: SupportsIndex, low: int, high: int | None = None) -> int:
    """`value` as an int in low..high, ends included."""
    try:
        number = operator.index(value)
    except TypeError:
        raise PicoPQError(f"{name}: got {value!r}, want an integer") from None
    if number < low or (high is not None and number > high):
        wanted = f">= {low}" if high is None else f"in {low}..{high}"
        raise PicoPQError(f"{name}: got {number}, want {wanted}")
    return number


def seed_number(seed: SupportsIndex | None) -> int:
    """The seed as an int; None draws one from the operating system, as numpy does."""
    return secrets.randbits(32) if seed is None else integer("seed", seed, 0, 2**32 - 1)


def choice(name: str, value: _Name, allowed: Sequence[_Name]) -> _Name:
    """`value`, which must be one of `allowed`."""
    if not isinstance(value, str) or value not in allowed:
        raise PicoPQError(f"{name}: got {value!r}, want one of {', '.join(map(repr, allowed))}")
    return value


def numbers(name: str, value: ArrayLike, *shapes: str, kinds: str = "fiu") -> NDArray[Any]:
    """`value` as an array, not copied where it is one, of one of `shapes`, such as "N D"."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PicoPQError(f"{name}: not an array of numbers: {error}") from error
    if array.dtype.kind not in kinds:
        wanted = "an integer type" if kinds == "iu" else "float32, or a type converted to it"
        raise PicoPQError(f"{name}: got dtype {array.dtype}, want {wanted}")
    # A name for each axis, with a space between; "" has none.
    if array.ndim not in [shape.count(" ") + bool(shape) for shape in shapes]:
        wanted = " or ".join(f"({', '.join(shape.split())})" for shape in shapes)
        raise PicoPQError(f"{name}: got {array.ndim} axes, shape {array.shape}, want {wanted}")
    return array


def float32(name: str, array: NDArray[Any]) -> F32:
    """`array` in C order as float32, not copied where it already is; overflow is an error."""
    if array.dtype == np.float32 and array.flags.carray:
        return array
    with np.errstate(over="ignore"):
        dense = np.require(array, np.float32, ["C", "A", "E"])
    if array.dtype.kind == "f" and array.dtype.itemsize > 4 and np.isinf(dense).any():
        lost = np.argwhere(np.isinf(dense) & np.isfinite(array))
        if len(lost):
            first = tuple(lost[0])
            raise PicoPQError(
                f"{name} has {len(lost)} value(s) too large for float32, "
                f"the first {array[first]:g} at {lost[0].tolist()}"
            )
    return dense


def vectors(name: str, value: ArrayLike, dim: int, *shapes: str) -> F32:
    """`value` as float32 vectors of `dim` numbers, in one of `shapes`."""
    array = numbers(name, value, *shapes)
    if array.shape[-1] != dim:
        raise PicoPQError(f"dimension mismatch: model has {dim}, {name} has {array.shape[-1]}")
    return float32(name, array)


def codeword_array(name: str, value: ArrayLike, wanted: tuple[int, int, int]) -> F32:
    """`value` as float32 codewords of the `wanted` shape (M, Ks, Ds)."""
    array = numbers(name, value, "M Ks Ds")
    if array.shape != wanted:
        sizes = ", ".join(map(str, wanted))
        raise PicoPQError(f"{name}: got shape {array.shape}, want (M, Ks, Ds) = ({sizes})")
    return float32(name, array)


def code_dtype(ks: int) -> CodeDtype:
    """The smallest unsigned type that holds 0..ks-1."""
    if ks <= 2**8:
        return np.uint8
    return np.uint16 if ks <= 2**16 else np.uint32


def code_array(value: ArrayLike, m: int, ks: int) -> Codes:  # (N, m)
    """Codes of any integer type as a C-contiguous unsigned array.

    Types that could wrap in the cast are checked here; the compiled module checks the others.
    """
    codes = numbers("codes", value, "N M", kinds="iu")
    if codes.shape[1] != m:
        raise PicoPQError(f"codes: got {codes.shape[1]} columns, want M = {m}")
    if codes.dtype in (np.uint8, np.uint16, np.uint32) and codes.flags.carray:
        return codes
    dtype = codes.dtype.newbyteorder("=")
    if dtype.kind == "i" or dtype.itemsize > 4:
        outside = np.argwhere((codes < 0) | (codes >= ks))
        if len(outside):
            row, column = outside[0]
            raise IndexError(
                f"code {codes[row, column]} at row {row}, sub-space {column} is out of range: "
                f"there are {ks} codewords"
            )
        dtype = np.dtype(code_dtype(ks))
    return np.require(codes, dtype, ["C", "A", "E"])


def id_array(name: str, value: ArrayLike) -> I64:  # (n,)
    """Ids of any integer type as int64."""
    ids = numbers(name, value, "n")
    if ids.size == 0:  # of any type: an empty list is float64
        return np.empty(0, np.int64)
    ids = numbers(name, ids, "n", kinds="iu")
    if ids.dtype.kind == "u" and ids.dtype.itemsize == 8 and (ids > np.iinfo(np.int64).max).any():
        raise PicoPQError(f"{name}: got {ids.max()}, want at most 2^63 - 1")
    return np.require(ids, np.int64, ["C", "A", "E"])


def subset_array(value: ArrayLike) -> Bools | I64:  # (N,) or (n,)
    """What a search is restricted to: a mask over all rows, or ids."""
    array = np.asarray(value)
    if array.dtype == np.bool_:
        return np.require(numbers("subset", array, "N", kinds="b"), np.bool_, ["C", "A", "E"])
    return id_array("subset", array)


def finite_rows(vecs: ArrayLike) -> I64:
    """Row numbers of `vecs` (N, D) that hold neither NaN nor infinity, ascending."""
    return _native.finite_rows(float32("vecs", numbers("vecs", vecs, "N D")))
