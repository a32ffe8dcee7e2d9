//! Optimized product quantization (Ge, He, Ke, Sun: "Optimized product quantization", IEEE TPAMI
//! 2014): a rotation is learnt with the codewords, then vectors are rotated and quantized.
//!
//! ```text
//! R = identity or eigenvalue allocation
//! R and codewords learnt in turn, most steps on a sample where there are many rows   (alternation)
//! k-means on X = V R
//! ```
//! Which start leads to the lower error depends on the data (natural sub-spaces, as those of SIFT,
//! favour the identity; embeddings the allocation). By default both are learnt from until one leads
//! clearly, which for most data is after the first step.
//!
//! Where the rows are few, local minima decide: the plain schedule (codewords drawn afresh for each
//! rotation, as nanopq does) is then run too, and the better result is kept.

use crate::alternation::{Alternation, better};
use crate::codes::Codes;
use crate::error::{Result, filled, size};
use crate::kmeans::Last;
use crate::linalg::{Rotation, covariance, identity, narrow, symmetric_eigen};
use crate::pq::{self, Pq, PqOptions, Training, concat};
use crate::seeding;
use crate::table::DistanceTable;
use crate::threads::Task;
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
    /// [`Task::losses`] grows by one each round. Losses may rise, after a step that goes far and when
    /// all rows follow a sample.
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

fn initial_rotation(start: Start, vectors: Vectors<'_>, m: usize, task: &Task) -> Result<Vec<f64>> {
    match start {
        Start::EigenvalueAllocation => allocation(vectors, m, task),
        Start::Better | Start::Identity => identity(vectors.dim()),
    }
}

/// The rows that the first rounds see, where all would be many more.
fn sample(vectors: Vectors<'_>, ks: usize) -> Result<Option<Vec<f32>>> {
    let enough = SAMPLE_ROWS.max(ks.saturating_mul(SAMPLE_ROWS_PER_CODEWORD));
    if vectors.len() / 2 < enough { Ok(None) } else { vectors.spread(enough).map(Some) }
}
