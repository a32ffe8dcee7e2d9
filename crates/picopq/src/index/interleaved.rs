//! Many queries, codes of a byte: one load serves 32 of them.
//!
//! The bytes that bound the distances of 32 queries lie side by side for each codeword
//! (m, 256, 32): adding a row of them advances all the queries by one sub-space. Rows and queries
//! that the sums do not exclude are measured exactly.

use super::View;
use super::bound::{Aim, Bound};
use super::plain::Seeker;
use crate::best::Collect;
use crate::error::{Result, copied, filled, with_capacity};
use crate::kernels::{BLOCK, BYTE, Entry, Kernels, LANES};
use crate::threads::Task;

/// Rows between two looks at the limits.
const CHUNK_ROWS: usize = 32 * BLOCK;

/// The tables of up to 32 queries.
pub(crate) struct Batch {
    queries: Vec<Bound>,
    tables: Vec<[Entry; BYTE]>, // (m,)
    bounds: Entry,
    ks: usize,
}

impl Batch {
    pub(crate) fn new<C: Collect>(seekers: &[Seeker<'_, C>], m: usize) -> Result<Self> {
        let ks = seekers.first().map_or(1, |seeker| seeker.keys().len() / m);
        let mut queries = with_capacity(seekers.len(), "the bounds")?;
        for seeker in seekers {
            queries.push(Bound::new(copied(seeker.keys(), "the bounds")?, ks));
        }
        // A lane without a query passes nothing.
        let tables = filled(m, [[u8::MAX; LANES]; BYTE], "the interleaved tables")?;
        Ok(Self { queries, tables, bounds: [0; LANES], ks })
    }

    /// Makes the tables fit the limits.
    fn aim<C: Collect>(&mut self, seekers: &mut [Seeker<'_, C>]) {
        for (lane, (seeker, bound)) in seekers.iter_mut().zip(&mut self.queries).enumerate() {
            match bound.aim(seeker.limit()) {
                Aim::Keep(most) => self.bounds[lane] = most,
                Aim::Renew(most) => {
                    self.bounds[lane] = most;
                    let entries = self.tables.iter_mut().flat_map(|table| &mut table[..self.ks]);
                    entries.zip(bound.entries()).for_each(|(entry, byte)| entry[lane] = byte);
                }
                // Everything passes.
                Aim::Blind => self.bounds[lane] = u8::MAX,
            }
        }
    }

    /// Takes the queries through a view of codes of a byte.
    pub(crate) fn scan<C: Collect>(
        &mut self,
        seekers: &mut [Seeker<'_, C>],
        view: &View<'_>,
        kernels: Kernels,
        task: &Task,
    ) -> Result<()> {
        let mut masks = [0; CHUNK_ROWS];
        for blocks in view.chunks() {
            let chunk = view.rows(blocks);
            for first in chunk.clone().step_by(CHUNK_ROWS) {
                task.check()?;
                let rows = first..chunk.end.min(first + CHUNK_ROWS);
                let mut begun = true;
                for seeker in &mut *seekers {
                    if seeker.limit() == f32::INFINITY {
                        begun = false;
                    }
                }
                if !begun {
                    for seeker in &mut *seekers {
                        seeker.run(view, rows.clone())?;
                    }
                    continue;
                }
                self.aim(seekers);
                let Some(codes) = view.segment.bytes(rows.clone()) else {
                    unreachable!("batches are made for codes of a byte");
                };
                let masks = &mut masks[..rows.len()];
                kernels.screen_batch(codes, &self.tables, &self.bounds, masks);
                for (row, mask) in rows.zip(masks) {
                    if *mask == 0 || !view.passes(row) {
                        continue;
                    }
                    let mut left = *mask;
                    while left != 0 {
                        let lane = left.trailing_zeros() as usize;
                        seekers[lane].pick(view, &[row as u32])?;
                        left &= left - 1;
                    }
                }
            }
        }
        Ok(())
    }
}
