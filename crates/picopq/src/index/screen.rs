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

use super::bands::{BANDS, Plane};
use super::bound::{Aim, Bound};
use super::plain::Seeker;
use super::scratch::{CHUNK, Chunk, Scratch, Work};
use super::segment::{Screened, WIDEST};
use super::views::{CHUNK_BLOCKS, View};
use crate::best::Collect;
use crate::error::{Result, reserve, with_capacity};
use crate::kernels::{
    BLOCK, Band, COLUMNS, COLUMNS_MASKS, Kernels, PLANE_MASKS, Sieve, Step, Sums,
};

/// With more than one row in so many left, measuring all in turn is faster than those.
const MANY: usize = 3;
/// Blocks of the first chunk, without which there is no limit; the others get longer as it gets lower.
const FIRST_BLOCKS: usize = 8;
const _: () = assert!(
    FIRST_BLOCKS.is_multiple_of(WIDEST) && CHUNK_BLOCKS.is_multiple_of(WIDEST),
    "a chunk begins where a screen can, or its first rows would be met twice"
);
/// One band in so many is added up before a look at which blocks are left, and at least so many; then
/// one by one.
const FIRST_BANDS: usize = 5;
const LEAST_BANDS: usize = 2;
/// How many rows have at most each sum.
pub(crate) type Counts = [usize; 1 << u8::BITS];

/// The screen of one query.
pub(crate) struct Screen {
    keys: Vec<f32>, // (m, width)
    width: usize,
    bound: Bound,
    table: Table,
    /// Blocks of rows that came before, as far as the next chunk's length depends on it.
    seen: usize,
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
        let what = "the screen's table";
        let (entries, order) = (with_capacity(keys.len(), what)?, with_capacity(BANDS, what)?);
        Ok(Self {
            bound: Bound::new(&keys, width)?,
            keys,
            width,
            table: Table { entries, band: band * width, order },
            seen: 0,
        })
    }

    /// What passes at this limit; `None` where bytes do not help.
    pub(crate) fn aim(&mut self, limit: f32) -> Option<u8> {
        match self.bound.aim(limit) {
            Aim::Blind => None,
            Aim::Keep(bound) => Some(bound),
            Aim::Renew => {
                let bound = self.bound.fit(limit);
                self.table.renew(self.bound.entries(&self.keys, self.width));
                Some(bound)
            }
        }
    }

    /// The rows of some blocks that pass, of which the segment may lack the last; returns how many.
    fn pass(
        &self,
        screened: Screened<'_>,
        blocks: &Range<usize>,
        bound: u8,
        Scratch { chunk, sums, .. }: &mut Scratch,
        kernels: Kernels,
    ) -> usize {
        match screened {
            Screened::Plane(plane) => {
                let (bands, count) = self.table.bands(plane);
                let blocks = parts(blocks, PLANE_MASKS);
                if let [band] = bands[..count] {
                    let blocks = blocks.start as u32..blocks.end as u32;
                    return kernels.screen_plane(band, blocks, bound, &mut chunk.rows);
                }
                let left = chunk.add_up(&bands[..count], &blocks, sums, bound, kernels);
                chunk.list(left, (blocks.start, sums), 0..=bound, kernels)
            }
            Screened::Columns(columns) => {
                let blocks = parts(blocks, COLUMNS_MASKS);
                let sieve = Sieve { entries: &self.table.entries, bound };
                let columns = columns.of_blocks(blocks.clone());
                let count = kernels.screen_columns(columns, sieve, &mut chunk.rows);
                let first = (blocks.start * COLUMNS) as u32;
                chunk.rows[..count].iter_mut().for_each(|row| *row += first);
                count
            }
        }
    }

    /// How many rows of one block in so many have at most each sum.
    pub(crate) fn sample(
        &self,
        views: &[View<'_>],
        step: usize,
        Work { scratch: Scratch { chunk, sums, .. }, kernels, .. }: &mut Work<'_>,
    ) -> Counts {
        let mut counts = [[0; 1 << u8::BITS]; 4];
        for view in views {
            let plane = plane(view);
            let (bands, count) = self.table.bands(plane);
            let blocks = parts(&view.blocks, PLANE_MASKS).step_by(step);
            blocks.clone().for_each(|block| plane.fetch(block));
            for block in blocks {
                let bands = &bands[..count];
                chunk.add_up(bands, &(block..block + 1), sums, u8::MAX, *kernels);
                // Many sums are equal: an addition to one of four counts does not wait for the last.
                for sums in sums[0].0.as_flattened().as_chunks::<4>().0 {
                    for (counts, &sum) in counts.iter_mut().zip(sums) {
                        counts[usize::from(sum)] += 1;
                    }
                }
            }
        }
        let mut total = 0;
        std::array::from_fn(|sum| {
            total += counts.iter().map(|counts| counts[sum]).sum::<usize>();
            total
        })
    }

    /// Appends the sums of the view's rows, and of those beyond the segment in its last block; measures
    /// the rows whose sums are at most `most`.
    pub(crate) fn append<C: Collect>(
        &self,
        seeker: &mut Seeker<'_, C>,
        view: &View<'_>,
        sums: &mut Vec<Sums>,
        most: u8,
        Work { scratch, kernels, task }: &mut Work<'_>,
    ) -> Result<()> {
        let Scratch { distances, chunk, sums: some, listed } = &mut **scratch;
        let (bands, count) = self.table.bands(plane(view));
        listed.clear();
        for blocks in view.chunks() {
            let blocks = parts(&blocks, PLANE_MASKS);
            let mine = &mut some[..blocks.len()];
            let left = chunk.add_up(&bands[..count], &blocks, mine, most, *kernels);
            sums.extend_from_slice(mine);
            let count = chunk.list(left, (blocks.start, mine), 0..=most, *kernels);
            chunk.keep(view, count, listed)?;
        }
        seeker.listed(view, listed, distances, task)
    }

    /// Measures the view's rows whose sums are at least `least`, unless the limit excludes them.
    pub(crate) fn pick<C: Collect>(
        &self,
        seeker: &mut Seeker<'_, C>,
        view: &View<'_>,
        sums: &[Sums],
        least: u8,
        Work { scratch, kernels, task }: &mut Work<'_>,
    ) -> Result<()> {
        let range = least..=self.bound.of(seeker.limit());
        if range.is_empty() {
            return Ok(());
        }
        let Scratch { distances, chunk, listed, .. } = &mut **scratch;
        listed.clear();
        for (blocks, sums) in view.chunks().zip(sums.chunks(CHUNK)) {
            let blocks = parts(&blocks, PLANE_MASKS);
            chunk.begin(&blocks);
            let all = blocks.len();
            let count = chunk.list(all, (blocks.start, sums), range.clone(), *kernels);
            chunk.keep(view, count, listed)?;
        }
        seeker.listed(view, listed, distances, task)
    }
}

/// What a screen of groups reads.
fn plane<'a>(view: &View<'a>) -> &'a Plane {
    match view.segment.screened() {
        Some(Screened::Plane(plane)) => plane,
        _ => unreachable!("groups have a plane"),
    }
}

impl Chunk {
    /// All of these blocks are left.
    fn begin(&mut self, blocks: &Range<usize>) {
        let numbers = blocks.start as u32..blocks.end as u32;
        self.blocks.iter_mut().zip(numbers).for_each(|(place, block)| *place = block);
    }

    /// The sums of blocks that follow each other; the bands of those of which no row passes are not
    /// read to the end. Returns how many are left.
    fn add_up(
        &mut self,
        bands: &[Band<'_>],
        blocks: &Range<usize>,
        sums: &mut [Sums],
        bound: u8,
        kernels: Kernels,
    ) -> usize {
        self.begin(blocks);
        let mut left = blocks.len();
        let mut done = 0;
        while done < bands.len() && left > 0 {
            let many = if done == 0 { LEAST_BANDS.max(bands.len() / FIRST_BANDS) } else { 1 };
            let end = bands.len().min(done + many);
            let step = Step {
                bands: &bands[done..end],
                begins: done == 0,
                first: blocks.start as u32,
                bound,
                next: bands.get(end).copied(),
            };
            left = kernels.add_up(step, &mut self.blocks[..left], sums);
            done = end;
        }
        left
    }

    /// The rows of the blocks that are left whose sums are in the range, with the first block that has
    /// sums, and the sums; returns how many.
    fn list(
        &mut self,
        left: usize,
        (first, sums): (usize, &[Sums]),
        range: RangeInclusive<u8>,
        kernels: Kernels,
    ) -> usize {
        kernels.list(&self.blocks[..left], (first as u32, sums), range, &mut self.rows)
    }

    /// Appends those of the first rows that the view has.
    fn keep(&mut self, view: &View<'_>, rows: usize, listed: &mut Vec<u32>) -> Result<()> {
        let rows = &mut self.rows[..rows];
        let count = view.select(rows);
        reserve(listed, count, "the rows that are left")?;
        listed.extend_from_slice(&rows[..count]);
        Ok(())
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
    Work { scratch, kernels, task }: &mut Work<'_>,
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
            seeker.run(view, view.rows(blocks), &mut scratch.distances)?;
            continue;
        };
        let Some(screened) = view.segment.screened() else {
            unreachable!("screens are made for codes of at most a byte");
        };
        let passed = screen.pass(screened, &blocks, bound, scratch, *kernels);
        let Scratch { distances, chunk, .. } = &mut **scratch;
        let rows = &mut chunk.rows[..passed];
        let count = view.select(rows);
        if count * MANY > blocks.len() * BLOCK {
            seeker.run(view, view.rows(blocks), distances)?;
        } else {
            seeker.pick(view, &rows[..count], distances)?;
        }
        seeker.tell()?;
    }
    Ok(())
}
