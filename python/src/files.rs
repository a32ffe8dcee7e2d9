//! Files: models and indexes as arrays, vectors in blocks.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArray3,
};
use picopq::io::{EncodeOptions, Format, RowReader, Scan, Stored};
use picopq::{CodeData, Codes, Error, Metric, Opq, Pq, Quantizer};
use pyo3::prelude::*;

use crate::door::{Listeners, run};
use crate::{AnyCodes, RawCodes, array3, checked, copied, metric_of, square};

/// The cost of a call whose work is not known before.
const UNKNOWN: usize = usize::MAX;

/// Codes, owned, each below `ks`.
fn owned(codes: RawCodes<'_>, ks: usize) -> picopq::Result<Codes<'static>> {
    let what = "the codes";
    match codes {
        RawCodes::U8(codes, m) => Codes::new(copied(codes, what)?, m, ks.min(1 << 8)),
        RawCodes::U16(codes, m) => Codes::new(copied(codes, what)?, m, ks.min(1 << 16)),
        RawCodes::U32(codes, m) => Codes::new(copied(codes, what)?, m, ks),
    }
}

#[pyfunction]
#[pyo3(signature = (path, kind, metric, codewords, rotation=None, codes=None, ids=None, block=0))]
#[allow(clippy::too_many_arguments, reason = "one for each part of the file")]
pub(crate) fn save<'py>(
    py: Python<'py>,
    path: PathBuf,
    kind: &str,
    metric: &str,
    codewords: PyReadonlyArray3<'py, f32>,
    rotation: Option<PyReadonlyArray2<'py, f32>>,
    codes: Option<AnyCodes<'py>>,
    ids: Option<PyReadonlyArray1<'py, i64>>,
    block: usize,
) -> PyResult<()> {
    let (m, ks, ds) = codewords.as_array().dim();
    let (codewords, metric) = (codewords.as_slice()?, metric_of(metric)?);
    let rotation = rotation.as_ref().map(|rotation| rotation.as_slice()).transpose()?;
    let codes = codes.as_ref().map(AnyCodes::raw).transpose()?;
    let ids = ids.as_ref().map(|ids| ids.as_slice()).transpose()?;
    run(py, UNKNOWN, Listeners::default(), |task| {
        let pq = Pq::from_codewords(copied(codewords, "the codewords")?, m, ks, ds, metric)?;
        let model = match rotation {
            None => Quantizer::from(pq),
            Some(rotation) => Opq::from_parts(pq, copied(rotation, "the rotation")?)?.into(),
        };
        let codes = codes.map(|codes| owned(codes, ks)).transpose()?;
        let scan = if block == 0 { Scan::Rows } else { Scan::Fast { block } };
        let ids = ids.map(|ids| copied(ids, "the ids")).transpose()?;
        let stored = Stored { model, codes, ids, scan };
        match kind {
            "faiss" => stored.write_faiss(&path, task),
            "faiss_id_map2" => stored.write_faiss_id_map2(&path, task),
            _ => stored.save(&path, task),
        }
    })
}

fn open(path: &Path, column: Option<&str>) -> Result<RowReader<'static>, Error> {
    RowReader::open_column(path, Format::of(path)?, column)
}

#[pyfunction]
#[pyo3(signature = (codewords, source, output, resume, block_rows, progress, rotation=None, column=None))]
#[allow(clippy::too_many_arguments, reason = "one for each of Python's keyword arguments")]
pub(crate) fn encode_file<'py>(
    py: Python<'py>,
    codewords: PyReadonlyArray3<'py, f32>,
    source: PathBuf,
    output: PathBuf,
    resume: bool,
    block_rows: Option<usize>,
    progress: Option<Bound<'py, PyAny>>,
    rotation: Option<PyReadonlyArray2<'py, f32>>,
    column: Option<String>,
) -> PyResult<u64> {
    let (m, ks, ds) = codewords.as_array().dim();
    let codewords = codewords.as_slice()?;
    let rotation = rotation.as_ref().map(|rotation| rotation.as_slice()).transpose()?;
    run(py, UNKNOWN, Listeners::new(progress, None), |task| {
        // Codes do not depend on the metric.
        let pq = Pq::from_codewords(codewords.to_vec(), m, ks, ds, Metric::L2)?;
        let model = match rotation {
            None => Quantizer::from(pq),
            Some(rotation) => Opq::from_parts(pq, rotation.to_vec())?.into(),
        };
        let options = EncodeOptions { block_rows, resume };
        let reader = open(&source, column.as_deref())?;
        picopq::io::encode_file(&model, reader, &output, &options, task)
    })
}

/// Codes of any of the three widths, on their way to Python.
#[derive(IntoPyObject)]
pub(crate) enum CodeArray<'py> {
    U8(Bound<'py, PyArray2<u8>>),
    U16(Bound<'py, PyArray2<u16>>),
    U32(Bound<'py, PyArray2<u32>>),
}

pub(crate) fn code_array<'py>(py: Python<'py>, codes: Codes<'static>) -> PyResult<CodeArray<'py>> {
    let shape = [codes.len(), codes.m()];
    Ok(match codes.into_data() {
        CodeData::U8(codes) => CodeArray::U8(codes.into_owned().into_pyarray(py).reshape(shape)?),
        CodeData::U16(codes) => CodeArray::U16(codes.into_owned().into_pyarray(py).reshape(shape)?),
        CodeData::U32(codes) => CodeArray::U32(codes.into_owned().into_pyarray(py).reshape(shape)?),
    })
}

type Loaded<'py> = (
    &'static str,
    Bound<'py, PyArray3<f32>>,
    Option<Bound<'py, PyArray2<f32>>>,
    Option<CodeArray<'py>>,
    Option<Bound<'py, PyArray1<i64>>>,
    usize,
);

#[pyfunction]
pub(crate) fn load<'py>(py: Python<'py>, path: PathBuf, kind: &str) -> PyResult<Loaded<'py>> {
    let faiss = kind == "faiss";
    let stored = run(py, UNKNOWN, Listeners::default(), |task| {
        if faiss { Stored::read_faiss(&path, task) } else { Stored::load(&path, task) }
    })?;
    let (pq, rotation) = match stored.model {
        Quantizer::Pq(pq) => (pq, None),
        Quantizer::Opq(opq) => {
            let (pq, rotation) = opq.into_parts();
            (pq, Some(rotation))
        }
    };
    let metric = match pq.metric() {
        Metric::L2 => "l2",
        Metric::Dot => "dot",
    };
    let book = pq.codebook();
    let (shape, dim) = ([book.m(), book.ks(), book.ds()], book.dim());
    let block = match stored.scan {
        Scan::Rows => 0,
        Scan::Fast { block } => block,
    };
    Ok((
        metric,
        array3(py, pq.into_codewords(), shape)?,
        rotation.map(|rotation| square(py, rotation, dim)).transpose()?,
        stored.codes.map(|codes| code_array(py, codes)).transpose()?,
        stored.ids.map(|ids| ids.into_pyarray(py)),
        block,
    ))
}

#[pyclass(module = "picopq._native", frozen)]
pub(crate) struct Rows(Mutex<RowReader<'static>>);

#[pymethods]
impl Rows {
    #[new]
    #[pyo3(signature = (path, column=None))]
    fn new(py: Python<'_>, path: PathBuf, column: Option<&str>) -> PyResult<Self> {
        let reader = py.detach(|| open(&path, column));
        Ok(Self(Mutex::new(checked(py, reader)?)))
    }

    #[getter]
    fn dim(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).dim()
    }

    #[getter]
    fn rows(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rows()
    }

    fn read<'py>(&self, py: Python<'py>, rows: usize) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let mut block = Vec::new();
        let read = py.detach(|| {
            let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            reader.read(rows, &mut block).map(|count| [count, reader.dim()])
        });
        block.into_pyarray(py).reshape(checked(py, read)?)
    }
}
