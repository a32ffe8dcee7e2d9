"""Product quantization and optimized product quantization, a drop-in for nanopq.

    pq = picopq.PQ(M=8).fit(vecs)            # vecs (N, D)
    codes = pq.encode(vecs)                  # (N, 8) uint8
    index = picopq.Index(pq)
    index.add(vecs)
    dists, ids = index.search(queries, k=10)
"""

from . import evaluate, io
from ._alias import install_as_nanopq
from ._arrays import finite_rows
from ._errors import PicoPQError, PicoPQWarning
from ._native import instruction_set, num_threads, set_num_threads
from .convert_faiss import faiss_to_nanopq, nanopq_to_faiss
from .faiss_files import read_faiss, write_faiss
from .index import Index
from .opq import OPQ
from .pq import PQ, DistanceTable

__all__ = [
    "OPQ",
    "PQ",
    "DistanceTable",
    "Index",
    "PicoPQError",
    "PicoPQWarning",
    "evaluate",
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
