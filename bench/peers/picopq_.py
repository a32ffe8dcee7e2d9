"""picopq: nanopq's calls on picopq's classes, its own top-k, and its index."""

from peers import searched
from peers.nanopq_ import NanopqApi, same

MOST_CALLS = 100  # of one case in a run


class Picopq(NanopqApi):
    def kernels(self):
        return self.library.instruction_set()

    def opq_short(self, inputs):
        """So few rounds and steps as lead to an error no higher than the peers' at their defaults."""
        work = lambda: self.new("OPQ", inputs).fit(inputs.vecs, rotation_iter=2, pq_iter=10)
        return work, lambda opq: (opq.R, opq.codewords)

    def search(self, inputs):
        pq = self.trained(inputs)
        return lambda: pq.search(inputs.queries, inputs.codes, inputs.k), same

    def filled(self, inputs):
        index = self.library.Index(self.trained(inputs))
        index.add_codes(inputs.codes)
        return index

    def index(self, inputs):
        return searched(self.filled(inputs).search, inputs)

    recall = index

    def add(self, inputs):
        pq = self.trained(inputs)
        empty = [self.library.Index(pq) for _ in range(MOST_CALLS)]

        def work():
            index = empty.pop()
            index.add(inputs.vecs)
            return index

        return work, self.codes

    def hold(self, inputs):
        def work():
            index = self.filled(inputs)
            index.search(inputs.queries, inputs.k)  # what is laid out for it is held too
            return index

        return work, self.codes

    def codes(self, index):
        return index.codes


def peer(threads):
    import picopq

    picopq.set_num_threads(threads)
    return Picopq(picopq)
