//! Initial codewords, drawn from numpy's legacy stream in nanopq's order: sub-space by sub-space.
//!
//! What is random is drawn first, for all sub-spaces in order ([`draw`]); what the draws mean is
//! then worked out for each sub-space on its own ([`Draws::codewords`]), in parallel.

use std::ops::Range;

use crate::error::{Result, filled, with_capacity};
use crate::linalg::{cholesky, covariance};
use crate::random::LegacyRandom;
use crate::threads::Task;
use crate::vectors::{Vectors, codeword_limit};

/// How k-means starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Init {
    /// `ks` distinct rows of the training vectors, drawn uniformly. nanopq's `"points"`.
    #[default]
    Points,
    /// k-means++ (Arthur and Vassilvitskii 2007): each next row with probability proportional to
    /// its squared distance from those drawn so far. Cost: `ks` passes. nanopq's `"++"`.
    PlusPlus,
    /// Deviates of a Gaussian with the training vectors' mean and covariance. nanopq's `"random"`.
    Random,
    /// Given codewords, shape `(m, ks, ds)`.
    Codewords(Vec<f32>),
}

/// One sub-space's random numbers.
pub(crate) enum Draws<'a> {
    Rows(Vec<usize>),
    PlusPlus { first: usize, uniforms: Vec<f64> },
    Normals(Vec<f64>), // (ks, ds)
    Given(&'a [f32]),  // (ks, ds)
}

/// The random numbers of all `m` sub-spaces for `n` rows.
pub(crate) fn draw<'a>(
    init: &'a Init,
    seed: u32,
    n: usize,
    (m, ks, ds): (usize, usize, usize),
    task: &Task,
) -> Result<Vec<Draws<'a>>> {
    let mut random = LegacyRandom::new(seed);
    let sub_space = |sub_space: usize| {
        Ok(match init {
            Init::Points => {
                let mut rows = random.choose(n, ks, task)?;
                rows.shrink_to_fit();
                Draws::Rows(rows)
            }
            Init::PlusPlus => {
                let first = random.up_to(n as u64 - 1) as usize;
                let mut uniforms = with_capacity(ks - 1, "the random numbers")?;
                uniforms.extend((1..ks).map(|_| random.uniform()));
                Draws::PlusPlus { first, uniforms }
            }
            Init::Random => Draws::Normals(random.normals(ks * ds, task)?),
            Init::Codewords(given) => Draws::Given(&given[sub_space * ks * ds..][..ks * ds]),
        })
    };
    (0..m).map(sub_space).collect()
}

impl Draws<'_> {
    /// The initial codewords (ks, ds) for the sub-space `columns` of the rows.
    pub(crate) fn codewords(
        &self,
        vectors: Vectors<'_>,
        columns: Range<usize>,
        ks: usize,
        task: &Task,
    ) -> Result<Vec<f32>> {
        let mut out = with_capacity(ks * columns.len(), "the initial codewords")?;
        let mut take = |row: usize| out.extend_from_slice(&vectors.row(row)[columns.clone()]);
        match self {
            // Fewer rows than codewords, where the caller allows it: each row serves again.
            Draws::Rows(rows) => (0..ks).for_each(|k| take(rows[k % rows.len()])),
            Draws::PlusPlus { first, uniforms } => {
                take(*first);
                let mut nearest = filled(vectors.len(), f64::INFINITY, "the squared distances")?;
                let mut last = *first;
                for &uniform in uniforms {
                    task.check()?;
                    last = next_row(vectors, &columns, &mut nearest, last, uniform);
                    take(last);
                }
            }
            Draws::Normals(normals) => {
                let (ds, limit) = (columns.len(), codeword_limit(columns.len()));
                let (mean, covariance) = covariance(vectors, columns, task)?;
                let lower = cholesky(&covariance, ds, task)?;
                for normals in normals.chunks_exact(ds) {
                    for (row, mean) in lower.chunks_exact(ds).zip(&mean) {
                        let dot: f64 = row.iter().zip(normals).map(|(l, normal)| l * normal).sum();
                        out.push(((mean + dot) as f32).clamp(-limit, limit));
                    }
                }
            }
            Draws::Given(codewords) => out.extend_from_slice(codewords),
        }
        Ok(out)
    }
}

/// Lowers the squared distances `nearest` by the row drawn `last`, and looks `uniform` up in their
/// cumulated shares. Where all are 0 every row is a codeword already, and row 0 is taken.
fn next_row(
    vectors: Vectors<'_>,
    columns: &Range<usize>,
    nearest: &mut [f64],
    last: usize,
    uniform: f64,
) -> usize {
    let codeword = &vectors.row(last)[columns.clone()];
    let mut total = 0.0;
    for (row, nearest) in nearest.iter_mut().enumerate() {
        let x = &vectors.row(row)[columns.clone()];
        let square = |(&x, &c): (&f32, &f32)| (f64::from(x) - f64::from(c)).powi(2);
        *nearest = nearest.min(x.iter().zip(codeword).map(square).sum());
        total += *nearest;
    }
    if total == 0.0 {
        return 0;
    }
    let mut cumulated = 0.0;
    let reaches = |nearest: &f64| {
        cumulated += nearest / total;
        cumulated >= uniform
    };
    nearest.iter().position(reaches).unwrap_or(nearest.len() - 1)
}
