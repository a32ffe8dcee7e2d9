//! Many queries, codes of a byte: one load serves 32 of them.
//!
//! The bytes that bound the distances of 32 queries lie side by side for each codeword
//! (m, 256, 32): adding a row of them advances all the queries by one sub-space. Rows and queries
//! that the sums do not exclude are measured exactly.

use super::bound::{Aim, Bound};
use super::plain::Seeker;
use super::scratch::{Scratch, Work};
use super::views::View;
use crate::best::Collect;
use crate::error::{Result, filled, with_capacity};
use crate::kernels::{BLOCK, BYTE, Entry, Kernels, LANES, Lanes};

/// Rows between two looks at the limits.
const CHUNK_ROWS: usize = 32 * BLOCK;
/// Rows that are measured for a first limit.
const FIRST_ROWS: usize = 8 * BLOCK;
/// Keys of a query that are put beside the others' together: they come in one line of memory.
const BESIDE: usize = 16;
/// Masks that are looked at together: hardly a row is left for any query.
const LOOK: usize = 8;

/// The tables of up to 32 queries.
pub(crate) struct Batch {
    queries: Vec<Bound>,
    keys: Vec<Lanes>,           // (m, ks)
    least: Vec<Lanes>,          // (m,)
    tables: Vec<[Entry; BYTE]>, // (m,)
    bounds: [u8; LANES],
    ks: usize,
}

impl Batch {
    pub(crate) fn new<C: Collect>(seekers: &[Seeker<'_, C>], m: usize) -> Result<Self> {
        let ks = seekers.first().map_or(1, |seeker| seeker.keys().len() / m);
        let mut queries = with_capacity(seekers.len(), "the bounds")?;
        for seeker in seekers {
            queries.push(Bound::new(seeker.keys(), ks)?);
        }
        let what = "the interleaved tables";
        // A lane without a query passes nothing.
        let mut keys = filled(m * ks, [f32::INFINITY; LANES], what)?;
        for (block, keys) in keys.chunks_mut(BESIDE).enumerate() {
            for (lane, seeker) in seekers.iter().enumerate() {
                let mine = &seeker.keys()[block * BESIDE..];
                keys.iter_mut().zip(mine).for_each(|(keys, &key)| keys[lane] = key);
            }
        }
        let mut least = filled(m, [0.0; LANES], what)?;
        for (at, least) in least.iter_mut().enumerate() {
            for (least, query) in least.iter_mut().zip(&queries) {
                *least = query.least()[at];
            }
        }
        let tables = filled(m, [Entry([0; LANES]); BYTE], what)?;
        Ok(Self { queries, keys, least, tables, bounds: [0; LANES], ks })
    }

    /// Makes the tables fit the limits: those of all queries where one has to, which takes as long.
    fn aim<C: Collect>(&mut self, seekers: &mut [Seeker<'_, C>], kernels: Kernels) {
        let mut aims = [(f32::INFINITY, Aim::Blind); LANES];
        for ((limit, aim), (seeker, query)) in
            aims.iter_mut().zip(seekers.iter_mut().zip(&self.queries))
        {
            *limit = seeker.limit();
            *aim = query.aim(*limit);
        }
        let renew = aims.iter().any(|&(_, aim)| aim == Aim::Renew);
        let mut scales = [1.0; LANES];
        for (lane, query) in self.queries.iter_mut().enumerate() {
            self.bounds[lane] = match aims[lane] {
                // Everything passes.
                (_, Aim::Blind) => u8::MAX,
                (_, Aim::Keep(most)) if !renew => most,
                (limit, _) => {
                    let most = query.fit(limit);
                    scales[lane] = query.scale();
                    most
                }
            };
        }
        if renew {
            let keys = self.keys.chunks_exact(self.ks).zip(&self.least);
            for (table, (keys, least)) in self.tables.iter_mut().zip(keys) {
                kernels.entries(keys, least, &scales, &mut table[..self.ks]);
            }
        }
    }

    /// Takes the queries through a view of codes of a byte.
    pub(crate) fn scan<C: Collect>(
        &mut self,
        seekers: &mut [Seeker<'_, C>],
        view: &View<'_>,
        Work { scratch: Scratch { distances, .. }, kernels, task }: &mut Work<'_>,
    ) -> Result<()> {
        let mut masks = [0; CHUNK_ROWS];
        let mut left = view.rows(view.blocks.clone());
        while !left.is_empty() {
            task.check()?;
            let blind = seekers.iter_mut().any(|seeker| seeker.limit() == f32::INFINITY);
            let length = if blind { FIRST_ROWS } else { CHUNK_ROWS };
            let rows = left.start..left.end.min(left.start + length);
            left.start = rows.end;
            if blind {
                for seeker in &mut *seekers {
                    seeker.run(view, rows.clone(), distances)?;
                }
                continue;
            }
            self.aim(seekers, *kernels);
            let Some(codes) = view.segment.bytes(rows.clone()) else {
                unreachable!("batches are made for codes of a byte");
            };
            let masks = &mut masks[..rows.len()];
            kernels.screen_batch(codes, &self.tables, &self.bounds, masks);
            for (first, masks) in rows.step_by(LOOK).zip(masks.chunks(LOOK)) {
                if masks.iter().any(|&mask| mask != 0) {
                    measure(seekers, view, first, masks, distances)?;
                }
            }
        }
        Ok(())
    }
}

/// Measures the rows that are left, each for the queries whose sums do not exclude it.
fn measure<C: Collect>(
    seekers: &mut [Seeker<'_, C>],
    view: &View<'_>,
    first: usize,
    masks: &[u32],
    distances: &mut [f32],
) -> Result<()> {
    for (row, &mask) in (first..).zip(masks) {
        let mut left = if view.passes(row) { mask } else { 0 };
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            seekers[lane].pick(view, &[row as u32], distances)?;
            left &= left - 1;
        }
    }
    Ok(())
}
