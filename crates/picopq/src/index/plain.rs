//! The exact scan, and the judge of the others: float32 sums in the order of the sub-spaces.

use std::ops::Range;

use super::views::{CHUNK_BLOCKS, View};
use crate::best::{Collect, Keyed, SharedLimit};
use crate::error::{Result, filled, reserve};
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
    distances: Vec<f32>,
}

/// Keys found since the last time that others were told.
struct News {
    k: usize,
    keys: Vec<f32>,
}

/// One answer in so many is worth telling: it lowers the limit of all parts, which costs each of them
/// the time of a few look-ups.
const WORTH_TELLING: usize = 8;

impl<'a, C: Collect> Seeker<'a, C> {
    pub(crate) fn new(
        keys: &'a [f32],
        m: usize,
        answers: C,
        limit: &'a SharedLimit,
        shares: Option<usize>,
    ) -> Result<Self> {
        let distances = filled(CHUNK_BLOCKS * BLOCK, 0.0, "the distances")?;
        let news = shares.map(|k| News { k, keys: Vec::new() });
        Ok(Self { keys, scan: Scan::new(keys, m)?, answers, limit, news, distances })
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
            && let Some(news) = &mut self.news
        {
            reserve(&mut news.keys, 1, "the keys of a part")?;
            news.keys.push(key);
        }
        Ok(())
    }

    /// Lets the other parts of the scan know what was found, if that is worth it.
    fn tell(&mut self) -> Result<()> {
        if let Some(News { k, keys }) = &mut self.news
            && keys.len() > *k / WORTH_TELLING
            && self.limit.pool(keys, *k)?
        {
            keys.clear();
        }
        Ok(())
    }

    /// Measures at most a chunk of rows, one after another; offers those that pass the filter.
    pub(crate) fn run(&mut self, view: &View<'_>, rows: Range<usize>) -> Result<()> {
        view.segment.run(&self.scan, rows.clone(), &mut self.distances[..rows.len()]);
        let limit = self.limit();
        for (at, row) in rows.enumerate() {
            let key = self.distances[at];
            if key <= limit && view.passes(row) {
                self.offer(view, row, key)?;
            }
        }
        self.tell()
    }

    /// The distances of at most a chunk of listed rows.
    pub(crate) fn measure(&mut self, view: &View<'_>, rows: &[u32]) -> &[f32] {
        let distances = &mut self.distances[..rows.len()];
        view.segment.pick(&self.scan, rows, distances);
        distances
    }

    /// Measures and offers at most a chunk of listed rows.
    pub(crate) fn pick(&mut self, view: &View<'_>, rows: &[u32]) -> Result<()> {
        self.measure(view, rows);
        let limit = self.limit();
        for (at, &row) in rows.iter().enumerate() {
            let key = self.distances[at];
            if key <= limit {
                self.offer(view, row as usize, key)?;
            }
        }
        self.tell()
    }

    /// Measures every row that the view selects.
    pub(crate) fn all(&mut self, view: &View<'_>, task: &Task) -> Result<()> {
        for blocks in view.chunks() {
            task.check()?;
            self.run(view, view.rows(blocks))?;
        }
        Ok(())
    }

    /// Measures the rows of a list.
    pub(crate) fn listed(&mut self, view: &View<'_>, rows: &[u32], task: &Task) -> Result<()> {
        for rows in rows.chunks(CHUNK_BLOCKS * BLOCK) {
            task.check()?;
            self.pick(view, rows)?;
        }
        Ok(())
    }
}
