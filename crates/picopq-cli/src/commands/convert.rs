//! `convert`: the same content in another format.

use half::f16;
use picopq::io::{Dtype, Number, RowReader, RowWriter};
use picopq::{Error, Result};
use serde_json::json;

use crate::args::Convert;
use crate::console::{Console, Failure};
use crate::files::{self, Family};

/// Values converted at once.
const BLOCK_VALUES: usize = 1 << 20;

pub(crate) fn run(options: &Convert, console: &Console) -> std::result::Result<(), Failure> {
    let (input, output) = (&options.input, &options.output);
    let rows = match (Family::of(input), Family::of(output)) {
        (Some(_), Some(_)) => {
            let stored = files::load(input, console)?;
            files::save(&stored, output, console)?;
            stored.len() as u64
        }
        (None, None) => rows(options, console)?,
        _ => {
            return Err(Failure::usage(
                "vectors are no model; use train, encode, index or decode between them",
            ));
        }
    };
    let path = output.display();
    let json = json!({ "output": path.to_string(), "rows": rows });
    console.done(&format!("{path}: {rows} rows"), &json, output)
}

fn rows(options: &Convert, console: &Console) -> std::result::Result<u64, Failure> {
    let mut reader = files::reader(&options.input, options.from, options.column.as_deref())?;
    let format = files::format_of(&options.output, options.to)?;
    let dtype = options.dtype.or(format.dtype()).unwrap_or(reader.dtype());
    let dim = reader.dim();
    let mut writer = files::writer(&options.output, format, dtype, dim, reader.rows())?;
    console.run("convert", "rows", |task| {
        while copy(&mut reader, &mut writer, dtype)? > 0 {
            if task.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    })?;
    writer.finish()?;
    Ok(reader.row())
}

/// The next rows, as `dtype`; their number.
fn copy(reader: &mut RowReader<'_>, writer: &mut RowWriter<'_>, dtype: Dtype) -> Result<usize> {
    let rows = (BLOCK_VALUES / reader.dim().max(1)).max(1);
    match dtype {
        Dtype::F16 => floats(reader, writer, rows, f16::from_f32),
        Dtype::F32 => floats(reader, writer, rows, |value| value),
        Dtype::F64 => floats(reader, writer, rows, f64::from),
        Dtype::U8 => integers::<u8>(reader, writer, rows),
        Dtype::I8 => integers::<i8>(reader, writer, rows),
        Dtype::U16 => integers::<u16>(reader, writer, rows),
        Dtype::I16 => integers::<i16>(reader, writer, rows),
        Dtype::U32 => integers::<u32>(reader, writer, rows),
        Dtype::I32 => integers::<i32>(reader, writer, rows),
        Dtype::U64 => integers::<u64>(reader, writer, rows),
        Dtype::I64 => integers::<i64>(reader, writer, rows),
    }
}

fn floats<T: Number>(
    reader: &mut RowReader<'_>,
    writer: &mut RowWriter<'_>,
    rows: usize,
    number: impl Fn(f32) -> T,
) -> Result<usize> {
    let mut block = Vec::new();
    let count = reader.read(rows, &mut block)?;
    writer.write(&block.into_iter().map(number).collect::<Vec<T>>())?;
    Ok(count)
}

/// Only from integers, and only those that fit: nothing is rounded unasked.
fn integers<T: Number + TryFrom<i64>>(
    reader: &mut RowReader<'_>,
    writer: &mut RowWriter<'_>,
    rows: usize,
) -> Result<usize> {
    let first = reader.row();
    let mut block: Vec<i64> = Vec::new();
    let count = reader.read(rows, &mut block)?;
    let mut out = Vec::with_capacity(block.len());
    for (at, value) in block.into_iter().enumerate() {
        let number = T::try_from(value).map_err(|_| Error::Unsupported {
            file: format!("row {}", first + (at / reader.dim()) as u64),
            what: format!("{value} as {:?}", T::DTYPE),
            wanted: "a wider type",
        })?;
        out.push(number);
    }
    writer.write(&out)?;
    Ok(count)
}
