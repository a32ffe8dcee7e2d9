//! Sixteen groups of codewords in each sub-space, and the plane of group numbers: what a register
//! can look up. A code of at most 16 codewords is its own group.
//!
//! The least entry of a group bounds those of its codewords from below (the minimum tables of
//! Andre, Kermarrec, Le Scouarnec: "Cache locality is not enough", VLDB 2015); codewords that are
//! near to each other share a group, so that the bound is close.

use crate::error::{Result, filled, size};
use crate::kernels::{BLOCK, BYTE, Kernels, NIBBLES};
use crate::kmeans::{self, Last, Points};
use crate::pq::Codebook;
use crate::threads::{self, Task};
use crate::vectors::Vectors;

/// Lloyd steps over at most 256 codewords.
const STEPS: usize = 10;

pub(crate) struct Groups {
    of: Vec<[u8; BYTE]>, // (m,): the group of each code
    ks: usize,
}

impl Groups {
    /// Groups the codewords of every sub-space; `None` for codes wider than a byte.
    pub(crate) fn new(book: Codebook<'_>) -> Result<Option<Self>> {
        if book.ks() > BYTE {
            return Ok(None);
        }
        let (task, kernels) = (Task::new(), Kernels::active()?);
        let of = threads::map(&task, (0..book.m()).collect(), |m| {
            let mut groups = [0; BYTE];
            if book.ks() <= NIBBLES {
                (0..book.ks()).for_each(|code| groups[code] = code as u8);
                return Ok(groups);
            }
            let codewords = Vectors::new(book.sub_space(m), book.ds())?;
            let points = Points::new(codewords, 0..book.ds(), kernels, &task)?;
            let start = codewords.spread(NIBBLES)?;
            let clusters = kmeans::train(&points, start, STEPS, Last::Assignment, kernels, &task)?;
            groups
                .iter_mut()
                .zip(&clusters.labels)
                .for_each(|(group, &label)| *group = label as u8);
            Ok(groups)
        })?;
        Ok(Some(Self { of, ks: book.ks() }))
    }

    /// Whether a group is one codeword.
    pub(crate) fn are_codes(&self) -> bool {
        self.ks <= NIBBLES
    }

    /// The plane (blocks, m, 16) of the codes (n, m); the last block is filled up with zeros.
    pub(crate) fn plane(&self, codes: &[u8]) -> Result<Vec<u8>> {
        let m = self.of.len();
        let blocks = (codes.len() / m).div_ceil(BLOCK);
        let what = "the plane of groups";
        let mut plane = filled(size(&[blocks, m, NIBBLES], what)?, 0, what)?;
        for (codes, block) in codes.chunks(BLOCK * m).zip(plane.chunks_exact_mut(m * NIBBLES)) {
            for (row, codes) in codes.chunks_exact(m).enumerate() {
                let (byte, shift) = (row % NIBBLES, row / NIBBLES * 4);
                let bytes = block.chunks_exact_mut(NIBBLES);
                for ((bytes, groups), &code) in bytes.zip(&self.of).zip(codes) {
                    bytes[byte] |= groups[usize::from(code)] << shift;
                }
            }
        }
        Ok(plane)
    }

    /// The least key of each group, shape `(m, 16)`; `keys` has the shape `(m, ks)`. A group
    /// without codewords is infinitely far.
    pub(crate) fn minima(&self, keys: &[f32]) -> Result<Vec<f32>> {
        let mut minima = filled(self.of.len() * NIBBLES, f32::INFINITY, "the minimum tables")?;
        let sub_spaces = minima.chunks_exact_mut(NIBBLES).zip(keys.chunks_exact(self.ks));
        for ((minima, keys), groups) in sub_spaces.zip(&self.of) {
            for (&key, &group) in keys.iter().zip(groups) {
                let least = &mut minima[usize::from(group)];
                *least = least.min(key);
            }
        }
        Ok(minima)
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.of)
    }
}
