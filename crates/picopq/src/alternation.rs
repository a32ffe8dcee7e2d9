//! The steps of OPQ's training, which solve for codewords and rotation in turn (Ge 2014).
//!
//! ```text
//! codewords drawn for X = V R
//! repeat:  one k-means step of X = V R from the last codewords -> codes, Y = the codewords they name
//!          Z = polar factor of V^T Y                  (orthogonal Procrustes)
//!          R = Z, or five times as far                (over-relaxed, see below)
//! ```
//! Codewords stay warm from step to step. Each half of a step solves only for the other's last state,
//! which converges slowly: a direction in which the rotation moves by a share s of what it lacks is
//! still off by 1 - s after a step. A step that goes five times as far leaves 1 - 5 s, and with a plain
//! one after it (1 - s) (1 - 5 s): never more than 0.8 of it, and for small s as little as six plain
//! steps do. So every other step goes far, until a pair has raised the error; the first, from codewords
//! that were just drawn, goes less far, and the last is a plain one.

use crate::error::{Result, filled, size, with_capacity};
use crate::kernels::Kernels;
use crate::kmeans::{self, Clusters, Last};
use crate::linalg::{
    Rotation, block_rows, identity, narrow, polar_factor, transposed_product, turned,
};
use crate::pq;
use crate::seeding::Draws;
use crate::threads::{self, Task};
use crate::tiles::Points;
use crate::vectors::Vectors;

/// How many times as far as the Procrustes solution a far step goes. A pair of a far and a plain step
/// converges up to 3 + 2 sqrt(2).
const FAR: usize = 5;
/// A start is left out when its loss is above the other's by more than its lead, a share that shrinks
/// as 1 / pair. The identity gains on the allocation from pair to pair, so its lead is larger.
const IDENTITY_LEAD: f64 = 0.4;
const ALLOCATION_LEAD: f64 = 0.1;
/// The pair of steps from which the start of lower loss goes on alone.
const DECIDING_PAIR: usize = 4;
/// Columns whose sums over the rows of each codeword are taken together.
const STRIP: usize = 32;
/// Rows whose sums are taken in f32, at least.
const SUMMED_ROWS: usize = 1 << 13;

/// The state of lower loss, the first of two equals.
pub(crate) fn better(first: State, second: State) -> State {
    if second.loss() < first.loss() { second } else { first }
}

/// Before a pair of steps: of the states of both starts, leaves out the one that will hardly lead to
/// the lower loss; says how many were left out.
fn leave_out(states: &mut Vec<State>, pair: usize) -> usize {
    let [identity, allocation] = &states[..] else { return 0 };
    // The first step may repair empty clusters, for one start and not for the other.
    let loss = |state: &State| if pair == 1 { state.losses[0] } else { state.loss() };
    let (identity, allocation) = (loss(identity), loss(allocation));
    let share = if pair < DECIDING_PAIR { 1.0 / pair as f64 } else { 0.0 };
    if identity > allocation * (1.0 + IDENTITY_LEAD * share) {
        states.remove(0);
    } else if allocation > identity * (1.0 + ALLOCATION_LEAD * share) {
        states.remove(1);
    } else {
        return 0;
    }
    1
}

/// How far a training is.
pub(crate) struct State {
    pub(crate) rotation: Vec<f64>,      // (dim, dim)
    pub(crate) clusters: Vec<Clusters>, // (m,)
    pub(crate) losses: Vec<f64>,
    /// The loss before the last pair of steps.
    before: f64,
}

impl State {
    pub(crate) fn loss(&self) -> f64 {
        self.losses.last().copied().unwrap_or(f64::INFINITY)
    }
}

/// The two halves of a step, on one set of rows.
pub(crate) struct Alternation<'a> {
    vectors: Vectors<'a>,
    rotated: Vec<f32>, // (n, dim)
    /// Brings the rows near 1 where they are multiplied: the polar factor does not depend on it,
    /// and sums of large values stay finite.
    scale: f32,
    ks: usize,
    ds: usize,
    kernels: Kernels,
    task: &'a Task,
}

impl<'a> Alternation<'a> {
    pub(crate) fn new(vectors: Vectors<'a>, ks: usize, ds: usize, task: &'a Task) -> Result<Self> {
        let rotated = threads::zeroed(vectors.as_slice().len(), "the rotated vectors", task)?;
        let largest = |most: f32, value: &f32| most.max(value.abs());
        let scale = vectors.as_slice().iter().fold(f32::MIN_POSITIVE, largest).recip();
        Ok(Self { vectors, rotated, scale, ks, ds, kernels: Kernels::active()?, task })
    }

    /// k-means from codewords as the draws say for the rotated vectors.
    pub(crate) fn begin(
        &mut self,
        rotation: Vec<f64>,
        draws: &[Draws<'_>],
        iterations: usize,
        last: Last,
    ) -> Result<State> {
        self.rotate(&rotation)?;
        let (rows, ds) = (Vectors::new(&self.rotated, self.vectors.dim())?, self.ds);
        let start = threads::map(self.task, draws.iter().enumerate().collect(), |(m, draws)| {
            draws.codewords(rows, m * ds..(m + 1) * ds, self.ks, self.task)
        })?;
        let clusters = self.clusters(start, iterations, last)?;
        let losses = pq::summarize(&clusters, rows.len()).losses;
        Ok(State { rotation, clusters, losses, before: f64::INFINITY })
    }

    /// The state of lowest loss after so many rounds; the last step of several sees `all` the vectors,
    /// of which the alternation may hold a sample.
    pub(crate) fn learn(
        &mut self,
        mut states: Vec<State>,
        rounds: usize,
        round_steps: usize,
        all: Vectors<'a>,
    ) -> Result<Option<State>> {
        let turns = rounds.saturating_mul(round_steps);
        for turn in 1..=turns {
            let (pair, begins) = (turn.div_ceil(2), turn % 2 == 1);
            if begins {
                let left_out = leave_out(&mut states, pair);
                self.task.advance((left_out * (turns - turn) * all.dim() / self.ds) as u64);
            }
            if turn % round_steps == 0 {
                let losses = states.iter().map(State::loss);
                self.task.report_loss(losses.fold(f64::INFINITY, f64::min));
            }
            for state in &mut states {
                let mut times = 1;
                if begins && turn < turns {
                    let loss = state.loss();
                    times = if loss <= state.before { FAR.min(1 + 2 * pair) } else { 1 };
                    state.before = loss;
                }
                self.turn(state, times)?;
            }
            if turn + 1 >= turns && all.len() > self.vectors.len() {
                *self = Alternation::new(all, self.ks, self.ds, self.task)?;
            }
            if turn < turns {
                for state in &mut states {
                    self.quantize(state, 1, Last::Update)?;
                }
            }
        }
        Ok(states.into_iter().reduce(better))
    }

    /// The plain schedule of Ge 2014 with nanopq's draws: each rotation's codewords are drawn
    /// afresh, one k-means step, one turn.
    pub(crate) fn redraw(
        &mut self,
        mut rotation: Vec<f64>,
        draws: &[Draws<'_>],
        learning: usize,
        iterations: usize,
    ) -> Result<State> {
        for _ in 0..learning {
            let mut state = self.begin(rotation, draws, 1, Last::Assignment)?;
            self.turn(&mut state, 1)?;
            rotation = state.rotation;
        }
        self.begin(rotation, draws, iterations, Last::Assignment)
    }

    /// k-means of the rotated vectors, from the last codewords.
    pub(crate) fn quantize(
        &mut self,
        state: &mut State,
        iterations: usize,
        last: Last,
    ) -> Result<()> {
        self.rotate(&state.rotation)?;
        let start = std::mem::take(&mut state.clusters);
        let start = start.into_iter().map(|clusters| clusters.codewords).collect();
        state.clusters = self.clusters(start, iterations, last)?;
        state.losses.extend(pq::summarize(&state.clusters, self.vectors.len()).losses);
        Ok(())
    }

    /// k-means of the rotated vectors from `start`, (ks, ds) for each sub-space.
    fn clusters(
        &self,
        start: Vec<Vec<f32>>,
        iterations: usize,
        last: Last,
    ) -> Result<Vec<Clusters>> {
        let (rows, ds) = (Vectors::new(&self.rotated, self.vectors.dim())?, self.ds);
        threads::map(self.task, start.into_iter().enumerate().collect(), |(m, start)| {
            let columns = m * ds..(m + 1) * ds;
            let points = Points::new(rows, columns, self.ks, self.kernels, self.task)?;
            kmeans::train(points, start, iterations, last, self.kernels, self.task)
        })
    }

    /// Turns the rotation towards the codewords of the labels, so many times as far as would fit
    /// them best.
    fn turn(&self, state: &mut State, times: usize) -> Result<()> {
        let dim = self.vectors.dim();
        let target = polar_factor(self.cross_product(&state.clusters)?, dim, self.task)?;
        state.rotation = turned(&state.rotation, target, times)?;
        Ok(())
    }

    /// V^T Y, shape (dim, dim), where Y has for each row of V the codewords that its labels name.
    /// Rows are summed by label, then multiplied with the codewords: n dim m additions.
    fn cross_product(&self, clusters: &[Clusters]) -> Result<Vec<f64>> {
        let (n, dim, ds) = (self.vectors.len(), self.vectors.dim(), self.ds);
        let what = "the cross product";
        let strips = (0..dim).step_by(STRIP).collect();
        // So many rows that the products with the codewords do not count.
        let block = SUMMED_ROWS.max(4 * self.ks).min(n);
        let strips = threads::map(self.task, strips, |first: usize| {
            let width = STRIP.min(dim - first);
            let mut total = filled(size(&[width, dim], what)?, 0.0_f64, what)?;
            let mut product = filled(size(&[STRIP, ds], what)?, 0.0_f32, what)?;
            let mut rows = filled(block, [0.0_f32; STRIP], what)?;
            let mut sums = filled(self.ks, [0.0_f32; STRIP], what)?;
            for from in (0..n).step_by(block) {
                self.task.check()?;
                let rows = &mut rows[..block.min(n - from)];
                for (i, out) in rows.iter_mut().enumerate() {
                    let values = &self.vectors.row(from + i)[first..first + width];
                    out.iter_mut().zip(values).for_each(|(out, x)| *out = x * self.scale);
                }
                for (m, clusters) in clusters.iter().enumerate() {
                    sums.fill([0.0; STRIP]);
                    for (row, &label) in rows.iter().zip(&clusters.labels[from..]) {
                        let sum = &mut sums[label as usize];
                        *sum = std::array::from_fn(|i| sum[i] + row[i]);
                    }
                    transposed_product(sums.as_flattened(), &clusters.codewords, ds, &mut product);
                    let products = total.chunks_exact_mut(dim).zip(product.chunks_exact(ds));
                    for (total, product) in products {
                        let total = &mut total[m * ds..][..ds];
                        total.iter_mut().zip(product).for_each(|(t, &p)| *t += f64::from(p));
                    }
                }
            }
            Ok(total)
        })?;
        let mut product = with_capacity(dim * dim, what)?;
        strips.into_iter().for_each(|strip| product.extend(strip));
        Ok(product)
    }

    fn rotate(&mut self, rotation: &[f64]) -> Result<()> {
        let dim = self.vectors.dim();
        if rotation == identity(dim)? {
            self.rotated.copy_from_slice(self.vectors.as_slice());
            return Ok(());
        }
        let rotation = narrow(rotation)?;
        let rotation = Rotation::new(&rotation, dim)?;
        let block = block_rows(dim) * dim;
        let blocks = self.vectors.as_slice().chunks(block).zip(self.rotated.chunks_mut(block));
        threads::map(self.task, blocks.collect(), |(rows, out)| {
            rotation.apply_rows(rows, out);
            Ok(())
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    #[test]
    fn sums_by_label_give_the_cross_product() {
        let mut random = LegacyRandom::new(15);
        let task = Task::new();
        for (n, dim, m, ks) in
            [(1, 1, 1, 1), (50, 33, 3, 4), (SUMMED_ROWS + 1, 6, 2, 5), (300, 2 * STRIP, 16, 20)]
        {
            let ds = dim / m;
            let mut normals =
                |len: usize| -> Vec<f32> { (0..len).map(|_| random.normal() as f32).collect() };
            let (data, codewords) = (normals(n * dim), normals(m * ks * ds));
            let clusters: Vec<Clusters> = codewords
                .chunks_exact(ks * ds)
                .map(|codewords| Clusters {
                    codewords: codewords.to_vec(),
                    labels: (0..n).map(|_| random.up_to(ks as u64 - 1) as u32).collect(),
                    losses: Vec::new(),
                    empty: 0,
                })
                .collect();
            let vectors = Vectors::new(&data, dim).unwrap();
            let alternation = Alternation::new(vectors, ks, ds, &task).unwrap();
            let product = alternation.cross_product(&clusters).unwrap();
            for (index, got) in product.iter().enumerate() {
                let (row, column) = (index / dim, index % dim);
                let Clusters { codewords, labels, .. } = &clusters[column / ds];
                let terms = labels.iter().zip(data.chunks_exact(dim)).map(|(&label, x)| {
                    let codeword = &codewords[label as usize * ds..][..ds];
                    f64::from(x[row]) * f64::from(codeword[column % ds])
                });
                let (sum, size) = terms
                    .fold((0.0, 0.0), |(sum, size), term: f64| (sum + term, size + term.abs()));
                let scale = f64::from(alternation.scale);
                let error = (got - sum * scale).abs();
                assert!(error <= 1e-5 * size * scale, "n {n} dim {dim}: {row}, {column}");
            }
        }
    }

    #[test]
    fn the_start_that_is_clearly_behind_is_left_out() {
        // Losses of identity and allocation, the pair, and what is left.
        for (identity, allocation, pair, left) in [
            (139.0, 100.0, 1, 2),
            (141.0, 100.0, 1, 1),
            (119.0, 100.0, 2, 2),
            (121.0, 100.0, 2, 1),
            (100.0, 109.0, 1, 2),
            (100.0, 111.0, 1, 1),
            (101.0, 100.0, DECIDING_PAIR, 1),
            (100.0, 101.0, DECIDING_PAIR, 1),
        ] {
            let state = |loss| State {
                rotation: Vec::new(),
                clusters: Vec::new(),
                losses: vec![loss],
                before: f64::INFINITY,
            };
            let mut states = vec![state(identity), state(allocation)];
            assert_eq!(leave_out(&mut states, pair), 2 - left, "{identity} {allocation} {pair}");
            assert_eq!(states.len(), left);
            let least = f64::min(identity, allocation);
            assert!(states.iter().any(|state| state.loss() == least));
            assert_eq!(leave_out(&mut vec![state(1.0)], pair), 0);
        }
    }

    /// Up to 3 + 2 sqrt(2) a far and a plain step together enlarge what is lacking in no direction.
    #[test]
    fn a_far_and_a_plain_step_converge() {
        let left = |share: f64| (1.0 - share) * (1.0 - FAR as f64 * share);
        assert!((0..=1000).all(|share| left(f64::from(share) / 1000.0).abs() <= 1.0));
        assert!((0.79..=0.81).contains(&left(0.6).abs()));
    }
}
