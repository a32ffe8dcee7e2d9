"""faiss-cpu 1.15.1: ProductQuantizer, OPQMatrix, IndexPQ. It has no adist: the nearest work is
IndexPQ.search with k=1.

`fit` gives ProductQuantizer nanopq's budget (20 iterations over all rows); `fit_default`
and `opq` leave every setting alone (25 iterations over at most 65,536 rows; 50 rotations).
"""

import faiss
import numpy as np
from faiss import swig_ptr

from peers import searched
from peers.nanopq_ import same


def bits(inputs):
    return inputs.ks.bit_length() - 1


def untrained(inputs):
    return faiss.ProductQuantizer(inputs.dim, inputs.m, bits(inputs))


def trained(inputs, pq=None):
    pq = pq or untrained(inputs)
    faiss.copy_array_to_vector(inputs.codewords.ravel(), pq.centroids)
    return pq


def codewords(pq):
    return faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub)


class Faiss:
    def kernels(self):
        return faiss.SIMDConfig.get_level_name()

    def train(self, inputs, **settings):
        def work():
            pq = untrained(inputs)
            for name, value in settings.items():
                setattr(pq.cp, name, value)
            pq.train(inputs.vecs)
            return pq

        return work, lambda pq: (None, codewords(pq))

    def fit(self, inputs):
        return self.train(inputs, niter=20, max_points_per_centroid=len(inputs.vecs))

    def fit_default(self, inputs):
        return self.train(inputs)

    def opq(self, inputs):
        def work():
            rotation = faiss.OPQMatrix(inputs.dim, inputs.m)
            rotation.train(inputs.vecs)
            pq = untrained(inputs)
            pq.train(rotation.apply(inputs.vecs))
            return rotation, pq

        def answer(result):
            rotation, pq = result
            a = faiss.vector_to_array(rotation.A).reshape(inputs.dim, inputs.dim)
            return a.T.copy(), codewords(pq)

        return work, answer

    opq_short = opq

    def encode(self, inputs):
        pq = trained(inputs)
        unpack = lambda codes: faiss.unpack_bitstrings(codes, pq.M, pq.nbits)
        return lambda: pq.compute_codes(inputs.vecs), unpack if pq.nbits != 8 else same

    def decode(self, inputs):
        pq = trained(inputs)
        return lambda: pq.decode(inputs.codes), same

    def dtable(self, inputs):
        pq = trained(inputs)
        query = np.ascontiguousarray(inputs.queries[0])

        def work():
            table = np.empty((pq.M, pq.ksub), dtype=np.float32)
            pq.compute_distance_table(swig_ptr(query), swig_ptr(table))
            return table

        return work, same

    def empty(self, inputs):
        index = faiss.IndexPQ(inputs.dim, inputs.m, bits(inputs))
        trained(inputs, index.pq)
        index.is_trained = True
        return index

    def filled(self, inputs):
        index = self.empty(inputs)
        pack = index.pq.nbits != 8
        index.add_sa_codes(faiss.pack_bitstrings(inputs.codes, index.pq.nbits) if pack else inputs.codes)
        return index

    def adist(self, inputs):
        index = self.filled(inputs)
        return lambda: index.search(inputs.queries, 1), same

    def search(self, inputs):
        index = self.filled(inputs)
        return lambda: index.search(inputs.queries, inputs.k), same

    def index(self, inputs):
        return searched(self.filled(inputs).search, inputs)

    def add(self, inputs):
        def work():
            index = self.empty(inputs)
            index.add(inputs.vecs)
            return index

        return work, self.codes

    def hold(self, inputs):
        def work():
            index = self.filled(inputs)
            index.search(inputs.queries, inputs.k)
            return index

        return work, self.codes

    def codes(self, index):
        packed = faiss.vector_to_array(index.codes).reshape(index.ntotal, -1)
        return faiss.unpack_bitstrings(packed, index.pq.M, index.pq.nbits)


def peer(threads):
    faiss.omp_set_num_threads(threads)
    return Faiss()
