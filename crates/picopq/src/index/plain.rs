//! The exact scan, and the judge of the others: float32 sums in the order of the sub-spaces.

use std::ops::Range;

use super::views::{CHUNK_BLOCKS, View};
use crate::best::{Collect, Keyed, SharedLimit};
use crate::error::{Result, reserve, with_capacity};
use crate::kernels::BLOCK;
use crate::table::Scan;
use crate::threads::Task;

/// One query on its way through some of the rows.
pub(crate) struct Seeker<'a, C> {
    keys: &'a [f32], // (m, ks)
    scan: Scan<'a>,
    answers: C,
    limit: &'a SharedLimit,
    /// What the other parts of the scan do not know yet.
    news: Option<News>,
}

/// Keys found since the last time that others were told.
struct News {
    k: usize,
    keys: Vec<f32>,
}

/// With more than one in so many of the answers wanted found since the last time, the others are told.
/// Less lowers their limits too little for what it costs them to look.
const WORTH_TELLING: usize = 8;
/// Room for what is found in a chunk, as a rule.
const NEWS: usize = 1 << 9;

impl<'a, C: Collect> Seeker<'a, C> {
    /// `shares`: how many answers are wanted, where other parts are to hear of what is found.
    pub(crate) fn new(
        keys: &'a [f32],
        m: usize,
        answers: C,
        limit: &'a SharedLimit,
        shares: Option<usize>,
    ) -> Result<Self> {
        let news = match shares {
            Some(k) => Some(News { k, keys: with_capacity(NEWS, "the keys of a part")? }),
            None => None,
        };
        Ok(Self { keys, scan: Scan::new(keys, m)?, answers, limit, news })
    }

    pub(crate) fn keys(&self) -> &'a [f32] {
        self.keys
    }

    pub(crate) fn into_sorted(self) -> Vec<Keyed> {
        self.answers.into_sorted()
    }

    /// What a key must not exceed to be an answer, as far as is known.
    pub(crate) fn limit(&mut self) -> f32 {
        self.limit.lower(self.answers.limit())
    }

    /// Offers a row, which has not been offered before.
    #[inline]
    fn offer(&mut self, view: &View<'_>, row: usize, key: f32) -> Result<()> {
        if self.answers.offer(key, view.segment.id(row))?
            && let Some(News { keys, .. }) = &mut self.news
            && key < self.limit.get()
        {
            reserve(keys, 1, "the keys of a part")?;
            keys.push(key);
        }
        Ok(())
    }

    /// Lets the other parts of the scan know what was found, if that is worth it.
    pub(crate) fn tell(&mut self) -> Result<()> {
        let Some(News { k, keys }) = &mut self.news else { return Ok(()) };
        if keys.len() > *k / WORTH_TELLING {
            let limit = self.answers.limit();
            keys.retain(|&key| key <= limit);
            if self.limit.pool(keys, *k)? {
                keys.clear();
            }
        }
        Ok(())
    }

    /// Measures at most a chunk of rows, one after another; offers those that pass the filter.
    pub(crate) fn run(
        &mut self,
        view: &View<'_>,
        rows: Range<usize>,
        distances: &mut [f32],
    ) -> Result<()> {
        let distances = &mut distances[..rows.len()];
        view.segment.run(&self.scan, rows.clone(), distances);
        let limit = self.answers.limit();
        for (row, &key) in rows.zip(&*distances) {
            if key <= limit && view.passes(row) {
                self.offer(view, row, key)?;
            }
        }
        Ok(())
    }

    /// The distances of at most a chunk of listed rows.
    pub(crate) fn measure(&self, view: &View<'_>, rows: &[u32], distances: &mut [f32]) {
        view.segment.pick(&self.scan, rows, &mut distances[..rows.len()]);
    }

    /// Measures and offers at most a chunk of listed rows.
    pub(crate) fn pick(
        &mut self,
        view: &View<'_>,
        rows: &[u32],
        distances: &mut [f32],
    ) -> Result<()> {
        self.measure(view, rows, distances);
        let limit = self.answers.limit();
        for (&row, &key) in rows.iter().zip(&*distances) {
            if key <= limit {
                self.offer(view, row as usize, key)?;
            }
        }
        Ok(())
    }

    /// Measures every row that the view selects.
    pub(crate) fn all(
        &mut self,
        view: &View<'_>,
        distances: &mut [f32],
        task: &Task,
    ) -> Result<()> {
        for blocks in view.chunks() {
            task.check()?;
            self.run(view, view.rows(blocks), distances)?;
        }
        Ok(())
    }

    /// Measures the rows of a list.
    pub(crate) fn listed(
        &mut self,
        view: &View<'_>,
        rows: &[u32],
        distances: &mut [f32],
        task: &Task,
    ) -> Result<()> {
        for rows in rows.chunks(CHUNK_BLOCKS * BLOCK) {
            task.check()?;
            self.pick(view, rows, distances)?;
            self.tell()?;
        }
        Ok(())
    }
}
