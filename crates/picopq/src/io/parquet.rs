//! Parquet: a column of numbers, or of lists of equally many numbers, as rows.
//!
//! The parquet crate decodes pages to numbers and levels. From the levels this file makes rows, whose
//! bytes it hands to the [`Source`] of a [`Shape`]: for all others the column is an array. It is the
//! door of that crate: a panic behind it becomes an error.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::parquet::basic::{ConvertedType, IntType, LogicalType, Type};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::rows::{Dtype, Layout, Shape};
use super::source::{Number, Source, io_error};
use crate::error::{Error, Result};

/// Numbers decoded at once.
const BATCH_VALUES: usize = 1 << 16;

/// The rows of `column`, and its name; without a name, of the only column of lists, or else the only one of numbers.
pub(crate) fn open(path: &Path, column: Option<&str>) -> Result<(Source<'static>, Shape, String)> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| io_error(&name, &error))?;
    let decoder = guarded(&name, || Decoder::new(file, &name, column))?;
    let shape = Shape {
        layout: Layout::Rows,
        dtype: decoder.dtype,
        big_endian: false,
        dim: decoder.dim,
        rows: Some(decoder.rows),
        start: 0,
    };
    let bytes = u128::from(decoder.rows) * (decoder.dim * decoder.dtype.size()) as u128;
    let Ok(len) = u64::try_from(bytes) else {
        let reason = format!("{} rows of {} numbers", decoder.rows, decoder.dim);
        return Err(undecodable(&name, reason));
    };
    let column = decoder.column_name.clone();
    Ok((Source::decoded(decoder, &name, len), shape, column))
}

/// What a panic of the decoder becomes.
fn guarded<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(undecodable(name, "its decoder panicked".into()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

fn undecodable(name: &str, reason: String) -> Error {
    Error::Undecodable { file: name.to_string(), format: "Parquet", reason }
}

fn refused(name: &str, error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast_ref::<io::Error>() {
            // An end that comes too soon is the file's fault.
            Some(error) if error.kind() != io::ErrorKind::UnexpectedEof => io_error(name, error),
            _ => undecodable(name, cause.to_string()),
        },
        error => undecodable(name, error.to_string()),
    }
}

/// A file whose end is an error: the decoder would skip billions of numbers behind it one by one.
struct Input(File);

impl Length for Input {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Input {
    type T = Ending;

    fn get_read(&self, start: u64) -> ::parquet::errors::Result<Ending> {
        self.0.get_read(start).map(Ending)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ::parquet::errors::Result<bytes::Bytes> {
        self.0.get_bytes(start, length)
    }
}

struct Ending(BufReader<File>);

impl Read for Ending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

/// The bytes of all rows, decoded in batches.
struct Decoder {
    file: SerializedFileReader<Input>,
    name: String,
    column: usize,
    column_name: String,
    dtype: Dtype,
    /// Definition level of a number that is there.
    whole: i16,
    /// Whether a row is a list.
    lists: bool,
    /// Numbers in a row; 0 before the first.
    dim: usize,
    /// All rows, and those decoded.
    rows: u64,
    row: u64,
    /// The next group of rows, the one that is read, its rows that are left.
    next_group: usize,
    group: Option<ColumnReader>,
    left: u64,
    /// Bytes decoded, and how many of them were handed out.
    bytes: Vec<u8>,
    given: usize,
    levels: Levels,
}

/// How numbers make rows.
#[derive(Default)]
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Decoder {
    fn new(file: File, name: &str, column: Option<&str>) -> Result<Self> {
        let file = SerializedFileReader::new(Input(file)).map_err(|error| refused(name, error))?;
        let metadata = file.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let (column, dtype) = choose(schema, name, column)?;
        let about = schema.column(column);
        let counts = metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok());
        let rows = counts.sum::<Option<u64>>();
        let all = u64::try_from(metadata.file_metadata().num_rows()).ok();
        let Some(rows) = rows.filter(|_| rows == all) else {
            return Err(undecodable(name, "it counts its rows differently in two places".into()));
        };
        let mut decoder = Self {
            name: name.to_string(),
            column,
            column_name: root(&about).to_string(),
            dtype,
            whole: about.max_def_level(),
            lists: about.max_rep_level() > 0,
            dim: usize::from(about.max_rep_level() == 0),
            rows,
            row: 0,
            next_group: 0,
            group: None,
            left: 0,
            bytes: Vec::new(),
            given: 0,
            levels: Levels::default(),
            file,
        };
        if rows > 0 {
            decoder.decode()?;
        }
        Ok(decoder)
    }

    /// Replaces the bytes by those of the next rows.
    fn decode(&mut self) -> Result<()> {
        self.bytes.clear();
        self.given = 0;
        while self.left == 0 {
            if self.values(1).map_err(|error| refused(&self.name, error))? > 0 {
                return Err(undecodable(&self.name, "a group goes on after its last row".into()));
            }
            let metadata = self.file.metadata();
            if self.next_group == metadata.num_row_groups() {
                return Ok(());
            }
            self.left = metadata.row_group(self.next_group).num_rows() as u64;
            let group = self.file.get_row_group(self.next_group);
            let column = group.and_then(|group| group.get_column_reader(self.column));
            self.group = Some(column.map_err(|error| refused(&self.name, error))?);
            self.next_group += 1;
        }
        // The first row tells how many others make a batch.
        let most = BATCH_VALUES.checked_div(self.dim).unwrap_or(1).max(1);
        let rows = self.left.min(most as u64) as usize;
        let read = self.values(rows).map_err(|error| refused(&self.name, error))?;
        if read != rows {
            return Err(undecodable(&self.name, "a group ends before its last row".into()));
        }
        self.check(rows)?;
        self.row += rows as u64;
        self.left -= rows as u64;
        Ok(())
    }

    /// Reads the numbers and levels of `rows` rows; how many there were.
    fn values(&mut self, rows: usize) -> std::result::Result<usize, ParquetError> {
        let (levels, out) = (&mut self.levels, &mut self.bytes);
        match &mut self.group {
            Some(ColumnReader::FloatColumnReader(reader)) => {
                read(reader, rows, levels, |value| value.push_le(out))
            }
            Some(ColumnReader::DoubleColumnReader(reader)) => {
                read(reader, rows, levels, |value| value.push_le(out))
            }
            // As narrow as the schema says: what does not fit is not of this type.
            Some(ColumnReader::Int32ColumnReader(reader)) => match self.dtype {
                Dtype::U8 => read(reader, rows, levels, |value| (value as u8).push_le(out)),
                Dtype::I8 => read(reader, rows, levels, |value| (value as i8).push_le(out)),
                Dtype::U16 => read(reader, rows, levels, |value| (value as u16).push_le(out)),
                Dtype::I16 => read(reader, rows, levels, |value| (value as i16).push_le(out)),
                _ => read(reader, rows, levels, |value| value.push_le(out)),
            },
            Some(ColumnReader::Int64ColumnReader(reader)) => {
                read(reader, rows, levels, |value| value.push_le(out))
            }
            Some(ColumnReader::FixedLenByteArrayColumnReader(reader)) => {
                read(reader, rows, levels, |value| out.extend_from_slice(value.data()))
            }
            _ => Ok(0),
        }
    }

    /// Refuses rows that are not whole or not as long as the first.
    fn check(&mut self, rows: usize) -> Result<()> {
        let Levels { definition, repetition } = &self.levels;
        if self.dim == 0 {
            self.dim = repetition.len();
        }
        let (whole, dim) = (self.whole, self.dim);
        let starts = |row: &[i16]| row[0] == 0 && row[1..].iter().all(|&level| level > 0);
        let even = !self.lists
            || (repetition.len() == rows * dim && repetition.chunks_exact(dim).all(starts));
        let there = whole == 0 || definition.iter().all(|&level| level == whole);
        if even && there && self.bytes.len() == rows * dim * self.dtype.size() {
            return Ok(());
        }
        let (mut row, mut length) = (self.row, 0);
        let bad = |row, got, wanted| {
            let (file, column) = (self.name.clone(), self.column_name.clone());
            Err(Error::BadRow { file, column, row, got, wanted })
        };
        for at in 0..definition.len().max(repetition.len()) {
            let begins = !self.lists || repetition.get(at) == Some(&0);
            if begins && at > 0 {
                if length != dim {
                    break;
                }
                (row, length) = (row + 1, 0);
            }
            if whole > 0 && definition.get(at) != Some(&whole) {
                return bad(row, "a null or no numbers".into(), "numbers".into());
            }
            length += 1;
        }
        bad(row, format!("{length} numbers"), dim.to_string())
    }
}

impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.bytes.len() {
            let name = self.name.clone();
            guarded(&name, || self.decode()).map_err(io::Error::other)?;
        }
        let bytes = &self.bytes[self.given..];
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.given += count;
        Ok(count)
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    levels: &mut Levels,
    each: impl FnMut(T::T),
) -> std::result::Result<usize, ParquetError> {
    let Levels { definition, repetition } = levels;
    definition.clear();
    repetition.clear();
    let mut values = Vec::new();
    let (read, ..) = reader.read_records(rows, Some(definition), Some(repetition), &mut values)?;
    values.into_iter().for_each(each);
    Ok(read)
}

/// The place and type of the column that is meant.
fn choose(schema: &SchemaDescriptor, name: &str, wanted: Option<&str>) -> Result<(usize, Dtype)> {
    let columns = schema.columns();
    let single = |column: &ColumnDescriptor| {
        columns.iter().filter(|other| root(other) == root(column)).count() == 1
    };
    let known = columns.iter().enumerate().filter(|(_, column)| single(column));
    let known: Vec<_> =
        known.filter_map(|(at, column)| Some((at, column, dtype(column)?))).collect();
    let lists = known.iter().filter(|(_, column, _)| column.max_rep_level() == 1);
    let lists: Vec<_> = lists.collect();
    let found: Vec<_> = match wanted {
        Some(wanted) => known.iter().filter(|(_, column, _)| root(column) == wanted).collect(),
        None if lists.is_empty() => known.iter().collect(),
        None => lists,
    };
    if let [(at, _, dtype)] = found[..] {
        return Ok((*at, *dtype));
    }
    let names: Vec<_> = known.iter().map(|(_, column, _)| root(column)).collect();
    let names = names.join(", ");
    let what = match wanted {
        Some(wanted) => format!("column {wanted:?} (of numbers are: {names})"),
        None => format!("a choice among the columns {names}"),
    };
    let wanted = "the name of a column of numbers or of lists of numbers";
    Err(Error::Unsupported { file: name.to_string(), what, wanted })
}

/// The name of a column, without those of the parts of a list.
fn root(column: &ColumnDescriptor) -> &str {
    column.path().parts().first().map_or("", String::as_str)
}

/// The type of a column's numbers; `None` for what is none, and for lists of lists.
fn dtype(column: &ColumnDescriptor) -> Option<Dtype> {
    if column.max_rep_level() > 1 {
        return None;
    }
    let integer = |bits, signed| match (bits, signed) {
        (8, false) => Some(Dtype::U8),
        (8, true) => Some(Dtype::I8),
        (16, false) => Some(Dtype::U16),
        (16, true) => Some(Dtype::I16),
        (32, false) => Some(Dtype::U32),
        (32, true) => Some(Dtype::I32),
        (64, false) => Some(Dtype::U64),
        (64, true) => Some(Dtype::I64),
        _ => None,
    };
    let physical = column.physical_type();
    let named = match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Integer(IntType { bit_width, is_signed })), _) => {
            integer(*bit_width, *is_signed)
        }
        (Some(LogicalType::Float16), _) if column.type_length() == 2 => Some(Dtype::F16),
        (None, ConvertedType::NONE) => match physical {
            Type::INT32 => Some(Dtype::I32),
            Type::INT64 => Some(Dtype::I64),
            Type::FLOAT => Some(Dtype::F32),
            Type::DOUBLE => Some(Dtype::F64),
            _ => None,
        },
        (None, ConvertedType::UINT_8) => integer(8, false),
        (None, ConvertedType::INT_8) => integer(8, true),
        (None, ConvertedType::UINT_16) => integer(16, false),
        (None, ConvertedType::INT_16) => integer(16, true),
        (None, ConvertedType::UINT_32) => integer(32, false),
        (None, ConvertedType::INT_32) => integer(32, true),
        (None, ConvertedType::UINT_64) => integer(64, false),
        (None, ConvertedType::INT_64) => integer(64, true),
        _ => None,
    }?;
    let holds = match named {
        Dtype::U64 | Dtype::I64 => Type::INT64,
        Dtype::F16 => Type::FIXED_LEN_BYTE_ARRAY,
        Dtype::F32 => Type::FLOAT,
        Dtype::F64 => Type::DOUBLE,
        _ => Type::INT32,
    };
    (physical == holds).then_some(named)
}
