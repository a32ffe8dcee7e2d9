//! The compiled half of the Python package: numpy arrays in, calls through the one door, numpy
//! arrays out. Signatures and shapes are documented in `_native.pyi`.
#![allow(missing_docs, reason = "documented for its users in _native.pyi")]
#![allow(clippy::needless_pass_by_value, reason = "arguments that Python hands over are owned")]

mod door;
mod errors;
mod files;
mod index;

use std::ffi::OsString;

use numpy::ndarray::Dimension;
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayDyn, PyArrayMethods,
    PyReadonlyArray, PyReadonlyArray2, PyReadonlyArray3, PyReadwriteArray1, PyReadwriteArray2,
    PyReadwriteArray3, PyUntypedArrayMethods,
};
use picopq::{
    Code, Codebook, Codes, DistanceTable, Init, Metric, Neighbor, Opq, OpqOptions, Pq, PqOptions,
    Rotation, Start, Vectors, evaluate,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use door::{Listeners, run};
use errors::to_python;

type Listener<'py> = Option<Bound<'py, PyAny>>;

/// A copy of `values`, or the error of a refused allocation.
pub(crate) fn copied<T: Copy>(values: &[T], what: &'static str) -> picopq::Result<Vec<T>> {
    collected(values.len(), values.iter().copied(), what)
}

/// `len` values of an iterator, or the error of a refused allocation.
pub(crate) fn collected<T>(
    len: usize,
    values: impl Iterator<Item = T>,
    what: &'static str,
) -> picopq::Result<Vec<T>> {
    let mut out = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    out.try_reserve_exact(len).map_err(|_| picopq::Error::OutOfMemory { bytes, what })?;
    out.extend(values);
    Ok(out)
}

/// Checked input, or the Python exception.
pub(crate) fn checked<T>(py: Python<'_>, result: picopq::Result<T>) -> PyResult<T> {
    result.map_err(|error| to_python(py, error))
}

/// Vectors (n, dim), or one (dim,).
fn vectors<'a, D: Dimension>(
    py: Python<'_>,
    vecs: &'a PyReadonlyArray<'_, f32, D>,
) -> PyResult<Vectors<'a>> {
    checked(py, Vectors::new(vecs.as_slice()?, vecs.shape().last().copied().unwrap_or(0)))
}

fn codebook<'a>(
    py: Python<'_>,
    codewords: &'a PyReadonlyArray3<'_, f32>,
) -> PyResult<Codebook<'a>> {
    let (m, ks, ds) = codewords.as_array().dim();
    checked(py, Codebook::new(codewords.as_slice()?, m, ks, ds))
}

fn rotation_of<'a>(
    py: Python<'_>,
    rotation: Option<&'a PyReadonlyArray2<'_, f32>>,
) -> PyResult<Option<Rotation<'a>>> {
    let Some(rotation) = rotation else { return Ok(None) };
    let (rows, columns) = rotation.as_array().dim();
    let wide = Rotation::new(rotation.as_slice()?, if rows == columns { rows } else { 0 });
    checked(py, wide).map(Some)
}

pub(crate) fn metric_of(metric: &str) -> PyResult<Metric> {
    match metric {
        "l2" => Ok(Metric::L2),
        "dot" => Ok(Metric::Dot),
        _ => Err(PyValueError::new_err(format!("metric: got {metric:?}, want \"l2\" or \"dot\""))),
    }
}

fn init_of(
    py: Python<'_>,
    minit: &str,
    init: Option<&PyReadonlyArray3<'_, f32>>,
) -> PyResult<Init> {
    Ok(match (minit, init) {
        ("points", _) => Init::Points,
        ("++", _) => Init::PlusPlus,
        ("random", _) => Init::Random,
        (_, Some(init)) => {
            Init::Codewords(checked(py, copied(init.as_slice()?, "the initial codewords"))?)
        }
        (_, None) => {
            return checked(py, Err(picopq::Error::InitialCodewords { expected: 1, got: 0 }));
        }
    })
}

/// Codes of any of the three widths.
#[derive(FromPyObject)]
pub(crate) enum AnyCodes<'py> {
    U8(PyReadonlyArray2<'py, u8>),
    U16(PyReadonlyArray2<'py, u16>),
    U32(PyReadonlyArray2<'py, u32>),
}

/// The integers of codes, not yet compared with `ks`: that takes a pass, which runs without the GIL.
#[derive(Clone, Copy)]
pub(crate) enum RawCodes<'a> {
    U8(&'a [u8], usize),
    U16(&'a [u16], usize),
    U32(&'a [u32], usize),
}

impl AnyCodes<'_> {
    pub(crate) fn raw(&self) -> PyResult<RawCodes<'_>> {
        Ok(match self {
            Self::U8(codes) => RawCodes::U8(codes.as_slice()?, codes.as_array().ncols()),
            Self::U16(codes) => RawCodes::U16(codes.as_slice()?, codes.as_array().ncols()),
            Self::U32(codes) => RawCodes::U32(codes.as_slice()?, codes.as_array().ncols()),
        })
    }
}

impl<'a> RawCodes<'a> {
    fn len(self) -> usize {
        match self {
            Self::U8(codes, _) => codes.len(),
            Self::U16(codes, _) => codes.len(),
            Self::U32(codes, _) => codes.len(),
        }
    }

    /// The codes, each below `ks`.
    fn checked(self, ks: usize) -> picopq::Result<Codes<'a>> {
        match self {
            Self::U8(codes, m) => Codes::new(codes, m, ks.min(u8::MAX_KS)),
            Self::U16(codes, m) => Codes::new(codes, m, ks.min(u16::MAX_KS)),
            Self::U32(codes, m) => Codes::new(codes, m, ks),
        }
    }
}

/// An output array of codes of any of the three widths.
#[derive(FromPyObject)]
pub(crate) enum AnyCodesOut<'py> {
    U8(PyReadwriteArray2<'py, u8>),
    U16(PyReadwriteArray2<'py, u16>),
    U32(PyReadwriteArray2<'py, u32>),
}

pub(crate) fn array3<'py>(
    py: Python<'py>,
    values: Vec<f32>,
    shape: [usize; 3],
) -> PyResult<Bound<'py, PyArray3<f32>>> {
    values.into_pyarray(py).reshape(shape)
}

pub(crate) fn square<'py>(
    py: Python<'py>,
    values: Vec<f32>,
    dim: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    values.into_pyarray(py).reshape([dim, dim])
}

/// Work of a product of sizes, for choosing how to run it.
fn cost(sizes: &[usize]) -> usize {
    sizes.iter().fold(1, |product: usize, &size| product.saturating_mul(size))
}

type Learnt<'py> = (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray1<f64>>, usize);
type LearntRotated<'py> =
    (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<f64>>, usize);

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one for each of Python's keyword arguments")]
fn train_pq<'py>(
    py: Python<'py>,
    vecs: PyReadonlyArray2<'py, f32>,
    m: usize,
    ks: usize,
    iterations: usize,
    seed: u32,
    minit: &str,
    init: Option<PyReadonlyArray3<'py, f32>>,
    allow_few_rows: bool,
    max_rows: Option<usize>,
    progress: Listener<'py>,
) -> PyResult<Learnt<'py>> {
    let rows = vectors(py, &vecs)?;
    let init = init_of(py, minit, init.as_ref())?;
    let metric = Metric::L2;
    let options = PqOptions { m, ks, metric, iterations, seed, init, allow_few_rows, max_rows };
    let cost = cost(&[rows.len(), rows.dim(), ks, iterations]);
    let (pq, training) =
        run(py, cost, Listeners::new(progress, None), |task| Pq::train(rows, &options, task))?;
    let shape = [m, ks, pq.codebook().ds()];
    let codewords = array3(py, pq.into_codewords(), shape)?;
    Ok((codewords, training.losses.into_pyarray(py), training.empty_clusters))
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one for each of Python's keyword arguments")]
fn train_opq<'py>(
    py: Python<'py>,
    vecs: PyReadonlyArray2<'py, f32>,
    m: usize,
    ks: usize,
    pq_iterations: usize,
    rotation_iterations: usize,
    seed: u32,
    minit: &str,
    init: Option<PyReadonlyArray3<'py, f32>>,
    parametric: bool,
    allow_few_rows: bool,
    max_rows: Option<usize>,
    progress: Listener<'py>,
    on_step: Listener<'py>,
) -> PyResult<LearntRotated<'py>> {
    let rows = vectors(py, &vecs)?;
    let (init, metric, iterations) =
        (init_of(py, minit, init.as_ref())?, Metric::L2, pq_iterations);
    let pq = PqOptions { m, ks, metric, iterations, seed, init, allow_few_rows, max_rows };
    let start = if parametric { Start::EigenvalueAllocation } else { Start::Better };
    let options = OpqOptions { pq, rotations: rotation_iterations, start };
    let rounds = cost(&[rotation_iterations.saturating_add(1), rows.dim(), rows.dim()]);
    let cost = cost(&[rows.len(), rows.dim(), ks, iterations])
        .saturating_add(cost(&[rounds, rows.len().saturating_add(rows.dim())]));
    let (opq, training) =
        run(py, cost, Listeners::new(progress, on_step), |task| Opq::train(rows, &options, task))?;
    let (pq, rotation) = opq.into_parts();
    let shape = [m, ks, pq.codebook().ds()];
    let codewords = array3(py, pq.into_codewords(), shape)?;
    let rotation = square(py, rotation, shape[0] * shape[2])?;
    Ok((codewords, rotation, training.losses.into_pyarray(py), training.empty_clusters))
}

#[pyfunction]
fn eigenvalue_allocation<'py>(
    py: Python<'py>,
    vecs: PyReadonlyArray2<'py, f32>,
    m: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let rows = vectors(py, &vecs)?;
    let cost = cost(&[rows.len().saturating_add(rows.dim()), rows.dim(), rows.dim()]);
    let rotation =
        run(py, cost, Listeners::default(), |task| picopq::eigenvalue_allocation(rows, m, task))?;
    square(py, rotation, rows.dim())
}

/// Whether `value` is what the calls here want as queries (dim,) or (nq, dim), without a copy.
#[pyfunction]
fn is_dense(value: &Bound<'_, PyAny>, dim: usize) -> bool {
    dense(value, dim).is_some()
}

fn dense<'a, 'py>(
    value: &'a Bound<'py, PyAny>,
    dim: usize,
) -> Option<&'a Bound<'py, PyArrayDyn<f32>>> {
    value.cast::<PyArrayDyn<f32>>().ok().filter(|array| {
        matches!(array.ndim(), 1 | 2)
            && array.shape().last() == Some(&dim)
            && array.is_c_contiguous()
            && array.data().is_aligned()
    })
}

#[pyfunction]
fn finite_rows<'py>(
    py: Python<'py>,
    vecs: PyReadonlyArray2<'py, f32>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let rows = vectors(py, &vecs)?;
    let finite = py.detach(|| rows.finite_rows().into_iter().map(|row| row as i64).collect());
    Ok(Vec::into_pyarray(finite, py))
}

#[pyfunction]
#[pyo3(signature = (codewords, vecs, codes, progress, rotation=None))]
fn encode<'py>(
    py: Python<'py>,
    codewords: PyReadonlyArray3<'py, f32>,
    vecs: PyReadonlyArray2<'py, f32>,
    codes: AnyCodesOut<'py>,
    progress: Listener<'py>,
    rotation: Option<PyReadonlyArray2<'py, f32>>,
) -> PyResult<()> {
    fn typed<T: Code + Element>(
        py: Python<'_>,
        book: Codebook<'_>,
        rotation: Option<Rotation<'_>>,
        rows: Vectors<'_>,
        mut codes: PyReadwriteArray2<'_, T>,
        progress: Listener<'_>,
    ) -> PyResult<()> {
        let codes = codes.as_slice_mut()?;
        let width = book.ks() + rotation.map_or(0, |rotation| rotation.dim());
        let cost = cost(&[rows.len(), rows.dim(), width]);
        run(py, cost, Listeners::new(progress, None), |task| {
            book.encode_into(rotation, rows, codes, task)
        })
    }
    let (book, rows) = (codebook(py, &codewords)?, vectors(py, &vecs)?);
    let rotation = rotation_of(py, rotation.as_ref())?;
    match codes {
        AnyCodesOut::U8(codes) => typed(py, book, rotation, rows, codes, progress),
        AnyCodesOut::U16(codes) => typed(py, book, rotation, rows, codes, progress),
        AnyCodesOut::U32(codes) => typed(py, book, rotation, rows, codes, progress),
    }
}

#[pyfunction]
#[pyo3(signature = (codewords, codes, vecs, progress, rotation=None))]
fn decode<'py>(
    py: Python<'py>,
    codewords: PyReadonlyArray3<'py, f32>,
    codes: AnyCodes<'py>,
    mut vecs: PyReadwriteArray2<'py, f32>,
    progress: Listener<'py>,
    rotation: Option<PyReadonlyArray2<'py, f32>>,
) -> PyResult<()> {
    let book = codebook(py, &codewords)?;
    let codes = codes.raw()?;
    let rotation = rotation_of(py, rotation.as_ref())?;
    let out = vecs.as_slice_mut()?;
    let cost = cost(&[out.len(), rotation.map_or(1, |rotation| rotation.dim())]);
    run(py, cost, Listeners::new(progress, None), |task| {
        book.decode_into(rotation, &codes.checked(book.ks())?, out, task)
    })
}

#[pyfunction]
fn rotate<'py>(
    py: Python<'py>,
    rotation: PyReadonlyArray2<'py, f32>,
    vecs: PyReadonlyArray2<'py, f32>,
    mut out: PyReadwriteArray2<'py, f32>,
    inverse: bool,
    progress: Listener<'py>,
) -> PyResult<()> {
    let rows = vectors(py, &vecs)?;
    let Some(rotation) = rotation_of(py, Some(&rotation))? else { return Ok(()) };
    let out = out.as_slice_mut()?;
    let cost = cost(&[out.len(), rotation.dim()]);
    run(py, cost, Listeners::new(progress, None), |task| {
        if inverse {
            rotation.undo_into(rows, out, task)
        } else {
            rotation.apply_into(rows, out, task)
        }
    })
}

#[pyfunction]
#[pyo3(signature = (codewords, queries, metric, out, rotation=None))]
fn tables<'py>(
    py: Python<'py>,
    codewords: PyReadonlyArray3<'py, f32>,
    queries: PyReadonlyArray2<'py, f32>,
    metric: &str,
    mut out: PyReadwriteArray3<'py, f32>,
    rotation: Option<PyReadonlyArray2<'py, f32>>,
) -> PyResult<()> {
    let (book, queries) = (codebook(py, &codewords)?, vectors(py, &queries)?);
    let rotation = rotation_of(py, rotation.as_ref())?;
    let (out, metric) = (out.as_slice_mut()?, metric_of(metric)?);
    let width = book.ks() + rotation.map_or(0, |rotation| rotation.dim());
    let cost = cost(&[queries.len(), queries.dim(), width]);
    run(py, cost, Listeners::default(), |task| {
        book.tables_into(rotation, queries, metric, out, task)
    })
}

#[pyfunction]
fn adist<'py>(
    py: Python<'py>,
    table: PyReadonlyArray2<'py, f32>,
    codes: AnyCodes<'py>,
    mut dists: PyReadwriteArray1<'py, f32>,
) -> PyResult<()> {
    let (m, ks) = table.as_array().dim();
    let table = checked(py, DistanceTable::new(table.as_slice()?, m, Metric::L2))?;
    let (codes, dists) = (codes.raw()?, dists.as_slice_mut()?);
    run(py, codes.len(), Listeners::default(), |task| {
        table.adist_into(&codes.checked(ks)?, dists, task)
    })
}

/// Answers of a search into arrays (nq, k).
fn write_neighbors(found: Vec<Vec<Neighbor>>, dists: &mut [f32], ids: &mut [i64]) {
    for ((dist, id), neighbor) in dists.iter_mut().zip(ids).zip(found.into_iter().flatten()) {
        (*dist, *id) = (neighbor.distance, neighbor.id);
    }
}

#[pyfunction]
fn search<'py>(
    py: Python<'py>,
    tables: PyReadonlyArray3<'py, f32>,
    metric: &str,
    codes: AnyCodes<'py>,
    mut dists: PyReadwriteArray2<'py, f32>,
    mut ids: PyReadwriteArray2<'py, i64>,
    progress: Listener<'py>,
) -> PyResult<()> {
    let ((queries, m, ks), k) = (tables.as_array().dim(), dists.as_array().ncols());
    let (tables, codes, metric) = (tables.as_slice()?, codes.raw()?, metric_of(metric)?);
    let (dists, ids) = (dists.as_slice_mut()?, ids.as_slice_mut()?);
    let cost = cost(&[queries, codes.len()]);
    run(py, cost, Listeners::new(progress, None), |task| {
        let tables = tables.chunks_exact(m * ks).map(|table| DistanceTable::new(table, m, metric));
        let tables: Vec<_> = tables.collect::<picopq::Result<_>>()?;
        let found = picopq::search(&tables, &codes.checked(ks)?, k, task)?;
        write_neighbors(found, dists, ids);
        Ok(())
    })
}

#[pyfunction]
fn ground_truth<'py>(
    py: Python<'py>,
    base: PyReadonlyArray2<'py, f32>,
    queries: PyReadonlyArray2<'py, f32>,
    metric: &str,
    mut dists: PyReadwriteArray2<'py, f32>,
    mut ids: PyReadwriteArray2<'py, i64>,
    progress: Listener<'py>,
) -> PyResult<()> {
    let (base, queries) = (vectors(py, &base)?, vectors(py, &queries)?);
    let (metric, k) = (metric_of(metric)?, dists.as_array().ncols());
    let (dists, ids) = (dists.as_slice_mut()?, ids.as_slice_mut()?);
    let cost = cost(&[queries.len(), base.len(), base.dim()]);
    run(py, cost, Listeners::new(progress, None), |task| {
        let found = evaluate::ground_truth(base, queries, k, metric, task)?;
        write_neighbors(found, dists, ids);
        Ok(())
    })
}

#[pyfunction]
#[pyo3(signature = (codewords, vecs, progress, rotation=None))]
fn distortion<'py>(
    py: Python<'py>,
    codewords: PyReadonlyArray3<'py, f32>,
    vecs: PyReadonlyArray2<'py, f32>,
    progress: Listener<'py>,
    rotation: Option<PyReadonlyArray2<'py, f32>>,
) -> PyResult<f64> {
    let (book, rows) = (codebook(py, &codewords)?, vectors(py, &vecs)?);
    let rotation = rotation_of(py, rotation.as_ref())?;
    let width = book.ks() + rotation.map_or(0, |rotation| rotation.dim());
    let cost = cost(&[rows.len(), rows.dim(), width]);
    run(py, cost, Listeners::new(progress, None), |task| {
        evaluate::distortion(book, rotation, rows, task)
    })
}

#[pyfunction]
fn num_threads() -> usize {
    picopq::num_threads()
}

#[pyfunction]
fn set_num_threads(threads: usize) {
    picopq::set_num_threads(threads);
}

#[pyfunction]
fn instruction_set(py: Python<'_>) -> PyResult<&'static str> {
    checked(py, picopq::instruction_set()).map(picopq::InstructionSet::name)
}

#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> i32 {
    py.detach(|| picopq_cli::run(arguments))
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("PicoPQError", errors::picopq_error(module.py())?)?;
    module.add_function(wrap_pyfunction!(train_pq, module)?)?;
    module.add_function(wrap_pyfunction!(train_opq, module)?)?;
    module.add_function(wrap_pyfunction!(eigenvalue_allocation, module)?)?;
    module.add_function(wrap_pyfunction!(is_dense, module)?)?;
    module.add_function(wrap_pyfunction!(finite_rows, module)?)?;
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(rotate, module)?)?;
    module.add_function(wrap_pyfunction!(tables, module)?)?;
    module.add_function(wrap_pyfunction!(adist, module)?)?;
    module.add_function(wrap_pyfunction!(search, module)?)?;
    module.add_class::<index::Index>()?;
    module.add_class::<index::Blocks>()?;
    module.add_function(wrap_pyfunction!(index::rerank, module)?)?;
    module.add_function(wrap_pyfunction!(ground_truth, module)?)?;
    module.add_function(wrap_pyfunction!(distortion, module)?)?;
    module.add_function(wrap_pyfunction!(files::save, module)?)?;
    module.add_function(wrap_pyfunction!(files::load, module)?)?;
    module.add_function(wrap_pyfunction!(files::encode_file, module)?)?;
    module.add_class::<files::Rows>()?;
    module.add_function(wrap_pyfunction!(main, module)?)?;
    module.add_function(wrap_pyfunction!(num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(instruction_set, module)?)?;
    Ok(())
}
