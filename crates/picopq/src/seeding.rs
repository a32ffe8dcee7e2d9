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
    /// its squared distance from those drawn so far. Rows that the triangle inequality proves to
    /// be nearer to an earlier one cost a comparison, not a distance. nanopq's `"++"`.
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
                let mut spread = Spread::new(vectors, columns.clone(), *first, task)?;
                for &uniform in uniforms {
                    task.check()?;
                    let row = spread.look_up(uniform);
                    take(row);
                    spread.add(row, task)?;
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

/// Rows whose squared distances are added up together.
const BLOCK: usize = 256;

/// How far each row is from the codewords drawn so far.
///
/// A new codeword c changes nothing for a row x whose nearest codeword so far, o, is at most half
/// as far as c is from o, because |x - c| >= |o - c| - |x - o| >= |x - o|: such rows cost one
/// comparison (the triangle inequality, as in Elkan 2003), and the result is that of `ks` whole
/// passes, bit for bit.
struct Spread {
    rows: Vec<f32>, // (n, ds)
    ds: usize,
    /// Squared distance of each row to its owner, the nearest codeword.
    nearest: Vec<f64>, // (n,)
    owners: Vec<u32>,  // (n,)
    drawn: Vec<usize>, // rows that are codewords
    sums: Vec<f64>,    // of `nearest`, for each block
}

/// The quarter of a squared distance, less what it and another can be off by: each is a sum of
/// `ds` squares in f64.
const QUARTER: f64 = 0.25 * (1.0 - 1e-9);

impl Spread {
    fn new(vectors: Vectors<'_>, columns: Range<usize>, first: usize, task: &Task) -> Result<Self> {
        let (n, ds) = (vectors.len(), columns.len());
        let mut rows = with_capacity(n * ds, "the sub-vectors")?;
        for row in 0..n {
            if row % BLOCK == 0 {
                task.check()?;
            }
            rows.extend_from_slice(&vectors.row(row)[columns.clone()]);
        }
        let mut spread = Self {
            rows,
            ds,
            nearest: filled(n, f64::INFINITY, "the squared distances")?,
            owners: filled(n, 0, "the nearest codewords")?,
            drawn: Vec::new(),
            sums: filled(n.div_ceil(BLOCK), 0.0, "the sums")?,
        };
        spread.add(first, task)?;
        Ok(spread)
    }

    /// Makes a row a codeword.
    fn add(&mut self, row: usize, task: &Task) -> Result<()> {
        let Self { rows, ds, nearest, owners, drawn, sums } = self;
        let codeword = &rows[row * *ds..][..*ds];
        let distance = |row: usize| squared_distance(&rows[row * *ds..][..*ds], codeword);
        let number = drawn.len() as u32;
        drawn.push(row);
        let mut limits = with_capacity(drawn.len(), "the limits")?;
        limits.extend(drawn.iter().map(|&other| QUARTER * distance(other)));
        let blocks = nearest.chunks_mut(BLOCK).zip(owners.chunks_mut(BLOCK)).zip(sums);
        for (block, ((nearest, owners), sum)) in blocks.enumerate() {
            task.check()?;
            let (mut near, mut count) = ([0; BLOCK], 0);
            for (i, (&nearest, &owner)) in nearest.iter().zip(&*owners).enumerate() {
                near[count] = i;
                count += usize::from(nearest > limits[owner as usize]);
            }
            for &i in &near[..count] {
                let distance = distance(block * BLOCK + i);
                if distance < nearest[i] {
                    (nearest[i], owners[i]) = (distance, number);
                }
            }
            if count > 0 {
                *sum = nearest.iter().sum();
            }
        }
        Ok(())
    }

    /// The row at which the cumulated shares of the squared distances reach `uniform`. Where all
    /// are 0 every row is a codeword already, and row 0 is taken.
    fn look_up(&self, uniform: f64) -> usize {
        let wanted = uniform * self.sums.iter().sum::<f64>();
        let mut before = 0.0;
        for (block, sum) in self.sums.iter().enumerate() {
            if before + sum >= wanted {
                let first = block * BLOCK;
                let rows = &self.nearest[first..self.nearest.len().min(first + BLOCK)];
                let reaches = |nearest: &f64| {
                    before += nearest;
                    before >= wanted
                };
                return first + rows.iter().position(reaches).unwrap_or(rows.len() - 1);
            }
            before += sum;
        }
        self.nearest.len() - 1
    }
}

fn squared_distance(x: &[f32], c: &[f32]) -> f64 {
    x.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws with a whole pass over all rows for each codeword.
    fn plain(rows: &[f32], ds: usize, first: usize, uniforms: &[f64]) -> Vec<usize> {
        let mut drawn = vec![first];
        for uniform in uniforms {
            let nearest: Vec<f64> = rows
                .chunks_exact(ds)
                .map(|x| {
                    let codewords = drawn.iter().map(|&row| &rows[row * ds..][..ds]);
                    codewords.map(|c| squared_distance(x, c)).fold(f64::INFINITY, f64::min)
                })
                .collect();
            let wanted = uniform * nearest.iter().sum::<f64>();
            let mut cumulated = 0.0;
            let reaches = |nearest: &f64| {
                cumulated += nearest;
                cumulated >= wanted
            };
            drawn.push(nearest.iter().position(reaches).unwrap_or(nearest.len() - 1));
        }
        drawn
    }

    #[test]
    fn skipping_rows_changes_no_draw() {
        let mut random = LegacyRandom::new(6);
        // Real numbers, small integers with many ties, and all rows alike.
        let mut normals = |len| (0..len).map(|_| random.normal() as f32).collect::<Vec<f32>>();
        for (ds, n, ks) in [(1, 700, 40), (4, 1000, 64), (8, 300, 256), (16, 257, 20)] {
            let real = normals(n * ds);
            let coarse = real.iter().map(|x| x.round()).collect();
            for rows in [real, coarse, vec![1.0; n * ds]] {
                let vectors = Vectors::new(&rows, ds).unwrap();
                let draws = draw(&Init::PlusPlus, 9, n, (1, ks, ds), &Task::new()).unwrap();
                let Draws::PlusPlus { first, uniforms } = &draws[0] else { panic!("other draws") };
                let found = draws[0].codewords(vectors, 0..ds, ks, &Task::new()).unwrap();
                let drawn = plain(&rows, ds, *first, uniforms);
                let wanted: Vec<f32> =
                    drawn.iter().flat_map(|row| &rows[row * ds..][..ds]).copied().collect();
                assert_eq!(found, wanted, "ds {ds} n {n} ks {ks}");
            }
        }
    }
}
