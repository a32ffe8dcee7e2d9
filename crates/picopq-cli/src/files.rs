//! What typed paths name.

use std::io;
use std::path::Path;

use picopq::io::{Dtype, Format, RowReader, RowWriter, Stored, read_ids, read_vectors};
use picopq::{Task, Vectors};

use crate::args::Input;
use crate::console::{Console, Failure};

/// Whether a path stands for standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The format of vectors: what was typed, or what the extension says.
pub(crate) fn format_of(path: &Path, typed: Option<Format>) -> Result<Format, Failure> {
    if let Some(format) = typed {
        return Ok(format);
    }
    if is_standard(path) {
        return Err(Failure::usage("standard input and output have no extension; give the format"));
    }
    Format::of(path).map_err(|error| Failure::usage(format!("{error}; give the format")))
}

pub(crate) fn open(input: &Input) -> Result<RowReader<'static>, Failure> {
    reader(&input.path, input.format, input.column.as_deref())
}

pub(crate) fn reader(
    path: &Path,
    format: Option<Format>,
    column: Option<&str>,
) -> Result<RowReader<'static>, Failure> {
    let format = format_of(path, format)?;
    if column.is_some() && format != Format::Parquet {
        return Err(Failure::usage("--column is of Parquet tables"));
    }
    Ok(if is_standard(path) {
        RowReader::stream(io::stdin(), "standard input", format)?
    } else {
        RowReader::open_column(path, format, column)?
    })
}

/// A writer of rows; a stream is told how many.
pub(crate) fn writer(
    path: &Path,
    format: Format,
    dtype: Dtype,
    dim: usize,
    rows: Option<u64>,
) -> Result<RowWriter<'static>, Failure> {
    Ok(if is_standard(path) {
        RowWriter::stream(io::stdout(), "standard output", format, dtype, dim, rows)?
    } else {
        RowWriter::create(path, format, dtype, dim)?
    })
}

/// Whose file of a model or index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Own,
    Faiss,
}

impl Family {
    /// What the extension says, if it is one of a model or index.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "safetensors" => Some(Self::Own),
            "faiss" | "index" => Some(Self::Faiss),
            _ => None,
        }
    }

    fn wanted(path: &Path) -> Result<Self, Failure> {
        Self::of(path).ok_or_else(|| {
            Failure::usage(format!(
                "{}: a model or index has the extension safetensors, faiss or index",
                path.display()
            ))
        })
    }
}

/// Reads a model or index.
pub(crate) fn load(path: &Path, console: &Console) -> Result<Stored, Failure> {
    let family = Family::wanted(path)?;
    console.run("load", "rows", |task| match family {
        Family::Own => Stored::load(path, task),
        Family::Faiss => Stored::read_faiss(path, task),
    })
}

/// Checks, before the work, that a model or index can be written there.
pub(crate) fn check_output(path: &Path) -> Result<(), Failure> {
    Family::wanted(path).map(|_| ())
}

pub(crate) fn save(stored: &Stored, path: &Path, console: &Console) -> Result<(), Failure> {
    let family = Family::wanted(path)?;
    console.run("save", "rows", |task| match family {
        Family::Own => stored.save(path, task),
        Family::Faiss => stored.write_faiss(path, task),
    })
}

/// All vectors of a file.
pub(crate) struct Matrix {
    values: Vec<f32>,
    dim: usize,
}

impl Matrix {
    pub(crate) fn read(input: &Input, console: &Console) -> Result<Self, Failure> {
        let reader = open(input)?;
        let dim = reader.dim();
        let values = console.run("read", "rows", |task| read_vectors(reader, task))?;
        Ok(Self { values, dim })
    }

    pub(crate) fn open(path: &Path, console: &Console) -> Result<Self, Failure> {
        Self::read(&Input { path: path.to_path_buf(), format: None, column: None }, console)
    }

    pub(crate) fn new(values: Vec<f32>, dim: usize) -> Self {
        Self { values, dim }
    }

    pub(crate) fn view(&self) -> Result<Vectors<'_>, Failure> {
        // A file without rows may not tell its dimension.
        Ok(Vectors::new(&self.values, self.dim.max(1))?)
    }
}

/// All integers of a file, flat, and the width of a row.
pub(crate) fn integers(path: &Path) -> Result<(Vec<i64>, usize), Failure> {
    let reader = reader(path, None, None)?;
    let dim = reader.dim().max(1);
    Ok((read_ids(reader, &Task::new())?, dim))
}
