"""Product quantization and optimized product quantization, a drop-in for nanopq.

    pq = picopq.PQ(M=8).fit(vecs)            # vecs (N, D)
    codes = pq.encode(vecs)                  # (N, 8) uint8
    dists, ids = pq.search(queries, codes, k=10)
"""

from . import io
from ._alias import install_as_nanopq
from ._arrays import finite_rows
from ._errors import PicoPQError, PicoPQWarning
from ._native import instruction_set, num_threads, set_num_threads
from .convert_faiss import faiss_to_nanopq, nanopq_to_faiss
from .faiss_files import FaissIndex, read_faiss, write_faiss
from .opq import OPQ
from .pq import PQ, DistanceTable

__all__ = [
    "OPQ",
    "PQ",
    "DistanceTable",
    "FaissIndex",
    "PicoPQError",
    "PicoPQWarning",
    "faiss_to_nanopq",
    "finite_rows",
    "install_as_nanopq",
    "instruction_set",
    "io",
    "nanopq_to_faiss",
    "num_threads",
    "read_faiss",
    "set_num_threads",
    "write_faiss",
]
__version__ = "0.1.0"
