//! Optimized product quantization (Ge, He, Ke, Sun: "Optimized product quantization", IEEE TPAMI
//! 2014): a rotation is learnt with the codewords, then vectors are rotated and quantized.
//!
//! ```text
//! R = identity, or the eigenvalue allocation;  codewords drawn for X = V R
//! repeat:  X = V R
//!          a few k-means steps from the last codewords -> codes, Y = the codewords they name
//!          R = polar factor of V^T Y                  (orthogonal Procrustes)
//! at last: k-means on X = V R
//! ```
//! Codewords stay warm from round to round, so that no part of a round raises the error.

use crate::codes::Codes;
use crate::error::{Result, filled, size};
use crate::kernels::Kernels;
use crate::kmeans::{self, Clusters, Points};
use crate::linalg::{Rotation, covariance, cross_product, polar_factor, symmetric_eigen};
use crate::pq::{self, Pq, PqOptions, Training};
use crate::seeding;
use crate::table::DistanceTable;
use crate::threads::{self, Task};
use crate::vectors::Vectors;

/// How an [`Opq`] is trained. The defaults are nanopq's.
#[derive(Clone, Debug, PartialEq)]
pub struct OpqOptions {
    /// The quantizer's own options; `iterations` is the number of k-means steps on the last
    /// rotation.
    pub pq: PqOptions,
    /// Rounds: the rotation is learnt in all but the last. 0 and 1 both train a plain quantizer on
    /// the initial rotation.
    pub rotations: usize,
    /// Start from [`eigenvalue_allocation`] instead of the identity.
    pub parametric: bool,
}

impl OpqOptions {
    /// The defaults of [`PqOptions::new`], 10 rounds from the identity.
    #[must_use]
    pub fn new(m: usize) -> Self {
        Self { pq: PqOptions::new(m), rotations: 10, parametric: false }
    }
}

/// k-means steps of a round in which the rotation is still learnt.
const ROUND_ITERATIONS: usize = 4;

/// A trained optimized product quantizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Opq {
    pq: Pq,
    rotation: Vec<f32>, // (dim, dim)
}

impl Opq {
    /// Trains rotation and codewords. Cost: for each round, 4 n ks dim multiply-adds for k-means,
    /// 2 n dim^2 for the products and a singular value decomposition of (dim, dim); memory: two
    /// copies of the vectors. [`Task::losses`] grows by one each round.
    ///
    /// # Errors
    /// As [`Pq::train`]; [`Error::NoConvergence`].
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
        let (n, dim) = (vectors.len(), vectors.dim());
        let PqOptions { m, ks, metric, iterations, .. } = options.pq;
        let ds = options.pq.check(n, dim)?;
        vectors.check("vectors", task)?;
        let kernels = Kernels::active()?;
        let rounds = options.rotations.max(1);
        let round_iterations = |round| {
            if round + 1 == rounds { iterations } else { ROUND_ITERATIONS }
        };
        task.begin((m * (0..rounds).map(round_iterations).sum::<usize>()) as u64);
        let mut rotation = if options.parametric {
            eigenvalue_allocation(vectors, m, task)?
        } else {
            identity(dim)?
        };
        let draws = seeding::draw(&options.pq.init, options.pq.seed, n, (m, ks, ds))?;
        let mut rotated =
            filled(size(&[n, dim], "the rotated vectors")?, 0.0, "the rotated vectors")?;
        let mut training = Training::default();
        let mut clusters: Vec<Clusters> = Vec::new();
        for round in 0..rounds {
            rotate(&rotation, vectors, &mut rotated, task)?;
            let rows = Vectors::new(&rotated, dim)?;
            clusters = threads::map(task, (0..m).collect(), |m| {
                let columns = m * ds..(m + 1) * ds;
                let start = match clusters.get(m) {
                    Some(clusters) => clusters.codewords.clone(),
                    None => draws[m].codewords(rows, columns.clone(), ks, task)?,
                };
                let points = Points::new(rows, columns)?;
                kmeans::train(&points, start, round_iterations(round), kernels, task)
            })?;
            let summary = pq::summarize(&clusters, n);
            task.report_loss(summary.losses.last().copied().unwrap_or(0.0));
            training.losses.extend(summary.losses);
            training.empty_clusters = summary.empty_clusters;
            if round + 1 < rounds {
                rotation = procrustes(vectors, &clusters, ds, task)?;
            }
        }
        let mut codewords = Vec::new();
        clusters.iter().for_each(|clusters| codewords.extend_from_slice(&clusters.codewords));
        let pq = Pq::from_codewords(codewords, m, ks, ds, metric)?;
        Ok((Self { pq, rotation }, training))
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
        self.view()?.apply_into(vectors, &mut out, &Task::new())?;
        Ok(out)
    }

    /// The codes of the rotated vectors, shape `(n, m)`.
    ///
    /// # Errors
    /// As [`crate::Codebook::encode_into`].
    pub fn encode(&self, vectors: Vectors<'_>) -> Result<Codes<'static>> {
        pq::encode(self.pq.codebook(), Some(self.view()?), vectors)
    }

    /// The vectors that the codes stand for, rotated back, shape `(n, dim)`.
    ///
    /// # Errors
    /// As [`crate::Codebook::decode_into`].
    pub fn decode(&self, codes: &Codes<'_>) -> Result<Vec<f32>> {
        pq::decode(self.pq.codebook(), Some(self.view()?), codes)
    }

    /// The distance table of the rotated query, shape `(m, ks)`.
    ///
    /// # Errors
    /// As [`crate::Codebook::table_into`].
    pub fn table(&self, query: &[f32]) -> Result<DistanceTable<'static>> {
        pq::table(self.pq.codebook(), Some(self.view()?), query, self.pq.metric())
    }

    fn view(&self) -> Result<Rotation<'_>> {
        Rotation::new(&self.rotation, self.pq.codebook().dim())
    }
}

/// The rotation (dim, dim) that is best for Gaussian data (Ge 2014, section 4): eigenvectors of
/// the covariance, dealt to `m` sub-spaces so that the products of their eigenvalues are balanced.
/// Orthogonal to rounding for any data.
///
/// # Errors
/// [`Error::NotDivisible`], [`Error::TooFewRows`] for no rows, [`Error::NonFinite`],
/// [`Error::TooLarge`], [`Error::NoConvergence`], [`Error::Cancelled`].
pub fn eigenvalue_allocation(vectors: Vectors<'_>, m: usize, task: &Task) -> Result<Vec<f32>> {
    let dim = vectors.dim();
    let options = PqOptions { ks: 1, allow_few_rows: true, ..PqOptions::new(m) };
    let ds = options.check(vectors.len(), dim)?;
    vectors.check("vectors", task)?;
    let (_, covariance) = covariance(vectors, 0..dim, task)?;
    let (values, eigenvectors) = symmetric_eigen(&covariance, dim)?;
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
            *out = eigenvectors[row * dim + column] as f32;
        }
    }
    Ok(rotation)
}

fn identity(dim: usize) -> Result<Vec<f32>> {
    let mut rotation = filled(size(&[dim, dim], "the rotation")?, 0.0, "the rotation")?;
    rotation.iter_mut().step_by(dim + 1).for_each(|diagonal| *diagonal = 1.0);
    Ok(rotation)
}

/// `out = vectors rotation`, without progress of its own.
fn rotate(rotation: &[f32], vectors: Vectors<'_>, out: &mut [f32], task: &Task) -> Result<()> {
    let dim = vectors.dim();
    let rotation = Rotation::new(rotation, dim)?;
    let block = crate::linalg::BLOCK_ROWS * dim;
    let blocks = vectors.as_slice().chunks(block).zip(out.chunks_mut(block)).collect();
    threads::map(task, blocks, |(rows, out)| {
        rotation.apply_rows(rows, out);
        Ok(())
    })?;
    Ok(())
}

/// The rotation that brings the vectors nearest to the codewords of their labels.
fn procrustes(
    vectors: Vectors<'_>,
    clusters: &[Clusters],
    ds: usize,
    task: &Task,
) -> Result<Vec<f32>> {
    let dim = vectors.dim();
    let product = cross_product(vectors.len(), dim, task, |rows, left, right| {
        let pairs = left.chunks_exact_mut(dim).zip(right.chunks_exact_mut(dim));
        for (row, (left, right)) in rows.zip(pairs) {
            widen(vectors.row(row), left);
            for (clusters, right) in clusters.iter().zip(right.chunks_exact_mut(ds)) {
                let label = clusters.labels[row] as usize;
                widen(&clusters.codewords[label * ds..][..ds], right);
            }
        }
    })?;
    polar_factor(&product, dim)
}

fn widen(from: &[f32], to: &mut [f64]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = f64::from(from));
}
