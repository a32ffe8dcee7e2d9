"""faiss-cpu 1.15.1: IndexPQFastScan, the 4-bit codes of IndexPQ in blocks of 32.

Its distances are sums of tables rounded to bytes, so they and the order are not exact.
"""

import faiss

from peers.faiss_ import Faiss


class FastScan(Faiss):
    def filled(self, inputs):
        return faiss.IndexPQFastScan(super().filled(inputs))

    def index(self, inputs):
        work, answer = super().index(inputs)
        return work, lambda found: (None, answer(found)[1])

    recall = index

    def codes(self, index):
        packed = index.sa_encode(index.reconstruct_n(0, index.ntotal))  # a codeword is its own code
        return faiss.unpack_bitstrings(packed, index.pq.M, index.pq.nbits)


def peer(threads):
    faiss.omp_set_num_threads(threads)
    return FastScan()
