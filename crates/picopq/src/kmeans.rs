//! k-means of one sub-space: Lloyd's steps, the loss of each, and the repair of empty clusters.
//!
//! ```text
//! repeat:  assign   each row to its nearest codeword (ties to the lowest index)
//!          update   each codeword to the mean of its rows; a codeword without rows stays
//! then, if any codeword has no rows, as many steps again, each of which first moves such
//! codewords into the clusters of largest error
//! ```
//! The first part follows nanopq's trajectory whatever the data; no later step raises the error,
//! so the result is never worse than nanopq's. Sums run in f64 over fixed chunks of rows, added in
//! order: the same bytes for any number of threads. Where rows have labels already, most codewords
//! are proven too far and left out ([`Search::pruned`]), which changes no label and no distance.

use std::ops::Range;

use crate::error::{Result, filled, reserve, size, with_capacity};
use crate::kernels::{self, Kernels, Nearest, Panel, TILE, Tile};
use crate::metric::Metric;
use crate::threads::{self, Task};
use crate::vectors::Vectors;

/// Rows of a chunk that is searched plainly; their sums are one partial result.
const CHUNK_ROWS: usize = 4096usize.next_multiple_of(TILE);
/// Rows for each codeword in a chunk of [`Search::pruned`], at most: so many that its tiles are
/// mostly full.
const PRUNED_ROWS: usize = 256;
/// From so many rows for each codeword on, chunks are pruned; with fewer, tiles are half empty.
const LEAST_PRUNED_ROWS: usize = 128;
/// Up to so many codewords, so that a chunk's rows are numbered by u32 and soon put in order.
const PRUNED_KS: usize = 1 << 16;
/// Up to this dimension too: above it a tile sees more than a fifth of the codewords, and putting
/// the rows in order costs what that saves.
const PRUNED_DIM: usize = 16;

/// The rows of one sub-space, copied to lie together.
pub(crate) struct Points<'a> {
    vectors: Vectors<'a>,
    columns: Range<usize>,
    rows: Vec<f32>,   // (n, ds), less centre
    centre: Vec<f32>, // (ds,)
    /// The largest magnitude in `rows`.
    most: f32,
}

/// What k-means found.
pub(crate) struct Clusters {
    pub(crate) codewords: Vec<f32>, // (ks, ds)
    pub(crate) labels: Vec<u32>,    // (n,) of the last assignment
    /// Sum of squared distances at each step's assignment.
    pub(crate) losses: Vec<f64>,
    /// Codewords without rows for which no row is left over either.
    pub(crate) empty: usize,
}

impl<'a> Points<'a> {
    /// Copies the sub-space `columns` of the rows.
    pub(crate) fn new(vectors: Vectors<'a>, columns: Range<usize>, task: &Task) -> Result<Self> {
        const BLOCK: usize = 4096;
        let what = "the training vectors' copy";
        let (ds, dim, data) = (columns.len(), vectors.dim(), vectors.as_slice());
        let centre = kernels::centre(data, dim, columns.clone());
        let mut rows = threads::zeroed(size(&[vectors.len(), ds], what)?, what, task)?;
        let blocks = data.chunks(BLOCK * dim).zip(rows.chunks_mut(BLOCK * ds)).collect();
        let most = threads::map(task, blocks, |(from, to): (&[f32], &mut [f32])| {
            let mut most = 0.0_f32;
            for (from, to) in from.chunks_exact(dim).zip(to.chunks_exact_mut(ds)) {
                for ((&x, &centre), to) in from[columns.clone()].iter().zip(&centre).zip(to) {
                    *to = x - centre;
                    most = most.max(to.abs());
                }
            }
            Ok(most)
        })?;
        let most = most.into_iter().fold(0.0, f32::max);
        Ok(Self { vectors, columns, rows, centre, most })
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.vectors.row(row)[self.columns.clone()]
    }
}

/// One step's assignment, with what it adds up to.
struct Assignment {
    labels: Vec<u32>,    // (n,)
    distances: Vec<f32>, // (n,)
    sums: Vec<f64>,      // (ks, ds), less centre
    counts: Vec<usize>,  // (ks,)
    loss: f64,
    changed: bool,
}

/// What a training ends with.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Last {
    /// The last step's update.
    Update,
    /// One more assignment, to the codewords that are returned: its loss is their error.
    Assignment,
}

/// Lloyd's `iterations` (at least 1) steps from `codewords` (ks, ds), and the repair; see the top of the file.
pub(crate) fn train(
    points: &Points<'_>,
    mut codewords: Vec<f32>,
    iterations: usize,
    last: Last,
    kernels: Kernels,
    task: &Task,
) -> Result<Clusters> {
    let (n, ks) = (points.vectors.len(), codewords.len() / points.columns.len());
    let mut state = Assignment {
        labels: filled(n, u32::MAX, "the labels")?,
        distances: filled(n, 0.0, "the distances")?,
        sums: filled(codewords.len(), 0.0, "the sums")?,
        counts: filled(ks, 0, "the counts")?,
        loss: 0.0,
        changed: true,
    };
    let mut losses = Vec::new();
    let mut empty = 0;
    let (mut plain, mut repairs) = (iterations, iterations);
    loop {
        assign(points, &codewords, &mut state, kernels, task)?;
        update(&mut codewords, &state, &points.centre);
        losses.push(state.loss);
        let without = state.counts.iter().filter(|&&count| count == 0).count();
        if plain > 0 {
            // At a fixed point the steps that are left would change nothing.
            let steps = if state.changed { 1 } else { plain };
            plain -= steps;
            task.advance(steps as u64);
            if plain > 0 || without > 0 {
                continue;
            }
            break;
        }
        let moved = split(points, &mut codewords, &mut state, task)?;
        empty = without - moved;
        repairs -= 1;
        if repairs == 0 || (moved == 0 && !state.changed) {
            break;
        }
    }
    if last == Last::Assignment {
        assign(points, &codewords, &mut state, kernels, task)?;
        losses.push(state.loss);
    }
    Ok(Clusters { codewords, labels: state.labels, losses, empty })
}

/// Assigns every row and sums each codeword's rows.
fn assign(
    points: &Points<'_>,
    codewords: &[f32], // (ks, ds)
    state: &mut Assignment,
    kernels: Kernels,
    task: &Task,
) -> Result<()> {
    let (ds, ks) = (points.columns.len(), state.counts.len());
    let search = Search::new(points, codewords, kernels)?;
    let n = state.labels.len();
    let labelled = state.counts.iter().any(|&count| count > 0);
    let fits = ds <= PRUNED_DIM && ks <= PRUNED_KS && n / ks >= LEAST_PRUNED_ROWS;
    let prune = labelled && fits;
    let rows = if prune {
        n.div_ceil(n.div_ceil(ks * PRUNED_ROWS))
    } else {
        // Partial sums take at most half of the memory of the rows.
        CHUNK_ROWS.max(4 * ks)
    };
    let chunks = state.labels.chunks_mut(rows).zip(state.distances.chunks_mut(rows));
    let chunks = points.rows.chunks(rows * ds).zip(chunks);
    let partial = threads::map(task, chunks.collect(), |(rows, (labels, distances))| {
        let changed = if prune {
            search.pruned(rows, labels, distances, task)?
        } else {
            search.plain(rows, labels, distances, task)?
        };
        Ok(Part { changed, ..Part::new(rows, labels, distances, ks)? })
    })?;
    state.sums.fill(0.0);
    state.counts.fill(0);
    state.loss = 0.0;
    state.changed = false;
    for part in partial {
        state.sums.iter_mut().zip(part.sums).for_each(|(sum, part)| *sum += part);
        state.counts.iter_mut().zip(part.counts).for_each(|(count, part)| *count += part);
        state.loss += part.loss;
        state.changed |= part.changed;
    }
    Ok(())
}

/// The nearest codeword for rows of a chunk.
struct Search {
    panel: Panel,        // of all codewords
    codewords: Vec<f32>, // (ks, ds), less centre
    kernels: Kernels,
    ds: usize,
    /// What a squared distance in f32 can be off by.
    error: f64,
}

impl Search {
    fn new(points: &Points<'_>, codewords: &[f32], kernels: Kernels) -> Result<Self> {
        let ds = points.columns.len();
        let mut centred = filled(codewords.len(), 0.0, "the codewords")?;
        let mut most = points.most;
        for (to, from) in centred.chunks_exact_mut(ds).zip(codewords.chunks_exact(ds)) {
            for ((to, &c), &centre) in to.iter_mut().zip(from).zip(&points.centre) {
                *to = c - centre;
                most = most.max(to.abs());
            }
        }
        // |c|^2 + |x|^2 - 2 x.c is a sum of ds + 2 terms whose magnitudes add up to at most
        // (|x| + |c|)^2, which is at most 4 ds most^2; each operation is off by 2^-24 of that.
        let scale = 4.0 * ds as f64 * f64::from(most).powi(2);
        let error = (ds + 4) as f64 * f64::from(f32::EPSILON) * scale;
        let panel = Panel::new(codewords, points.centre.clone())?;
        Ok(Self { panel, codewords: centred, kernels, ds, error })
    }

    /// Against all codewords. Returns whether a label changed.
    fn plain(
        &self,
        rows: &[f32],          // (n, ds)
        labels: &mut [u32],    // (n,)
        distances: &mut [f32], // (n,)
        task: &Task,
    ) -> Result<bool> {
        let mut changed = false;
        let (mut tile, mut found) = (Tile::new(self.ds), Nearest::new());
        let zeros = vec![0.0; self.ds];
        let answers = labels.chunks_mut(TILE).zip(distances.chunks_mut(TILE));
        for (rows, (labels, distances)) in rows.chunks(TILE * self.ds).zip(answers) {
            task.check()?;
            tile.load(self.kernels, rows, self.ds, &zeros);
            self.kernels.nearest(&self.panel, tile.view(), &mut found);
            changed |= *labels != found.codes[..labels.len()];
            labels.copy_from_slice(&found.codes[..labels.len()]);
            distances.copy_from_slice(&found.distances[..labels.len()]);
        }
        Ok(changed)
    }

    /// As [`Search::plain`], bit for bit, from labels that are nearly right.
    ///
    /// Let u be the distance of x to the codeword a of its last label. A codeword c with
    /// |c - a| > 2u is farther from x than a is, because |x - c| >= |c - a| - u. So the rows of a
    /// are taken in the order of u, and each tile sees only the codewords near enough to a for its
    /// last row. Among those it finds what it would find among all, ties included, because they
    /// stand in the same order and each distance is computed in the same way.
    fn pruned(
        &self,
        rows: &[f32],          // (n, ds)
        labels: &mut [u32],    // (n,)
        distances: &mut [f32], // (n,)
        task: &Task,
    ) -> Result<bool> {
        let (ds, ks) = (self.ds, self.codewords.len() / self.ds);
        let codeword = |k: usize| &self.codewords[k * ds..][..ds];
        let mut counts = filled(ks, 0, "the counts")?;
        labels.iter().for_each(|&label| counts[label as usize] += 1);
        let mut ends = with_capacity(ks, "the places")?;
        ends.extend(counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))));
        let mut order = filled(labels.len(), 0_u32, "the order of the rows")?;
        let answers = labels.iter().zip(&mut *distances);
        for (row, (x, (&label, distance))) in rows.chunks_exact(ds).zip(answers).enumerate() {
            let square = |(x, c): (&f32, &f32)| (x - c) * (x - c);
            *distance = x.iter().zip(codeword(label as usize)).map(square).sum();
            let end = &mut ends[label as usize];
            order[*end] = row as u32;
            *end += 1;
        }
        let mut changed = false;
        let (mut tile, mut found) = (Tile::new(ds), Nearest::new());
        let mut panel = Panel::new(&[], self.panel.centre().to_vec())?;
        let mut apart = filled(ks, 0.0, "the codewords' distances")?;
        let mut near = with_capacity(ks, "the near codewords")?;
        let mut cluster = Vec::new();
        let mut rest = &order[..];
        for (label, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (members, after) = rest.split_at(count);
            rest = after;
            // Squared distances, which order as their bits do, above row numbers.
            let keyed =
                |&row: &u32| u64::from(distances[row as usize].to_bits()) << 32 | u64::from(row);
            cluster.clear();
            cluster.extend(members.iter().map(keyed));
            cluster.sort_unstable();
            self.kernels.table(codeword(label), &self.codewords, Metric::L2, &mut apart);
            near.clear();
            near.extend(0..ks as u32);
            // From the farthest rows to the nearest, so that few codewords are looked at again.
            for members in cluster.rchunks(TILE) {
                task.check()?;
                let last = f32::from_bits((members[members.len() - 1] >> 32) as u32);
                let limit = self.limit(f64::from(last));
                let mut kept = 0;
                for i in 0..near.len() {
                    let k = near[i];
                    near[kept] = k;
                    kept += usize::from(apart[k as usize] <= limit);
                }
                near.truncate(kept);
                let mut numbers = [0; TILE];
                numbers
                    .iter_mut()
                    .zip(members)
                    .for_each(|(number, &member)| *number = member as u32);
                let numbers = &numbers[..members.len()];
                tile.gather(self.kernels, rows, numbers);
                panel.choose(&self.panel, &near);
                self.kernels.nearest(&panel, tile.view(), &mut found);
                for (&row, (&code, &distance)) in
                    numbers.iter().zip(found.codes.iter().zip(&found.distances))
                {
                    let (row, nearest) = (row as usize, near[code as usize]);
                    changed |= labels[row] != nearest;
                    (labels[row], distances[row]) = (nearest, distance);
                }
            }
        }
        Ok(changed)
    }

    /// The squared distance from a codeword a up to which others can be nearest to a row whose
    /// squared distance to a is `square`. With u and d the exact distances of row and other from
    /// a, the other's squared distance is at least (d - u)^2; it is computed as the greater as
    /// soon as (d - u)^2 - u^2 is above twice the error.
    fn limit(&self, square: f64) -> f32 {
        let square = square + self.error;
        let reach = square.sqrt() + (square + 2.0 * self.error).sqrt();
        let rounding = (self.ds + 16) as f64 * f64::from(f32::EPSILON);
        (reach * reach * (1.0 + rounding)) as f32
    }
}

/// One chunk's share of an [`Assignment`].
struct Part {
    sums: Vec<f64>,     // (ks, ds)
    counts: Vec<usize>, // (ks,)
    loss: f64,
    changed: bool,
}

impl Part {
    /// Adds up the rows (n, ds) of each codeword.
    fn new(rows: &[f32], labels: &[u32], distances: &[f32], ks: usize) -> Result<Self> {
        let ds = rows.len() / labels.len();
        let mut sums = filled(ks * ds, 0.0, "the partial sums")?;
        let mut counts = filled(ks, 0, "the counts")?;
        for (row, &label) in rows.chunks_exact(ds).zip(labels) {
            counts[label as usize] += 1;
            let sums = &mut sums[label as usize * ds..][..ds];
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let loss = distances.iter().map(|&distance| f64::from(distance)).sum();
        Ok(Self { sums, counts, loss, changed: false })
    }
}

/// Moves each codeword to the mean of its rows; one without rows stays.
fn update(codewords: &mut [f32], state: &Assignment, centre: &[f32]) {
    let ds = codewords.len() / state.counts.len();
    let means = codewords.chunks_exact_mut(ds).zip(state.sums.chunks_exact(ds));
    for ((codeword, sums), &count) in means.zip(&state.counts) {
        if count > 0 {
            for ((c, sum), &centre) in codeword.iter_mut().zip(sums).zip(centre) {
                *c = (f64::from(centre) + sum / count as f64) as f32;
            }
        }
    }
}

/// Gives every codeword without rows the farthest row of the cluster of largest error, and that
/// cluster's rows that are nearer to it. Returns how many were moved: fewer than there are only
/// when every row lies on its codeword.
fn split(
    points: &Points<'_>,
    codewords: &mut [f32],
    state: &mut Assignment,
    task: &Task,
) -> Result<usize> {
    let (ds, ks) = (points.columns.len(), state.counts.len());
    let lone: Vec<usize> = (0..ks).filter(|&k| state.counts[k] == 0).collect();
    if lone.is_empty() {
        return Ok(0);
    }
    let mut errors = filled(ks, 0.0_f64, "the errors")?;
    for (&label, &distance) in state.labels.iter().zip(&state.distances) {
        errors[label as usize] += f64::from(distance);
    }
    let mut moved = 0;
    for k in lone {
        task.check()?;
        let donor = (0..ks).fold(0, |best, j| if errors[j] > errors[best] { j } else { best });
        let theirs = |&row: &usize| state.labels[row] as usize == donor;
        let mut rows: Vec<usize> = Vec::new();
        for row in (0..points.vectors.len()).filter(theirs) {
            reserve(&mut rows, 1, "the rows of a cluster")?;
            rows.push(row);
        }
        let farther = |best: usize, &row: &usize| {
            if state.distances[row] > state.distances[best] { row } else { best }
        };
        let Some(farthest) = rows.first().map(|&first| rows.iter().fold(first, farther)) else {
            break;
        };
        if state.distances[farthest] <= 0.0 {
            break;
        }
        let codeword = &mut codewords[k * ds..][..ds];
        codeword.copy_from_slice(points.row(farthest));
        for row in rows {
            let square = |(x, c): (&f32, &f32)| (x - c) * (x - c);
            let distance = points.row(row).iter().zip(&*codeword).map(square).sum::<f32>();
            if distance < state.distances[row] {
                errors[donor] -= f64::from(state.distances[row]);
                errors[k] += f64::from(distance);
                state.distances[row] = distance;
                state.labels[row] = k as u32;
            }
        }
        moved += 1;
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    fn run(rows: &[f32], ds: usize, start: &[f32], iterations: usize) -> Clusters {
        let kernels = Kernels::active().unwrap();
        let points = Points::new(Vectors::new(rows, ds).unwrap(), 0..ds, &Task::new()).unwrap();
        train(&points, start.to_vec(), iterations, Last::Assignment, kernels, &Task::new()).unwrap()
    }

    #[test]
    fn two_clusters_are_found() {
        let found = run(&[0.0, 1.0, 10.0, 11.0], 1, &[0.0, 1.0], 10);
        assert_eq!(found.codewords, [0.5, 10.5]);
        assert_eq!(found.labels, [0, 0, 1, 1]);
        assert_eq!((found.losses[0], found.losses.last()), (181.0, Some(&1.0)));
        assert_eq!(found.empty, 0);
    }

    /// Labels and distances are those of a plain search, bit for bit, from any labels.
    #[test]
    fn pruning_changes_nothing() {
        let mut random = LegacyRandom::new(8);
        let task = Task::new();
        for (ds, ks, n) in [(1, 16, 500), (4, 64, 3000), (8, 100, 2001), (12, 32, 777)] {
            let real: Vec<f32> = (0..n * ds).map(|_| random.normal() as f32).collect();
            let coarse: Vec<f32> = real.iter().map(|x| x.round()).collect();
            let far: Vec<f32> = real.iter().map(|x| x + 4096.0).collect();
            for data in [real, coarse, far] {
                let points = Points::new(Vectors::new(&data, ds).unwrap(), 0..ds, &task).unwrap();
                let kernels = Kernels::active().unwrap();
                // The first rows, and among them equal ones.
                let mut codewords = data[..ks * ds].to_vec();
                codewords.copy_within(..4 * ds, 8 * ds);
                let search = Search::new(&points, &codewords, kernels).unwrap();
                let (mut labels, mut distances) = (vec![0; n], vec![0.0; n]);
                search.plain(&points.rows, &mut labels, &mut distances, &task).unwrap();
                let near = labels.iter().map(|&label| (label + u32::from(label % 5 == 0)) % 16);
                let starts = [labels.clone(), near.collect(), vec![3; n]];
                for mut pruned in starts {
                    let before = pruned.clone();
                    let mut found = vec![0.0; n];
                    let changed =
                        search.pruned(&points.rows, &mut pruned, &mut found, &task).unwrap();
                    assert_eq!(pruned, labels, "ds {ds} ks {ks}");
                    assert_eq!(found, distances, "ds {ds} ks {ks}");
                    assert_eq!(changed, before != labels);
                }
            }
        }
    }

    #[test]
    fn no_step_raises_the_loss() {
        let mut random = LegacyRandom::new(4);
        for ds in [1, 4, 8] {
            let rows: Vec<f32> = (0..2000 * ds).map(|_| random.normal() as f32).collect();
            let losses = run(&rows, ds, &rows[..64 * ds], 25).losses;
            assert!(losses.len() > 1);
            assert!(losses.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)));
        }
    }

    #[test]
    fn empty_clusters_are_repaired() {
        // Two codewords on the same row: the second never gets rows.
        let rows: Vec<f32> = (0..100).map(|i| (i % 10) as f32).collect();
        let found = run(&rows, 1, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 20);
        assert_eq!(found.empty, 0);
        let mut codewords = found.codewords;
        codewords.sort_by(f32::total_cmp);
        assert_eq!(codewords, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn codewords_beyond_the_distinct_rows_are_counted() {
        let rows = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0];
        let found = run(&rows, 1, &[1.0, 1.0, 1.0, 1.0], 5);
        assert_eq!(found.empty, 2);
        assert!(found.codewords.iter().all(|c| c.is_finite()));
    }
}
