//! k-means of one sub-space: Lloyd's steps, the loss of each, and the repair of empty clusters.
//!
//! ```text
//! repeat:  assign   each row to its nearest codeword (ties to the lowest index)
//!          update   each codeword to the mean of its rows; a codeword without rows stays
//! then, if any codeword has no rows, half as many steps again, each of which first moves such
//! codewords into the clusters of largest error
//! ```
//! The first part follows nanopq's trajectory whatever the data; no later step raises the error,
//! so the result is never worse than nanopq's. Sums are in f64 and corrected for the rows that change
//! their codeword, in fixed chunks whose parts are added in order: the same bytes for any number of
//! threads. Most codewords are proven too far from most rows and left out (`tiles`), which changes
//! no label and no distance.

use crate::error::{Result, collected, filled};
use crate::kernels::Kernels;
use crate::threads::Task;
use crate::tiles::{Place, Points, Search};

/// What k-means found.
pub(crate) struct Clusters {
    pub(crate) codewords: Vec<f32>, // (ks, ds)
    pub(crate) labels: Vec<u32>,    // (n,) of the last assignment
    /// Sum of squared distances at each step's assignment.
    pub(crate) losses: Vec<f64>,
    /// Codewords without rows for which no row is left over either.
    pub(crate) empty: usize,
}

/// What the rows of each codeword add up to.
struct Clustering {
    sums: Vec<f64>,   // (ks, ds), less centre
    counts: Vec<i64>, // (ks,)
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
    mut points: Points<'_>,
    mut codewords: Vec<f32>, // (ks, ds)
    iterations: usize,
    last: Last,
    kernels: Kernels,
    task: &Task,
) -> Result<Clusters> {
    let mut state = Clustering {
        sums: filled(codewords.len(), 0.0, "the sums")?,
        counts: filled(codewords.len() / points.centre().len(), 0, "the counts")?,
        loss: 0.0,
        changed: true,
    };
    let mut losses = Vec::new();
    let (mut arrange, mut empty) = (1, 0);
    let (mut plain, mut repairs) = (iterations, iterations.div_ceil(2));
    loop {
        let search = Search::new(&points, &codewords, kernels)?;
        let arranged = losses.len() + 1 == arrange && plain > 1 && points.can_be_arranged();
        assign(&mut points, &search, &mut state, arranged || plain == 0, task)?;
        update(&mut codewords, &state, points.centre());
        losses.push(state.loss);
        // Codewords move ever less, and so do rows: after steps 1, 4, 13, 40.
        if arranged {
            points.arrange(&search, task)?;
            arrange = 3 * arrange + 1;
        }
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
        let moved = split(&mut points, &mut codewords, &mut state, task)?;
        empty = without - moved;
        repairs -= 1;
        if repairs == 0 || (moved == 0 && !state.changed) {
            break;
        }
    }
    if last == Last::Assignment {
        let search = Search::new(&points, &codewords, kernels)?;
        assign(&mut points, &search, &mut state, false, task)?;
        losses.push(state.loss);
    }
    Ok(Clusters { codewords, labels: points.labels()?, losses, empty })
}

/// Assigns every row to its nearest codeword; [`Points::distance`] has its distance if `measure` is
/// set.
fn assign(
    points: &mut Points<'_>,
    search: &Search,
    state: &mut Clustering,
    measure: bool,
    task: &Task,
) -> Result<()> {
    state.changed = false;
    for change in search.run(points, measure, task)? {
        state.sums.iter_mut().zip(change.sums).for_each(|(sum, more)| *sum += more);
        state.counts.iter_mut().zip(change.counts).for_each(|(count, more)| *count += more);
        state.changed |= change.moved > 0;
    }
    state.loss = points.loss(search, &state.sums, &state.counts);
    Ok(())
}

/// Moves each codeword to the mean of its rows; one without rows stays.
fn update(codewords: &mut [f32], state: &Clustering, centre: &[f32]) {
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
    points: &mut Points<'_>,
    codewords: &mut [f32],
    state: &mut Clustering,
    task: &Task,
) -> Result<usize> {
    let (ds, ks) = (points.centre().len(), state.counts.len());
    let lone = (0..ks).filter(|&k| state.counts[k] == 0);
    let lone = collected(lone, ks, "the empty clusters")?;
    if lone.is_empty() {
        return Ok(0);
    }
    let mut errors = filled(ks, 0.0_f64, "the clusters' errors")?;
    for (label, place) in points.labelled() {
        errors[label as usize] += f64::from(points.distance(place));
    }
    let mut moved = 0;
    for k in lone {
        task.check()?;
        let donor = (0..ks).fold(0, |best, j| if errors[j] > errors[best] { j } else { best });
        let members = points.labelled().filter(|&(label, _)| label as usize == donor);
        let members = members.map(|(_, place)| place);
        let members = collected(members, state.counts[donor] as usize, "a cluster's rows")?;
        let farther = |best: Place, &place: &Place| {
            if points.distance(place) > points.distance(best) { place } else { best }
        };
        let Some(farthest) = members.first().map(|&first| members.iter().fold(first, farther))
        else {
            break;
        };
        if points.distance(farthest) <= 0.0 {
            break;
        }
        let codeword = &mut codewords[k * ds..][..ds];
        codeword.copy_from_slice(points.row(farthest));
        for place in members {
            let square = |(x, c): (&f32, &f32)| (x - c) * (x - c);
            let (row, before) = (points.row(place), points.distance(place));
            let distance = row.iter().zip(&*codeword).map(square).sum::<f32>();
            if distance < before {
                errors[donor] -= f64::from(before);
                errors[k] += f64::from(distance);
                points.set(place, k as u32, distance);
                state.counts[donor] -= 1;
                state.counts[k] += 1;
                for (d, (x, centre)) in row.iter().zip(points.centre()).enumerate() {
                    let x = f64::from(x - centre);
                    state.sums[donor * ds + d] -= x;
                    state.sums[k * ds + d] += x;
                }
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
    use crate::vectors::Vectors;

    fn run(rows: &[f32], ds: usize, start: &[f32], iterations: usize) -> Clusters {
        let kernels = Kernels::active().unwrap();
        let (rows, task) = (Vectors::new(rows, ds).unwrap(), Task::new());
        let points = Points::new(rows, 0..ds, start.len() / ds, kernels, &task).unwrap();
        train(points, start.to_vec(), iterations, Last::Assignment, kernels, &task).unwrap()
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
