//! Codes of a byte or a nibble: the screen of a plane or of columns.
//!
//! ```text
//! for each chunk of rows:
//!     bytes that bound the distances, made for the present limit          (bound)
//!     for each band of sub-spaces, those first that exclude most:         (bands)
//!         sums of bytes of the blocks that are left                       (kernels)
//!         a block is left if the sum of one of its rows does not exclude it
//!     exact distances of the rows left; the best of them lower the limit  (plain)
//! ```
//! The bytes are those of the codewords, or of their groups where a register holds 16 of them. Bytes
//! of codewords exclude most blocks after half of the bands, so that the others are not read. Where
//! most rows are left, which a limit far above the distances brings, the chunk is measured as a whole.

use std::cmp::Reverse;
use std::ops::{Range, RangeInclusive};

use super::View;
use super::bands::{BANDS, Columns, Plane};
use super::bound::{Aim, Bound};
use super::plain::{CHUNK_BLOCKS, Seeker};
use super::segment::Screened;
use crate::best::Collect;
use crate::error::{Result, filled, reserve};
use crate::kernels::{BLOCK, Band, COLUMNS_MASKS, Kernels, LISTED, PLANE_MASKS, Sieve, Step, Sums};
use crate::threads::Task;

/// With more than one row in so many left, measuring all in turn is faster than those.
const MANY: usize = 3;
/// Blocks of the first chunk, without which there is no limit; the others get longer as it gets lower.
const FIRST_BLOCKS: usize = 8;
/// Of eight bands, so many are added up before a look at which blocks are left; then one by one.
const FIRST_BANDS: usize = 3;
/// Blocks of a plane in a chunk.
const CHUNK: usize = CHUNK_BLOCKS / PLANE_MASKS;

/// The screen of one query.
pub(crate) struct Screen {
    bound: Bound,
    table: Table,
    /// Blocks of rows that came before, as far as the next chunk's length depends on it.
    seen: usize,
    /// Blocks of the layout that are left of a chunk, and the sums of a plane's.
    blocks: [u32; CHUNK],
    sums: Vec<Sums>,
    masks: [u32; CHUNK_BLOCKS],
    rows: Vec<u32>, // room for every row of a chunk
    listed: Vec<u32>,
}

/// A query's bytes for each codeword, or group of them.
struct Table {
    entries: Vec<u8>, // (m, width)
    /// Entries of a band.
    band: usize,
    /// The bands, those first that exclude most.
    order: Vec<usize>,
}

impl Table {
    fn renew(&mut self, entries: impl Iterator<Item = u8>) {
        self.entries.clear();
        self.entries.extend(entries);
        let bands: Vec<_> = self.entries.chunks(self.band).collect();
        self.order.clear();
        self.order.extend(0..bands.len());
        self.order.sort_by_cached_key(|&at| {
            Reverse(bands[at].iter().map(|&entry| u32::from(entry)).sum::<u32>())
        });
    }

    /// The bands in their order, and how many there are.
    fn bands<'a>(&'a self, plane: &'a Plane) -> ([Band<'a>; BANDS], usize) {
        let mut bands = [Band::default(); BANDS];
        for (band, &at) in bands.iter_mut().zip(&self.order) {
            let entries = &self.entries[at * self.band..];
            let (entries, _) = entries[..self.band.min(entries.len())].as_chunks();
            *band = Band { bytes: plane.band(at), entries };
        }
        (bands, self.order.len())
    }
}

impl Screen {
    /// `keys` has the shape `(m, width)`, a band `band` sub-spaces.
    pub(crate) fn new(keys: Vec<f32>, width: usize, band: usize) -> Result<Self> {
        Ok(Self {
            bound: Bound::new(keys, width),
            table: Table { entries: Vec::new(), band: band * width, order: Vec::new() },
            seen: 0,
            blocks: [0; CHUNK],
            sums: filled(CHUNK, Sums::default(), "the sums of a chunk")?,
            masks: [0; CHUNK_BLOCKS],
            rows: filled(CHUNK_BLOCKS * BLOCK + LISTED, 0, "the rows that are left")?,
            listed: Vec::new(),
        })
    }

    /// What passes at this limit; `None` where bytes do not help.
    pub(crate) fn aim(&mut self, limit: f32) -> Option<u8> {
        match self.bound.aim(limit) {
            Aim::Blind => None,
            Aim::Keep(bound) => Some(bound),
            Aim::Renew(bound) => {
                self.table.renew(self.bound.entries());
                Some(bound)
            }
        }
    }

    /// The sums of some blocks' rows, less those blocks of which no row passes; returns how many
    /// are left.
    fn add_up(
        &mut self,
        plane: &Plane,
        blocks: Range<usize>,
        bound: u8,
        kernels: Kernels,
    ) -> usize {
        let (bands, count) = self.table.bands(plane);
        let bands = &bands[..count];
        let mut left = blocks.len();
        self.blocks.iter_mut().zip(blocks).for_each(|(place, block)| *place = block as u32);
        let mut first = 0;
        while first < bands.len() && left > 0 {
            let many = if first == 0 { (FIRST_BANDS * bands.len()).div_ceil(BANDS) } else { 1 };
            let end = first + many;
            let step = Step {
                bands: &bands[first..end],
                begins: first == 0,
                bound,
                next: bands.get(end).copied(),
            };
            left = kernels.add_up(step, &mut self.blocks[..left], &mut self.sums[..left]);
            first = end;
        }
        left
    }

    /// Screens some blocks of a plane; returns how many are left.
    fn screen_plane(
        &mut self,
        plane: &Plane,
        blocks: Range<usize>,
        bound: u8,
        kernels: Kernels,
    ) -> usize {
        let left = self.add_up(plane, blocks, bound, kernels);
        let masks = &mut self.masks[..left * PLANE_MASKS];
        kernels.between(self.sums[..left].as_flattened(), 0..=bound, masks);
        left
    }

    /// Screens some blocks of columns, all of which are left.
    fn screen_columns(
        &mut self,
        columns: &Columns,
        blocks: Range<usize>,
        bound: u8,
        kernels: Kernels,
    ) -> usize {
        self.blocks.iter_mut().zip(blocks.clone()).for_each(|(place, block)| *place = block as u32);
        let sieve = Sieve { entries: &self.table.entries, bound };
        let (masks, _) = self.masks.as_chunks_mut::<COLUMNS_MASKS>();
        kernels.screen_columns(
            columns.of_blocks(blocks.clone()),
            sieve,
            &mut masks[..blocks.len()],
        );
        blocks.len()
    }

    /// Measures the rows that are left of a chunk: those of the first masks, so many for each of the
    /// first blocks.
    fn refine<C: Collect>(
        &mut self,
        seeker: &mut Seeker<'_, C>,
        view: &View<'_>,
        chunk: Range<usize>,
        (left, each): (usize, usize),
        kernels: Kernels,
    ) -> Result<()> {
        let masks = &mut self.masks[..left * each];
        for (masks, &block) in masks.chunks_exact_mut(each).zip(&self.blocks) {
            view.keep_selected(masks, block as usize * each);
        }
        let count = kernels.list(masks, 0, &mut self.rows);
        if count * MANY > chunk.len() * BLOCK {
            return seeker.run(view, view.rows(chunk));
        }
        let rows = &mut self.rows[..count];
        let length = (each * BLOCK) as u32;
        for row in &mut *rows {
            *row = self.blocks[(*row / length) as usize] * length + *row % length;
        }
        seeker.pick(view, rows)
    }

    /// Appends the sums of the view's rows, and of those beyond the segment in its last block.
    pub(crate) fn append(&mut self, view: &View<'_>, sums: &mut Vec<Sums>, kernels: Kernels) {
        let Some(Screened::Plane(plane)) = view.segment.screened() else {
            unreachable!("sums are made of planes");
        };
        for blocks in view.chunks() {
            let left = self.add_up(plane, parts(&blocks, PLANE_MASKS), u8::MAX, kernels);
            sums.extend_from_slice(&self.sums[..left]);
        }
    }

    /// Measures the view's rows whose sums are in the range, unless the limit excludes them.
    pub(crate) fn pick<C: Collect>(
        &mut self,
        seeker: &mut Seeker<'_, C>,
        view: &View<'_>,
        sums: &[Sums],
        range: RangeInclusive<u8>,
        kernels: Kernels,
        task: &Task,
    ) -> Result<()> {
        self.listed.clear();
        for (blocks, sums) in view.chunks().zip(sums.chunks(CHUNK)) {
            let range = *range.start()..=self.bound.of(seeker.limit()).min(*range.end());
            if range.is_empty() {
                break;
            }
            let sums = sums.as_flattened();
            let masks = &mut self.masks[..sums.len()];
            kernels.between(sums, range, masks);
            view.keep_selected(masks, blocks.start);
            let left = kernels.list(masks, (blocks.start * BLOCK) as u32, &mut self.rows);
            reserve(&mut self.listed, left, "the rows that are left")?;
            self.listed.extend_from_slice(&self.rows[..left]);
        }
        seeker.listed(view, &self.listed, task)
    }
}

/// The blocks of a layout, of so many masks each, that hold these blocks of rows.
pub(crate) fn parts(blocks: &Range<usize>, masks: usize) -> Range<usize> {
    blocks.start / masks..blocks.end.div_ceil(masks)
}

/// Takes a query through a view.
pub(crate) fn scan<C: Collect>(
    seeker: &mut Seeker<'_, C>,
    screen: &mut Screen,
    view: &View<'_>,
    kernels: Kernels,
    task: &Task,
) -> Result<()> {
    let mut left = view.blocks.clone();
    while !left.is_empty() {
        task.check()?;
        let limit = seeker.limit();
        let length = screen.seen.clamp(FIRST_BLOCKS, CHUNK_BLOCKS);
        let blocks = left.start..left.end.min(left.start + length);
        left.start = blocks.end;
        screen.seen = length + screen.seen.min(CHUNK_BLOCKS);
        let Some(bound) = screen.aim(limit) else {
            seeker.run(view, view.rows(blocks))?;
            continue;
        };
        let left = match view.segment.screened() {
            Some(Screened::Plane(plane)) => {
                let within = parts(&blocks, PLANE_MASKS);
                (screen.screen_plane(plane, within, bound, kernels), PLANE_MASKS)
            }
            Some(Screened::Columns(columns)) => {
                let within = parts(&blocks, COLUMNS_MASKS);
                (screen.screen_columns(columns, within, bound, kernels), COLUMNS_MASKS)
            }
            None => unreachable!("screens are made for codes of at most a byte"),
        };
        screen.refine(seeker, view, blocks, left, kernels)?;
    }
    Ok(())
}
