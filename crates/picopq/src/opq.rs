//! Optimized product quantization (Ge, He, Ke, Sun: "Optimized product quantization", IEEE TPAMI
//! 2014): a rotation is learnt with the codewords, then vectors are rotated and quantized.
//!
//! ```text
//! R = identity or eigenvalue allocation;  codewords drawn for X = V R
//! repeat:  one k-means step of X = V R from the last codewords -> codes, Y = the codewords they name
//!          Z = polar factor of V^T Y                  (orthogonal Procrustes)
//!          R = Z, or five times as far                (over-relaxed, see below)
//! at last: k-means on X = V R
//! ```
//! Codewords stay warm from step to step. Alternating between codewords and rotation converges
//! slowly, each solving only for the other's last state: a direction in which the rotation moves by
//! a share s of what it lacks is still off by 1 - s after a step. A step that goes five times as far
//! leaves 1 - 5 s, and with a plain one after it (1 - s) (1 - 5 s): never more than 0.8 of it, and
//! for small s as little as six plain steps do. So every other step goes far, until a pair has raised
//! the error; the first, from codewords that were just drawn, goes less far, and the last is a plain
//! one. Where there are many rows all but the last see a sample.
//!
//! Where the rows are few, local minima decide: the plain schedule (codewords drawn afresh for each
//! rotation, as nanopq does) is then run too, and the better result is kept.
//!
//! Which start leads to the lower error depends on the data (natural sub-spaces, as those of SIFT,
//! favour the identity; embeddings the allocation). By default both are learnt from until one leads
//! clearly, which for most data is after the first step.

use crate::codes::Codes;
use crate::error::{Result, collected, filled, size, with_capacity};
use crate::kernels::Kernels;
use crate::kmeans::{self, Clusters, Last};
use crate::linalg::{
    Rotation, block_rows, covariance, polar_factor, symmetric_eigen, transposed_product, turned,
};
use crate::pq::{self, Pq, PqOptions, Training, concat};
use crate::seeding::{self, Draws};
use crate::table::DistanceTable;
use crate::threads::{self, Task};
use crate::tiles::Points;
use crate::vectors::{Vectors, vector_limit};

/// How an [`Opq`] is trained. The defaults are nanopq's.
#[derive(Clone, Debug, PartialEq)]
pub struct OpqOptions {
    /// The quantizer's own options; `iterations` is the number of k-means steps on the last
    /// rotation.
    pub pq: PqOptions,
    /// Rounds: the rotation is learnt in all but the last. 0 and 1 both train a plain quantizer on
    /// the initial rotation.
    pub rotations: usize,
    /// The initial rotation.
    pub start: Start,
}

/// The rotation that an OPQ training starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The identity or the eigenvalue allocation, whichever leads to the lower error; the identity
    /// where no rotation is learnt.
    #[default]
    Better,
    /// No rotation.
    Identity,
    /// [`eigenvalue_allocation`].
    EigenvalueAllocation,
}

impl OpqOptions {
    /// The defaults of [`PqOptions::new`], 10 rounds, the better start.
    #[must_use]
    pub fn new(m: usize) -> Self {
        Self { pq: PqOptions::new(m), rotations: 10, start: Start::Better }
    }
}

/// Rows that the first steps see, at least, and rows for each codeword.
const SAMPLE_ROWS: usize = 1 << 14;
const SAMPLE_ROWS_PER_CODEWORD: usize = 64;
/// With fewer rows, or with fewer for each codeword, rounds have two steps and the plain schedule is
/// run too.
const FEW_ROWS: usize = 1 << 11;
const FEW_ROWS_PER_CODEWORD: usize = 32;
/// How many times as far as the Procrustes solution a far step goes. A pair of a far and a plain step
/// converges up to 3 + 2 sqrt(2).
const FAR: usize = 5;
/// A start is left out when its loss is above the other's by more than its lead, a share that shrinks
/// as 1 / pair. The identity gains on the allocation from pair to pair, so its lead is larger.
const IDENTITY_LEAD: f64 = 0.4;
const ALLOCATION_LEAD: f64 = 0.1;
/// The pair of steps from which the better start goes on alone.
const LAST_CONTEST: usize = 4;
/// Columns whose sums over the rows of each codeword are taken together.
const STRIP: usize = 32;
/// Rows whose sums are taken in f32, at least.
const SUMMED_ROWS: usize = 1 << 13;

/// A trained optimized product quantizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Opq {
    pq: Pq,
    rotation: Vec<f32>, // (dim, dim)
}

impl Opq {
    /// Trains rotation and codewords. Cost: for each round, n ks dim multiply-adds for k-means,
    /// n dim^2 to rotate, n dim m additions and a singular value decomposition of (dim, dim),
    /// where all but the last two take at most a sample of the n rows; memory: two copies of the
    /// vectors.
    /// [`Task::losses`] grows by one each round.
    ///
    /// # Errors
    /// As [`Pq::train`]; [`crate::Error::NoConvergence`].
    ///
    /// ```
    /// use picopq::{Opq, OpqOptions, PqOptions, Task, Vectors};
    /// let data: Vec<f32> = (0..4000).map(|i| (i * i % 97) as f32).collect();
    /// let vectors = Vectors::new(&data, 8)?;
    /// let pq = PqOptions { ks: 16, ..PqOptions::new(4) };
    /// let options = OpqOptions { pq, ..OpqOptions::new(4) };
    /// let (opq, _) = Opq::train(vectors, &options, &Task::new())?;
    /// assert_eq!(opq.decode(&opq.encode(vectors)?)?.len(), data.len());
    /// # Ok::<(), picopq::Error>(())
    /// ```
    pub fn train(
        vectors: Vectors<'_>,
        options: &OpqOptions,
        task: &Task,
    ) -> Result<(Self, Training)> {
        let ds = options.pq.check(vectors.len(), vectors.dim())?;
        vectors.check("vectors", vector_limit(vectors.dim()), task)?;
        let mut limited = Vec::new();
        let vectors = options.pq.rows(vectors, &mut limited)?;
        let (n, dim) = (vectors.len(), vectors.dim());
        let PqOptions { m, ks, metric, iterations, .. } = options.pq;
        let learning = options.rotations.saturating_sub(1);
        let starts: &[Start] = match options.start {
            Start::Better if learning == 0 => &[Start::Identity],
            Start::Better => &[Start::Identity, Start::EigenvalueAllocation],
            Start::Identity => &[Start::Identity],
            Start::EigenvalueAllocation => &[Start::EigenvalueAllocation],
        };
        let sampled = if learning > 0 { sample(vectors, ks)? } else { None };
        let few = learning > 0 && n < FEW_ROWS.max(ks.saturating_mul(FEW_ROWS_PER_CODEWORD));
        let round_steps = if few { 2 } else { 1 };
        let steps = starts.len().saturating_mul(learning).saturating_mul(round_steps);
        let redrawn = if few { learning.saturating_add(iterations) } else { 0 };
        let steps = steps.saturating_add(iterations).saturating_add(redrawn);
        task.begin(m.saturating_mul(steps) as u64);

        let rows = match &sampled {
            Some(sampled) => Vectors::new(sampled, dim)?,
            None => vectors,
        };
        let shape = (m, ks, ds);
        let draws = seeding::draw(&options.pq.init, options.pq.seed, rows.len(), shape, task)?;
        let mut alternation = Alternation::new(rows, ks, ds, task)?;
        let (first, last) =
            if learning > 0 { (1, Last::Update) } else { (iterations, Last::Assignment) };
        let begin = |start: &Start| {
            alternation.begin(initial_rotation(*start, rows, m, task)?, &draws, first, last)
        };
        let states = starts.iter().map(begin).collect::<Result<_>>()?;
        let Some(mut state) = alternation.learn(states, learning, round_steps, vectors)? else {
            unreachable!("there is at least one start")
        };
        if learning > 0 {
            alternation.quantize(&mut state, iterations, Last::Assignment)?;
        }
        if few {
            let rotation = initial_rotation(starts[0], vectors, m, task)?;
            let redrawn = alternation.redraw(rotation, &draws, learning, iterations)?;
            state = better(state, redrawn);
        }
        task.report_loss(state.loss());
        let training = Training {
            losses: state.losses,
            empty_clusters: state.clusters.iter().map(|clusters| clusters.empty).sum(),
        };
        let pq = Pq::from_codewords(concat(&state.clusters)?, m, ks, ds, metric)?;
        Ok((Self { pq, rotation: narrow(&state.rotation)? }, training))
    }

    /// A quantizer of given parts; `rotation` has the shape `(dim, dim)`.
    ///
    /// # Errors
    /// As [`Rotation::new`].
    pub fn from_parts(pq: Pq, rotation: Vec<f32>) -> Result<Self> {
        Rotation::new(&rotation, pq.codebook().dim())?;
        Ok(Self { pq, rotation })
    }

    /// The quantizer of the rotated vectors, and the rotation, shape `(dim, dim)`.
    #[must_use]
    pub fn into_parts(self) -> (Pq, Vec<f32>) {
        (self.pq, self.rotation)
    }

    /// The quantizer of the rotated vectors.
    #[must_use]
    pub fn pq(&self) -> &Pq {
        &self.pq
    }

    /// The rotation R, shape `(dim, dim)`: a row vector x becomes x R.
    #[must_use]
    pub fn rotation(&self) -> &[f32] {
        &self.rotation
    }

    /// The rotated vectors, shape `(n, dim)`.
    ///
    /// # Errors
    /// As [`Rotation::apply_into`].
    pub fn rotate(&self, vectors: Vectors<'_>) -> Result<Vec<f32>> {
        let mut out = filled(vectors.as_slice().len(), 0.0, "the rotated vectors")?;
        self.view().apply_into(vectors, &mut out, &Task::new())?;
        Ok(out)
    }

    /// The codes of the rotated vectors, shape `(n, m)`.
    ///
    /// # Errors
    /// As [`crate::Codebook::encode_into`].
    pub fn encode(&self, vectors: Vectors<'_>) -> Result<Codes<'static>> {
        pq::encode(self.pq.codebook(), Some(self.view()), vectors, &Task::new())
    }

    /// The vectors that the codes stand for, rotated back, shape `(n, dim)`.
    ///
    /// # Errors
    /// As [`crate::Codebook::decode_into`].
    pub fn decode(&self, codes: &Codes<'_>) -> Result<Vec<f32>> {
        pq::decode(self.pq.codebook(), Some(self.view()), codes)
    }

    /// The distance table of the rotated query, shape `(m, ks)`.
    ///
    /// # Errors
    /// As [`crate::Codebook::tables_into`].
    pub fn table(&self, query: &[f32]) -> Result<DistanceTable<'static>> {
        pq::table(self.pq.codebook(), Some(self.view()), query, self.pq.metric())
    }

    pub(crate) fn view(&self) -> Rotation<'_> {
        Rotation::of_checked(&self.rotation, self.pq.codebook().dim())
    }
}

/// The rotation (dim, dim) that is best for Gaussian data (the parametric solution of Ge 2014):
/// eigenvectors of the covariance, dealt to `m` sub-spaces so that the products of their eigenvalues are balanced.
/// Orthogonal to rounding for any data.
///
/// # Errors
/// [`crate::Error::NotDivisible`], [`crate::Error::TooFewRows`] for no rows, [`crate::Error::NonFinite`],
/// [`crate::Error::TooLarge`], [`crate::Error::NoConvergence`], [`crate::Error::Cancelled`].
pub fn eigenvalue_allocation(vectors: Vectors<'_>, m: usize, task: &Task) -> Result<Vec<f32>> {
    let options = PqOptions { ks: 1, allow_few_rows: true, ..PqOptions::new(m) };
    options.check(vectors.len(), vectors.dim())?;
    vectors.check("vectors", vector_limit(vectors.dim()), task)?;
    narrow(&allocation(vectors, m, task)?)
}

fn allocation(vectors: Vectors<'_>, m: usize, task: &Task) -> Result<Vec<f64>> {
    let (dim, ds) = (vectors.dim(), vectors.dim() / m);
    let (_, covariance) = covariance(vectors, 0..dim, task)?;
    let (values, eigenvectors) = symmetric_eigen(covariance, dim, task)?;
    let logs: Vec<f64> = values.iter().map(|value| (value.max(0.0) + 1e-10).ln()).collect();
    let least = logs.last().copied().unwrap_or(0.0);
    let mut dealt: Vec<(f64, Vec<usize>)> = vec![(0.0, Vec::new()); m];
    for (column, log) in logs.iter().enumerate() {
        let open = dealt.iter_mut().filter(|(_, columns)| columns.len() < ds);
        if let Some((sum, columns)) = open.min_by(|a, b| a.0.total_cmp(&b.0)) {
            *sum += log - least + 1.0;
            columns.push(column);
        }
    }
    let order: Vec<usize> = dealt.into_iter().flat_map(|(_, columns)| columns).collect();
    let mut rotation = filled(size(&[dim, dim], "the rotation")?, 0.0, "the rotation")?;
    for (row, out) in rotation.chunks_exact_mut(dim).enumerate() {
        for (out, &column) in out.iter_mut().zip(&order) {
            *out = eigenvectors[row * dim + column];
        }
    }
    Ok(rotation)
}

fn identity(dim: usize) -> Result<Vec<f64>> {
    let mut rotation = filled(size(&[dim, dim], "the rotation")?, 0.0, "the rotation")?;
    rotation.iter_mut().step_by(dim + 1).for_each(|diagonal| *diagonal = 1.0);
    Ok(rotation)
}

fn narrow(rotation: &[f64]) -> Result<Vec<f32>> {
    collected(rotation.iter().map(|&value| value as f32), rotation.len(), "the rotation")
}

fn initial_rotation(start: Start, vectors: Vectors<'_>, m: usize, task: &Task) -> Result<Vec<f64>> {
    match start {
        Start::EigenvalueAllocation => allocation(vectors, m, task),
        Start::Better | Start::Identity => identity(vectors.dim()),
    }
}

/// The state of lower loss, the first of two equals.
fn better(first: State, second: State) -> State {
    if second.loss() < first.loss() { second } else { first }
}

/// The rows that the first rounds see, where all would be many more.
fn sample(vectors: Vectors<'_>, ks: usize) -> Result<Option<Vec<f32>>> {
    let enough = SAMPLE_ROWS.max(ks.saturating_mul(SAMPLE_ROWS_PER_CODEWORD));
    if vectors.len() / 2 < enough { Ok(None) } else { vectors.spread(enough).map(Some) }
}

/// Before a pair of steps: of the states of both starts, leaves out the one that will hardly lead to
/// the lower loss; says how many were left out.
fn leave_out(states: &mut Vec<State>, pair: usize) -> usize {
    let [identity, allocation] = &states[..] else { return 0 };
    // The first step may repair empty clusters, for one start and not for the other.
    let loss = |state: &State| if pair == 1 { state.losses[0] } else { state.loss() };
    let (identity, allocation) = (loss(identity), loss(allocation));
    let share = if pair < LAST_CONTEST { 1.0 / pair as f64 } else { 0.0 };
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
struct State {
    rotation: Vec<f64>,      // (dim, dim)
    clusters: Vec<Clusters>, // (m,)
    losses: Vec<f64>,
    /// The loss before the last pair of steps.
    before: f64,
}

impl State {
    fn loss(&self) -> f64 {
        self.losses.last().copied().unwrap_or(f64::INFINITY)
    }
}

/// The two halves of a step, on one set of rows.
struct Alternation<'a> {
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
    fn new(vectors: Vectors<'a>, ks: usize, ds: usize, task: &'a Task) -> Result<Self> {
        let rotated = threads::zeroed(vectors.as_slice().len(), "the rotated vectors", task)?;
        let largest = |most: f32, value: &f32| most.max(value.abs());
        let scale = vectors.as_slice().iter().fold(f32::MIN_POSITIVE, largest).recip();
        Ok(Self { vectors, rotated, scale, ks, ds, kernels: Kernels::active()?, task })
    }

    /// k-means from codewords as the draws say for the rotated vectors.
    fn begin(
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
    fn learn(
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
    fn redraw(
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
    fn quantize(&mut self, state: &mut State, iterations: usize, last: Last) -> Result<()> {
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
