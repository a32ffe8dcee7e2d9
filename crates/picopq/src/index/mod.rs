//! Codes laid out for scanning, with ids: add, search, remove, while others read.
//!
//! ```text
//! codes --Layout--> Segments (<= 262,144 rows each, never changed, shared by reference)
//!
//! queries --tables--> Seekers --+--> plain         codes wider than a byte
//!                               +--> screen        codes of a nibble or a byte
//!                               +--> ordered       few queries, codes of a byte, small registers
//!                               +--> interleaved   many queries, codes of a byte, small registers
//! ```
//! Every scan answers with what the plain scan answers, to the bit: the others leave out only rows
//! that cannot be among the answers. Parts of the rows and batches of queries run in parallel;
//! answers are ordered by distance and id, so that neither shows.

mod add;
mod bands;
mod bound;
mod filter;
mod groups;
mod id_set;
mod interleaved;
mod layout;
mod memory;
mod ordered;
mod plain;
mod rerank;
mod scratch;
mod screen;
mod segment;
#[cfg(test)]
mod tests;
mod views;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use add::Prepared;
pub use filter::Filter;
pub use rerank::rerank;

use crate::best::{Best, Collect, Keyed, SharedLimit, Within, order};
use crate::codes::{Code, Codes, with_codes, with_width};
use crate::error::{Error, Result, collected, filled, reserve, size, with_capacity};
use crate::kernels::{BLOCK, Kernels};
use crate::quantizer::Quantizer;
use crate::table::Neighbor;
use crate::threads::{self, ProcessLock, Task};
use crate::vectors::{Vectors, vector_limit};
use id_set::IdSet;
use interleaved::Batch;
use layout::Layout;
use plain::Seeker;
use scratch::{Scratch, Work};
use screen::Screen;
use segment::{Ids, SEGMENT_ROWS, Segment};
use views::{LEAST_TILE, Tiles, View};

/// Queries that are scanned together, at most.
const BATCH: usize = crate::kernels::LANES;
/// From so many queries interleaved tables are faster than a screen for each. Less in tests, so that any
/// number of threads leaves as many to a batch.
const MIN_INTERLEAVED: usize = if cfg!(test) { 3 } else { 18 };
/// Interleaved tables of more sub-spaces (8 KiB each) would leave the second cache.
const MAX_INTERLEAVED_M: usize = 64;
/// Rows that pay for making interleaved tables.
const MIN_INTERLEAVED_ROWS: usize = 1 << 14;
/// Look-ups of one query that take as long as what each part of the rows takes beside them: tables, the
/// first limits, a thread that wakes.
const PART_LOOKUPS: usize = 1 << 20;
/// Look-ups of one query in a tile, through which the queries of a batch go in turn: its codes stay
/// in the second cache.
const TILE_LOOKUPS: usize = 1 << 19;
/// Answers that a batch keeps at once, for searches with a large k.
const BATCH_ANSWERS: usize = 1 << 20;

/// Stored codes with ids, to be searched. Memory: at most 1.5 bytes for each byte of codes (0.5
/// with 16 codewords or fewer), 8 bytes more for an id that does not follow the one before it.
///
/// Shared by reference between threads: a search sees the index as it was when the search began,
/// and rows are added all or none.
///
/// ```
/// use picopq::{Filter, Index, Pq, PqOptions, Task, Vectors};
///
/// let data: Vec<f32> = (0..8000).map(|i| ((i * 37) % 101) as f32).collect(); // (1000, 8)
/// let vectors = Vectors::new(&data, 8)?;
/// let (pq, _) = Pq::train(vectors, &PqOptions { ks: 64, ..PqOptions::new(4) }, &Task::new())?;
/// let index = Index::new(pq)?;
/// index.add(vectors, None, &Task::new())?;
/// let queries = Vectors::new(&data[..16], 8)?;
/// let found = index.search(queries, 3, Filter::All, &Task::new())?;
/// assert_eq!((found.len(), found[0].len()), (2, 3));
/// let found = index.search(queries, 3, Filter::Ids(&[7, 5]), &Task::new())?;
/// assert_eq!(found[0].len(), 2);
/// # Ok::<(), picopq::Error>(())
/// ```
pub struct Index {
    quantizer: Quantizer,
    layout: Layout,
    rows: ArcSwap<Rows>,
    /// Held by the one who prepares new rows.
    writer: ProcessLock,
}

/// What is stored at one moment.
#[derive(Clone, Default)]
struct Rows {
    segments: Vec<Arc<Segment>>,
    len: usize,
    /// Above every id there has been.
    next_id: i64,
}

impl Index {
    /// An empty index. Cost: for codes of a byte, a search for 16 groups of the codewords of each
    /// sub-space (milliseconds each), unless the processor has registers for 256 entries.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::KernelsUnavailable`].
    pub fn new(quantizer: impl Into<Quantizer>) -> Result<Self> {
        let quantizer = quantizer.into();
        let layout = Layout::new(quantizer.codebook(), Kernels::active()?)?;
        Ok(Self::with_layout(quantizer, layout))
    }

    fn with_layout(quantizer: Quantizer, layout: Layout) -> Self {
        Self { quantizer, layout, rows: ArcSwap::default(), writer: ProcessLock::default() }
    }

    /// The model.
    #[must_use]
    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// Stored rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.load().len
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the stored rows: codes, what the scans need beside them, ids.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.layout.bytes()
            + self.rows.load().segments.iter().map(|segment| segment.memory()).sum::<usize>()
    }

    /// The ids in the order in which the rows are stored: that of their addition.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn ids(&self) -> Result<Vec<i64>> {
        let rows = self.rows.load();
        let mut ids = with_capacity(rows.len, "the ids")?;
        for segment in &rows.segments {
            ids.extend((0..segment.len()).map(|row| segment.id(row)));
        }
        Ok(ids)
    }

    /// The codes in the order of [`Index::ids`], shape `(n, m)`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn codes(&self) -> Result<Codes<'static>> {
        self.rows().map(|(_, codes)| codes)
    }

    /// All ids and codes of one moment.
    pub(crate) fn rows(&self) -> Result<(Vec<i64>, Codes<'static>)> {
        let (m, ks) = (self.quantizer.codebook().m(), self.quantizer.codebook().ks());
        let blocks = self.blocks();
        let mut ids = Vec::new();
        with_width!(ks, T, {
            let mut all: Vec<T> = Vec::new();
            for block in blocks {
                let (block_ids, codes) = block?;
                reserve(&mut ids, block_ids.len(), "the ids")?;
                ids.extend(block_ids);
                reserve(&mut all, codes.len() * m, "the codes")?;
                extend(&mut all, &codes);
            }
            Ok((ids, Codes::new(all, m, ks)?))
        })
    }

    /// What is stored, block by block: the ids and codes of at most 262,144 rows. Rows added or
    /// removed meanwhile do not show.
    pub fn blocks(&self) -> impl Iterator<Item = Result<(Vec<i64>, Codes<'static>)>> + use<> {
        let (rows, ks) = (self.rows.load_full(), self.quantizer.codebook().ks());
        (0..rows.segments.len()).map(move |at| {
            let segment = &rows.segments[at];
            let mut ids = with_capacity(segment.len(), "the ids")?;
            ids.extend((0..segment.len()).map(|row| segment.id(row)));
            Ok((ids, segment.codes(&every_row(segment)?, ks)?))
        })
    }

    /// The least number that a row added without an id can get.
    #[must_use]
    pub fn next_id(&self) -> i64 {
        self.rows.load().next_id
    }

    /// Raises [`Index::next_id`] to `id`, where it is lower: ids of removed rows of an index that
    /// was stored elsewhere are not given again.
    pub fn skip_ids(&self, id: i64) {
        let lock = self.writer.mine();
        let _writer = lock.lock();
        let mut rows = Rows::clone(&self.rows.load());
        rows.next_id = rows.next_id.max(id);
        self.rows.store(Arc::new(rows));
    }

    /// Removes the rows with these ids, and returns how many there were; ids that are not in the
    /// index are passed over. The other rows keep their ids and their order. Cost: a copy of each
    /// segment that loses rows.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Cancelled`]; after either, nothing is removed.
    pub fn remove(&self, ids: &[i64], task: &Task) -> Result<usize> {
        let book = self.quantizer.codebook();
        let lock = self.writer.mine();
        let _writer = lock.lock();
        let mut rows = Rows::clone(&self.rows.load());
        let before = rows.len;
        let set = IdSet::new(&sorted(ids)?)?;
        let segments = threads::map(task, std::mem::take(&mut rows.segments), |segment| {
            let gone = |row: u32| set.contains(segment.id(row as usize));
            let mut left = every_row(&segment)?;
            left.retain(|&row| !gone(row));
            if left.len() == segment.len() {
                return Ok(segment);
            }
            let mut ids = left.iter().map(|&row| segment.id(row as usize));
            let ids = Ids::collect(left.len(), || ids.next())?;
            let codes = segment.codes(&left, book.ks())?;
            with_codes!(codes, |codes| {
                let mut fresh = Segment::empty(left.len(), book.m(), book.ks(), &self.layout)?;
                fresh.rooms(SEGMENT_ROWS).for_each(|room| room.write(codes, &self.layout));
                fresh.name(ids);
                Ok(Arc::new(fresh))
            })
        })?;
        rows.segments = segments.into_iter().filter(|segment| segment.len() > 0).collect();
        rows.len = rows.segments.iter().map(|segment| segment.len()).sum();
        let removed = before - rows.len;
        self.rows.store(Arc::new(rows));
        Ok(removed)
    }

    /// The vectors that the codes with these ids stand for, shape `(ids, dim)`.
    ///
    /// # Errors
    /// [`Error::UnknownId`], [`Error::OutOfMemory`], [`Error::Cancelled`].
    pub fn reconstruct(&self, ids: &[i64], task: &Task) -> Result<Vec<f32>> {
        let rows = self.rows.load();
        let book = self.quantizer.codebook();
        let mut wanted: Vec<usize> = with_capacity(ids.len(), "the ids")?;
        wanted.extend(0..ids.len());
        wanted.sort_unstable_by_key(|&at| ids[at]);
        let ascending = collected(wanted.iter().map(|&at| ids[at]), ids.len(), "the ids")?;
        let set = IdSet::for_segments(&ascending, &rows.segments)?;
        let mut missing = filled(ids.len(), true, "the ids")?;
        let mut vectors =
            filled(size(&[ids.len(), book.dim()], "the vectors")?, 0.0, "the vectors")?;
        // Each place is filled once, though a row may be asked for any number of times.
        let mut found: Vec<u32> = with_capacity(ids.len(), "the rows")?;
        let mut places: Vec<usize> = with_capacity(ids.len(), "the rows")?;
        for segment in &rows.segments {
            task.check()?;
            found.clear();
            places.clear();
            let mut take = |row: usize, id: i64| -> Result<()> {
                let from = wanted.partition_point(|&at| ids[at] < id);
                for &at in wanted[from..].iter().take_while(|&&at| ids[at] == id) {
                    reserve(&mut found, 1, "the rows of the ids")?;
                    reserve(&mut places, 1, "the rows of the ids")?;
                    found.push(row as u32);
                    places.push(at);
                    missing[at] = false;
                }
                Ok(())
            };
            match segment.ids() {
                Ids::From(first) => {
                    let end = first + segment.len() as i64;
                    let from = wanted.partition_point(|&at| ids[at] < *first);
                    let to = wanted.partition_point(|&at| ids[at] < end);
                    let mut here: Vec<i64> = with_capacity(to - from, "the ids")?;
                    here.extend(wanted[from..to].iter().map(|&at| ids[at]));
                    here.dedup();
                    here.into_iter().try_for_each(|id| take((id - first) as usize, id))?;
                }
                Ids::Each(each) => {
                    let mut named = each.iter().enumerate().filter(|(_, id)| set.contains(**id));
                    named.try_for_each(|(row, &id)| take(row, id))?;
                }
            }
            let mut decoded = filled(found.len() * book.dim(), 0.0, "the vectors")?;
            let codes = segment.codes(&found, book.ks())?;
            book.decode_into(self.quantizer.rotation(), &codes, &mut decoded, task)?;
            for (&at, vector) in places.iter().zip(decoded.chunks_exact(book.dim())) {
                vectors[at * book.dim()..][..book.dim()].copy_from_slice(vector);
            }
        }
        match missing.iter().position(|&missing| missing) {
            Some(at) => Err(Error::UnknownId { id: ids[at] }),
            None => Ok(vectors),
        }
    }

    /// The `k` nearest rows of each query, shape `(nq, dim)`: best first, ties to the lower id,
    /// fewer if the filter or the index has fewer. Distances are those of the distance table
    /// (asymmetric, Jegou 2011): squared Euclidean or dot products.
    ///
    /// Cost: at worst n m look-ups for each query; most rows are excluded 32 at a time.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::NonFinite`] or [`Error::TooLarge`] for a query,
    /// [`Error::LengthMismatch`] for a mask, [`Error::OutOfMemory`], [`Error::Cancelled`].
    pub fn search(
        &self,
        queries: Vectors<'_>,
        k: usize,
        filter: Filter<'_>,
        task: &Task,
    ) -> Result<Vec<Vec<Neighbor>>> {
        self.scan(queries, k, filter, task, || Best::new(k))
    }

    /// All rows within `radius` of each query, best first: squared distances of at most `radius`,
    /// or dot products of at least `radius`.
    ///
    /// # Errors
    /// As [`Index::search`]; [`Error::NonFinite`] if `radius` is NaN.
    pub fn range_search(
        &self,
        queries: Vectors<'_>,
        radius: f32,
        filter: Filter<'_>,
        task: &Task,
    ) -> Result<Vec<Vec<Neighbor>>> {
        if radius.is_nan() {
            return Err(Error::NonFinite { argument: "radius", row: 0, column: 0, count: 1 });
        }
        let limit = self.quantizer.metric().sign() * radius;
        self.scan(queries, usize::MAX, filter, task, || Within::new(limit))
    }

    /// At most `k` answers of each query, of what `collect` keeps of each part of the rows.
    fn scan<C: Collect>(
        &self,
        queries: Vectors<'_>,
        k: usize,
        filter: Filter<'_>,
        task: &Task,
        collect: impl Fn() -> C + Sync,
    ) -> Result<Vec<Vec<Neighbor>>> {
        let (book, metric) = (self.quantizer.codebook(), self.quantizer.metric());
        let (nq, dim, kernels) = (queries.len(), queries.dim(), Kernels::active()?);
        book.check_dim("queries", dim)?;
        queries.check("queries", vector_limit(dim), task)?;
        let rows = self.rows.load_full();
        let selections = filter::select(filter, &rows.segments, task)?;

        let (batch, count) = self.divide(nq, rows.len, k, threads::num_threads())?;
        let batch = batch.min(nq).max(1);
        let lead = |rows, queries| match self.layout {
            Layout::Grouped(_) if !self.interleaves(queries, rows) => {
                ordered::lead(rows, k, book.m())
            }
            _ => 0,
        };
        let tile = (TILE_LOOKUPS / BLOCK / book.m()).clamp(1, batch.saturating_mul(LEAST_TILE));
        let tile = tile.next_multiple_of(LEAST_TILE);
        let parts = |queries| {
            let lead = |rows| lead(rows, queries);
            views::parts(&rows.segments, &selections, count, lead, tile)
        };
        // The last batch may be so small that another scan serves it.
        let last = if nq % batch == 0 { None } else { Some(parts(nq % batch)?) };
        let parts = parts(batch)?;
        let mut limits: Vec<SharedLimit> = with_capacity(nq, "the limits")?;
        limits.resize_with(nq, SharedLimit::new);
        let mut batches = with_capacity(nq.div_ceil(batch), "the batches")?;
        for (vectors, limits) in queries.as_slice().chunks(batch * dim).zip(limits.chunks(batch)) {
            let vectors = Vectors::new(vectors, dim)?;
            let last = last.as_ref().filter(|_| vectors.len() < batch);
            let tiles = Tiles::new(last.unwrap_or(&parts))?;
            batches.push(Queries { vectors, limits, k, tiles });
        }
        let mut items = with_capacity(batches.len() * parts.len(), "the parts of a search")?;
        items.extend(
            batches.iter().flat_map(|batch| (0..parts.len()).map(move |part| (batch, part))),
        );
        task.begin(items.len() as u64);
        let found = threads::map(task, items, |(batch, part)| {
            let found = Scratch::lend(|scratch| {
                self.scan_part(batch, part, &collect, &mut Work { scratch, kernels, task })
            })?;
            task.advance(1);
            Ok(found)
        })?;
        let mut answers = with_capacity(nq, "the answers")?;
        for parts in found.chunks(parts.len()) {
            for query in 0..parts[0].len() {
                let found = parts.iter().map(|part| &part[query][..]);
                let mut keyed: Vec<Keyed> =
                    with_capacity(found.clone().map(<[Keyed]>::len).sum(), "the answers")?;
                found.for_each(|found| keyed.extend_from_slice(found));
                if parts.len() > 1 {
                    if k < keyed.len() {
                        keyed.select_nth_unstable_by(k, order);
                        keyed.truncate(k);
                    }
                    keyed.sort_unstable_by(order);
                }
                let neighbor = |(key, id)| Neighbor { distance: metric.sign() * key, id };
                answers.push(keyed.into_iter().map(neighbor).collect());
            }
        }
        Ok(answers)
    }

    /// Queries of a batch, and parts of the rows, that keep so many threads busy for the shortest time.
    fn divide(&self, nq: usize, rows: usize, k: usize, workers: usize) -> Result<(usize, usize)> {
        let most = (BATCH_ANSWERS / k.min(rows).max(1)).clamp(1, BATCH);
        let lookups = size(&[rows, self.quantizer.codebook().m(), BATCH], "the look-ups")? / BATCH;
        let interleaved = self.interleaves(most.min(nq), rows);
        let way = |parts: usize| {
            // Interleaved tables take as long for a few queries as for all that fit, and what is left
            // over gets screens; else every thread gets as many.
            let (batch, batches, turns) = if interleaved {
                (most, ((nq + most / 2) / most).max(1), 1)
            } else {
                let batches = nq.div_ceil(most).next_multiple_of(workers.div_ceil(parts));
                let batch = nq.div_ceil(batches.max(1)).max(1);
                (batch, nq.div_ceil(batch), batch)
            };
            let rounds = (batches * parts).div_ceil(workers) * turns;
            (rounds.saturating_mul(lookups / parts + PART_LOOKUPS), batch, parts)
        };
        let paying = if interleaved {
            rows / MIN_INTERLEAVED_ROWS
        } else {
            1 + lookups * most.min(nq) / PART_LOOKUPS
        };
        let ways = (1..=workers.min(paying)).map(way);
        Ok(ways.min().map_or((1, 1), |(_, batch, parts)| (batch, parts)))
    }

    /// Whether interleaved tables serve so many queries and rows best.
    fn interleaves(&self, queries: usize, rows: usize) -> bool {
        matches!(self.layout, Layout::Grouped(_))
            && queries >= MIN_INTERLEAVED
            && self.quantizer.codebook().m() <= MAX_INTERLEAVED_M
            && rows >= MIN_INTERLEAVED_ROWS
    }

    /// Takes a batch of queries through the rows of a part, and what tiles of others it gets.
    fn scan_part<C: Collect>(
        &self,
        batch: &Queries<'_>,
        part: usize,
        collect: &impl Fn() -> C,
        work: &mut Work<'_>,
    ) -> Result<Vec<Vec<Keyed>>> {
        let Queries { vectors, limits, k, tiles } = batch;
        if tiles.are_taken(part) {
            return filled(vectors.len(), Vec::new(), "the answers");
        }
        let book = self.quantizer.codebook();
        let (m, entries) = (book.m(), book.m() * book.ks());
        let what = "the distance tables";
        let mut keys = filled(size(&[vectors.len(), entries], what)?, 0.0, what)?;
        let metric = self.quantizer.metric();
        book.tables_into(self.quantizer.rotation(), *vectors, metric, &mut keys, work.task)?;
        keys.iter_mut().for_each(|key| *key *= metric.sign());
        let few = *k <= tiles.rows(part) / ordered::ROWS_EACH;
        let shares = (few && !tiles.is_alone()).then_some(*k);
        let mut seekers = with_capacity(vectors.len(), "the queries of a batch")?;
        for (keys, limit) in keys.chunks_exact(entries).zip(*limits) {
            seekers.push(Seeker::new(keys, m, collect(), limit, shares)?);
        }
        let mut scan = self.way(&seekers, tiles.rows(part))?;
        let mut first = tiles.first(part);
        if let (Scan::Screen(screens), false) = (&mut scan, first.is_empty()) {
            for (seeker, screen) in seekers.iter_mut().zip(screens) {
                ordered::scan(seeker, screen, first, *k, work)?;
            }
            first = &[];
        }
        for view in first.iter().cloned().chain(tiles.of(part)) {
            scan.take(&mut seekers, &view, work)?;
            seekers.iter_mut().try_for_each(Seeker::tell)?;
        }
        Ok(seekers.into_iter().map(Seeker::into_sorted).collect())
    }

    /// The scan that serves these queries and so many rows best.
    fn way<C: Collect>(&self, seekers: &[Seeker<'_, C>], rows: usize) -> Result<Scan> {
        let (m, ks) = (self.quantizer.codebook().m(), self.quantizer.codebook().ks());
        if self.interleaves(seekers.len(), rows) {
            return Ok(Scan::Interleaved(Batch::new(seekers, m)?));
        }
        let mut screens = with_capacity(seekers.len(), "the screens")?;
        for seeker in seekers {
            if let Some((keys, width)) = self.layout.screened(seeker.keys(), ks)? {
                screens.push(Screen::new(keys, width, self.layout.band(m))?);
            }
        }
        Ok(if screens.is_empty() { Scan::Plain } else { Scan::Screen(screens) })
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let book = self.quantizer.codebook();
        let mut out = f.debug_struct("Index");
        out.field("len", &self.len()).field("m", &book.m()).field("ks", &book.ks());
        out.field("metric", &self.quantizer.metric()).finish_non_exhaustive()
    }
}

/// A batch of queries, shape `(n, dim)`, and what the parts of its scan share.
struct Queries<'a> {
    vectors: Vectors<'a>,
    limits: &'a [SharedLimit],
    k: usize,
    tiles: Tiles<'a>,
}

/// The scan of a batch.
enum Scan {
    Plain,
    Screen(Vec<Screen>),
    Interleaved(Batch),
}

impl Scan {
    /// Takes the queries through a view.
    fn take<C: Collect>(
        &mut self,
        seekers: &mut [Seeker<'_, C>],
        view: &View<'_>,
        work: &mut Work<'_>,
    ) -> Result<()> {
        let Work { scratch: Scratch { distances, .. }, task, .. } = work;
        let mut each = seekers.iter_mut();
        if let Some(rows) = view.listed() {
            return each.try_for_each(|seeker| seeker.listed(view, rows, distances, task));
        }
        match self {
            Self::Plain => each.try_for_each(|seeker| seeker.all(view, distances, task)),
            Self::Interleaved(batch) => batch.scan(seekers, view, work),
            Self::Screen(screens) => each
                .zip(screens)
                .try_for_each(|(seeker, screen)| screen::scan(seeker, screen, view, work)),
        }
    }
}

fn every_row(segment: &Segment) -> Result<Vec<u32>> {
    let mut rows = with_capacity(segment.len(), "the rows of a segment")?;
    rows.extend(0..segment.len() as u32);
    Ok(rows)
}

/// Codes, each of which fits the narrower or wider integer.
fn converted<T: Code>(codes: &[impl Code]) -> impl Iterator<Item = T> {
    codes.iter().map(|code| T::from_index(code.index() as u32))
}

fn extend<T: Code>(out: &mut Vec<T>, codes: &Codes<'_>) {
    with_codes!(codes, |codes| out.extend(converted::<T>(&codes[..])));
}

fn sorted(ids: &[i64]) -> Result<Vec<i64>> {
    let mut sorted = with_capacity(ids.len(), "the ids")?;
    sorted.extend_from_slice(ids);
    sorted.sort_unstable();
    Ok(sorted)
}
