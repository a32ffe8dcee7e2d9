//! Codes of a byte or a nibble: the screen of a plane or of columns.
//!
//! ```text
//! for each chunk of rows:
//!     bytes that bound the distances, made for the present limit          (bound)
//!     one bit for each row whose sum of bytes does not exclude it         (kernels)
//!     exact distances of the rows left; the best of them lower the limit  (plain)
//! ```
//! The bytes are those of the codewords, or of their groups where a register holds 16 of them. Where
//! most rows are left, which a limit far above the distances brings, the chunk is measured as a whole.

use std::ops::{Range, RangeInclusive};

use super::View;
use super::bound::{Aim, Bound};
use super::plain::{CHUNK_BLOCKS, Seeker};
use super::segment::Screened;
use crate::best::Collect;
use crate::error::{Result, filled, reserve};
use crate::kernels::{BLOCK, COLUMNS_MASKS, Kernels, LISTED, PLANE_MASKS, Sieve};
use crate::threads::Task;

/// With more than one row in so many left, measuring all in turn is faster than those.
const MANY: usize = 3;

/// Blocks that are measured as a whole to begin with, until there is a limit.
const FIRST_BLOCKS: usize = 8;

/// The screen of one query.
pub(crate) struct Screen {
    bound: Bound,
    entries: Vec<u8>, // (m, width)
    masks: [u32; CHUNK_BLOCKS],
    rows: Vec<u32>, // room for every row of a chunk
    listed: Vec<u32>,
}

impl Screen {
    /// `keys` has the shape `(m, width)`.
    pub(crate) fn new(keys: Vec<f32>, width: usize) -> Result<Self> {
        let bound = Bound::new(keys, width);
        let rows = filled(CHUNK_BLOCKS * BLOCK + LISTED, 0, "the rows that are left")?;
        Ok(Self { bound, entries: Vec::new(), masks: [0; CHUNK_BLOCKS], rows, listed: Vec::new() })
    }

    /// What passes at this limit; `None` where bytes do not help.
    pub(crate) fn aim(&mut self, limit: f32) -> Option<u8> {
        match self.bound.aim(limit) {
            Aim::Blind => None,
            Aim::Keep(bound) => Some(bound),
            Aim::Renew(bound) => {
                self.entries.clear();
                self.entries.extend(self.bound.entries());
                Some(bound)
            }
        }
    }

    /// Measures what the first masks have left of `blocks`.
    fn refine<C: Collect>(
        &mut self,
        seeker: &mut Seeker<'_, C>,
        view: &View<'_>,
        blocks: Range<usize>,
        kernels: Kernels,
    ) -> Result<()> {
        let masks = &mut self.masks[..blocks.len()];
        view.keep_selected(masks, blocks.clone());
        let left = kernels.list(masks, (blocks.start * BLOCK) as u32, &mut self.rows);
        if left * MANY > blocks.len() * BLOCK {
            return seeker.run(view, view.rows(blocks));
        }
        seeker.pick(view, &self.rows[..left])
    }

    /// Appends the sums of the view's rows.
    pub(crate) fn add_up(&self, view: &View<'_>, sums: &mut Vec<[u8; BLOCK]>, kernels: Kernels) {
        let Some(Screened::Plane(plane)) = view.segment.screened(view.blocks.clone()) else {
            unreachable!("sums are made of planes");
        };
        let len = sums.len() + view.blocks.len();
        kernels.add_up(plane, &self.entries, sums);
        // The last block may have rows beyond the segment.
        sums.truncate(len);
    }

    /// Measures the view's rows whose sums are in the range, unless the limit excludes them.
    pub(crate) fn pick<C: Collect>(
        &mut self,
        seeker: &mut Seeker<'_, C>,
        view: &View<'_>,
        sums: &[[u8; BLOCK]],
        range: RangeInclusive<u8>,
        kernels: Kernels,
        task: &Task,
    ) -> Result<()> {
        self.listed.clear();
        for (blocks, sums) in view.chunks().zip(sums.chunks(CHUNK_BLOCKS)) {
            let range = *range.start()..=self.bound.of(seeker.limit()).min(*range.end());
            if range.is_empty() {
                break;
            }
            let masks = &mut self.masks[..blocks.len()];
            kernels.between(sums, range, masks);
            view.keep_selected(masks, blocks.clone());
            let left = kernels.list(masks, (blocks.start * BLOCK) as u32, &mut self.rows);
            reserve(&mut self.listed, left, "the rows that are left")?;
            self.listed.extend_from_slice(&self.rows[..left]);
        }
        seeker.listed(view, &self.listed, task)
    }
}

/// Which rows of some blocks the bytes of each query leave.
fn screen_blocks<const Q: usize>(
    codes: Screened<'_>,
    sieves: [Sieve<'_>; Q],
    masks: [&mut [u32; CHUNK_BLOCKS]; Q],
    blocks: usize,
    kernels: Kernels,
) {
    match codes {
        Screened::Plane(plane) => {
            let blocks = blocks.div_ceil(PLANE_MASKS);
            let masks = masks.map(|masks| &mut masks.as_chunks_mut().0[..blocks]);
            kernels.screen(plane, sieves, masks);
        }
        Screened::Columns(columns) => {
            let blocks = blocks.div_ceil(COLUMNS_MASKS);
            for (sieve, masks) in sieves.into_iter().zip(masks) {
                kernels.screen_columns(columns, sieve, &mut masks.as_chunks_mut().0[..blocks]);
            }
        }
    }
}

/// Takes one or two queries through a view.
pub(crate) fn scan<C: Collect>(
    seekers: &mut [Seeker<'_, C>],
    screens: &mut [Screen],
    view: &View<'_>,
    kernels: Kernels,
    task: &Task,
) -> Result<()> {
    let mut left = view.blocks.clone();
    while !left.is_empty() {
        task.check()?;
        let begun = seekers.iter_mut().all(|seeker| seeker.limit() < f32::INFINITY);
        let length = if begun { CHUNK_BLOCKS } else { FIRST_BLOCKS };
        let blocks = left.start..left.end.min(left.start + length);
        left.start = blocks.end;
        let Some(codes) = view.segment.screened(blocks.clone()) else {
            unreachable!("screens are made for codes of at most a byte");
        };
        let mut bounds = [None; 2];
        for ((bound, seeker), screen) in bounds.iter_mut().zip(&mut *seekers).zip(&mut *screens) {
            *bound = screen.aim(seeker.limit());
        }
        match (&mut *screens, bounds) {
            ([a, b], [Some(bound_a), Some(bound_b)]) => {
                let sieves = [
                    Sieve { entries: &a.entries, bound: bound_a },
                    Sieve { entries: &b.entries, bound: bound_b },
                ];
                screen_blocks(codes, sieves, [&mut a.masks, &mut b.masks], blocks.len(), kernels);
            }
            _ => {
                for (screen, bound) in screens.iter_mut().zip(bounds) {
                    let Some(bound) = bound else { continue };
                    let sieve = Sieve { entries: &screen.entries, bound };
                    screen_blocks(codes, [sieve], [&mut screen.masks], blocks.len(), kernels);
                }
            }
        }
        for ((seeker, screen), bound) in seekers.iter_mut().zip(&mut *screens).zip(bounds) {
            match bound {
                Some(_) => screen.refine(seeker, view, blocks.clone(), kernels)?,
                None => seeker.run(view, view.rows(blocks.clone()))?,
            }
        }
    }
    Ok(())
}
