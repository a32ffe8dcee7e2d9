//! Codes of a byte by groups of codewords, which bound a distance loosely: many rows pass any limit,
//! and the more the higher it is. So the sums of all rows come first, and the rows of the least sums
//! are measured first, which brings the limit near to where it ends; then the others.
//!
//! ```text
//! some rows by `screen`                            a limit, for which bytes are made
//! for each span of rows:
//!     a sum of bytes for each row                  (kernels)
//!     the rows of the least sums                   exact distances, a lower limit
//!     the other rows, where it does not exclude them
//! ```

use super::View;
use super::plain::Seeker;
use super::screen::{self, Screen};
use super::segment::{SEGMENT_ROWS, WIDEST};
use crate::best::Collect;
use crate::error::{Result, with_capacity};
use crate::kernels::{BLOCK, Kernels};
use crate::threads::Task;

/// With fewer rows for each answer there is little to gain.
const ROWS_EACH: usize = 1 << 8;
/// Nor with fewer rows. This and the next two are less in tests, so that few rows reach every branch.
const LEAST_ROWS: usize = if cfg!(test) { 1 << 8 } else { 1 << 16 };
/// Blocks that are screened to begin with.
const BEGIN_BLOCKS: usize = if cfg!(test) { 4 } else { 1024 };
/// Views of a span, whose sums take at most a megabyte.
const SPAN: usize = if cfg!(test) { 1 } else { (1 << 20) / SEGMENT_ROWS };
/// Rows that are measured first: so many for each answer, and at least so many.
const FIRST_EACH: usize = 16;
const FIRST: usize = 2048;
/// The largest sum that no limit excludes.
const MOST: u8 = 254;
/// One sum in so many tells how they are distributed.
const SAMPLE: usize = 127;
/// Where the first limit excludes less than one row in so many, `screen` is faster: it measures rows in
/// turn.
const EXCLUDED: usize = 8;

/// Whether it pays.
pub(crate) fn pays(rows: usize, k: usize) -> bool {
    rows >= LEAST_ROWS && k <= rows / ROWS_EACH
}

/// Takes one query, with at most `k` answers, through views.
pub(crate) fn scan<C: Collect>(
    seeker: &mut Seeker<'_, C>,
    screen: &mut Screen,
    mut views: Vec<View<'_>>,
    k: usize,
    kernels: Kernels,
    task: &Task,
) -> Result<()> {
    let screened = |view: &View<'_>, seeker: &mut Seeker<'_, C>, screen: &mut Screen| {
        let (seekers, screens) = (std::slice::from_mut(seeker), std::slice::from_mut(screen));
        screen::scan(seekers, screens, view, kernels, task)
    };
    if let Some(first) = views.first_mut() {
        let middle = first.blocks.end.min(first.blocks.start + BEGIN_BLOCKS);
        let begin = View { blocks: first.blocks.start..middle, ..first.clone() };
        first.blocks.start = middle;
        screened(&begin, seeker, screen)?;
    }
    for views in views.chunks(SPAN) {
        let bound = screen.aim(seeker.limit());
        let blocks: usize = views.iter().map(|view| view.blocks.len()).sum();
        let mut sums = with_capacity(blocks + WIDEST, "the sums of the rows")?;
        for view in views.iter().filter(|_| bound.is_some()) {
            task.check()?;
            screen.add_up(view, &mut sums, kernels);
        }
        let counts = sampled(&sums);
        let passing = |bound: u8| counts[..=usize::from(bound)].iter().sum::<usize>();
        let excluded = |bound| passing(u8::MAX) - passing(bound);
        if bound.is_none_or(|bound| EXCLUDED * excluded(bound) < passing(u8::MAX)) {
            views.iter().try_for_each(|view| screened(view, seeker, screen))?;
            continue;
        }
        let wanted = FIRST.max(k.saturating_mul(FIRST_EACH)) / SAMPLE;
        let first = (0..=MOST).take_while(|&bound| passing(bound) <= wanted).last().unwrap_or(0);
        for range in [0..=first, first.saturating_add(1)..=MOST] {
            let mut rest = &sums[..];
            for view in views {
                let (mine, others) = rest.split_at(view.blocks.len());
                screen.pick(seeker, view, mine, range.clone(), kernels, task)?;
                rest = others;
            }
        }
    }
    Ok(())
}

/// How often each sum is met among some of the rows.
fn sampled(sums: &[[u8; BLOCK]]) -> [usize; 1 << u8::BITS] {
    let mut counts = [0; 1 << u8::BITS];
    for &sum in sums.as_flattened().iter().step_by(SAMPLE) {
        counts[usize::from(sum)] += 1;
    }
    counts
}
