"""What code written for nanopq relies on besides numbers: attributes, edits, pickles, names."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import nanopq
import numpy as np
import pytest
from conftest import run, synthetic

import picopq

MODELS = pytest.mark.parametrize("kind", ["pq", "opq"])


@pytest.mark.parametrize("name", nanopq.__all__)
def test_signatures_extend_those_of_nanopq(name: str) -> None:
    theirs, ours = getattr(nanopq, name), getattr(picopq, name)
    calls = [(theirs, ours)]
    if inspect.isclass(theirs):
        calls += [
            (method, getattr(ours, key))
            for key, method in vars(theirs).items()
            if inspect.isfunction(method) and (key[0] != "_" or key == "__init__")
        ]
    for old, new in calls:
        wanted = [(p.name, p.default) for p in inspect.signature(old).parameters.values()]
        found = list(inspect.signature(new).parameters.values())
        assert [(p.name, p.default) for p in found[: len(wanted)]] == wanted
        assert all(p.kind is p.KEYWORD_ONLY for p in found[len(wanted) :])


@pytest.mark.parametrize(
    ("ks", "dtype"),
    [(1, np.uint8), (256, np.uint8), (257, np.uint16), (2**16, np.uint16), (2**32, np.uint32)],
)
def test_new_objects(ks: int, dtype: type, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (picopq.PQ, picopq.OPQ):
        model = kind(M=2, Ks=ks, metric="dot")
        assert (model.M, model.Ks, model.metric, model.verbose) == (2, ks, "dot", True)
        assert model.code_dtype is dtype
        assert model.codewords is None and model.Ds is None and model.losses is None
        assert capsys.readouterr().out == (
            f"M: 2, Ks: {ks}, metric : dot, code_dtype: {dtype}\n"
        )
        model.verbose = False
        assert model.verbose is False
    assert model.R is None and model.pq.verbose is False


@MODELS
def test_trained_objects(kind: str, vecs: np.ndarray) -> None:
    model = {"pq": picopq.PQ, "opq": picopq.OPQ}[kind](4, 32, "dot", verbose=False)
    assert model.fit(vecs=vecs, seed=1, minit="points") is model
    assert model.Ds == 4 and type(model.Ds) is int and model.metric == "dot"
    shapes = {"codewords": (4, 32, 4)} | ({"R": (16, 16)} if kind == "opq" else {})
    for name, shape in shapes.items():
        array = getattr(model, name)
        assert type(array) is np.ndarray and array.dtype == np.float32 and array.shape == shape
        assert array.flags.c_contiguous and array.flags.writeable
    difference = vecs.astype(np.float64) - model.decode(model.encode(vecs))
    assert model.losses.dtype == np.float64 and model.losses.ndim == 1
    assert model.losses[-1] >= (difference**2).sum(axis=1).mean() * (1 - 1e-5)
    assert model.dtable(query=vecs[0]).metric == "dot"
    assert model.dtable(vecs[0]).dtable.shape == (4, 32)


def test_losses_of_pq_never_rise(vecs: np.ndarray) -> None:
    losses = picopq.PQ(4, 32, verbose=False).fit(vecs, iter=15).losses
    assert len(losses) > 1 and np.all(np.diff(losses) <= 1e-6 * losses[:-1])


@MODELS
def test_edits_are_seen_by_the_next_call(
    kind: str, vecs: np.ndarray, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    inner = model.pq if kind == "opq" else model
    codes = model.encode(vecs)
    assert (codes[:, 2] == 3).any()
    inner.codewords[2, 3] = 1e6
    assert not (model.encode(vecs)[:, 2] == 3).any()
    kept, inner.codewords = inner.codewords, None
    with pytest.raises(picopq.PicoPQError, match=r"call fit\(\) first"):
        model.encode(vecs)
    inner.codewords = kept[:, ::-1].astype(np.float64).tolist()
    assert model.decode(codes).shape == vecs.shape
    inner.codewords, inner.Ds = np.zeros((4, 32, 2)), 2
    if kind == "pq":
        assert not model.decode(codes).any() and model.decode(codes).shape == (len(vecs), 8)
    inner.Ds = np.int64(4)
    with pytest.raises(picopq.PicoPQError, match=r"\(4, 32, 2\).*\(4, 32, 4\)"):
        model.decode(codes)


def test_assigned_rotation_is_used(opq: picopq.OPQ, vecs: np.ndarray) -> None:
    opq.R = np.eye(16)[::-1]
    assert np.array_equal(opq.rotate(vecs), vecs[:, ::-1])
    opq.R[0] = 0
    assert not opq.rotate(vecs)[:, 15].any()
    opq.R = None
    with pytest.raises(picopq.PicoPQError, match=r"call fit\(\) first"):
        opq.rotate(vecs)


def test_rotation_before_codewords(vecs: np.ndarray) -> None:
    opq = picopq.OPQ(4, verbose=False)
    opq.R = opq.eigenvalue_allocation(vecs)
    np.testing.assert_allclose(opq.rotate(vecs), vecs @ opq.R, atol=1e-4)


@pytest.mark.parametrize("given", ["init", "codewords"])
@MODELS
def test_training_from_given_codewords(kind: str, given: str, vecs: np.ndarray) -> None:
    start = vecs[:32].reshape(32, 4, 4).transpose(1, 0, 2)
    model = {"pq": picopq.PQ, "opq": picopq.OPQ}[kind](4, 32, verbose=False)
    if given == "init":
        model.fit(vecs, minit="matrix", init=start)
    else:
        inner = model.pq if kind == "opq" else model
        inner.codewords = start
        model.fit(vecs, minit="matrix")
    before = ((vecs[:, None] - vecs[:32]) ** 2).sum(axis=2).min(axis=1).mean()
    assert model.losses[-1] < before
    assert np.array_equal(start, vecs[:32].reshape(32, 4, 4).transpose(1, 0, 2))


@MODELS
def test_equality_copies_and_pickles(
    kind: str, vecs: np.ndarray, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin == model and twin is not model
        assert np.array_equal(twin.losses, model.losses)
        assert np.array_equal(twin.encode(vecs), model.encode(vecs))
        inner = twin.pq if kind == "opq" else twin
        inner.losses = None
        assert twin == model
        inner.codewords[0, 0, 0] += 1
        assert twin != model
    assert model != type(model)(4, 32, verbose=False) and model != "something else"
    assert type(model)(4, 32, verbose=False) == type(model)(4, 32, verbose=False)
    assert type(model)(4, 32, verbose=False) != type(model)(4, 32, "dot", verbose=False)
    with pytest.raises(TypeError):
        hash(model)


def test_states_of_older_releases(pq: picopq.PQ, vecs: np.ndarray) -> None:
    state = {k: v for k, v in vars(pq).items() if k not in ("metric", "losses")}
    old = picopq.PQ.__new__(picopq.PQ)
    old.__setstate__(state)
    assert old == pq and old.losses is None
    assert set(vars(pq)) >= set(vars(nanopq.PQ(1, verbose=False)))
    assert set(vars(picopq.OPQ(1, verbose=False))) == set(vars(nanopq.OPQ(1, verbose=False)))


def test_subclasses(vecs: np.ndarray) -> None:
    class Named(picopq.PQ):
        def __init__(self, name: str, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self.name = name

        def encode(self, vecs: np.ndarray, **kwargs: object) -> np.ndarray:
            return super().encode(vecs, **kwargs)[:, ::-1]

    named = Named("mine", 4, Ks=16, verbose=False).fit(vecs)
    assert isinstance(named, Named) and copy.deepcopy(named).name == "mine"
    plain = picopq.PQ(4, 16, verbose=False).fit(vecs)
    assert np.array_equal(named.encode(vecs)[:, ::-1], plain.encode(vecs))


def test_rii_on_top(vecs: np.ndarray, pq: picopq.PQ) -> None:
    """The calls that Rii makes of its fine quantizer."""
    for fine in (pq, picopq.OPQ(4, 32, verbose=False).fit(vecs, rotation_iter=2)):
        assert fine.Ks <= 256 and fine.code_dtype == np.uint8
        coarse = copy.deepcopy(fine)
        assert np.array(coarse.codewords, np.float32).ndim == 3
        assert coarse.encode(vecs).dtype == np.uint8
        query = fine.rotate(vecs[0]) if hasattr(fine, "rotate") else vecs[0]
        assert query.shape == (16,) and query.dtype == np.float32
        whole = {"fine": fine, "codes": fine.encode(vecs)}
        assert pickle.loads(pickle.dumps(whole))["fine"] == fine


def test_prints(vecs: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    pq = picopq.PQ(2, 16).fit(vecs, iter=3, seed=5)
    pq.encode(vecs)
    assert capsys.readouterr().out.splitlines() == [
        "M: 2, Ks: 16, metric : l2, code_dtype: <class 'numpy.uint8'>",
        "iter: 3, seed: 5",
        "Training the subspace: 0 / 2",
        "Training the subspace: 1 / 2",
        "Encoding the subspace: 0 / 2",
        "Encoding the subspace: 1 / 2",
    ]
    opq = picopq.OPQ(2, 16).fit(vecs, rotation_iter=3)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[::2] == [f"OPQ rotation training: {i} / 3" for i in range(3)]
    errors = [re.fullmatch("==== Reconstruction error: (.*) ====", line)[1] for line in lines[1::2]]
    assert float(errors[-1]) == pytest.approx(np.sqrt(opq.losses[-1] * len(vecs)))
    final = np.linalg.norm(vecs - opq.decode(opq.encode(vecs)))
    assert final <= float(errors[-1]) * (1 + 1e-5) <= float(errors[0])
    capsys.readouterr()
    pq.verbose = opq.verbose = False
    pq.fit(vecs).encode(vecs)
    opq.fit(vecs).encode(vecs)
    assert capsys.readouterr().out == ""


def test_the_global_generator_is_not_touched(vecs: np.ndarray) -> None:
    np.random.seed(9)
    before = np.random.get_state()
    picopq.PQ(4, 16, verbose=False).fit(vecs, minit="++")
    picopq.OPQ(4, 16, verbose=False).fit(vecs, rotation_iter=2, seed=None)
    assert all(map(np.array_equal, before, np.random.get_state()))


def test_seeds(vecs: np.ndarray) -> None:
    def codewords(seed: int | None) -> bytes:
        return picopq.PQ(4, 16, verbose=False).fit(vecs, seed=seed).codewords.tobytes()

    assert codewords(0) == codewords(0) != codewords(2**32 - 1)
    assert codewords(None) != codewords(None)


def test_tables_given_by_hand() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    table = picopq.DistanceTable(values)
    assert table.metric == "l2" and table.dtable is values
    assert table.adist(np.array([[0, 1, 2], [3, 3, 3]])).tolist() == [15, 21]
    values[0, 0] = 100
    assert table.adist(np.array([[0, 1, 2]])).tolist() == [115]
    dists, ids = picopq.DistanceTable(values, metric="dot").topk([[0, 0, 0], [1, 1, 1]], 1)
    assert (dists.tolist(), ids.tolist()) == ([112], [0])


# The alias: every part runs in an interpreter of its own.

TRAIN = """
import numpy as np, nanopq, pickle, sys
vecs = np.load(sys.argv[1] + "/vecs.npy")
models = [nanopq.PQ(4, 32, verbose=False).fit(vecs), nanopq.OPQ(4, 32, verbose=False).fit(vecs)]
models.append(models[0].dtable(vecs[0]))
codes = [model.encode(vecs) for model in models[:2]]
pickle.dump((models, codes, nanopq.__version__), open(sys.argv[1] + "/models.pickle", "wb"))
print(type(models[0]).__module__, type(models[1]).__module__, type(models[2]).__module__)
"""
LOAD = """
import numpy as np, pickle, sys, nanopq, nanopq.pq, nanopq.opq, nanopq.convert_faiss
from nanopq.pq import PQ
vecs = np.load(sys.argv[1] + "/vecs.npy")
models, codes, version = pickle.load(open(sys.argv[1] + "/models.pickle", "rb"))
assert version == nanopq.__version__ == "0.2.2"
assert [type(m) for m in models] == [nanopq.PQ, nanopq.OPQ, nanopq.DistanceTable]
assert nanopq.PQ is PQ is nanopq.pq.PQ and nanopq.OPQ is nanopq.opq.OPQ
for model, wanted in zip(models, codes):
    assert (model.encode(vecs) == wanted).mean() > 0.999
assert np.allclose(models[2].dtable, models[0].dtable(vecs[0]).dtable, rtol=1e-4, atol=1e-4)
print("picopq" in sys.modules, hasattr(models[0], "search"))
"""
ALIAS = "import picopq; picopq.install_as_nanopq()\n"


@pytest.mark.parametrize("writer", ["nanopq", "picopq"])
@pytest.mark.parametrize("reader", ["nanopq", "picopq"])
def test_pickles_cross(writer: str, reader: str, vecs: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "vecs.npy", vecs)
    alias = {"nanopq": "", "picopq": ALIAS}
    modules = run("-c", alias[writer] + TRAIN, tmp_path)
    assert modules.split() == ["nanopq.pq", "nanopq.opq", "nanopq.pq"]
    ours = str(reader == "picopq")
    assert run("-c", alias[reader] + LOAD, tmp_path).split() == [ours, ours]


def test_own_pickles_load_beside_the_alias(
    pq: picopq.PQ, opq: picopq.OPQ, tmp_path: Path
) -> None:
    (tmp_path / "own.pickle").write_bytes(pickle.dumps([pq, opq]))
    load = ALIAS + (
        "import pickle, sys; pq, opq = pickle.load(open(sys.argv[1] + '/own.pickle', 'rb'))\n"
        "print(type(pq) is picopq.PQ, type(opq) is picopq.OPQ, opq.Ks)"
    )
    assert run("-c", load, tmp_path).split() == ["True", "True", "32"]


def test_alias_replaces_an_imported_nanopq() -> None:
    code = """
import warnings, nanopq as old, picopq, sys
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    picopq.install_as_nanopq()
    picopq.install_as_nanopq()
import nanopq, nanopq.convert_faiss, importlib.util
assert [w.category for w in caught] == [picopq.PicoPQWarning], caught
assert old.PQ is not picopq.PQ is nanopq.PQ
assert nanopq.convert_faiss.nanopq_to_faiss is picopq.nanopq_to_faiss
assert sorted(nanopq.__all__) == sorted(old.__all__) and importlib.util.find_spec("nanopq")
assert picopq.__version__ == "0.1.0"
from nanopq import *
assert PQ is picopq.PQ and OPQ is picopq.OPQ and DistanceTable is picopq.DistanceTable
"""
    run("-W", "error", "-c", code)


PROGRAM = """
import sys, nanopq, helper
print(__name__, sys.argv[1:], nanopq.PQ.__init__.__code__.co_filename, helper.VALUE)
"""


@pytest.mark.parametrize("form", ["script", "module"])
def test_running_a_program_with_the_alias(form: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "helper.py").write_text("VALUE = 42\n")
    if form == "script":
        program, cwd = [tmp_path / "program.py"], None
    else:
        program, cwd = ["-m", "program"], tmp_path
    out = run("-W", "error", "-m", "picopq.as_nanopq", *program, "-x", "3", cwd=cwd)
    assert out == f"__main__ ['-x', '3'] {inspect.getsourcefile(picopq.PQ)} 42\n"


@pytest.mark.parametrize("arguments", [[], ["-m"], ["--help"]])
def test_running_no_program_shows_the_usage(arguments: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"as_nanopq script\.py"):
        run("-m", "picopq.as_nanopq", *arguments)


def test_public_names() -> None:
    assert all(hasattr(picopq, name) for name in picopq.__all__)
    assert picopq.__version__ == "0.1.0"
    assert issubclass(picopq.PicoPQError, ValueError)
    assert issubclass(picopq.PicoPQError, AssertionError)
    assert issubclass(picopq.PicoPQWarning, UserWarning)
    for name in ("PicoPQError", "PicoPQWarning"):
        kind = getattr(picopq, name)
        assert kind.__module__ == "picopq" and pickle.loads(pickle.dumps(kind("x"))).args == ("x",)
    assert picopq.instruction_set() in ("scalar", "avx2", "avx512", "avx512vbmi")


def test_kernels_can_be_forced() -> None:
    code = "import picopq; print(picopq.instruction_set(), picopq.num_threads())"
    assert run("-c", code, PICOPQ_KERNELS="scalar", PICOPQ_NUM_THREADS="3") == "scalar 3\n"


def test_forced_kernels_give_the_same_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "vecs.npy", synthetic("definitions", 500, 48))
    code = (
        "import numpy as np, picopq, sys; vecs = np.load(sys.argv[1] + '/vecs.npy')\n"
        "pq = picopq.PQ(8, 32, verbose=False)\n"
        "pq.codewords, pq.Ds = vecs[:32].reshape(32, 8, 6).transpose(1, 0, 2), 6\n"
        "print(pq.encode(vecs).tolist())"
    )
    assert run("-c", code, tmp_path, PICOPQ_KERNELS="scalar") == run("-c", code, tmp_path)


def test_max_rows_trains_on_evenly_spaced_rows(vecs: np.ndarray) -> None:
    spread = vecs[np.arange(150) * len(vecs) // 150]
    for model in (picopq.PQ, picopq.OPQ):
        limited = model(4, 32, verbose=False).fit(vecs, max_rows=150)
        assert limited == model(4, 32, verbose=False).fit(spread)
        assert limited != model(4, 32, verbose=False).fit(vecs, max_rows=10**9)
    with pytest.raises(picopq.PicoPQError, match="32"):
        picopq.PQ(4, 32, verbose=False).fit(vecs, max_rows=32)
