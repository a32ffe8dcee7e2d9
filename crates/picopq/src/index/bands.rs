//! Codes as the screens read them: transposed, block by block.
//!
//! ```text
//! bytes (bands, blocks, width, BYTES)     a band is `width` sub-spaces, the last those that are left
//! ```
//! A screen that needs only some sub-spaces of a block reads only their bands.

use std::ops::Range;

use super::memory::Memory;
use crate::error::{Result, size};
use crate::kernels::{BYTE, COLUMNS, NIBBLES, PLANE, nibble, prefetch};
use crate::table::Scan;

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

/// Room for the codes of rows that follow each other: their blocks in each band.
pub(crate) struct Room<'a, const BYTES: usize> {
    bands: Vec<&'a mut [[u8; BYTES]]>,
    m: usize,
}

impl<const BYTES: usize> Room<'_, BYTES> {
    /// Writes codes (rows, m) in blocks of `ROWS`: `write` gets what stands for those of one sub-space
    /// after the other. What is missing of the last block is filled up with zeros.
    fn transpose<const ROWS: usize>(
        self,
        codes: &[u8],
        stands: impl Fn(usize, u8) -> u8,
        write: impl Fn(&[u8; ROWS], &mut [u8; BYTES]),
    ) {
        let m = self.m;
        let mut first = 0;
        for band in self.bands {
            let width = band.len() / codes.len().div_ceil(ROWS * m);
            for (codes, out) in codes.chunks(ROWS * m).zip(band.chunks_mut(width)) {
                for (sub_space, out) in (first..).zip(out) {
                    let mut column = [0; ROWS];
                    for (row, codes) in column.iter_mut().zip(codes.chunks_exact(m)) {
                        *row = stands(sub_space, codes[sub_space]);
                    }
                    write(&column, out);
                }
            }
            first += width;
        }
    }
}

impl<const BYTES: usize> Bands<BYTES> {
    /// Room for `blocks` blocks of `m` codes for each row, in bands of `width` sub-spaces.
    fn empty(blocks: usize, m: usize, width: usize, what: &'static str) -> Result<Self> {
        let memory = Memory::zeroed(size(&[blocks, m, BYTES], what)?, what)?;
        Ok(Self { memory, blocks, width, m })
    }

    /// All room, for so many blocks each.
    pub(crate) fn rooms(&mut self, blocks: usize) -> impl Iterator<Item = Room<'_, BYTES>> {
        let (m, width, all) = (self.m, self.width, self.blocks);
        let (mut rest, _) = self.memory.as_chunks_mut();
        let mut bands: Vec<_> = (0..m)
            .step_by(width)
            .map(|first| {
                let width = width.min(m - first);
                rest.split_off_mut(..all * width).unwrap_or_default().chunks_mut(blocks * width)
            })
            .collect();
        std::iter::from_fn(move || {
            let bands = bands.iter_mut().map(Iterator::next).collect::<Option<_>>()?;
            Some(Room { bands, m })
        })
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

    /// The bytes of a block for each sub-space, band after band.
    fn of_block(&self, block: usize) -> impl Iterator<Item = &[[u8; BYTES]]> {
        let (bytes, _) = self.memory.as_chunks();
        let firsts = (0..self.m).step_by(self.width);
        firsts.map(move |first| &bytes[self.place(first, block)])
    }

    /// The exact distances of the rows that are named, of whose blocks' bytes `code` makes codes.
    #[inline]
    fn distances_of<const ROWS: usize, const WIDTH: usize>(
        &self,
        rows: &[u32],
        table: &[[f32; WIDTH]],
        distances: &mut [f32],
        code: impl Fn(&[u8; BYTES], usize) -> u8,
    ) {
        for (&row, distance) in rows.iter().zip(distances) {
            let (block, row) = (row as usize / ROWS, row as usize % ROWS);
            let mut table = table.iter();
            let mut sum = 0.0;
            for band in self.of_block(block) {
                for (bytes, entries) in band.iter().zip(&mut table) {
                    sum += entries[usize::from(code(bytes, row))];
                }
            }
            *distance = sum;
        }
    }

    /// The exact distances of rows that follow each other, some of each block: `add` adds the entries
    /// of a block's bytes in one sub-space.
    #[inline]
    fn distances<const ROWS: usize, const WIDTH: usize>(
        &self,
        rows: Range<usize>,
        table: &[[f32; WIDTH]],
        distances: &mut [f32],
        add: impl Fn(&mut [f32; ROWS], &[u8; BYTES], &[f32; WIDTH]),
    ) {
        let mut left = distances;
        for block in rows.start / ROWS..rows.end.div_ceil(ROWS) {
            let mut sums = [0.0; ROWS];
            let mut table = table.iter();
            for band in self.of_block(block) {
                for (bytes, entries) in band.iter().zip(&mut table) {
                    add(&mut sums, bytes, entries);
                }
            }
            let first = block * ROWS;
            let mine = rows.start.max(first) - first..rows.end.min(first + ROWS) - first;
            let (out, rest) = left.split_at_mut(mine.len());
            out.copy_from_slice(&sums[mine]);
            left = rest;
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.len()
    }
}

impl Room<'_, PLANE> {
    /// Writes the nibbles that stand for codes (rows, m).
    pub(crate) fn nibbles(self, codes: &[u8], nibble: impl Fn(usize, u8) -> u8) {
        self.transpose(codes, nibble, |column: &[u8; 2 * PLANE], bytes| {
            let (low, high) = column.split_at(PLANE);
            for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
                *byte = low | high << 4;
            }
        });
    }
}

impl Room<'_, COLUMNS> {
    /// Writes codes (rows, m).
    pub(crate) fn bytes(self, codes: &[u8]) {
        self.transpose(codes, |_, code| code, |column, bytes| *bytes = *column);
    }
}

impl Plane {
    /// Room for `rows` rows.
    pub(crate) fn of(rows: usize, m: usize, width: usize) -> Result<Self> {
        Self::empty(rows.div_ceil(2 * PLANE), m, width, "the plane of nibbles")
    }

    /// Has the processor fetch a block, which will be read soon.
    pub(crate) fn fetch(&self, block: usize) {
        self.of_block(block).for_each(prefetch);
    }

    /// Appends the nibbles of a row.
    pub(crate) fn row(&self, row: usize, codes: &mut Vec<u8>) {
        let (block, row) = (row / (2 * PLANE), row % (2 * PLANE));
        self.of_block(block)
            .for_each(|band| codes.extend(band.iter().map(|bytes| nibble(bytes, row))));
    }

    /// The exact distances of the rows that are named.
    pub(crate) fn pick(&self, scan: &Scan<'_>, rows: &[u32], distances: &mut [f32]) {
        self.distances_of::<{ 2 * PLANE }, NIBBLES>(rows, scan.rows(), distances, nibble);
    }

    /// The exact distances of rows that follow each other.
    pub(crate) fn run(&self, scan: &Scan<'_>, rows: Range<usize>, distances: &mut [f32]) {
        let add = |sums: &mut [f32; 2 * PLANE], bytes: &[u8; PLANE], entries: &[f32; NIBBLES]| {
            let (low, high) = sums.split_at_mut(PLANE);
            for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
                *low += entries[usize::from(byte & 15)];
                *high += entries[usize::from(byte >> 4)];
            }
        };
        self.distances(rows, scan.rows(), distances, add);
    }
}

impl Columns {
    /// Room for `rows` rows, in one band.
    pub(crate) fn of(rows: usize, m: usize) -> Result<Self> {
        Self::empty(rows.div_ceil(COLUMNS), m, m, "the columns of codes")
    }

    /// The bytes of some blocks, shape `(blocks, m, 256)`.
    pub(crate) fn of_blocks(&self, blocks: Range<usize>) -> &[u8] {
        &self.memory[blocks.start * self.m * COLUMNS..blocks.end * self.m * COLUMNS]
    }

    /// Appends the codes of a row.
    pub(crate) fn row(&self, row: usize, codes: &mut Vec<u8>) {
        let (block, row) = (row / COLUMNS, row % COLUMNS);
        self.of_block(block).for_each(|band| codes.extend(band.iter().map(|column| column[row])));
    }

    /// The exact distances of the rows that are named.
    pub(crate) fn pick(&self, scan: &Scan<'_>, rows: &[u32], distances: &mut [f32]) {
        self.distances_of::<COLUMNS, BYTE>(rows, scan.rows(), distances, |column, row| column[row]);
    }

    /// The exact distances of rows that follow each other.
    pub(crate) fn run(&self, scan: &Scan<'_>, rows: Range<usize>, distances: &mut [f32]) {
        let add = |sums: &mut [f32; COLUMNS], column: &[u8; COLUMNS], entries: &[f32; BYTE]| {
            for (sum, &code) in sums.iter_mut().zip(column) {
                *sum += entries[usize::from(code)];
            }
        };
        self.distances(rows, scan.rows(), distances, add);
    }
}
