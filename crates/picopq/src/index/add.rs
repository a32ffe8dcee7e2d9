//! Rows on their way in: encoded, laid out as the scans read them, stored all at once.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::id_set::IdSet;
use super::segment::{Ids, ROOM_ROWS, Room, SEGMENT_ROWS, Segment};
use super::{Index, Rows, converted, every_row, extend, sorted};
use crate::codes::{Code, Codes, with_codes, with_width};
use crate::error::{Error, Result, collected, filled, reserve, with_capacity};
use crate::pq::Encoder;
use crate::threads::{self, Task};
use crate::vectors::{Vectors, vector_limit};

/// Rows whose codes one task lays out.
const WRITTEN_ROWS: usize = if cfg!(test) { ROOM_ROWS } else { 16 * ROOM_ROWS };

/// Rows that wait to be stored in the index that encoded them: see [`Index::prepare`].
pub struct Prepared<'a> {
    index: &'a Index,
    fresh: Fresh<'static>,
}

/// Rows as [`Index::store`] takes them.
enum Fresh<'a> {
    /// Few, which may be joined with those of other calls.
    Codes(Cow<'a, Codes<'a>>),
    /// All but the last segment are full.
    Segments(Vec<Segment>),
}

impl Prepared<'_> {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fresh.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores the rows; see [`Index::add_codes`] for `ids`.
    ///
    /// # Errors
    /// As [`Index::add_codes`]; after any, nothing is stored.
    pub fn store(self, ids: Option<&[i64]>, task: &Task) -> Result<()> {
        check_ids(ids, self.len())?;
        self.index.store(self.fresh, ids, task)
    }
}

impl Fresh<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.len(),
            Self::Segments(segments) => segments.iter().map(Segment::len).sum(),
        }
    }
}

impl Index {
    /// Encodes and stores vectors, shape `(n, dim)`; see [`Index::add_codes`] for `ids`. Cost: that
    /// of [`crate::Codebook::encode_into`].
    ///
    /// # Errors
    /// As [`Index::prepare`] and [`Index::add_codes`]; after any, nothing is stored.
    pub fn add(&self, vectors: Vectors<'_>, ids: Option<&[i64]>, task: &Task) -> Result<()> {
        check_ids(ids, vectors.len())?;
        self.prepare(vectors, task)?.store(ids, task)
    }

    /// The long part of [`Index::add`], which changes nothing: encodes vectors, shape `(n, dim)`.
    /// The rest takes a moment.
    ///
    /// # Errors
    /// As [`crate::Codebook::encode_into`], and [`Error::OutOfMemory`].
    pub fn prepare(&self, vectors: Vectors<'_>, task: &Task) -> Result<Prepared<'_>> {
        let fresh = if vectors.len() < SEGMENT_ROWS {
            Fresh::Codes(Cow::Owned(self.quantizer.encode(vectors, task)?))
        } else {
            Fresh::Segments(self.encoded(vectors, task)?)
        };
        Ok(Prepared { index: self, fresh })
    }

    /// Encodes vectors into their place: codes are laid out while they are in the cache.
    fn encoded(&self, vectors: Vectors<'_>, task: &Task) -> Result<Vec<Segment>> {
        let (book, dim) = (self.quantizer.codebook(), vectors.dim());
        book.check_dim("vectors", dim)?;
        task.begin(vectors.len() as u64);
        let encoder = Encoder::new(book, self.quantizer.rotation(), task)?;
        let bad = AtomicBool::new(false);
        let segments = with_width!(book.ks(), T, {
            let write = |(rows, room): (Range<usize>, Room<'_>)| {
                let mut codes = filled(rows.len() * book.m(), T::default(), "the codes")?;
                let vectors = &vectors.as_slice()[rows.start * dim..rows.end * dim];
                if !encoder.run(vectors, &mut codes, task)? {
                    bad.store(true, Relaxed);
                }
                room.write(&codes, &self.layout);
                task.advance(rows.len() as u64);
                Ok(())
            };
            let rows = encoder.chunk_rows().next_multiple_of(ROOM_ROWS);
            self.laid_out(vectors.len(), rows, |rooms| threads::map(task, rooms, write))?
        });
        if bad.into_inner() {
            return Err(vectors.fault("vectors", vector_limit(dim)));
        }
        Ok(segments)
    }

    /// Segments of `n` rows, whose codes `write` writes: into rooms of so many rows each.
    fn laid_out<T>(
        &self,
        n: usize,
        rows: usize,
        write: impl FnOnce(Vec<(Range<usize>, Room<'_>)>) -> Result<T>,
    ) -> Result<Vec<Segment>> {
        let book = self.quantizer.codebook();
        let mut segments = with_capacity(n.div_ceil(SEGMENT_ROWS), "the segments")?;
        for first in (0..n).step_by(SEGMENT_ROWS) {
            let len = SEGMENT_ROWS.min(n - first);
            segments.push(Segment::empty(len, book.m(), book.ks(), &self.layout)?);
        }
        let rooms_each = SEGMENT_ROWS.div_ceil(rows);
        let mut rooms = with_capacity(segments.len() * rooms_each, "the places of codes")?;
        for (first, segment) in (0..n).step_by(SEGMENT_ROWS).zip(&mut segments) {
            let end = first + segment.len();
            let places = (first..end).step_by(rows).map(|start| start..end.min(start + rows));
            rooms.extend(places.zip(segment.rooms(rows)));
        }
        write(rooms)?;
        Ok(segments)
    }

    /// Stores codes, shape `(n, m)`, under `ids` (n,), or under the numbers that follow the highest
    /// id there has been (0 to n - 1 in a new index).
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::CodeOutOfRange`], [`Error::LengthMismatch`] for
    /// `ids`, [`Error::NegativeId`], [`Error::DuplicateId`], [`Error::OutOfMemory`],
    /// [`Error::Cancelled`]; after any, nothing is stored.
    pub fn add_codes(&self, codes: &Codes<'_>, ids: Option<&[i64]>, task: &Task) -> Result<()> {
        let book = self.quantizer.codebook();
        if codes.m() != book.m() {
            let (expected, got) = (book.m(), codes.m());
            return Err(Error::DimensionMismatch { argument: "codes", expected, got });
        }
        check_ids(ids, codes.len())?;
        codes.check_below(book.ks())?;
        let fresh = if codes.len() < SEGMENT_ROWS {
            Fresh::Codes(Cow::Borrowed(codes))
        } else {
            Fresh::Segments(self.written(codes, task)?)
        };
        self.store(fresh, ids, task)
    }

    /// Adds rows behind those that are stored.
    fn store(&self, fresh: Fresh<'_>, ids: Option<&[i64]>, task: &Task) -> Result<()> {
        let n = fresh.len();
        let lock = self.writer.mine();
        let _writer = lock.lock();
        let mut rows = Rows::clone(&self.rows.load());
        let next_id = match ids {
            Some(ids) => {
                check_new(ids, &rows.segments, task)?;
                ids.iter().copied().max().map_or(rows.next_id, |most| {
                    rows.next_id.max(most.saturating_add(1))
                })
            }
            None => rows.next_id.checked_add(n as i64).ok_or(Error::OutOfRange {
                argument: "ids",
                got: rows.next_id as u64,
                wanted: "ids below 2^63 - 1: give them, the numbers that follow the highest are used up",
            })?,
        };
        let (joined, segments) = match fresh {
            Fresh::Codes(codes) => self.joined(&mut rows.segments, &codes, task)?,
            Fresh::Segments(segments) => (Vec::new(), segments),
        };
        let mut old_ids =
            joined.iter().flat_map(|segment| (0..segment.len()).map(|row| segment.id(row)));
        let mut new_row = 0;
        let mut next = || {
            old_ids.next().or_else(|| {
                let row = new_row;
                new_row += 1;
                ids.map_or(Some(rows.next_id + row as i64), |ids| ids.get(row).copied())
            })
        };
        for mut segment in segments {
            segment.name(Ids::collect(segment.len(), &mut next)?);
            rows.segments.push(Arc::new(segment));
        }
        (rows.len, rows.next_id) = (rows.len + n, next_id);
        self.rows.store(Arc::new(rows));
        Ok(())
    }

    /// Segments of many codes.
    fn written(&self, codes: &Codes<'_>, task: &Task) -> Result<Vec<Segment>> {
        let (m, ks) = (self.quantizer.codebook().m(), self.quantizer.codebook().ks());
        with_width!(ks, T, {
            let write = |(rows, room): (Range<usize>, Room<'_>)| {
                let (place, len) = (rows.start * m..rows.end * m, rows.len() * m);
                let narrow: Vec<T>;
                let codes = match T::of(codes.data()) {
                    Some(codes) => &codes[place],
                    None => {
                        narrow = with_codes!(codes, |codes| {
                            collected(converted(&codes[place]), len, "the codes")
                        })?;
                        &narrow
                    }
                };
                room.write(codes, &self.layout);
                Ok(())
            };
            self.laid_out(codes.len(), WRITTEN_ROWS, |rooms| threads::map(task, rooms, write))
        })
    }

    /// Segments of few codes and of the rows before them, which are taken out of `stored`: last
    /// segments that are not full and not much larger than what comes behind them, so that rows which
    /// come one by one are copied a logarithmic number of times. On this thread alone, which holds
    /// the lock: in a pool, it would meanwhile take other work, which may want the lock as well.
    fn joined(
        &self,
        stored: &mut Vec<Arc<Segment>>,
        codes: &Codes<'_>,
        task: &Task,
    ) -> Result<(Vec<Arc<Segment>>, Vec<Segment>)> {
        let (m, ks) = (self.quantizer.codebook().m(), self.quantizer.codebook().ks());
        let mut n = codes.len();
        let mut joined = Vec::new();
        while let Some(last) =
            stored.pop_if(|last| n > 0 && last.len() < SEGMENT_ROWS && last.len() <= 2 * n)
        {
            n += last.len();
            joined.insert(0, last);
        }
        let segments = with_width!(ks, T, {
            let mut all: Vec<T> = Vec::new();
            let codes = match T::of(codes.data()) {
                Some(codes) if joined.is_empty() => codes,
                _ => {
                    reserve(&mut all, n * m, "the codes")?;
                    for segment in &joined {
                        extend(&mut all, &segment.codes(&every_row(segment)?, ks)?);
                    }
                    extend(&mut all, codes);
                    &all
                }
            };
            self.laid_out(n, SEGMENT_ROWS, |rooms| {
                for (rows, room) in rooms {
                    task.check()?;
                    room.write(&codes[rows.start * m..rows.end * m], &self.layout);
                }
                Ok(())
            })?
        });
        Ok((joined, segments))
    }
}

fn check_ids(ids: Option<&[i64]>, n: usize) -> Result<()> {
    let Some(ids) = ids else { return Ok(()) };
    if ids.len() != n {
        return Err(Error::LengthMismatch { argument: "ids", expected: n, got: ids.len() });
    }
    match ids.iter().find(|&&id| id < 0) {
        Some(&id) => Err(Error::NegativeId { id }),
        None => Ok(()),
    }
}

/// Refuses ids that are stored, or given twice.
fn check_new(ids: &[i64], segments: &[Arc<Segment>], task: &Task) -> Result<()> {
    let sorted = sorted(ids)?;
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::DuplicateId { id: pair[0] });
    }
    let set = IdSet::for_segments(&sorted, segments)?;
    threads::map(task, segments.iter().collect(), |segment| {
        let stored = match segment.ids() {
            Ids::From(first) => {
                let from = sorted.partition_point(|id| id < first);
                sorted.get(from).filter(|&&id| id - first < segment.len() as i64)
            }
            Ids::Each(each) => each.iter().filter(|id| set.contains(**id)).min(),
        };
        stored.map_or(Ok(()), |&id| Err(Error::DuplicateId { id }))
    })?;
    Ok(())
}
