//! Which of the stored rows a search may answer with.

use std::sync::Arc;

use super::id_set::IdSet;
use super::segment::{Ids, Segment};
use crate::error::{Error, Result, collected, filled, with_capacity};
use crate::kernels::BLOCK;
use crate::threads::{self, Task};

/// The rows that a search looks at.
#[derive(Clone, Copy, Debug, Default)]
pub enum Filter<'a> {
    /// All of them.
    #[default]
    All,
    /// Those with these ids. An id that is not in the index is passed over.
    Ids(&'a [i64]),
    /// Those whose place, in the order of [`super::Index::ids`], holds true.
    Mask(&'a [bool]),
}

/// A [`Filter`] of one segment.
pub(crate) enum Selection {
    All,
    /// Bit r of a word stands for row r of a block of 32.
    Mask(Vec<u32>),
    /// So few rows that each is measured without a screen, ascending.
    Rows(Vec<u32>),
}

/// Below one row in so many a list is faster than a screen.
const FEW: usize = 64;
const WHAT: &str = "the subset";

/// The selection of each segment.
pub(crate) fn select(
    filter: Filter<'_>,
    segments: &[Arc<Segment>],
    task: &Task,
) -> Result<Vec<Selection>> {
    match filter {
        Filter::All => Ok(segments.iter().map(|_| Selection::All).collect()),
        Filter::Mask(mask) => {
            let (expected, got) = (segments.iter().map(|segment| segment.len()).sum(), mask.len());
            if expected != got {
                return Err(Error::LengthMismatch { argument: "subset", expected, got });
            }
            let mut rest = mask;
            let mut parts = Vec::new();
            for segment in segments {
                let (mine, others) = rest.split_at(segment.len());
                parts.push((segment, mine));
                rest = others;
            }
            threads::map(task, parts, |(segment, mask)| Selection::new(segment, bits(mask)?))
        }
        Filter::Ids(ids) => {
            let mut sorted = with_capacity(ids.len(), WHAT)?;
            sorted.extend_from_slice(ids);
            sorted.sort_unstable();
            sorted.dedup();
            let set = IdSet::for_segments(&sorted, segments)?;
            threads::map(task, segments.iter().collect(), |segment| match segment.ids() {
                Ids::From(first) => {
                    let end = first + segment.len() as i64;
                    let from = sorted.partition_point(|id| id < first);
                    let to = sorted.partition_point(|&id| id < end);
                    let rows = sorted[from..to].iter().map(|id| (id - first) as usize);
                    if rows.len() <= most_listed(segment) {
                        let rows = rows.map(|row| row as u32);
                        return Ok(Selection::Rows(collected(rows, to - from, WHAT)?));
                    }
                    Selection::of_rows(segment, rows)
                }
                Ids::Each(each) => {
                    let named = |&row: &usize| set.contains(each[row]);
                    Selection::of_rows(segment, (0..each.len()).filter(named))
                }
            })
        }
    }
}

/// At most so many rows of a segment are a list.
fn most_listed(segment: &Segment) -> usize {
    (segment.len() / FEW).max(1)
}

/// A bit for each row, 32 to a word.
fn bits(mask: &[bool]) -> Result<Vec<u32>> {
    /// Its product with eight bytes of 0 or 1 has their bits in its upper byte.
    const GATHERS: u64 = 0x0102_0408_1020_4080;
    let eight = |mask: &[bool; 8]| {
        let bytes = u64::from_le_bytes(mask.map(u8::from));
        (bytes.wrapping_mul(GATHERS) >> 56) as u8
    };
    let (words, last) = mask.as_chunks::<BLOCK>();
    let mut bits = with_capacity(mask.len().div_ceil(BLOCK), WHAT)?;
    bits.extend(words.iter().map(|word| {
        let (eights, _) = word.as_chunks();
        u32::from_le_bytes(std::array::from_fn(|at| eight(&eights[at])))
    }));
    if !last.is_empty() {
        bits.push((0..).zip(last).fold(0, |word, (row, &is)| word | u32::from(is) << row));
    }
    Ok(bits)
}

impl Selection {
    fn of_rows(segment: &Segment, rows: impl Iterator<Item = usize>) -> Result<Self> {
        let mut mask = filled(segment.blocks(), 0_u32, WHAT)?;
        rows.for_each(|row| mask[row / BLOCK] |= 1 << (row % BLOCK));
        Self::new(segment, mask)
    }

    fn new(segment: &Segment, mask: Vec<u32>) -> Result<Self> {
        let selected = mask.iter().map(|word| word.count_ones() as usize).sum();
        if selected > most_listed(segment) {
            return Ok(Self::Mask(mask));
        }
        let mut rows = with_capacity(selected, WHAT)?;
        for (first, &word) in (0..).step_by(BLOCK).zip(&mask) {
            let mut left = word;
            while left != 0 {
                rows.push(first + left.trailing_zeros());
                left &= left - 1;
            }
        }
        Ok(Self::Rows(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    #[test]
    fn every_row_has_its_bit() {
        let mut random = LegacyRandom::new(21);
        for len in [0_usize, 1, 7, 8, 31, 32, 33, 64, 71, 1000] {
            for rare in [0, 1, 20] {
                let mask: Vec<bool> = (0..len).map(|_| random.up_to(rare) == 0).collect();
                let bits = bits(&mask).unwrap();
                assert_eq!(bits.len(), len.div_ceil(BLOCK));
                for row in 0..BLOCK * bits.len() {
                    let is = bits[row / BLOCK] >> (row % BLOCK) & 1 == 1;
                    assert_eq!(is, mask.get(row) == Some(&true), "row {row} of {len}");
                }
            }
        }
    }
}
