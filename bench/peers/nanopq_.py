"""nanopq 0.2.2. It has no top-k: `search` is the adist and argpartition its users write.

The environment holds its BLAS to the wanted number of threads; the rest has one thread.
"""

import warnings

import numpy as np


def same(result):
    return result


class NanopqApi:
    def __init__(self, library):
        self.library = library

    def kernels(self):
        return None  # numpy and scipy choose for themselves

    def new(self, kind, inputs):
        return getattr(self.library, kind)(inputs.m, inputs.ks, verbose=False)

    def trained(self, inputs):
        pq = self.new("PQ", inputs)
        pq.codewords, pq.Ds = inputs.codewords, inputs.codewords.shape[2]
        return pq

    def fit(self, inputs):
        work = lambda: self.new("PQ", inputs).fit(inputs.vecs, iter=20)
        return work, lambda pq: (None, pq.codewords)

    fit_default = fit  # 20 iterations over all rows is the default

    def opq(self, inputs):
        work = lambda: self.new("OPQ", inputs).fit(inputs.vecs)
        return work, lambda opq: (opq.R, opq.codewords)

    opq_short = opq

    def encode(self, inputs):
        pq = self.trained(inputs)
        return lambda: pq.encode(inputs.vecs), same

    def decode(self, inputs):
        pq = self.trained(inputs)
        return lambda: pq.decode(inputs.codes), same

    def dtable(self, inputs):
        pq = self.trained(inputs)
        return lambda: pq.dtable(inputs.queries[0]), lambda table: table.dtable

    def adist(self, inputs):
        table = self.trained(inputs).dtable(inputs.queries[0])
        return lambda: table.adist(inputs.codes), same

    def search(self, inputs):
        pq, k = self.trained(inputs), inputs.k

        def one(query):
            dists = pq.dtable(query).adist(inputs.codes)
            ids = np.argpartition(dists, k)[:k]
            ids = ids[np.argsort(dists[ids])]
            return dists[ids], ids

        work = lambda: [one(query) for query in inputs.queries]
        return work, lambda found: tuple(map(np.stack, zip(*found)))

    def index(self, inputs):
        return self.search(inputs)


def peer(threads):
    import nanopq

    warnings.filterwarnings("ignore", "One of the clusters is empty")  # the error shows it
    return NanopqApi(nanopq)
