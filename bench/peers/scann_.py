"""ScaNN 1.4.2: asymmetric hashing of all vectors, without a tree and without re-ordering.

Sixteen codewords for each block of dimensions (`lut16`) make codes of the same bytes as the
other peers' 4-bit codes. It trains codewords of its own and cannot take others; sums are
rounded to integers. Anisotropic training (`anisotropic_quantization_threshold`) is for dot
products: with squared_l2 it changes nothing. Re-ordering reads the vectors themselves, which
at equal bytes nobody has.
"""

import numpy as np
import scann

import data
from peers import searched


class Scann:
    def kernels(self):
        return None  # it does not tell

    def index(self, inputs):
        vecs = data.vectors(inputs.data, len(inputs.codes))
        builder = scann.scann_ops_pybind.builder(vecs, inputs.k, "squared_l2")
        builder.set_n_training_threads(1).score_ah(inputs.dim // inputs.m, hash_type="lut16")
        searcher = builder.build()

        def search(queries, k):
            if len(queries) > 1:
                return searcher.search_batched(queries, final_num_neighbors=k)
            return searcher.search(queries[0], final_num_neighbors=k)

        work, _ = searched(search, inputs)
        shape = (len(inputs.queries), inputs.k)
        ids = lambda found: np.concatenate([ids.ravel() for ids, _ in found])
        return work, lambda found: (None, ids(found).reshape(shape).astype(np.int64))


def peer(threads):
    if threads != 1:
        raise ValueError(f"scann: got {threads} threads, its search has one")
    return Scann()
