//! Vectors, codes and ids in files: rows of numbers, read and written in blocks.
//!
//! A format is a header that tells the [`Shape`]; what follows is one of three layouts, which this
//! file reads for all formats.

use std::io::{Read, Write};
use std::path::Path;

use half::f16;

use super::sink::Sink;
use super::source::{CHUNK, Number, Source, reserve};
use super::{bin, npy, vecs};
use crate::error::{Error, Result};
use crate::threads::Task;

/// How a file of vectors is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// numpy's array file: any number type.
    Npy,
    /// Each row is its dimension (i32), then f32.
    Fvecs,
    /// Each row is its dimension (i32), then u8.
    Bvecs,
    /// Each row is its dimension (i32), then i32.
    Ivecs,
    /// Number of rows and dimension (u32 each), then f32.
    Fbin,
    /// Number of rows and dimension (u32 each), then u8.
    U8bin,
    /// Number of rows and dimension (u32 each), then i8.
    I8bin,
    /// Number of rows and dimension (u32 each), then i32.
    Ibin,
    /// A column of a Parquet table, of numbers or of lists of equally many; read with the feature
    /// `parquet`, not written.
    Parquet,
}

impl Format {
    /// The format that the extension of `path` names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for any other extension.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        Ok(match extension.to_ascii_lowercase().as_str() {
            "npy" => Self::Npy,
            "fvecs" => Self::Fvecs,
            "bvecs" => Self::Bvecs,
            "ivecs" => Self::Ivecs,
            "fbin" => Self::Fbin,
            "u8bin" => Self::U8bin,
            "i8bin" => Self::I8bin,
            "ibin" => Self::Ibin,
            "parquet" => Self::Parquet,
            other => {
                return Err(Error::Unsupported {
                    file: path.display().to_string(),
                    what: format!("the extension {other:?}"),
                    wanted: "npy, fvecs, bvecs, ivecs, fbin, u8bin, i8bin, ibin or parquet",
                });
            }
        })
    }

    /// The one type of number that the format holds, if it is one.
    #[must_use]
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Fvecs | Self::Fbin => Some(Dtype::F32),
            Self::Bvecs | Self::U8bin => Some(Dtype::U8),
            Self::I8bin => Some(Dtype::I8),
            Self::Ivecs | Self::Ibin => Some(Dtype::I32),
            _ => None,
        }
    }
}

/// A type of number in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Dtype {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of a number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }
}

/// Where the numbers of a file stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Row after row.
    Rows,
    /// Column after column.
    Columns,
    /// Row after row, each behind its dimension (i32).
    PrefixedRows,
}

/// What a header tells.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) layout: Layout,
    pub(crate) dtype: Dtype,
    pub(crate) big_endian: bool,
    pub(crate) dim: usize,
    /// Not known of a stream of prefixed rows.
    pub(crate) rows: Option<u64>,
    /// Offset of the first row.
    pub(crate) start: u64,
}

impl Shape {
    fn row_bytes(&self) -> u64 {
        let prefix = if self.layout == Layout::PrefixedRows { 4 } else { 0 };
        // Headers are refused whose rows do not fit.
        self.dim as u64 * self.dtype.size() as u64 + prefix
    }

    /// Checks the sizes against the bytes that are there.
    fn check(&self, source: &Source<'_>) -> Result<()> {
        let row = (self.dim as u64).checked_mul(8).and_then(|bytes| bytes.checked_add(4));
        let fits = |rows: u64| row.and_then(|row| row.checked_mul(rows)).map(|_| rows);
        let Some(rows) = fits(self.rows.unwrap_or(1)) else {
            return Err(source.bad("the shape", format!("{self:?}"), "one that fits 64 bits"));
        };
        let Some(remaining) = source.remaining() else { return Ok(()) };
        if self.rows.is_some() {
            let bytes = source.need(Some(rows * self.row_bytes()), "the rows")?;
            if bytes < remaining {
                let (file, offset) = (source.file().to_string(), source.offset() + bytes);
                return Err(Error::TrailingBytes { file, offset });
            }
        }
        Ok(())
    }
}

/// A number that rows are read as: `f32` for vectors, `i64` for codes and ids.
pub trait RowNumber: Copy + Default + sealed::Sealed {
    #[doc(hidden)]
    fn accepts(dtype: Dtype) -> bool;
    #[doc(hidden)]
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<Self>);
    /// The bytes of `numbers`, if those of a little-endian file of `dtype` are the same.
    #[doc(hidden)]
    fn in_place(dtype: Dtype, numbers: &mut [Self]) -> Option<&mut [u8]>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for i64 {}
}

fn convert<T: Number, U>(bytes: &[u8], out: &mut Vec<U>, number: impl Fn(T) -> U) {
    out.extend(bytes.chunks_exact(T::SIZE).map(|bytes| number(T::from_le(bytes))));
}

impl RowNumber for f32 {
    fn accepts(_: Dtype) -> bool {
        true
    }

    fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<Self>) {
        match dtype {
            Dtype::U8 => convert(bytes, out, |value: u8| value.into()),
            Dtype::I8 => convert(bytes, out, |value: i8| value.into()),
            Dtype::U16 => convert(bytes, out, |value: u16| value.into()),
            Dtype::I16 => convert(bytes, out, |value: i16| value.into()),
            Dtype::U32 => convert(bytes, out, |value: u32| value as f32),
            Dtype::I32 => convert(bytes, out, |value: i32| value as f32),
            Dtype::U64 => convert(bytes, out, |value: u64| value as f32),
            Dtype::I64 => convert(bytes, out, |value: i64| value as f32),
            Dtype::F16 => convert(bytes, out, |value: f16| value.into()),
            Dtype::F32 => convert(bytes, out, |value: f32| value),
            Dtype::F64 => convert(bytes, out, |value: f64| value as f32),
        }
    }

    fn in_place(dtype: Dtype, numbers: &mut [Self]) -> Option<&mut [u8]> {
        let same = cfg!(target_endian = "little") && dtype == Dtype::F32;
        same.then(|| bytemuck::cast_slice_mut(numbers))
    }
}

impl RowNumber for i64 {
    fn accepts(dtype: Dtype) -> bool {
        !dtype.is_float()
    }

    /// u64 above the range of i64 comes out negative, which neither codes nor ids are.
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<Self>) {
        match dtype {
            Dtype::U8 => convert(bytes, out, |value: u8| value.into()),
            Dtype::I8 => convert(bytes, out, |value: i8| value.into()),
            Dtype::U16 => convert(bytes, out, |value: u16| value.into()),
            Dtype::I16 => convert(bytes, out, |value: i16| value.into()),
            Dtype::U32 => convert(bytes, out, |value: u32| value.into()),
            Dtype::I32 => convert(bytes, out, |value: i32| value.into()),
            Dtype::U64 => convert(bytes, out, |value: u64| value as i64),
            Dtype::I64 => convert(bytes, out, |value: i64| value),
            Dtype::F16 | Dtype::F32 | Dtype::F64 => {}
        }
    }

    fn in_place(dtype: Dtype, numbers: &mut [Self]) -> Option<&mut [u8]> {
        let same = cfg!(target_endian = "little") && dtype == Dtype::I64;
        same.then(|| bytemuck::cast_slice_mut(numbers))
    }
}

/// Reads the rows of a file or stream in blocks; memory: one block.
///
/// ```
/// use picopq::io::{Format, RowReader};
/// let fbin = [[2, 0, 0, 0], [1, 0, 0, 0], 1.5_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat();
/// let mut reader = RowReader::stream(&fbin[..], "fbin", Format::Fbin)?;
/// assert_eq!((reader.rows(), reader.dim()), (Some(2), 1));
/// let mut block: Vec<f32> = Vec::new();
/// assert_eq!(reader.read(100, &mut block)?, 2);
/// assert_eq!(block, [1.5, 2.5]);
/// # Ok::<(), picopq::Error>(())
/// ```
pub struct RowReader<'a> {
    source: Source<'a>,
    shape: Shape,
    /// Of a table.
    column: Option<String>,
    /// Rows read.
    row: u64,
}

impl<'a> RowReader<'a> {
    /// Opens a file, whose extension tells its format. Sizes that the header claims are checked
    /// against the length of the file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for the extension or for a type of number, [`Error::Io`],
    /// [`Error::Truncated`], [`Error::BadField`], [`Error::TrailingBytes`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, Format::of(path)?)
    }

    /// Opens a file of a given format; see [`RowReader::open`].
    ///
    /// # Errors
    /// As [`RowReader::open`].
    pub fn open_as(path: &Path, format: Format) -> Result<Self> {
        Self::open_column(path, format, None)
    }

    /// Opens a file of a given format and, of a Parquet table, the column of that name; without a
    /// name, the only column of lists, or else the only one of numbers.
    ///
    /// # Errors
    /// As [`RowReader::open`]; of a Parquet table [`Error::Unsupported`] where no column, or not a
    /// single one, is meant, [`Error::Undecodable`], and here or while it is read [`Error::BadRow`]
    /// for a row with nulls or of another length than the first.
    pub fn open_column(path: &Path, format: Format, column: Option<&str>) -> Result<Self> {
        if format == Format::Parquet {
            return Self::parquet(path, column);
        }
        let source = Source::open(path)?;
        match column {
            None => Self::new(source, format),
            Some(name) => {
                Err(source.unsupported(format!("column {name:?}"), "no name of a column"))
            }
        }
    }

    #[cfg(feature = "parquet")]
    fn parquet(path: &Path, column: Option<&str>) -> Result<Self> {
        let (source, shape, column) = super::parquet::open(path, column)?;
        shape.check(&source)?;
        Ok(Self { source, shape, column: Some(column), row: 0 })
    }

    #[cfg(not(feature = "parquet"))]
    fn parquet(path: &Path, _: Option<&str>) -> Result<Self> {
        let (file, what) = (path.display().to_string(), "Parquet".to_string());
        Err(Error::Unsupported { file, what, wanted: "picopq with its feature `parquet`" })
    }

    /// Reads from a stream, such as standard input; `name` stands for it in errors. Sizes are
    /// believed as far as bytes come.
    ///
    /// # Errors
    /// As [`RowReader::open`]; [`Error::Unsupported`] for arrays in column order, which need a file.
    pub fn stream(stream: impl Read + Send + 'a, name: &str, format: Format) -> Result<Self> {
        Self::new(Source::stream(stream, name), format)
    }

    /// Reads from bytes in memory.
    ///
    /// # Errors
    /// As [`RowReader::open`].
    pub fn memory(bytes: &'a [u8], name: &str, format: Format) -> Result<Self> {
        Self::new(Source::memory(bytes, name), format)
    }

    fn new(mut source: Source<'a>, format: Format) -> Result<Self> {
        let shape = match format {
            Format::Parquet => {
                return Err(source.unsupported("Parquet from a stream", "the path of a file"));
            }
            Format::Npy => npy::read_header(&mut source)?,
            Format::Fvecs | Format::Bvecs | Format::Ivecs => {
                vecs::read_shape(&mut source, format.dtype().unwrap_or(Dtype::F32))?
            }
            Format::Fbin | Format::U8bin | Format::I8bin | Format::Ibin => {
                bin::read_header(&mut source, format.dtype().unwrap_or(Dtype::F32))?
            }
        };
        shape.check(&source)?;
        if shape.layout == Layout::Columns && !source.seekable() {
            return Err(source.unsupported("column order from a stream", "a file, or row order"));
        }
        Ok(Self { source, shape, column: None, row: 0 })
    }

    /// Numbers in a row; 0 for a file without rows that does not tell.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.shape.dim
    }

    /// Rows in all, where that is known before the end.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.shape.rows
    }

    /// Rows read or skipped so far.
    #[must_use]
    pub fn row(&self) -> u64 {
        self.row
    }

    /// The name of the column that is read, of a table.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// Whether reading never waits for someone to write.
    pub(crate) fn is_file(&self) -> bool {
        self.source.seekable()
    }

    /// The type of the numbers in the file.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.shape.dtype
    }

    /// Replaces `block` by the next rows, at most `rows`, shape (count, dim), and returns their
    /// count: 0 at the end. As f32, f64 and wide integers are rounded; f64 beyond the range of
    /// f32 becomes infinite.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for integers from a file of floats; [`Error::Io`],
    /// [`Error::Truncated`], [`Error::BadField`] for a row of another dimension,
    /// [`Error::TrailingBytes`], [`Error::OutOfMemory`].
    pub fn read<T: RowNumber>(&mut self, rows: usize, block: &mut Vec<T>) -> Result<usize> {
        let dtype = self.dtype();
        let (source, shape) = (&mut self.source, &self.shape);
        let direct_rows = shape.layout == Layout::Rows
            && !shape.big_endian
            && T::in_place(dtype, &mut []).is_some();
        if !direct_rows {
            block.clear();
        }
        if !T::accepts(dtype) {
            return Err(source.unsupported(format!("{dtype:?}"), "integers"));
        }
        let left = shape.rows.map_or(u64::MAX, |all| all - self.row);
        let rows = left.min(rows as u64) as usize;
        let count = match shape.layout {
            Layout::Rows => {
                let count = (shape.dim as u64).saturating_mul(rows as u64);
                if direct_rows {
                    direct(source, dtype, count, block)?;
                } else {
                    append(source, shape, count, block)?;
                }
                rows
            }
            Layout::Columns => {
                columns(source, shape, self.row, rows, block)?;
                rows
            }
            Layout::PrefixedRows => prefixed(source, shape, self.row, rows, block)?,
        };
        self.row += count as u64;
        if shape.rows == Some(self.row) && shape.layout != Layout::Columns {
            source.end()?;
        }
        Ok(count)
    }

    /// Leaves out the next `rows` rows, or as many as there are.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Truncated`].
    pub fn skip(&mut self, rows: u64) -> Result<()> {
        let (source, shape) = (&mut self.source, &self.shape);
        let rows = shape.rows.map_or(rows, |all| rows.min(all - self.row));
        if shape.layout == Layout::Columns {
            self.row += rows;
            return Ok(());
        }
        let bytes = rows.checked_mul(shape.row_bytes());
        if source.seekable() {
            let bytes = source.need(bytes, "the rows")?;
            source.seek(source.offset() + bytes)?;
        } else {
            source.chunks(bytes, "the rows", &Task::new(), |_| Ok(()))?;
        }
        self.row += rows;
        Ok(())
    }
}

/// Reads `count` numbers; room grows as bytes come.
fn append<T: RowNumber>(
    source: &mut Source<'_>,
    shape: &Shape,
    count: u64,
    out: &mut Vec<T>,
) -> Result<()> {
    let (size, dtype) = (shape.dtype.size(), shape.dtype);
    let bytes = count.checked_mul(size as u64);
    let mut swapped = Vec::new();
    source.chunks(bytes, "the rows", &Task::new(), |chunk| {
        make_room(out, chunk.len() / size)?;
        if shape.big_endian {
            swapped.clear();
            reserve(&mut swapped, chunk.len(), "a block of rows")?;
            swapped.extend_from_slice(chunk);
            swapped.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            T::decode(dtype, &swapped, out);
        } else {
            T::decode(dtype, chunk, out);
        }
        Ok(())
    })
}

/// Replaces `out` by `count` numbers that need no conversion. What it held is overwritten, not
/// cleared: the memory is written once.
fn direct<T: RowNumber>(
    source: &mut Source<'_>,
    dtype: Dtype,
    count: u64,
    out: &mut Vec<T>,
) -> Result<()> {
    let bytes = source.need(count.checked_mul(dtype.size() as u64), "the rows")?;
    source.read_ahead(bytes);
    let mut at = 0;
    while (at as u64) < count {
        let next = (count - at as u64).min((CHUNK / dtype.size()) as u64) as usize;
        if out.len() < at + next {
            out.truncate(at);
            make_room(out, next)?;
            out.resize(at + next, T::default());
        }
        if let Some(bytes) = T::in_place(dtype, &mut out[at..at + next]) {
            source.exact(bytes, "the rows")?;
        }
        at += next;
    }
    out.truncate(at);
    Ok(())
}

fn make_room<T>(out: &mut Vec<T>, more: usize) -> Result<()> {
    if out.capacity() - out.len() < more {
        reserve(out, out.len().max(more), "a block of rows")?;
    }
    Ok(())
}

fn columns<T: RowNumber>(
    source: &mut Source<'_>,
    shape: &Shape,
    first: u64,
    rows: usize,
    out: &mut Vec<T>,
) -> Result<()> {
    if rows == 0 {
        // Of columns without numbers there may be any number.
        return Ok(());
    }
    let (dim, size) = (shape.dim, shape.dtype.size() as u64);
    let all = shape.rows.unwrap_or(0);
    // The length of the file was checked: so much is there.
    reserve(out, rows * dim, "a block of rows")?;
    out.resize(rows * dim, T::default());
    let mut column = Vec::new();
    for place in 0..dim {
        source.seek(shape.start + (place as u64 * all + first) * size)?;
        column.clear();
        append(source, shape, rows as u64, &mut column)?;
        for (row, &value) in out.chunks_exact_mut(dim).zip(&column) {
            row[place] = value;
        }
    }
    Ok(())
}

fn prefixed<T: RowNumber>(
    source: &mut Source<'_>,
    shape: &Shape,
    first: u64,
    rows: usize,
    out: &mut Vec<T>,
) -> Result<usize> {
    for row in 0..rows {
        let mut prefix = [0; 4];
        if source.some(&mut prefix[..1])? == 0 {
            return Ok(row);
        }
        source.exact(&mut prefix[1..], "the dimension of a row")?;
        let dim = i32::from_le_bytes(prefix);
        if usize::try_from(dim) != Ok(shape.dim) {
            let got = format!("{dim} at row {}", first + row as u64);
            return Err(source.bad("the dimension of a row", got, &shape.dim.to_string()));
        }
        append(source, shape, shape.dim as u64, out)?;
    }
    Ok(rows)
}

/// Writes rows in blocks; memory: a small buffer. A file takes its name when it is finished, and
/// leaves nothing behind if it is not.
pub struct RowWriter<'a> {
    sink: Sink<'a>,
    format: Format,
    dtype: Dtype,
    dim: usize,
    written: u64,
    announced: Option<u64>,
}

impl<'a> RowWriter<'a> {
    /// A file of rows of `dim` numbers, whose number need not be known.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `dim` is 0 or too large for the format, [`Error::Unsupported`] for
    /// a type that it does not hold, [`Error::Io`].
    pub fn create(path: &Path, format: Format, dtype: Dtype, dim: usize) -> Result<Self> {
        Self::to(Sink::create(path)?, format, dtype, dim, None)
    }

    /// A stream, such as standard output. `rows` is needed by formats that tell it first.
    ///
    /// # Errors
    /// As [`RowWriter::create`].
    pub fn stream(
        stream: impl Write + Send + 'a,
        name: &str,
        format: Format,
        dtype: Dtype,
        dim: usize,
        rows: Option<u64>,
    ) -> Result<Self> {
        Self::to(Sink::stream(stream, name), format, dtype, dim, rows)
    }

    pub(crate) fn to(
        mut sink: Sink<'a>,
        format: Format,
        dtype: Dtype,
        dim: usize,
        rows: Option<u64>,
    ) -> Result<Self> {
        if dim == 0 || dim > i32::MAX as usize {
            let (argument, wanted) = ("dim", "1 to 2^31 - 1");
            return Err(Error::OutOfRange { argument, got: dim as u64, wanted });
        }
        let holds = match format {
            Format::Npy => true,
            Format::Parquet => false,
            _ => format.dtype() == Some(dtype),
        };
        if !holds {
            let what = format!("{dtype:?} in {format:?}");
            return Err(sink.unsupported(what, "the type that the format holds"));
        }
        if let Some(header) = header(format, dtype, dim, rows.unwrap_or(0))? {
            if rows.is_none() && !sink.is_file() {
                let what = "a stream of unknown length";
                return Err(sink.unsupported(what, "a file, fvecs, bvecs or ivecs"));
            }
            sink.bytes(&header)?;
        }
        Ok(Self { sink, format, dtype, dim, written: 0, announced: rows })
    }

    /// Appends rows, shape (count, dim).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] for an unfinished row, [`Error::Unsupported`] for another type
    /// than the file's, [`Error::Io`].
    pub fn write<T: Number>(&mut self, rows: &[T]) -> Result<()> {
        if T::DTYPE != self.dtype {
            return Err(self.sink.unsupported(format!("{:?}", T::DTYPE), "the file's own type"));
        }
        if !rows.len().is_multiple_of(self.dim) {
            let (got, expected) = (rows.len(), rows.len().next_multiple_of(self.dim));
            return Err(Error::LengthMismatch { argument: "rows", expected, got });
        }
        match self.format {
            Format::Fvecs | Format::Bvecs | Format::Ivecs => {
                for row in rows.chunks_exact(self.dim) {
                    self.sink.number(self.dim as i32)?;
                    self.sink.numbers(row, &Task::new())?;
                }
            }
            _ => self.sink.numbers(rows, &Task::new())?,
        }
        self.written += (rows.len() / self.dim) as u64;
        Ok(())
    }

    /// Completes the header, makes the file last and gives it its name.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if other than the announced rows were written,
    /// [`Error::OutOfRange`] if they are more than the format counts, [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        match self.announced {
            Some(rows) if rows == self.written => {}
            Some(rows) => {
                let (expected, got) = (rows as usize, self.written as usize);
                return Err(Error::LengthMismatch { argument: "rows", expected, got });
            }
            None => {
                let rows = self.written;
                if let Some(header) = header(self.format, self.dtype, self.dim, rows)? {
                    self.sink.patch(&header)?;
                }
            }
        }
        self.sink.finish()
    }
}

/// The header, of a length that does not depend on `rows`.
fn header(format: Format, dtype: Dtype, dim: usize, rows: u64) -> Result<Option<Vec<u8>>> {
    match format {
        Format::Npy => Ok(Some(npy::header(dtype, rows, dim))),
        Format::Fbin | Format::U8bin | Format::I8bin | Format::Ibin => {
            bin::header(rows, dim).map(Some)
        }
        _ => Ok(None),
    }
}
