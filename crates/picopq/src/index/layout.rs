//! Which screen serves codes, and the tables that it reads.

use super::bands::BANDS;
use super::groups::Groups;
use crate::error::{Result, filled};
use crate::kernels::{BYTE, Kernels, NIBBLES};
use crate::pq::Codebook;

/// Narrower bands have a screen look at blocks too often.
const LEAST_BAND: usize = 4;

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

    /// Sub-spaces of a band: about one in sixteen of codes whose screen may leave blocks out early.
    pub(crate) fn band(&self, m: usize) -> usize {
        match self {
            Self::Nibbles => m.div_ceil(BANDS).max(LEAST_BAND),
            Self::Grouped(_) | Self::Columns | Self::Rows => m,
        }
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
