"""picopq: nanopq's calls on picopq's classes, and its own top-k."""

from peers.nanopq_ import NanopqApi, same


class Picopq(NanopqApi):
    def kernels(self):
        return self.library.instruction_set()

    def search(self, inputs, k=10):
        pq = self.trained(inputs)
        return lambda: pq.search(inputs.queries, inputs.codes, k), same


def peer(threads):
    import picopq

    picopq.set_num_threads(threads)
    return Picopq(picopq)
