//! The exact scan, and the judge of the others: float32 sums in the order of the sub-spaces.

use std::ops::Range;

use super::views::{CHUNK_BLOCKS, View};
use crate::best::{Collect, Keyed, SharedLimit};
use crate::error::{Result, filled};
use crate::kernels::BLOCK;
use crate::table::Scan;
use crate::threads::Task;

/// One query on its way through some of the rows.
pub(crate) struct Seeker<'a, C> {
    keys: &'a [f32], // (m, ks)
    scan: Scan<'a>,
    answers: C,
    shared: &'a SharedLimit,
    /// The part of the scan.
    part: usize,
    distances: Vec<f32>,
}

impl<'a, C: Collect> Seeker<'a, C> {
    pub(crate) fn new(
        keys: &'a [f32],
        m: usize,
        answers: C,
        (shared, part): (&'a SharedLimit, usize),
    ) -> Result<Self> {
        let distances = filled(CHUNK_BLOCKS * BLOCK, 0.0, "the distances")?;
        Ok(Self { keys, scan: Scan::new(keys, m)?, answers, shared, part, distances })
    }

    pub(crate) fn keys(&self) -> &'a [f32] {
        self.keys
    }

    pub(crate) fn into_sorted(self) -> Vec<Keyed> {
        self.answers.into_sorted()
    }

    /// What a key must not exceed to be an answer, as far as is known.
    pub(crate) fn limit(&mut self) -> f32 {
        self.shared.lower(self.answers.limit())
    }

    /// Lets the other parts of the scan know what was found so far.
    pub(crate) fn share(&self, k: usize) -> Result<()> {
        self.shared.pool(self.part, self.answers.kept(), k)
    }

    /// Measures at most a chunk of rows, one after another; offers those that pass the filter.
    pub(crate) fn run(&mut self, view: &View<'_>, rows: Range<usize>) -> Result<()> {
        let distances = &mut self.distances[..rows.len()];
        view.segment.run(&self.scan, rows.clone(), distances);
        let limit = self.answers.limit();
        for (row, &key) in rows.zip(&*distances) {
            if key <= limit && view.passes(row) {
                self.answers.offer(key, view.segment.id(row))?;
            }
        }
        Ok(())
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
        let limit = self.answers.limit();
        for (&row, &key) in rows.iter().zip(&self.distances) {
            if key <= limit {
                self.answers.offer(key, view.segment.id(row as usize))?;
            }
        }
        Ok(())
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
