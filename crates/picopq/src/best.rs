//! What a scan keeps: the k best answers, or all within a radius.

use std::cmp::Ordering;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::error::{Result, reserve};

/// A sort key (smaller is better: a distance, or a dot product turned round) and an id.
pub(crate) type Keyed = (f32, i64);

/// Keys ascending, then ids; the two zeros are equal.
pub(crate) fn order(a: &Keyed, b: &Keyed) -> Ordering {
    (a.0 + 0.0).total_cmp(&(b.0 + 0.0)).then(a.1.cmp(&b.1))
}

/// Takes the answers of a scan as they come.
pub(crate) trait Collect {
    /// No key above this can still be an answer; `f32::INFINITY` while every key can.
    fn limit(&mut self) -> f32;
    /// Takes an answer, unless it is none; returns whether it may be one.
    fn offer(&mut self, key: f32, id: i64) -> Result<bool>;
    /// The answers, best first.
    fn into_sorted(self) -> Vec<Keyed>;
}

/// With one answer in so many above k, the limit is brought up to date where it is asked for.
const STALE: usize = 8;

/// Room for so many answers is made at once; for more where there are more.
const MOST_AT_ONCE: usize = 1 << 10;

/// The `k` least of what is offered.
pub(crate) struct Best {
    k: usize,
    kept: Vec<Keyed>,
    worst: Option<Keyed>,
}

impl Best {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, kept: Vec::new(), worst: None }
    }

    #[cold]
    fn grow(&mut self) -> Result<()> {
        reserve(&mut self.kept, self.k.min(MOST_AT_ONCE) * 2, "the best answers")
    }

    /// Leaves the k best; linear in what is kept.
    fn settle(&mut self) {
        self.kept.select_nth_unstable_by(self.k - 1, order);
        self.kept.truncate(self.k);
        self.worst = self.kept.last().copied();
    }
}

impl Collect for Best {
    fn limit(&mut self) -> f32 {
        if self.k == 0 {
            return f32::NEG_INFINITY;
        }
        let stale = self.kept.len() > self.k.saturating_add(self.k / STALE);
        if stale || self.worst.is_none() && self.kept.len() >= self.k {
            self.settle();
        }
        self.worst.map_or(f32::INFINITY, |worst| worst.0)
    }

    #[inline]
    fn offer(&mut self, key: f32, id: i64) -> Result<bool> {
        let refused = self.worst.is_some_and(|worst| !order(&(key, id), &worst).is_lt());
        if self.k == 0 || refused {
            return Ok(false);
        }
        if self.kept.len() == self.kept.capacity() {
            self.grow()?;
        }
        self.kept.push((key, id));
        if self.kept.len() / 2 == self.k {
            self.settle();
        }
        Ok(true)
    }

    fn into_sorted(mut self) -> Vec<Keyed> {
        self.kept.sort_unstable_by(order);
        self.kept.truncate(self.k);
        self.kept
    }
}

/// Everything whose key is at most the radius.
pub(crate) struct Within {
    radius: f32,
    kept: Vec<Keyed>,
}

impl Within {
    pub(crate) fn new(radius: f32) -> Self {
        Self { radius, kept: Vec::new() }
    }
}

impl Collect for Within {
    fn limit(&mut self) -> f32 {
        self.radius
    }

    fn offer(&mut self, key: f32, id: i64) -> Result<bool> {
        let is_within = key <= self.radius;
        if is_within {
            let more = if self.kept.is_empty() { MOST_AT_ONCE } else { 1 };
            reserve(&mut self.kept, more, "the answers within the radius")?;
            self.kept.push((key, id));
        }
        Ok(is_within)
    }

    fn into_sorted(mut self) -> Vec<Keyed> {
        self.kept.sort_unstable_by(order);
        self.kept
    }
}

/// The lowest limit that any part of a scan has reached; parts share it while they run.
pub(crate) struct SharedLimit {
    limit: AtomicU32,
    /// The least keys that the parts have brought together.
    keys: Mutex<Vec<f32>>,
}

impl SharedLimit {
    pub(crate) fn new() -> Self {
        Self { limit: AtomicU32::new(sortable(f32::INFINITY)), keys: Mutex::default() }
    }

    /// Lowers the limit to `mine` if that is lower; returns what stands.
    pub(crate) fn lower(&self, mine: f32) -> f32 {
        let mine = sortable(mine);
        if mine < self.limit.load(Relaxed) {
            self.limit.fetch_min(mine, Relaxed);
        }
        self.get()
    }

    pub(crate) fn get(&self) -> f32 {
        from_sortable(self.limit.load(Relaxed))
    }

    /// Lowers the limit to the k-th best of what all parts have found, of which this is new; unless
    /// another does so now. Returns whether these keys count from now on: twice, and the limit would be
    /// too low.
    pub(crate) fn pool(&self, found: &[f32], k: usize) -> Result<bool> {
        let Ok(mut keys) = self.keys.try_lock() else { return Ok(false) };
        // Room for what comes later, too.
        let likely = if keys.capacity() == 0 { 3 * k.min(MOST_AT_ONCE) } else { 0 };
        reserve(&mut keys, found.len().max(likely), "the keys of all parts")?;
        keys.extend_from_slice(found);
        if (1..=keys.len()).contains(&k) {
            let limit = *keys.select_nth_unstable_by(k - 1, f32::total_cmp).1;
            keys.truncate(k);
            self.lower(limit);
        }
        Ok(true)
    }
}

const SIGN: u32 = 1 << 31;

/// Bits that order as the numbers do.
fn sortable(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn from_sortable(bits: u32) -> f32 {
    f32::from_bits(if bits & SIGN == 0 { !bits } else { bits & !SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_limit_only_falls() {
        let limit = SharedLimit::new();
        assert_eq!(limit.lower(f32::INFINITY), f32::INFINITY);
        for (mine, wanted) in [(3.0, 3.0), (7.0, 3.0), (0.0, 0.0), (-2.5, -2.5), (-1.0, -2.5)] {
            assert_eq!(limit.lower(mine), wanted);
        }
    }

    #[test]
    fn a_pooled_limit_is_the_worst_of_the_best_of_all() {
        let limit = SharedLimit::new();
        let limit_after = |found: &[f32]| {
            assert!(limit.pool(found, 3).unwrap());
            limit.lower(f32::INFINITY)
        };
        assert_eq!(limit_after(&[5.0, 1.0]), f32::INFINITY);
        assert_eq!(limit_after(&[]), f32::INFINITY);
        assert_eq!(limit_after(&[4.0, 6.0]), 5.0);
        assert_eq!(limit_after(&[9.0]), 5.0);
        assert_eq!(limit_after(&[2.0, 4.5]), 4.0);
        assert_eq!(limit_after(&[0.5]), 2.0);
    }

    /// Who finds the keys locked keeps what it found for the next time.
    #[test]
    fn keys_that_are_locked_are_not_waited_for() {
        let limit = SharedLimit::new();
        let locked = limit.keys.lock().unwrap();
        assert!(!limit.pool(&[1.0], 1).unwrap());
        drop(locked);
        assert_eq!(limit.lower(f32::INFINITY), f32::INFINITY);
        assert!(limit.pool(&[1.0], 1).unwrap());
        assert_eq!(limit.lower(f32::INFINITY), 1.0);
    }

    #[test]
    fn the_best_are_the_head_of_a_sort() {
        let offers: Vec<Keyed> = (0..97).map(|i| ((i * 37 % 10) as f32, 96 - i)).collect();
        let mut sorted = offers.clone();
        sorted.sort_by(order);
        for k in [0, 1, 2, 10, 97, 200] {
            let mut best = Best::new(k);
            for &(key, id) in &offers {
                best.offer(key, id).unwrap();
            }
            assert_eq!(best.into_sorted(), sorted[..k.min(97)], "k {k}");
        }
    }

    #[test]
    fn the_two_zeros_are_equal() {
        for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(order(&(a, 1), &(b, 2)).is_lt());
            assert!(order(&(a, 2), &(b, 1)).is_gt());
        }
    }

    #[test]
    fn twice_the_best_are_kept_at_most() {
        for k in 0..5 {
            let mut best = Best::new(k);
            for offer in 0..40 {
                best.offer(-(offer as f32), offer).unwrap();
                best.offer(offer as f32, offer).unwrap();
                assert!(best.kept.len() <= 2 * k, "k {k} offer {offer}");
            }
        }
    }

    #[test]
    fn the_limit_is_the_worst_of_the_best() {
        let mut best = Best::new(2);
        let mut limit_after = |key| {
            best.offer(key, 0).unwrap();
            best.limit()
        };
        assert_eq!([7.0, 5.0].map(&mut limit_after), [f32::INFINITY, 7.0]);
        assert_eq!([6.0, 9.0, 1.0].map(&mut limit_after), [6.0, 6.0, 5.0]);
    }

    /// An answer more among many does not have the best of them chosen anew.
    #[test]
    fn a_limit_may_be_late() {
        let mut best = Best::new(16);
        for offer in 0..16_u8 {
            best.offer(f32::from(offer), offer.into()).unwrap();
        }
        assert_eq!(best.limit(), 15.0);
        let mut limit_after = |key| {
            best.offer(key, 99).unwrap();
            best.limit()
        };
        assert_eq!([0.5; 3].map(&mut limit_after), [15.0, 15.0, 12.0]);
    }

    #[test]
    fn the_radius_is_within() {
        let mut within = Within::new(2.0);
        for (key, id) in [(2.0, 5), (2.1, 1), (-1.0, 9)] {
            within.offer(key, id).unwrap();
        }
        assert_eq!(within.into_sorted(), [(-1.0, 9), (2.0, 5)]);
    }
}
