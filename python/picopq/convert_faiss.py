"""Quantizers to Faiss indexes and back. Faiss is imported when a converter is called."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._arrays import F32, Codes, Metric, code_dtype
from ._errors import PicoPQError, PicoPQWarning
from .opq import OPQ
from .pq import PQ

__all__ = ["faiss_to_nanopq", "nanopq_to_faiss"]

# Faiss refuses more bits per code entry.
_MAX_BITS = 24
# Coordinate of the codewords that fill Ks up to a power of two: far from all data, and its
# square is still a float32.
_FAR = 1e15
# How far from the identity R.T @ R may be; decoding takes R.T for the inverse of R.
_ORTHONORMAL = 1e-3


def nanopq_to_faiss(pq_nanopq: PQ | OPQ) -> Any:
    """A Faiss index without vectors that encodes as `pq_nanopq` does.

    A PQ gives an IndexPQ, an OPQ an IndexPreTransform of its rotation and an IndexPQ. Faiss
    codes have ceil(log2 Ks) bits per entry: where Ks is no power of two, codewords that never
    win are added, with a PicoPQWarning.

    Raises PicoPQError if not trained or Ks > 2**24, ImportError without Faiss.
    """
    if isinstance(pq_nanopq, OPQ):
        faiss, rotation = _faiss(), pq_nanopq._rotation()
        transform = faiss.LinearTransform(*rotation.shape)
        faiss.copy_array_to_vector(rotation.T.ravel(), transform.A)  # y = A x
        transform.is_trained = True
        transform.set_is_orthonormal()
        return faiss.IndexPreTransform(transform, _index_pq(faiss, pq_nanopq.pq))
    if isinstance(pq_nanopq, PQ):
        return _index_pq(_faiss(), pq_nanopq)
    raise PicoPQError(f"pq_nanopq: got {type(pq_nanopq).__name__}, want PQ or OPQ")


def faiss_to_nanopq(pq_faiss: Any) -> tuple[PQ | OPQ, Codes]:
    """The quantizer of a trained Faiss index, and its codes (ntotal, M).

    An IndexPQ gives a PQ. An IndexPreTransform around an IndexPQ gives an OPQ, whose R is the
    product of its linear transforms. Everything else is refused by name, and so are transforms
    that are no rotation and metrics other than L2 and inner product.

    Raises PicoPQError, or ImportError without Faiss.
    """
    faiss = _faiss()
    index = faiss.downcast_index(pq_faiss) if isinstance(pq_faiss, faiss.Index) else pq_faiss
    if not isinstance(index, faiss.IndexPreTransform):
        return _pq(faiss, index), _codes(faiss, index)
    inner = faiss.downcast_index(index.index)
    pq = _pq(faiss, inner)
    opq = OPQ(pq.M, pq.Ks, pq.metric, verbose=False)
    opq.pq, opq.R = pq, _composed(faiss, index)
    return opq, _codes(faiss, inner)


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ImportError("the Faiss converters need Faiss: pip install faiss-cpu") from error


def _index_pq(faiss: Any, pq: PQ) -> Any:
    codewords, dim = pq._trained()
    m, ks, ds = codewords.shape
    nbits = max(1, (ks - 1).bit_length())
    if nbits > _MAX_BITS:
        raise PicoPQError(f"Ks: got {ks}, Faiss takes at most 2**{_MAX_BITS}")
    if missing := 2**nbits - ks:
        warnings.warn(
            f"Ks = {ks} is no power of two: {missing} codewords at {_FAR:g}, which no vector is "
            f"near, fill each sub-space up to {2**nbits}",
            PicoPQWarning,
            stacklevel=3,
        )
        far = np.full((m, missing, ds), _FAR, np.float32)
        codewords = np.concatenate([codewords, far], axis=1)
    metrics = {"l2": faiss.METRIC_L2, "dot": faiss.METRIC_INNER_PRODUCT}
    index = faiss.IndexPQ(dim, m, nbits, metrics[pq.metric])
    faiss.copy_array_to_vector(codewords.ravel(), index.pq.centroids)
    index.is_trained = True
    return index


def _pq(faiss: Any, index: Any) -> PQ:
    """The PQ of an IndexPQ."""
    if not isinstance(index, faiss.IndexPQ):
        raise PicoPQError(
            f"pq_faiss: got {type(index).__name__}, "
            "want IndexPQ, or IndexPreTransform of an IndexPQ"
        )
    if not index.is_trained:
        raise PicoPQError("pq_faiss is not trained")
    metrics: dict[int, Metric] = {faiss.METRIC_L2: "l2", faiss.METRIC_INNER_PRODUCT: "dot"}
    if index.metric_type not in metrics:
        names = {getattr(faiss, name): name for name in dir(faiss) if name.startswith("METRIC_")}
        name = names.get(index.metric_type, index.metric_type)
        raise PicoPQError(f"pq_faiss: got {name}, want METRIC_L2 or METRIC_INNER_PRODUCT")
    quantizer = index.pq
    pq = PQ(quantizer.M, quantizer.ksub, metrics[index.metric_type])
    pq.Ds = quantizer.dsub
    pq.codewords = faiss.vector_to_array(quantizer.centroids).reshape(pq.M, pq.Ks, pq.Ds)
    return pq


def _codes(faiss: Any, index: Any) -> Codes:
    """The codes (ntotal, M) that an IndexPQ holds, packed bits taken apart."""
    m, nbits = index.pq.M, index.pq.nbits
    packed = faiss.vector_to_array(index.codes).reshape(index.ntotal, index.pq.code_size)
    return _unpacked(packed, m, nbits)


def _unpacked(packed: NDArray[np.uint8], m: int, nbits: int) -> Codes:
    """Codes (N, m) from rows of (m * nbits + 7) // 8 bytes, lowest bits first."""
    dtype = np.dtype(code_dtype(2**nbits))
    width = 8 * dtype.itemsize
    if nbits < width:
        bits = np.unpackbits(packed, axis=1, count=m * nbits, bitorder="little")
        entries = np.zeros((len(packed), m, width), np.uint8)
        entries[:, :, :nbits] = bits.reshape(-1, m, nbits)
        packed = np.packbits(entries, axis=2, bitorder="little")
        packed = packed.reshape(len(entries), m * dtype.itemsize)
    codes: Codes = packed.view(dtype.newbyteorder("<")).astype(dtype, copy=False)
    return codes


def _composed(faiss: Any, index: Any) -> F32:
    """The rotation R (D, D) that a chain of linear transforms amounts to."""
    matrix = np.eye(index.d)
    for i in range(index.chain.size()):
        transform = faiss.downcast_VectorTransform(index.chain.at(i))
        name = type(transform).__name__
        if not isinstance(transform, faiss.LinearTransform):
            raise PicoPQError(f"pq_faiss: {name} is no linear transform")
        if transform.have_bias:
            raise PicoPQError(f"pq_faiss: {name} has a bias, which a rotation cannot hold")
        a = faiss.vector_to_array(transform.A).reshape(transform.d_out, transform.d_in)
        matrix = matrix @ a.T
    d_in, d_out = matrix.shape
    if d_in != d_out:
        raise PicoPQError(f"pq_faiss: the transforms go from {d_in} to {d_out} dimensions")
    if not np.allclose(matrix.T @ matrix, np.eye(d_in), rtol=0, atol=_ORTHONORMAL):
        raise PicoPQError("pq_faiss: the transforms do not amount to a rotation")
    return np.ascontiguousarray(matrix, np.float32)
