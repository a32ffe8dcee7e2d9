//! fvecs, bvecs, ivecs (the TEXMEX files): every row is its dimension as i32, then its numbers.

use super::rows::{Dtype, Layout, Shape};
use super::source::Source;
use crate::error::{Error, Result};

/// The shape that the first row and the length tell; a file without bytes has no rows.
pub(crate) fn read_shape(source: &mut Source<'_>, dtype: Dtype) -> Result<Shape> {
    let len = source.remaining();
    let mut prefix = [0; 4];
    let mut shape = Shape {
        layout: Layout::PrefixedRows,
        dtype,
        big_endian: false,
        dim: 0,
        rows: Some(0),
        start: 0,
    };
    if source.some(&mut prefix[..1])? == 0 {
        return Ok(shape);
    }
    source.exact(&mut prefix[1..], "the dimension of a row")?;
    let dim = i32::from_le_bytes(prefix);
    shape.dim = usize::try_from(dim).unwrap_or(0);
    if shape.dim == 0 {
        return Err(source.bad("the dimension of a row", dim, "at least 1"));
    }
    source.unread(&prefix);
    let row = shape.dim as u64 * dtype.size() as u64 + 4;
    shape.rows = len.map(|len| len / row);
    if let Some(rest) = len.map(|len| len % row).filter(|&rest| rest > 0) {
        let (file, offset) = (source.file().to_string(), len.unwrap_or(0) - rest);
        let field = "the last row, if all have the dimension of the first,";
        return Err(Error::Truncated { file, offset, field, wanted: row, remaining: rest });
    }
    Ok(shape)
}
