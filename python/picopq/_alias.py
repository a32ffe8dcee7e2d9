"""`import nanopq` made to yield picopq, for code and pickles that name nanopq."""

from __future__ import annotations

import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

from . import convert_faiss, opq, pq
from ._errors import PicoPQWarning

_MODULES = {"pq": pq, "opq": opq, "convert_faiss": convert_faiss}


def install_as_nanopq() -> None:
    """Make `import nanopq` yield picopq's classes in this process.

    Pickles that nanopq wrote then load as picopq's classes, and pickles written from here on
    name nanopq, so either package can read them. Where nanopq is already imported, it is
    replaced, with a PicoPQWarning: names bound earlier keep the old classes.
    """
    old = sys.modules.get("nanopq")
    if isinstance(old, _NanoPQ):
        return
    if old is not None:
        warnings.warn(
            "nanopq is already imported: names bound to it earlier keep its own classes",
            PicoPQWarning,
            stacklevel=2,
        )
    sys.modules["nanopq"] = _NanoPQ()
    for name, module in _MODULES.items():
        sys.modules[f"nanopq.{name}"] = module
    for written in (pq.PQ, pq.DistanceTable, opq.OPQ):
        written.__module__ = "nanopq.opq" if written is opq.OPQ else "nanopq.pq"


class _NanoPQ(ModuleType):
    """The package nanopq, with the names of the release whose interface picopq keeps."""

    __version__ = "0.2.2"
    __all__ = ["PQ", "OPQ", "DistanceTable", "nanopq_to_faiss", "faiss_to_nanopq"]

    def __init__(self) -> None:
        super().__init__("nanopq", "picopq under the name of nanopq.")
        self.__spec__ = ModuleSpec("nanopq", loader=None, is_package=True)
        self.__path__: list[str] = []
        self.__dict__.update(_MODULES)
        for module in _MODULES.values():
            self.__dict__.update({name: getattr(module, name) for name in module.__all__})
