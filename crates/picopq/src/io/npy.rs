//! numpy's .npy: magic, version, length of the header, the header as a Python dictionary, the
//! array. Object arrays, which hold pickles, and records are refused.

use super::rows::{Dtype, Layout, Shape};
use super::source::Source;
use crate::error::Result;
use crate::threads::Task;

pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header read; a plain array's has some hundred bytes.
const MAX_HEADER: u32 = 1 << 16;
/// Digits that numpy leaves room for, so that an array can grow in place.
const GROWTH_DIGITS: usize = 21;
const ALIGNMENT: usize = 64;

pub(crate) fn read_header(source: &mut Source<'_>) -> Result<Shape> {
    let mut magic = [0; 8];
    source.exact(&mut magic, "the magic string")?;
    if !magic.starts_with(MAGIC) {
        return Err(source.bad("the magic string", magic.escape_ascii(), "that of .npy"));
    }
    let length = match magic[6] {
        1 => source.number::<u16>("the length of the header")?.into(),
        2 | 3 => source.number::<u32>("the length of the header")?,
        version => return Err(source.bad("the version", version, "1, 2 or 3")),
    };
    if length > MAX_HEADER {
        return Err(source.bad("the length of the header", length, "at most 65536"));
    }
    let text = source.numbers::<u8>(length.into(), "the header", &Task::new())?;
    let parsed = std::str::from_utf8(&text).ok().and_then(dictionary);
    let Some(header) = parsed else {
        let got = format!("b\"{}\"", text.escape_ascii());
        return Err(source.bad("the header", got, "descr, fortran_order and shape of an array"));
    };
    let Some((dtype, big_endian)) = dtype(&header.descr) else {
        let what = format!("dtype {:?}", header.descr);
        return Err(source.unsupported(what, "integers of 1 to 8 bytes, or floats of 2 to 8"));
    };
    let (rows, dim) = match header.shape[..] {
        [rows] => (rows, 1),
        [rows, dim] => (rows, dim),
        _ => {
            return Err(source.bad("the shape", format!("{:?}", header.shape), "(n, dim) or (n,)"));
        }
    };
    let dim = usize::try_from(dim).unwrap_or(0);
    if dim == 0 {
        return Err(source.bad("the shape", format!("{:?}", header.shape), "dim from 1"));
    }
    let layout = if header.fortran_order { Layout::Columns } else { Layout::Rows };
    Ok(Shape { layout, dtype, big_endian, dim, rows: Some(rows), start: source.offset() })
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<u64>,
}

/// The three entries of a header, in any order; `None` for anything else.
fn dictionary(text: &str) -> Option<Header> {
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    let mut rest = text.trim().strip_prefix('{')?;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            let all = Header { descr: descr?, fortran_order: fortran_order?, shape: shape? };
            return after.trim().is_empty().then_some(all);
        }
        let (key, after) = string(rest)?;
        rest = after.trim_start().strip_prefix(':')?.trim_start();
        match key {
            "descr" if descr.is_none() => {
                // A record's is a list, which is kept to be named.
                let (value, after) = string(rest).or_else(|| {
                    rest.starts_with('[').then(|| rest.split_at(rest.find(']').unwrap_or(0) + 1))
                })?;
                (descr, rest) = (Some(value.to_string()), after);
            }
            "fortran_order" if fortran_order.is_none() => {
                let value = rest.starts_with("True");
                rest = rest.strip_prefix(if value { "True" } else { "False" })?;
                fortran_order = Some(value);
            }
            "shape" if shape.is_none() => {
                let (inside, after) = rest.strip_prefix('(')?.split_once(')')?;
                let mut sizes: Vec<&str> = inside.split(',').map(str::trim).collect();
                if sizes.last() == Some(&"") {
                    sizes.pop();
                }
                // Python 2 wrote 3L.
                let size = |text: &&str| text.strip_suffix('L').unwrap_or(text).parse().ok();
                shape = Some(sizes.iter().map(size).collect::<Option<Vec<u64>>>()?);
                rest = after;
            }
            _ => return None,
        }
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').or_else(|| rest.starts_with('}').then_some(rest))?;
    }
}

/// A quoted string without escapes, and what follows it.
fn string(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn dtype(descr: &str) -> Option<(Dtype, bool)> {
    let (order, kind) = descr.split_at_checked(1)?;
    let dtype = match kind {
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        _ => return None,
    };
    match order {
        "<" => Some((dtype, false)),
        "|" => (dtype.size() == 1).then_some((dtype, false)),
        ">" => Some((dtype, true)),
        _ => None,
    }
}

/// The bytes before an array (rows, dim), as numpy writes them; of the same length for all `rows`.
pub(crate) fn header(dtype: Dtype, rows: u64, dim: usize) -> Vec<u8> {
    let descr = match dtype {
        Dtype::U8 => "|u1",
        Dtype::I8 => "|i1",
        Dtype::U16 => "<u2",
        Dtype::I16 => "<i2",
        Dtype::U32 => "<u4",
        Dtype::I32 => "<i4",
        Dtype::U64 => "<u8",
        Dtype::I64 => "<i8",
        Dtype::F16 => "<f2",
        Dtype::F32 => "<f4",
        Dtype::F64 => "<f8",
    };
    // One column is an array of one axis.
    let columns = if dim == 1 { String::new() } else { format!(" {dim}") };
    let dictionary =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows},{columns}), }}");
    let room = dictionary.len() + GROWTH_DIGITS - rows.to_string().len();
    // At least one byte of padding.
    let whole = (MAGIC.len() + 4 + room + 2).next_multiple_of(ALIGNMENT);
    let length = whole - MAGIC.len() - 4;
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend((length as u16).to_le_bytes());
    out.extend(format!("{dictionary:<width$}\n", width = length - 1).bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header is written before the rows are counted, and again after.
    #[test]
    fn a_header_has_the_same_length_for_all_numbers_of_rows() {
        for dim in [1, 3, 1 << 20] {
            let lengths =
                [0, 9, 10, 1 << 40, u64::MAX].map(|rows| header(Dtype::F32, rows, dim).len());
            assert_eq!(lengths, [128; 5], "{dim}");
        }
    }
}
