//! fbin, u8bin, i8bin, ibin (the billion-scale benchmarks' files): number of rows and dimension as
//! u32, then the rows.

use super::rows::{Dtype, Layout, Shape};
use super::source::Source;
use crate::error::{Error, Result};

pub(crate) fn read_header(source: &mut Source<'_>, dtype: Dtype) -> Result<Shape> {
    let rows = source.number::<u32>("the number of rows")?;
    let dim = source.number::<u32>("the dimension")? as usize;
    if dim == 0 {
        return Err(source.bad("the dimension", dim, "at least 1"));
    }
    let (layout, rows, start) = (Layout::Rows, Some(rows.into()), source.offset());
    Ok(Shape { layout, dtype, big_endian: false, dim, rows, start })
}

pub(crate) fn header(rows: u64, dim: usize) -> Result<Vec<u8>> {
    let count = |argument, got: u64| {
        let wanted = "at most 2^32 - 1 in this format";
        u32::try_from(got).map_err(|_| Error::OutOfRange { argument, got, wanted })
    };
    let (rows, dim) = (count("rows", rows)?, count("dim", dim as u64)?);
    Ok([rows.to_le_bytes(), dim.to_le_bytes()].concat())
}
