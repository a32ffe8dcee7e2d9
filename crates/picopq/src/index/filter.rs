//! Which of the stored rows a search may answer with.

use std::sync::Arc;

use super::segment::{Ids, Segment};
use crate::error::{Error, Result, filled, reserve, with_capacity};
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
            threads::map(task, parts, |(segment, mask)| {
                Selection::new(segment, (0..mask.len()).filter(|&row| mask[row]))
            })
        }
        Filter::Ids(ids) => {
            let mut sorted = with_capacity(ids.len(), "the subset")?;
            sorted.extend_from_slice(ids);
            sorted.sort_unstable();
            sorted.dedup();
            threads::map(task, segments.iter().collect(), |segment| match segment.ids() {
                Ids::From(first) => {
                    let end = first + segment.len() as i64;
                    let from = sorted.partition_point(|id| id < first);
                    let to = sorted.partition_point(|&id| id < end);
                    Selection::new(segment, sorted[from..to].iter().map(|id| (id - first) as usize))
                }
                Ids::Each(each) => {
                    let named = |&row: &usize| sorted.binary_search(&each[row]).is_ok();
                    Selection::new(segment, (0..each.len()).filter(named))
                }
            })
        }
    }
}

impl Selection {
    /// `rows` ascend.
    fn new(segment: &Segment, rows: impl Iterator<Item = usize>) -> Result<Self> {
        let few = segment.len() / FEW;
        let mut list = Vec::new();
        let mut rows = rows.peekable();
        while list.len() <= few && rows.peek().is_some() {
            reserve(&mut list, 1, "the subset")?;
            list.extend(rows.next().map(|row| row as u32));
        }
        if rows.peek().is_none() && list.len() <= few.max(1) {
            return Ok(Self::Rows(list));
        }
        let mut mask = filled(segment.blocks(), 0_u32, "the subset")?;
        let listed = list.into_iter().map(|row| row as usize);
        listed.chain(rows).for_each(|row| mask[row / BLOCK] |= 1 << (row % BLOCK));
        Ok(Self::Mask(mask))
    }
}
