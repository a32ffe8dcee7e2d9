//! Ids that many others are looked up in.

use std::ops::Range;
use std::sync::Arc;

use super::segment::{Ids, Segment};
use crate::error::{Error, Result, filled};

/// Buckets for each id, so that most ids that the set lacks meet an empty one; fewer where the buckets
/// would leave the second cache.
const BUCKETS: usize = 32;
const LEAST_BUCKETS: usize = 4;
/// Buckets that stay in the first cache, and in the second.
const NEAR: Range<usize> = 1 << 10..1 << 17;
/// The golden ratio's share of 2^64: its products spread ids that follow each other (Knuth).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
const WHAT: &str = "the set of ids";

/// A set of ids, by buckets of a hash. Ids that share one are searched by halves, so that none takes
/// longer than in a sorted list.
pub(crate) struct IdSet {
    ids: Vec<i64>,    // bucket after bucket, ascending in each
    starts: Vec<u32>, // (buckets + 1,)
    shift: u32,
}

impl IdSet {
    /// Of ascending ids.
    pub(crate) fn new(sorted: &[i64]) -> Result<Self> {
        let overflow = Error::SizeOverflow { what: WHAT };
        let len = u32::try_from(sorted.len()).map_err(|_| overflow)?;
        let buckets = (BUCKETS * sorted.len()).clamp(NEAR.start, NEAR.end);
        let buckets = buckets.max(LEAST_BUCKETS * sorted.len()).next_power_of_two();
        let shift = u64::BITS - buckets.trailing_zeros();
        let mut set = Self {
            ids: filled(sorted.len(), 0, WHAT)?,
            starts: filled(buckets + 1, 0, WHAT)?,
            shift,
        };
        for &id in sorted {
            set.starts[bucket(id, shift)] += 1;
        }
        let mut end = 0;
        for start in &mut set.starts[..buckets] {
            end += *start;
            *start = end;
        }
        set.starts[buckets] = len;
        for &id in sorted.iter().rev() {
            let start = &mut set.starts[bucket(id, shift)];
            *start -= 1;
            set.ids[*start as usize] = id;
        }
        Ok(set)
    }

    /// Of ascending ids, for segments that have ids of their own; empty where none has.
    pub(crate) fn for_segments(sorted: &[i64], segments: &[Arc<Segment>]) -> Result<Self> {
        let has_own = |segment: &Arc<Segment>| matches!(segment.ids(), Ids::Each(_));
        Self::new(if segments.iter().any(has_own) { sorted } else { &[] })
    }

    #[inline]
    pub(crate) fn contains(&self, id: i64) -> bool {
        let at = bucket(id, self.shift);
        let of_bucket = &self.starts[at..at + 2];
        let (start, end) = (of_bucket[0], of_bucket[1]);
        start < end && self.is_among(start, end, id)
    }

    #[cold]
    fn is_among(&self, start: u32, end: u32, id: i64) -> bool {
        self.ids[start as usize..end as usize].binary_search(&id).is_ok()
    }
}

#[inline]
fn bucket(id: i64, shift: u32) -> usize {
    ((id as u64).wrapping_mul(SPREAD) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    #[test]
    fn a_set_has_what_a_sorted_list_has() {
        let mut random = LegacyRandom::new(8);
        // Ids whose products share their upper bits fill one bucket.
        let inverse = (0..6).fold(SPREAD, |inverse, _| {
            inverse.wrapping_mul(2_u64.wrapping_sub(SPREAD.wrapping_mul(inverse)))
        });
        assert_eq!(inverse.wrapping_mul(SPREAD), 1);
        let together: Vec<i64> = (0..999).map(|at: u64| inverse.wrapping_mul(at) as i64).collect();
        let any: Vec<i64> = (0..5000).map(|_| random.up_to(20_000) as i64 - 10_000).collect();
        let ends = vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        for mut ids in [vec![], vec![7], vec![7, 7, 7], together, any, ends] {
            ids.sort_unstable();
            let set = IdSet::new(&ids).unwrap();
            let near = ids.iter().flat_map(|id| (-2..3).map(|step| id.wrapping_add(step)));
            for id in near.chain(-50..50) {
                assert_eq!(set.contains(id), ids.binary_search(&id).is_ok(), "{id}");
            }
        }
    }
}
