//! The index as a Python object: the only one that keeps state on this side, as readers and
//! writers share it.

use std::iter::repeat;
use std::sync::{Mutex, PoisonError};

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArray3, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use picopq::{Codes, Filter, Metric, Neighbor, Opq, Pq, Quantizer, Vectors};
use pyo3::prelude::*;

use crate::door::{Listeners, run};
use crate::files::{CodeArray, code_array};
use crate::{
    AnyCodes, Listener, checked, codebook, collected, copied, cost, dense, metric_of, vectors,
};

/// Rows that a screen excludes at the price of one look-up, roughly.
const SCREENED: usize = 16;

#[pyclass(frozen, module = "picopq._native")]
pub(crate) struct Index(picopq::Index);

/// Which rows may be answers: a mask (N,) or ids.
#[derive(FromPyObject)]
pub(crate) enum Subset<'py> {
    Mask(PyReadonlyArray1<'py, bool>),
    Ids(PyReadonlyArray1<'py, i64>),
}

fn filter<'a>(subset: Option<&'a Subset<'_>>) -> PyResult<Filter<'a>> {
    Ok(match subset {
        None => Filter::All,
        Some(Subset::Mask(mask)) => Filter::Mask(mask.as_slice()?),
        Some(Subset::Ids(ids)) => Filter::Ids(ids.as_slice()?),
    })
}

/// Distances and ids, both (k,).
type Row<'py> = (Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<i64>>);

/// Distances and ids: of one query, or both (nq, k).
#[derive(IntoPyObject)]
pub(crate) enum Nearest<'py> {
    One(Row<'py>),
    Each((Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<i64>>)),
}

type Answers<'py> =
    (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<i64>>);

#[pymethods]
impl Index {
    #[new]
    fn new(
        py: Python<'_>,
        codewords: PyReadonlyArray3<'_, f32>,
        metric: &str,
        rotation: Option<PyReadonlyArray2<'_, f32>>,
    ) -> PyResult<Self> {
        let (book, metric) = (codebook(py, &codewords)?, metric_of(metric)?);
        let rotation = rotation.as_ref().map(|rotation| rotation.as_slice()).transpose()?;
        run(py, cost(&[book.codewords().len(), 256]), Listeners::default(), |_| {
            let words = copied(book.codewords(), "the codewords")?;
            let pq = Pq::from_codewords(words, book.m(), book.ks(), book.ds(), metric)?;
            let quantizer = match rotation {
                None => Quantizer::Pq(pq),
                Some(rotation) => {
                    Quantizer::Opq(Opq::from_parts(pq, copied(rotation, "the rotation")?)?)
                }
            };
            picopq::Index::new(quantizer).map(Self)
        })
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }

    fn next_id(&self) -> i64 {
        self.0.next_id()
    }

    fn skip_ids(&self, py: Python<'_>, id: i64) {
        py.detach(|| self.0.skip_ids(id));
    }

    fn add<'py>(
        &self,
        py: Python<'py>,
        vecs: PyReadonlyArray2<'py, f32>,
        ids: Option<PyReadonlyArray1<'py, i64>>,
        progress: Listener<'py>,
    ) -> PyResult<()> {
        let vecs = vectors(py, &vecs)?;
        let ids = ids.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
        let cost = cost(&[vecs.as_slice().len(), self.0.quantizer().codebook().ks()]);
        // Listeners hear the end before rows are stored: what they raise leaves the index as it is.
        let rows =
            run(py, cost, Listeners::new(progress, None), |task| self.0.prepare(vecs, task))?;
        run(py, self.stored_cost(rows.len()), Listeners::default(), |task| rows.store(ids, task))
    }

    fn add_codes<'py>(
        &self,
        py: Python<'py>,
        codes: AnyCodes<'py>,
        ids: Option<PyReadonlyArray1<'py, i64>>,
        progress: Listener<'py>,
    ) -> PyResult<()> {
        let codes = codes.raw()?;
        let ids = ids.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
        let ks = self.0.quantizer().codebook().ks();
        let checked = run(py, codes.len(), Listeners::default(), |_| codes.checked(ks))?;
        if let Some(progress) = progress {
            progress.call1((checked.len(), checked.len()))?;
        }
        run(py, self.stored_cost(checked.len()), Listeners::default(), |task| {
            self.0.add_codes(&checked, ids, task)
        })
    }

    fn remove(&self, py: Python<'_>, ids: PyReadonlyArray1<'_, i64>) -> PyResult<usize> {
        let ids = ids.as_slice()?;
        run(py, self.0.len(), Listeners::default(), |task| self.0.remove(ids, task))
    }

    fn reconstruct<'py>(
        &self,
        py: Python<'py>,
        ids: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (ids, dim) = (ids.as_slice()?, self.0.quantizer().codebook().dim());
        let cost = self.0.len() + cost(&[ids.len(), dim]);
        let vectors = run(py, cost, Listeners::default(), |task| self.0.reconstruct(ids, task))?;
        vectors.into_pyarray(py).reshape([ids.len(), dim])
    }

    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArrayDyn<'py, f32>,
        k: usize,
        subset: Option<Subset<'py>>,
        progress: Listener<'py>,
    ) -> PyResult<Nearest<'py>> {
        let (rows, filter) = (vectors(py, &queries)?, filter(subset.as_ref())?);
        let (dists, ids) = run(py, self.cost(rows), Listeners::new(progress, None), |task| {
            let found = self.0.search(rows, k, filter, task)?;
            padded(&found, k, self.0.quantizer().metric())
        })?;
        let (dists, ids) = (dists.into_pyarray(py), ids.into_pyarray(py));
        if queries.ndim() == 1 {
            return Ok(Nearest::One((dists, ids)));
        }
        let shape = [rows.len(), k];
        Ok(Nearest::Each((dists.reshape(shape)?, ids.reshape(shape)?)))
    }

    fn search_as_is<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Nearest<'py>>> {
        let dim = self.0.quantizer().codebook().dim();
        let (Some(queries), Ok(k)) = (dense(queries, dim), k.extract()) else { return Ok(None) };
        self.search(py, queries.try_readonly()?, k, None, None).map(Some)
    }

    fn range_search<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'py, f32>,
        radius: f32,
        subset: Option<Subset<'py>>,
        progress: Listener<'py>,
    ) -> PyResult<Answers<'py>> {
        let (queries, filter) = (vectors(py, &queries)?, filter(subset.as_ref())?);
        let found = run(py, self.cost(queries), Listeners::new(progress, None), |task| {
            self.0.range_search(queries, radius, filter, task)
        })?;
        let ends = found.iter().scan(0, |end, found| {
            *end += found.len() as i64;
            Some(*end)
        });
        let all: usize = found.iter().map(Vec::len).sum();
        let each = || found.iter().flatten();
        let what = "the answers";
        let limits = collected(found.len() + 1, std::iter::once(0).chain(ends), what);
        let dists = collected(all, each().map(|found| found.distance), what);
        let ids = collected(all, each().map(|found| found.id), what);
        let (limits, dists, ids) = (checked(py, limits)?, checked(py, dists)?, checked(py, ids)?);
        Ok((limits.into_pyarray(py), dists.into_pyarray(py), ids.into_pyarray(py)))
    }

    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let ids = py.detach(|| self.0.ids());
        Ok(checked(py, ids)?.into_pyarray(py))
    }

    fn codes<'py>(&self, py: Python<'py>) -> PyResult<CodeArray<'py>> {
        let codes = py.detach(|| self.0.codes());
        code_array(py, checked(py, codes)?)
    }

    fn blocks(&self) -> Blocks {
        Blocks(Mutex::new(Box::new(self.0.blocks())))
    }
}

impl Index {
    fn stored_cost(&self, rows: usize) -> usize {
        cost(&[rows, self.0.quantizer().codebook().m()])
    }

    fn cost(&self, queries: Vectors<'_>) -> usize {
        cost(&[queries.len(), self.0.len(), self.0.quantizer().codebook().m()]) / SCREENED
    }
}

type Block = picopq::Result<(Vec<i64>, Codes<'static>)>;

/// What an index held when the iteration began, block by block.
#[pyclass(frozen, module = "picopq._native")]
pub(crate) struct Blocks(Mutex<Box<dyn Iterator<Item = Block> + Send>>);

type BlockArrays<'py> = (Bound<'py, PyArray1<i64>>, CodeArray<'py>);

#[pymethods]
impl Blocks {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<BlockArrays<'py>>> {
        let next = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next());
        let Some(block) = next else { return Ok(None) };
        let (ids, codes) = checked(py, block)?;
        Ok(Some((ids.into_pyarray(py), code_array(py, codes)?)))
    }
}

/// The `k` best of a query's candidates by exact distance, into arrays (k,).
#[pyfunction]
pub(crate) fn rerank<'py>(
    py: Python<'py>,
    query: PyReadonlyArray1<'py, f32>,
    vecs: PyReadonlyArray2<'py, f32>,
    candidates: PyReadonlyArray1<'py, i64>,
    metric: &str,
    k: usize,
) -> PyResult<Row<'py>> {
    let (query, vecs) = (query.as_slice()?, vectors(py, &vecs)?);
    let (candidates, metric) = (candidates.as_slice()?, metric_of(metric)?);
    let (dists, ids) = run(py, vecs.as_slice().len(), Listeners::default(), |_| {
        let found = picopq::rerank(query, vecs, candidates, metric, k)?;
        padded(&[found], k, metric)
    })?;
    Ok((dists.into_pyarray(py), ids.into_pyarray(py)))
}

/// Distances and ids of `k` answers to each query, one query after the other: where there are fewer,
/// the id -1 and an infinite distance.
fn padded(
    found: &[Vec<Neighbor>],
    k: usize,
    metric: Metric,
) -> picopq::Result<(Vec<f32>, Vec<i64>)> {
    let worst = match metric {
        Metric::L2 => f32::INFINITY,
        Metric::Dot => f32::NEG_INFINITY,
    };
    let absent = Neighbor { distance: worst, id: -1 };
    let (len, what) = (found.len().saturating_mul(k), "the answers");
    let each = || found.iter().flat_map(|found| found.iter().chain(repeat(&absent)).take(k));
    let dists = collected(len, each().map(|found| found.distance), what)?;
    Ok((dists, collected(len, each().map(|found| found.id), what)?))
}
