//! Codes as the screens read them: transposed, block by block.
//!
//! ```text
//! bytes (bands, blocks, width, BYTES)     a band is `width` sub-spaces, the last those that are left
//! ```
//! A screen that needs only some sub-spaces of a block reads only their bands.

use std::ops::Range;

use super::memory::Memory;
use crate::error::{Result, size};
use crate::kernels::{COLUMNS, PLANE, nibble};

/// Bands of codes of a nibble, at most.
pub(crate) const BANDS: usize = 16;

/// Codes (n, m) in blocks of `BYTES` for each sub-space.
pub(crate) struct Bands<const BYTES: usize> {
    memory: Memory,
    blocks: usize,
    width: usize,
    m: usize,
}

/// Two nibbles a byte, 128 rows a block.
pub(crate) type Plane = Bands<PLANE>;
/// A byte for each code, 256 rows a block.
pub(crate) type Columns = Bands<COLUMNS>;

impl<const BYTES: usize> Bands<BYTES> {
    /// Blocks of `ROWS` codes, of which `write` gets one sub-space after the other; the last block
    /// is filled up with zeros.
    fn transposed<const ROWS: usize>(
        codes: &[u8],
        m: usize,
        width: usize,
        write: impl Fn(usize, &[u8; ROWS], &mut [u8; BYTES]),
        what: &'static str,
    ) -> Result<Self> {
        let blocks = (codes.len() / m).div_ceil(ROWS);
        let memory = Memory::zeroed(size(&[blocks, m, BYTES], what)?, what)?;
        let mut bands = Self { memory, blocks, width, m };
        for (block, codes) in codes.chunks(ROWS * m).enumerate() {
            for first in (0..m).step_by(width) {
                let place = bands.place(first, block);
                let (out, _) = bands.memory.as_chunks_mut::<BYTES>();
                for (sub_space, out) in (first..m).zip(&mut out[place]) {
                    let mut column = [0; ROWS];
                    for (row, codes) in column.iter_mut().zip(codes.chunks_exact(m)) {
                        *row = codes[sub_space];
                    }
                    write(sub_space, &column, out);
                }
            }
        }
        Ok(bands)
    }

    /// Where a block of the band that begins with sub-space `first` lies.
    fn place(&self, first: usize, block: usize) -> Range<usize> {
        let width = self.width.min(self.m - first);
        let start = first * self.blocks + block * width;
        start..start + width
    }

    /// A band, shape `(blocks, width, BYTES)`.
    pub(crate) fn band(&self, at: usize) -> &[[u8; BYTES]] {
        let length = self.width * self.blocks;
        let (bytes, _) = self.memory.as_chunks();
        &bytes[at * length..bytes.len().min((at + 1) * length)]
    }

    /// Appends what `code` finds in a block for each sub-space.
    #[inline]
    fn unpack(&self, block: usize, codes: &mut Vec<u8>, code: impl Fn(&[u8; BYTES]) -> u8) {
        let (bytes, _) = self.memory.as_chunks();
        for first in (0..self.m).step_by(self.width) {
            codes.extend(bytes[self.place(first, block)].iter().map(&code));
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.len()
    }
}

impl Plane {
    /// The nibbles that stand for codes (n, m).
    pub(crate) fn new(
        codes: &[u8],
        m: usize,
        width: usize,
        nibble: impl Fn(usize, u8) -> u8,
    ) -> Result<Self> {
        let write = |sub_space: usize, column: &[u8; 2 * PLANE], bytes: &mut [u8; PLANE]| {
            let (low, high) = column.split_at(PLANE);
            for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
                *byte = nibble(sub_space, low) | nibble(sub_space, high) << 4;
            }
        };
        Self::transposed(codes, m, width, write, "the plane of nibbles")
    }

    /// Appends the nibbles of a row.
    pub(crate) fn row(&self, row: usize, codes: &mut Vec<u8>) {
        self.unpack(row / (2 * PLANE), codes, |bytes| nibble(bytes, row % (2 * PLANE)));
    }
}

impl Columns {
    /// Codes (n, m), in one band.
    pub(crate) fn new(codes: &[u8], m: usize) -> Result<Self> {
        let write = |_, column: &[u8; COLUMNS], bytes: &mut [u8; COLUMNS]| *bytes = *column;
        Self::transposed(codes, m, m, write, "the columns of codes")
    }

    /// The bytes of some blocks, shape `(blocks, m, 256)`.
    pub(crate) fn of_blocks(&self, blocks: Range<usize>) -> &[u8] {
        &self.memory[blocks.start * self.m * COLUMNS..blocks.end * self.m * COLUMNS]
    }

    /// Appends the codes of a row.
    pub(crate) fn row(&self, row: usize, codes: &mut Vec<u8>) {
        self.unpack(row / COLUMNS, codes, |column| column[row % COLUMNS]);
    }
}
