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
//! order: the same bytes for any number of threads.

use std::ops::Range;

use crate::error::{Result, filled, size};
use crate::kernels::{self, Kernels, Nearest, Panel, TILE, TileRef};
use crate::threads::{self, Task};
use crate::vectors::Vectors;

/// Tiles of a chunk: its rows are copied together, and their sums are one partial result.
const CHUNK_TILES: usize = 4096usize.div_ceil(TILE);

/// The rows of one sub-space, with a copy in tiles to be read many times.
pub(crate) struct Points<'a> {
    vectors: Vectors<'a>,
    columns: Range<usize>,
    chunks: Vec<Tiles>,
    centre: Vec<f32>, // (ds,)
}

/// A chunk of at most [`CHUNK_TILES`] tiles.
struct Tiles {
    lanes: Vec<f32>,         // (tiles, ds, TILE), less centre
    norms: Vec<[f32; TILE]>, // (tiles, TILE)
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
    pub(crate) fn new(
        vectors: Vectors<'a>,
        columns: Range<usize>,
        kernels: Kernels,
        task: &Task,
    ) -> Result<Self> {
        let (ds, dim, data) = (columns.len(), vectors.dim(), vectors.as_slice());
        let centre = kernels::centre(data, dim, columns.clone());
        let chunks = data.chunks(CHUNK_TILES * TILE * dim).collect();
        let chunks = threads::map(task, chunks, |rows: &[f32]| {
            let what = "the training vectors' tiles";
            let tiles = rows.len().div_ceil(TILE * dim);
            let mut lanes = filled(size(&[tiles, ds, TILE], what)?, 0.0, what)?;
            let mut norms = filled(tiles, [0.0; TILE], what)?;
            let rows = rows.chunks(TILE * dim);
            for ((rows, lanes), norms) in
                rows.zip(lanes.chunks_exact_mut(ds * TILE)).zip(&mut norms)
            {
                kernels.load(&rows[columns.start..], dim, &centre, lanes, norms);
            }
            Ok(Tiles { lanes, norms })
        })?;
        Ok(Self { vectors, columns, chunks, centre })
    }

    fn tile(&self, tile: usize) -> TileRef<'_> {
        let (chunk, tile) = (&self.chunks[tile / CHUNK_TILES], tile % CHUNK_TILES);
        let values = self.columns.len() * TILE;
        TileRef { lanes: &chunk.lanes[tile * values..][..values], norms: &chunk.norms[tile] }
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
    let panel = Panel::new(codewords, points.centre.clone())?;
    // Partial sums take at most half of the memory of the rows.
    let tiles = CHUNK_TILES.max((4 * ks).div_ceil(TILE));
    let chunks =
        state.labels.chunks_mut(tiles * TILE).zip(state.distances.chunks_mut(tiles * TILE));
    let partial =
        threads::map(task, chunks.enumerate().collect(), |(chunk, (labels, distances))| {
            let mut part = Part::new(ks, ds)?;
            let mut found = Nearest::new();
            let rows = labels.chunks_mut(TILE).zip(distances.chunks_mut(TILE));
            for (tile, (labels, distances)) in rows.enumerate() {
                task.check()?;
                let tile = points.tile(chunk * tiles + tile);
                kernels.nearest(&panel, tile, &mut found);
                part.changed |= *labels != found.codes[..labels.len()];
                labels.copy_from_slice(&found.codes[..labels.len()]);
                distances.copy_from_slice(&found.distances[..labels.len()]);
                part.add(tile, labels, distances);
            }
            Ok(part)
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

/// One chunk's share of an [`Assignment`].
struct Part {
    sums: Vec<f64>,     // (ks, ds)
    counts: Vec<usize>, // (ks,)
    loss: f64,
    changed: bool,
}

impl Part {
    fn new(ks: usize, ds: usize) -> Result<Self> {
        let sums = filled(ks * ds, 0.0, "the partial sums")?;
        Ok(Self { sums, counts: filled(ks, 0, "the counts")?, loss: 0.0, changed: false })
    }

    /// Adds a tile's rows, which the kernel has just left in the cache.
    fn add(&mut self, tile: TileRef<'_>, labels: &[u32], distances: &[f32]) {
        let ds = tile.lanes.len() / TILE;
        for (lane, (&label, &distance)) in labels.iter().zip(distances).enumerate() {
            let label = label as usize;
            self.counts[label] += 1;
            self.loss += f64::from(distance);
            let sums = self.sums[label * ds..][..ds].iter_mut();
            let row = tile.lanes.iter().skip(lane).step_by(TILE);
            sums.zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
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
    let mut errors = vec![0.0_f64; ks];
    for (&label, &distance) in state.labels.iter().zip(&state.distances) {
        errors[label as usize] += f64::from(distance);
    }
    let mut moved = 0;
    for k in lone {
        task.check()?;
        let donor = (0..ks).fold(0, |best, j| if errors[j] > errors[best] { j } else { best });
        let rows: Vec<usize> =
            (0..points.vectors.len()).filter(|&row| state.labels[row] as usize == donor).collect();
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
        let points =
            Points::new(Vectors::new(rows, ds).unwrap(), 0..ds, kernels, &Task::new()).unwrap();
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
