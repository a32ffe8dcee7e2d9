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
/// filled up with zeros.
pub(crate) fn plane(codes: &[u8], m: usize, nibble: impl Fn(usize, u8) -> u8) -> Result<Memory> {
    let what = "the plane of nibbles";
    let blocks = (codes.len() / m).div_ceil(2 * PLANE);
    let mut plane = Memory::zeroed(size(&[blocks, m, PLANE], what)?, what)?;
    for (codes, block) in codes.chunks(2 * PLANE * m).zip(plane.chunks_exact_mut(m * PLANE)) {
        for (row, codes) in codes.chunks_exact(m).enumerate() {
            let (byte, shift) = (row % PLANE, row / PLANE * 4);
            let sub_spaces = block.chunks_exact_mut(PLANE).zip(codes).enumerate();
            for (sub_space, (bytes, &code)) in sub_spaces {
                bytes[byte] |= nibble(sub_space, code) << shift;
            }
        }
    }
    Ok(plane)
}

/// The columns (blocks, m, 256) of the codes (n, m); the last block is filled up with zeros.
pub(crate) fn columns(codes: &[u8], m: usize) -> Result<Memory> {
    let what = "the columns of codes";
    let blocks = (codes.len() / m).div_ceil(COLUMNS);
    let mut columns = Memory::zeroed(size(&[blocks, m, COLUMNS], what)?, what)?;
    for (codes, block) in codes.chunks(COLUMNS * m).zip(columns.chunks_exact_mut(m * COLUMNS)) {
        for (row, codes) in codes.chunks_exact(m).enumerate() {
            for (column, &code) in block.chunks_exact_mut(COLUMNS).zip(codes) {
                column[row] = code;
            }
        }
    }
    Ok(columns)
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
