//! The rows of a search: parts that threads begin with, and tiles that they take.
//!
//! ```text
//! views of all segments --cut--> parts
//!                                  | first rows     the thread of the part takes them, in any case
//!                                  | tiles          the thread of the part takes them from the front,
//!                                                   a thread that has no more from the back
//! ```
//! Threads never end at the same time: their rows differ, they start one after another, and someone
//! else may need a processor. So whoever is done goes on with what others have not begun.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::filter::Selection;
use super::segment::{Segment, WIDEST};
use crate::error::{Result, with_capacity};
use crate::kernels::BLOCK;

/// Blocks that a scan handles at once: their distances and survivors stay in the first cache.
pub(crate) const CHUNK_BLOCKS: usize = 256;

/// Some blocks of a segment, with the rows that the filter leaves.
#[derive(Clone)]
pub(crate) struct View<'a> {
    pub(crate) segment: &'a Segment,
    selection: &'a Selection,
    pub(crate) blocks: Range<usize>,
}

impl View<'_> {
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = self.blocks.end;
        let firsts = self.blocks.clone().step_by(CHUNK_BLOCKS);
        firsts.map(move |first| first..end.min(first + CHUNK_BLOCKS))
    }

    /// The rows of some blocks.
    pub(crate) fn rows(&self, blocks: Range<usize>) -> Range<usize> {
        blocks.start * BLOCK..self.segment.len().min(blocks.end * BLOCK)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows(self.blocks.clone()).len()
    }

    /// Rows that are listed, which take hardly any time, are one tile.
    fn tiles(&self, length: usize) -> usize {
        if self.is_listed() { 1 } else { self.blocks.len().div_ceil(length) }
    }

    fn tile(&self, number: usize, length: usize) -> Self {
        let Range { start, end } = self.blocks;
        let start = start + number * length;
        let end = if self.is_listed() { end } else { end.min(start + length) };
        Self { blocks: start..end, ..*self }
    }

    fn is_listed(&self) -> bool {
        matches!(self.selection, Selection::Rows(_))
    }

    /// The ascending rows that the filter leaves, where they are so few that it lists them.
    pub(crate) fn listed(&self) -> Option<&[u32]> {
        let Selection::Rows(rows) = self.selection else { return None };
        let mine = self.rows(self.blocks.clone());
        let place = |end: usize| rows.partition_point(|&row| (row as usize) < end);
        Some(&rows[place(mine.start)..place(mine.end)])
    }

    pub(crate) fn passes(&self, row: usize) -> bool {
        match self.selection {
            Selection::Mask(mask) => mask[row / BLOCK] >> (row % BLOCK) & 1 == 1,
            Selection::All | Selection::Rows(_) => true,
        }
    }

    /// Moves those of a list's ascending rows to the front that the segment has and the filter leaves;
    /// returns how many there are.
    pub(crate) fn select(&self, rows: &mut [u32]) -> usize {
        let end = self.segment.len() as u32;
        let mut len = rows.len();
        while len > 0 && rows[len - 1] >= end {
            len -= 1;
        }
        if let Selection::Mask(_) = self.selection {
            let mut left = 0;
            for at in 0..len {
                rows[left] = rows[at];
                left += usize::from(self.passes(rows[at] as usize));
            }
            len = left;
        }
        len
    }
}

/// A thread takes one in so many of its tiles at once: what it has taken is not left to others, and to
/// take takes time.
const SHARE: usize = 4;
/// Blocks of the shortest tile. Less in tests, so that a few rows are several tiles.
pub(crate) const LEAST_TILE: usize = if cfg!(test) { WIDEST } else { CHUNK_BLOCKS };
const WHAT: &str = "the parts of a search";

/// What one thread begins with.
pub(crate) struct Part<'a> {
    rows: usize,
    /// Rows that it takes itself, before all others.
    first: Vec<View<'a>>,
    /// Views that are taken tile by tile, with the number of the first tile of each.
    others: Vec<(usize, View<'a>)>,
    tiles: usize,
    /// Blocks of a tile.
    length: usize,
}

impl<'a> Part<'a> {
    fn tile(&self, number: usize) -> View<'a> {
        let (first, view) = &self.others[self.others.partition_point(|view| view.0 <= number) - 1];
        view.tile(number - first, self.length)
    }
}

/// All blocks, in at most `count` parts of nearly equal length (at least one). Of the rows of each that
/// the filter does not list, the first are as many as `lead` says; the others come in tiles of at most
/// `length` blocks, a multiple of [`WIDEST`]; rows that are listed in one.
pub(crate) fn parts<'a>(
    segments: &'a [Arc<Segment>],
    selections: &'a [Selection],
    count: usize,
    lead: impl Fn(usize) -> usize,
    length: usize,
) -> Result<Vec<Part<'a>>> {
    let mut left = with_capacity(segments.len(), WHAT)?;
    left.extend(segments.iter().zip(selections).map(|(segment, selection)| View {
        segment,
        selection,
        blocks: 0..segment.blocks(),
    }));
    let share = blocks(&left).div_ceil(count.max(1)).max(1);
    let mut parts = with_capacity(count.max(1), WHAT)?;
    while parts.is_empty() || !left.is_empty() {
        let (mine, others) = cut(&left, share)?;
        left = others;
        let rows = mine.iter().map(View::len).sum();
        let (mut whole, mut listed) =
            (with_capacity(mine.len(), WHAT)?, with_capacity(mine.len(), WHAT)?);
        mine.into_iter()
            .for_each(|view| if view.is_listed() { listed.push(view) } else { whole.push(view) });
        let (first, rest) = cut(&whole, lead(rows).div_ceil(BLOCK))?;
        let mut others = with_capacity(rest.len() + listed.len(), WHAT)?;
        let mut tiles = 0;
        for view in rest.into_iter().chain(listed) {
            let begin = tiles;
            tiles += view.tiles(length);
            others.push((begin, view));
        }
        parts.push(Part { rows, first, others, tiles, length });
    }
    Ok(parts)
}

pub(crate) fn blocks(views: &[View<'_>]) -> usize {
    views.iter().map(|view| view.blocks.len()).sum()
}

/// The views of the first blocks, about so many, and those of the others: they begin where a screen can.
fn cut<'a>(views: &[View<'a>], blocks: usize) -> Result<(Vec<View<'a>>, Vec<View<'a>>)> {
    let mut first = with_capacity(views.len(), WHAT)?;
    let mut others = with_capacity(views.len(), WHAT)?;
    let mut left = blocks;
    for view in views {
        let Range { start, end } = view.blocks;
        let middle = end.min((start + left).next_multiple_of(WIDEST));
        left = left.saturating_sub(middle - start);
        for (blocks, views) in [(start..middle, &mut first), (middle..end, &mut others)] {
            if !blocks.is_empty() {
                views.push(View { blocks, ..*view });
            }
        }
    }
    Ok((first, others))
}

/// The tiles that one batch of queries has before it.
pub(crate) struct Tiles<'a> {
    parts: &'a [Part<'a>],
    left: Vec<Left>,
}

impl<'a> Tiles<'a> {
    pub(crate) fn new(parts: &'a [Part<'a>]) -> Result<Self> {
        let mut left = with_capacity(parts.len(), WHAT)?;
        left.extend(parts.iter().map(|part| Left::new(&(0..part.tiles as u32))));
        Ok(Self { parts, left })
    }

    /// Whether nothing is left for the thread that begins with a part.
    pub(crate) fn are_taken(&self, part: usize) -> bool {
        self.first(part).is_empty() && self.left.iter().all(|left| left.get().is_empty())
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.parts.len() == 1
    }

    /// The rows of a part.
    pub(crate) fn rows(&self, part: usize) -> usize {
        self.parts[part].rows
    }

    /// The first rows of a part.
    pub(crate) fn first(&self, part: usize) -> &'a [View<'a>] {
        &self.parts[part].first
    }

    /// What is left for the thread that begins with a part: its own tiles, then those of the part that
    /// has most left.
    pub(crate) fn of(&self, part: usize) -> impl Iterator<Item = View<'a>> {
        let runs = std::iter::from_fn(move || self.take(part));
        runs.flat_map(move |(part, run)| run.map(move |tile| self.parts[part].tile(tile as usize)))
    }

    fn take(&self, part: usize) -> Option<(usize, Range<u32>)> {
        let share = if self.is_alone() { 1 } else { SHARE };
        let mut taken = (part, self.left[part].front(share));
        while taken.1.is_empty() {
            let lengths = self.left.iter().map(|left| left.get().len());
            let (most, _) =
                lengths.enumerate().max_by_key(|&(_, len)| len).filter(|&(_, len)| len > 0)?;
            taken = (most, self.left[most].back());
        }
        Some(taken)
    }
}

/// The numbers of a part's tiles that nobody has taken: the first, and the one behind the last.
struct Left(AtomicU64);

impl Left {
    fn new(left: &Range<u32>) -> Self {
        Self(AtomicU64::new(Self::packed(left)))
    }

    fn packed(left: &Range<u32>) -> u64 {
        u64::from(left.start) << u32::BITS | u64::from(left.end)
    }

    fn unpacked(packed: u64) -> Range<u32> {
        (packed >> u32::BITS) as u32..packed as u32
    }

    fn get(&self) -> Range<u32> {
        Self::unpacked(self.0.load(Relaxed))
    }

    /// Takes one in `share` of the tiles, from the front.
    fn front(&self, share: usize) -> Range<u32> {
        self.take(|left| {
            let middle = left.start + left.len().div_ceil(share) as u32;
            (left.start..middle, middle..left.end)
        })
    }

    /// Takes the last tile.
    fn back(&self) -> Range<u32> {
        self.take(|left| {
            let middle = left.end - left.len().min(1) as u32;
            (middle..left.end, left.start..middle)
        })
    }

    /// What `cut` takes of the tiles, which leaves the others.
    fn take(&self, cut: impl Fn(Range<u32>) -> (Range<u32>, Range<u32>)) -> Range<u32> {
        let mut taken = 0..0;
        let _ = self.0.fetch_update(Relaxed, Relaxed, |packed| {
            let others;
            (taken, others) = cut(Self::unpacked(packed));
            Some(Self::packed(&others))
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::layout::Layout;
    use crate::random::LegacyRandom;

    fn segment(rows: usize) -> Arc<Segment> {
        Arc::new(Segment::empty(rows, 1, 1, &Layout::Rows).unwrap())
    }

    /// However the rows are divided, each block is in one part once, and every tile begins where a
    /// screen can.
    #[test]
    fn parts_have_every_block_once() {
        let mut random = LegacyRandom::new(31);
        for round in 0..300 {
            let mut up_to = |most| random.up_to(most) as usize;
            let segments: Vec<_> = (0..up_to(4)).map(|_| segment(1 + up_to(20_000))).collect();
            let selections: Vec<_> = (0..segments.len())
                .map(|_| match up_to(3) {
                    0 => Selection::Rows(vec![]),
                    _ => Selection::All,
                })
                .collect();
            let (count, length, leading) = (1 + up_to(5), WIDEST * (1 + up_to(9)), up_to(9000));
            let lead = |rows| leading.min(rows);
            let parts = parts(&segments, &selections, count, lead, length).unwrap();
            assert!((1..=count).contains(&parts.len()), "round {round}");

            let mut met: Vec<_> = segments.iter().map(|some| vec![0; some.blocks()]).collect();
            for part in &parts {
                let tiles = (0..part.tiles).map(|tile| part.tile(tile));
                let whole: usize = tiles
                    .clone()
                    .filter(|tile| !tile.is_listed())
                    .map(|tile| {
                        assert!(tile.blocks.len() <= length, "round {round}: {:?}", tile.blocks);
                        tile.blocks.len()
                    })
                    .sum();
                let (first, wanted) = (blocks(&part.first), lead(part.rows).div_ceil(BLOCK));
                assert!(first >= wanted || whole == 0, "round {round}");
                assert!(first < wanted + WIDEST, "round {round}");
                assert!(part.first.iter().all(|view| !view.is_listed()));
                for view in part.first.iter().cloned().chain(tiles) {
                    let at = segments.iter().position(|some| std::ptr::eq(&**some, view.segment));
                    assert!(view.blocks.start.is_multiple_of(WIDEST) && !view.blocks.is_empty());
                    view.blocks.for_each(|block| met[at.unwrap()][block] += 1);
                }
            }
            assert!(met.iter().flatten().all(|&times| times == 1), "round {round}: {met:?}");
            let rows: usize = segments.iter().map(|segment| segment.len()).sum();
            assert_eq!(parts.iter().map(|part| part.rows).sum::<usize>(), rows);
        }
    }

    /// However threads come by, every tile is taken once.
    #[test]
    fn tiles_are_taken_once() {
        let counts = [1000, 0, 7, 301];
        let part = |tiles| Part { rows: 0, first: vec![], others: vec![], tiles, length: WIDEST };
        let parts = counts.map(part);
        for late in 0..counts.len() {
            let tiles = Tiles::new(&parts).unwrap();
            let take = |part| std::iter::from_fn(|| tiles.take(part)).collect::<Vec<_>>();
            let all = 0..counts.len();
            let mut taken = std::thread::scope(|scope| {
                let others = all.clone().filter(|&part| part != late);
                let others: Vec<_> = others.map(|part| scope.spawn(move || take(part))).collect();
                others.into_iter().flat_map(|other| other.join().unwrap()).collect::<Vec<_>>()
            });
            assert!(take(late).is_empty(), "those who were there took everything");
            taken.sort_unstable_by_key(|(part, run)| (*part, run.start));
            let taken = taken.into_iter().flat_map(|(part, run)| run.map(move |tile| (part, tile)));
            let wanted =
                all.flat_map(|part| (0..counts[part] as u32).map(move |tile| (part, tile)));
            assert!(taken.eq(wanted), "late {late}");
        }
    }
}
