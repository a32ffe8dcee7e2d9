//! How codes lie in memory, and the tables that their screen reads.

use super::groups::Groups;
use super::memory::Memory;
use crate::error::{Result, filled, size};
use crate::kernels::{BYTE, COLUMNS, Kernels, NIBBLES, PLANE, nibble};
use crate::pq::Codebook;

/// The layout of all codes of an index.
pub(crate) enum Layout {
    /// At most 16 codewords: a plane of nibbles, two codes a byte.
    Nibbles,
    /// At most 256: rows, and beside them the plane of their groups, for registers of 16 entries.
    Grouped(Groups),
    /// The same, for registers of 256 entries: columns.
    Columns,
    /// More: rows.
    Rows,
}

impl Layout {
    /// The layout that these kernels scan fastest.
    pub(crate) fn new(book: Codebook<'_>, kernels: Kernels) -> Result<Self> {
        let ks = book.ks();
        Ok(if ks <= NIBBLES {
            Self::Nibbles
        } else if ks > BYTE {
            Self::Rows
        } else if kernels.prefers_columns() {
            Self::Columns
        } else {
            Self::Grouped(Groups::new(book)?)
        })
    }

    /// The keys (m, width) that a screen makes bytes of, and their width; `None` without a screen.
    /// `keys` has the shape `(m, ks)`.
    pub(crate) fn screened(&self, keys: &[f32], ks: usize) -> Result<Option<(Vec<f32>, usize)>> {
        Ok(match self {
            Self::Nibbles => Some((widened(keys, ks, NIBBLES)?, NIBBLES)),
            Self::Grouped(groups) => Some((groups.minima(keys)?, NIBBLES)),
            Self::Columns => Some((widened(keys, ks, BYTE)?, BYTE)),
            Self::Rows => None,
        })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Grouped(groups) => groups.bytes(),
            Self::Nibbles | Self::Columns | Self::Rows => 0,
        }
    }
}

/// Rows as long as the codes could name; what no code names is infinitely far.
fn widened(keys: &[f32], ks: usize, width: usize) -> Result<Vec<f32>> {
    let what = "the screen's table";
    let mut wide = filled(keys.len() / ks * width, f32::INFINITY, what)?;
    for (wide, keys) in wide.chunks_exact_mut(width).zip(keys.chunks_exact(ks)) {
        wide[..ks].copy_from_slice(keys);
    }
    Ok(wide)
}

/// The plane (blocks, m, 64) of the nibbles that stand for the codes (n, m); the last block is
/// filled up with those of code 0.
pub(crate) fn plane(codes: &[u8], m: usize, nibble: impl Fn(usize, u8) -> u8) -> Result<Memory> {
    let write = |sub_space: usize, column: &[u8; 2 * PLANE], bytes: &mut [u8; PLANE]| {
        let (low, high) = column.split_at(PLANE);
        for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
            *byte = nibble(sub_space, low) | nibble(sub_space, high) << 4;
        }
    };
    transposed(codes, m, write, "the plane of nibbles")
}

/// The columns (blocks, m, 256) of the codes (n, m); the last block is filled up with zeros.
pub(crate) fn columns(codes: &[u8], m: usize) -> Result<Memory> {
    let write = |_, column: &[u8; COLUMNS], bytes: &mut [u8; COLUMNS]| *bytes = *column;
    transposed(codes, m, write, "the columns of codes")
}

/// Blocks (blocks, m, BYTES) of ROWS codes (n, m) each, of which `write` gets one sub-space after the
/// other; the last is filled up with zeros.
fn transposed<const ROWS: usize, const BYTES: usize>(
    codes: &[u8],
    m: usize,
    write: impl Fn(usize, &[u8; ROWS], &mut [u8; BYTES]),
    what: &'static str,
) -> Result<Memory> {
    let blocks = (codes.len() / m).div_ceil(ROWS);
    let mut memory = Memory::zeroed(size(&[blocks, m, BYTES], what)?, what)?;
    let (out, _) = memory.as_chunks_mut::<BYTES>();
    for (codes, out) in codes.chunks(ROWS * m).zip(out.chunks_exact_mut(m)) {
        for (sub_space, out) in out.iter_mut().enumerate() {
            let mut column = [0; ROWS];
            for (row, codes) in column.iter_mut().zip(codes.chunks_exact(m)) {
                *row = codes[sub_space];
            }
            write(sub_space, &column, out);
        }
    }
    Ok(memory)
}

/// The codes of a row of a plane of codes.
pub(crate) fn row_of_plane(plane: &[u8], m: usize, row: usize) -> impl Iterator<Item = u8> {
    let block = &plane.as_chunks::<PLANE>().0[row / (2 * PLANE) * m..][..m];
    block.iter().map(move |bytes| nibble(bytes, row % (2 * PLANE)))
}

/// The codes of a row of columns.
pub(crate) fn row_of_columns(columns: &[u8], m: usize, row: usize) -> impl Iterator<Item = u8> {
    let block = &columns[row / COLUMNS * m * COLUMNS..][..m * COLUMNS];
    block.chunks_exact(COLUMNS).map(move |column| column[row % COLUMNS])
}
