//! Codes of a byte by groups of codewords, which bound a distance loosely: many rows pass any limit,
//! and the more the higher it is. So of the first rows those of the least sums are measured before the
//! others, which brings the limit near to where it ends; then the others, by their sums, which were
//! kept. Rows that come later are screened as they come.
//!
//! ```text
//! distances of some rows                          about what limit to make bytes for
//! for each span of the first rows:
//!     sums of some rows                           how low the least are
//!     a sum of bytes for each row                 (kernels)
//!     the rows of the least sums                  exact distances, a lower limit
//!     the other rows, where it does not exclude them
//! the rows behind them                            (screen)
//! ```

use super::plain::Seeker;
use super::scratch::Work;
use super::screen::{self, Screen};
use super::segment::SEGMENT_ROWS;
use super::views::View;
use crate::best::Collect;
use crate::error::{Result, collected, with_capacity};
use crate::kernels::PLANE_MASKS;

/// With fewer rows for each answer there is little to gain.
pub(crate) const ROWS_EACH: usize = 1 << 8;
/// Nor with fewer rows. This, `SPAN` and `FIRST` are less in tests, so that few rows reach every branch.
const LEAST_ROWS: usize = if cfg!(test) { 1 << 8 } else { 1 << 16 };
/// Views of a span, whose sums take at most a megabyte.
const SPAN: usize = if cfg!(test) { 1 } else { (1 << 20) / SEGMENT_ROWS };
/// Rows that are taken so, at least: so many for each answer and sub-space (the more of both, the more a
/// limit that is a little too high costs), and one in so many of all, but no more than a segment.
const LEAD_EACH: usize = if cfg!(test) { 2 } else { 640 };
const LEAD: usize = 8;
/// Rows that tell how distances are distributed.
const SAMPLE: usize = 512;
/// How many of those the bytes are made for, at least: fewer, and chance decides.
const SAMPLED: usize = 2;
/// Rows that are measured first: so many for each answer, and at least so many.
const FIRST_EACH: usize = if cfg!(test) { 2 } else { 16 };
const FIRST: usize = if cfg!(test) { 16 } else { 1024 };
/// One block in so many tells how sums are distributed.
const COUNTED: usize = if cfg!(test) { 1 } else { 127 };
/// The largest sum that is no more than a bound.
const MOST: u8 = u8::MAX - 1;
/// Where the bytes exclude less than one row in so many, `screen` is faster: it measures rows in turn.
const EXCLUDED: usize = 8;

/// How many of so many rows are taken so, of codes of `m` sub-spaces: none where it does not pay.
pub(crate) fn lead(rows: usize, k: usize, m: usize) -> usize {
    if rows < LEAST_ROWS || k > rows / ROWS_EACH {
        return 0;
    }
    let least = SEGMENT_ROWS.min(rows / LEAD);
    k.saturating_mul(m).saturating_mul(LEAD_EACH).max(least).min(rows)
}

/// Takes one query, with at most `k` answers, through the views of the first rows.
pub(crate) fn scan<C: Collect>(
    seeker: &mut Seeker<'_, C>,
    screen: &mut Screen,
    views: &[View<'_>],
    k: usize,
    work: &mut Work<'_>,
) -> Result<()> {
    let likely = likely(seeker, views, k, &mut work.scratch.distances)?;
    for views in views.chunks(SPAN) {
        let bound = screen.aim(likely.min(seeker.limit()));
        let sample = bound.map(|bound| (bound, screen.sample(views, COUNTED, work)));
        let Some((_, counts)) = sample.filter(|(bound, counts)| {
            let all = counts[usize::from(u8::MAX)];
            EXCLUDED * (all - counts[usize::from(*bound)]) >= all
        }) else {
            for view in views {
                screen::scan(seeker, screen, view, work)?;
            }
            continue;
        };
        let wanted = FIRST.max(k.saturating_mul(FIRST_EACH)) / COUNTED;
        let first = counts.partition_point(|&count| count <= wanted).saturating_sub(1);
        let first = first.min(MOST.into()) as u8;
        let blocks = |view: &View<'_>| screen::parts(&view.blocks, PLANE_MASKS).len();
        let mut sums = with_capacity(views.iter().map(blocks).sum(), "the sums of the rows")?;
        for view in views {
            work.task.check()?;
            screen.append(seeker, view, &mut sums, first, work)?;
        }
        seeker.tell()?;
        // Where the limit is above what the bytes were made for, sums that saturated pass, too.
        let mut rest = &sums[..];
        for view in views {
            let (mine, others) = rest.split_at(blocks(view));
            screen.pick(seeker, view, mine, first + 1, work)?;
            rest = others;
        }
    }
    Ok(())
}

/// A distance that `k` rows will hardly exceed, by that of rows here and there. It is no limit: where
/// it is too low, more rows are measured than need be.
fn likely<C: Collect>(
    seeker: &Seeker<'_, C>,
    views: &[View<'_>],
    k: usize,
    room: &mut [f32],
) -> Result<f32> {
    let rows: usize = views.iter().map(View::len).sum();
    let step = rows.div_ceil(SAMPLE).max(1);
    let mut distances = with_capacity(SAMPLE + views.len(), "the distances of some rows")?;
    for view in views {
        let rows = view.rows(view.blocks.clone()).step_by(step);
        let rows: Vec<u32> = collected(rows.map(|row| row as u32), SAMPLE, "some rows")?;
        seeker.measure(view, &rows, room);
        distances.extend_from_slice(&room[..rows.len()]);
    }
    let rank = SAMPLED.max(2 * k.saturating_mul(distances.len()) / rows.max(1));
    if rank >= distances.len() {
        return Ok(f32::INFINITY);
    }
    Ok(*distances.select_nth_unstable_by(rank, f32::total_cmp).1)
}
