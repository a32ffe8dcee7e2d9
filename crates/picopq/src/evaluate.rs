//! How good a search or a quantizer is: exact nearest neighbours to compare with, and the mean
//! squared reconstruction error.
//!
//! The exact search multiplies a block of queries with a tile of rows, both about a centre, in f32,
//! and bounds every distance by the product and the norms:
//!
//! ```text
//! for each block of queries, for each tile of rows:
//!     p = queries rows^T                           f32, off by at most gamma |q| |x|
//!     where p >= cutoff(query) + scale(query) * term(row):
//!         measure the pair in f64, keep the k best, raise the cutoff
//! ```

use std::collections::HashSet;
use std::ops::Range;

use crate::best::{Best, Collect, Keyed};
use crate::error::{Error, Result, filled, size, with_capacity};
use crate::kernels::centre;
use crate::linalg::{Rotation, dot_products};
use crate::metric::Metric;
use crate::pq::{Codebook, Encoder};
use crate::quantizer::Quantizer;
use crate::table::Neighbor;
use crate::threads::{self, Task};
use crate::vectors::{Vectors, vector_limit};

/// Queries that go over the rows together, at most.
const BLOCK_QUERIES: usize = 128;
/// Neighbours that the queries of a block keep together, at most, unless one keeps more.
const BLOCK_NEIGHBORS: usize = 1 << 20;
/// Values in a tile of rows: the tile stays in the second-level cache.
const TILE_VALUES: usize = 1 << 16;
/// Pieces that the work is cut into where the queries alone are fewer: the rows are cut too.
const PIECES: usize = 64;
/// The gamma of so many dimensions that products say nothing.
const NO_BOUND: f64 = 1.0;
/// Products compared with their cutoffs at once.
const LANES: usize = 16;

/// The `k` nearest rows of `base` (all, if there are fewer) to each query, best first: the smallest
/// squared distance or the largest dot product. Distances are summed in f64 and rounded to f32;
/// ties go to the lower row. Cost: nq n dim multiply-adds; memory grows with the answer, not with
/// `n`.
///
/// # Errors
/// [`Error::DimensionMismatch`] if `queries` and `base` differ, [`Error::NonFinite`] or
/// [`Error::TooLarge`] for a value of either, [`Error::OutOfMemory`], [`Error::Cancelled`].
///
/// ```
/// use picopq::{Metric, Task, Vectors, evaluate};
/// let base = Vectors::new(&[0.0, 3.0, 5.0, 4.0], 1)?;
/// let found = evaluate::ground_truth(base, Vectors::new(&[3.5], 1)?, 2, Metric::L2, &Task::new())?;
/// assert_eq!(found[0].iter().map(|neighbor| neighbor.id).collect::<Vec<_>>(), [1, 3]);
/// # Ok::<(), picopq::Error>(())
/// ```
pub fn ground_truth(
    base: Vectors<'_>,
    queries: Vectors<'_>,
    k: usize,
    metric: Metric,
    task: &Task,
) -> Result<Vec<Vec<Neighbor>>> {
    let (n, dim) = (base.len(), base.dim());
    if queries.dim() != dim {
        let got = queries.dim();
        return Err(Error::DimensionMismatch { argument: "queries", expected: dim, got });
    }
    base.check("base", vector_limit(dim), task)?;
    queries.check("queries", vector_limit(dim), task)?;
    let k = k.min(n);
    let mut answers = with_capacity(queries.len(), "the nearest neighbours")?;
    if k == 0 {
        answers.resize(queries.len(), Vec::new());
        return Ok(answers);
    }
    let exact = Exact::new(base, k, metric)?;
    let blocks = queries.as_slice().chunks((BLOCK_NEIGHBORS / k).clamp(1, BLOCK_QUERIES) * dim);
    let parts = (PIECES / blocks.len().max(1)).clamp(1, n.div_ceil(exact.tile_rows));
    let rows = |part| part * n / parts..(part + 1) * n / parts;
    task.begin((blocks.len() * n) as u64);
    let pieces = blocks.flat_map(|block| (0..parts).map(move |part| (block, part))).collect();
    let found = threads::map(task, pieces, |(block, part)| exact.best(block, rows(part), task))?;
    for parts in found.chunks_exact(parts) {
        for query in 0..parts[0].len() {
            let mut best = Best::new(k);
            for &(key, id) in parts.iter().flat_map(|part| &part[query]) {
                best.offer(key, id)?;
            }
            let neighbor = |(key, id)| Neighbor { distance: metric.sign() * key, id };
            answers.push(best.into_sorted().into_iter().map(neighbor).collect());
        }
    }
    Ok(answers)
}

/// An exact search of the `k` best rows.
struct Exact<'a> {
    base: Vectors<'a>,
    k: usize,
    metric: Metric,
    centre: Vec<f32>, // (dim,)
    gamma: f64,
    tile_rows: usize,
}

/// The bound of one query: a row whose product is below `cutoff + scale * term` is not among the
/// best.
struct Bound {
    norm: f64, // |q|
    scale: f32,
    cutoff: f32,
}

impl<'a> Exact<'a> {
    fn new(base: Vectors<'a>, k: usize, metric: Metric) -> Result<Self> {
        let dim = base.dim();
        let centre = match metric {
            Metric::L2 => centre(base.as_slice(), dim, 0..dim)?,
            Metric::Dot => filled(dim, 0.0, "the centre")?,
        };
        // However it is summed, a product of dim terms is off by at most dim u / (1 - dim u) times
        // |q| |x| (Higham, "Accuracy and stability of numerical algorithms", section 3.1). The
        // rest, 64 u, covers what else is rounded: the centred values, norms, terms, cutoffs.
        let roundings = (dim + 64) as f64 * f64::from(f32::EPSILON) / 2.0;
        let gamma = if roundings < 0.5 { roundings / (1.0 - roundings) } else { NO_BOUND };
        let tile_rows = (TILE_VALUES / dim).clamp(LANES, BLOCK_QUERIES * LANES);
        Ok(Self { base, k, metric, centre, gamma, tile_rows })
    }

    /// The best of the rows in a range for each query of a block, as sorted (key, id).
    fn best(
        &self,
        queries: &[f32], // (block, dim)
        range: Range<usize>,
        task: &Task,
    ) -> Result<Vec<Vec<Keyed>>> {
        let (dim, count) = (self.base.dim(), queries.len() / self.base.dim());
        let what = "the exact search";
        let mut centred_queries = filled(queries.len(), 0.0, what)?;
        self.centred(queries, &mut centred_queries);
        let mut bounds: Vec<_> =
            centred_queries.chunks_exact(dim).map(|query| self.bound(norm(query))).collect();
        let most = self.k.min(range.len());
        let mut best = (0..count).map(|_| Best::new(most)).collect::<Vec<_>>();
        let tile_rows = self.tile_rows.min(range.len());
        let mut tile = filled(size(&[tile_rows, dim], what)?, 0.0, what)?;
        let mut terms = filled(tile_rows, 0.0, what)?;
        let mut products = filled(count * tile_rows, 0.0, what)?;
        for first in range.clone().step_by(tile_rows) {
            task.check()?;
            let rows = tile_rows.min(range.end - first);
            let (tile, terms) = (&mut tile[..rows * dim], &mut terms[..rows]);
            self.centred(&self.base.as_slice()[first * dim..][..rows * dim], tile);
            for (term, row) in terms.iter_mut().zip(tile.chunks_exact(dim)) {
                *term = self.term(norm(row));
            }
            let products = &mut products[..count * rows];
            dot_products(&centred_queries, tile, dim, products);
            let each = queries.chunks_exact(dim).zip(products.chunks_exact(rows));
            for ((bound, best), (query, products)) in bounds.iter_mut().zip(&mut best).zip(each) {
                self.refine(query, first, products, terms, bound, best)?;
            }
            task.advance(rows as u64);
        }
        Ok(best.into_iter().map(Best::into_sorted).collect())
    }

    /// Measures the rows of a tile that the bound does not exclude.
    fn refine(
        &self,
        query: &[f32],
        first: usize,
        products: &[f32], // (rows,)
        terms: &[f32],    // (rows,)
        bound: &mut Bound,
        best: &mut Best,
    ) -> Result<()> {
        let lanes = products.chunks(LANES).zip(terms.chunks(LANES));
        for (chunk, (products, terms)) in lanes.enumerate() {
            let passes = |bound: &Bound, (product, term): (&f32, &f32)| {
                *product >= bound.cutoff + bound.scale * term
            };
            // Counted, not searched, so that it vectorises: hardly any chunk has one.
            let pairs = || products.iter().zip(terms);
            if pairs().fold(0, |count, pair| count + u32::from(passes(bound, pair))) == 0 {
                continue;
            }
            for (lane, pair) in pairs().enumerate() {
                if passes(bound, pair) {
                    let row = first + chunk * LANES + lane;
                    let distance = exact_distance(query, self.base.row(row), self.metric);
                    best.offer(self.metric.sign() * distance, row as i64)?;
                    self.tighten(bound, best);
                }
            }
        }
        Ok(())
    }

    fn centred(&self, rows: &[f32], out: &mut [f32]) {
        let dim = self.centre.len();
        for (row, out) in rows.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            let values = row.iter().zip(&self.centre);
            out.iter_mut().zip(values).for_each(|(out, (value, centre))| *out = value - centre);
        }
    }

    fn bound(&self, norm: f64) -> Bound {
        let scale = match self.metric {
            Metric::L2 => 1.0,
            Metric::Dot => ((self.gamma * norm) as f32).next_up(),
        };
        Bound { norm, scale, cutoff: f32::NEG_INFINITY }
    }

    /// What a row of this norm asks of its product: for L2, with 2 |q| |x| <= |q|^2 + |x|^2,
    /// |q|^2 + |x|^2 - 2 p - gamma (|q|^2 + |x|^2) bounds the squared distance from below; for dot,
    /// p + gamma |q| |x| bounds the product from above.
    fn term(&self, norm: f64) -> f32 {
        let term = match self.metric {
            Metric::L2 => (1.0 - self.gamma) * norm * norm / 2.0,
            Metric::Dot => -norm,
        };
        (term as f32).next_down()
    }

    /// Raises the cutoff to the k-th best so far.
    fn tighten(&self, bound: &mut Bound, best: &mut Best) {
        let key = f64::from(best.limit());
        if key.is_infinite() || self.gamma >= NO_BOUND {
            return;
        }
        let furthest = key + key.abs() * 2.0 * f64::from(f32::EPSILON); // that rounds to the same f32
        let cutoff = match self.metric {
            Metric::L2 => ((1.0 - self.gamma) * bound.norm * bound.norm - furthest) / 2.0,
            Metric::Dot => -furthest,
        };
        // What products lose where they are too small for f32's normal numbers.
        let underflow = (self.base.dim() + 64) as f64 * f64::from(f32::from_bits(1));
        bound.cutoff = ((cutoff - underflow) as f32).next_down();
    }
}

/// The squared distance or dot product, summed in f64 and rounded once.
pub(crate) fn exact_distance(x: &[f32], y: &[f32], metric: Metric) -> f32 {
    match metric {
        Metric::L2 => squared_distance(x, y) as f32,
        Metric::Dot => sum(x, y, |x, y| x * y) as f32,
    }
}

fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    sum(x, y, |x, y| (x - y) * (x - y))
}

fn norm(x: &[f32]) -> f64 {
    sum(x, x, |x, y| x * y).sqrt()
}

/// The sum of `term` over pairs of values, in f64 and in an order that depends on their number
/// alone.
fn sum(x: &[f32], y: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    const WIDTH: usize = 8;
    let mut sums = [0.0; WIDTH];
    let (heads, tails) = (x.chunks_exact(WIDTH).zip(y.chunks_exact(WIDTH)), x.len() % WIDTH);
    for (x, y) in heads {
        for (sum, (&x, &y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += term(f64::from(x), f64::from(y));
        }
    }
    let tail = x[x.len() - tails..].iter().zip(&y[y.len() - tails..]);
    for (sum, (&x, &y)) in sums.iter_mut().zip(tail) {
        *sum += term(f64::from(x), f64::from(y));
    }
    sums.iter().sum()
}

/// The mean, over the vectors, of the squared distance to their reconstruction (encoded, decoded,
/// rotated back); 0 if there are none. Summed in f64, the same for any number of threads. Cost: an
/// encoding and a decoding; scratch does not grow with `n`.
///
/// # Errors
/// As [`Codebook::encode_into`].
///
/// ```
/// use picopq::{Codebook, Task, Vectors, evaluate};
/// let book = Codebook::new(&[0.0, 10.0], 1, 2, 1)?;
/// let vectors = Vectors::new(&[1.0, 7.0], 1)?;
/// assert_eq!(evaluate::distortion(book, None, vectors, &Task::new())?, 5.0);
/// # Ok::<(), picopq::Error>(())
/// ```
pub fn distortion(
    book: Codebook<'_>,
    rotation: Option<Rotation<'_>>,
    vectors: Vectors<'_>,
    task: &Task,
) -> Result<f64> {
    let (m, dim) = (book.m(), book.dim());
    book.check_dim("vectors", vectors.dim())?;
    book.check_rotation(rotation)?;
    task.begin(vectors.len() as u64);
    let encoder = Encoder::new(book, rotation, task)?;
    let blocks = vectors.as_slice().chunks(encoder.chunk_rows() * dim).collect();
    let errors = threads::map(task, blocks, |block: &[f32]| {
        let rows = block.len() / dim;
        let mut codes = filled(rows * m, 0_u32, "the codes")?;
        if !encoder.run(block, &mut codes, task)? {
            return Err(vectors.fault("vectors", vector_limit(dim)));
        }
        let mut restored = filled(block.len(), 0.0, "the decoded vectors")?;
        book.decode_block(rotation, &codes, &mut restored, 0)?;
        task.advance(rows as u64);
        Ok(squared_distance(block, &restored))
    })?;
    Ok(errors.into_iter().sum::<f64>() / vectors.len().max(1) as f64)
}

/// What one sub-space does to a set of vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct SubSpace {
    /// Mean squared error of the sub-vectors; the sum over the sub-spaces is the distortion.
    pub error: f64,
    /// How many vectors have each code, (ks,).
    pub counts: Vec<u64>,
}

/// The error and the use of the codewords in each sub-space. Cost: that of an encoding; memory: the
/// codes and, with a rotation, a copy of the vectors.
///
/// # Errors
/// As [`Codebook::encode_into`].
///
/// ```
/// use picopq::{Metric, Pq, Task, Vectors, evaluate};
/// let pq = Pq::from_codewords(vec![0.0, 10.0], 1, 2, 1, Metric::L2)?;
/// let vectors = Vectors::new(&[1.0, 7.0], 1)?;
/// let found = evaluate::sub_spaces(&pq.into(), vectors, &Task::new())?;
/// assert_eq!((found[0].error, &found[0].counts[..]), (5.0, &[1, 1][..]));
/// # Ok::<(), picopq::Error>(())
/// ```
pub fn sub_spaces(model: &Quantizer, vectors: Vectors<'_>, task: &Task) -> Result<Vec<SubSpace>> {
    let book = model.codebook();
    let (m, ds) = (book.m(), book.ds());
    let mut codes = filled(vectors.len() * m, 0_u32, "the codes")?;
    book.encode_into(model.rotation(), vectors, &mut codes, task)?;
    let mut rotated;
    let rows = match model.rotation() {
        None => vectors.as_slice(),
        Some(rotation) => {
            rotated = filled(vectors.as_slice().len(), 0.0, "the rotated vectors")?;
            rotation.apply_into(vectors, &mut rotated, task)?;
            &rotated
        }
    };
    threads::map(task, (0..m).collect(), |sub_space| {
        let (mut sum, mut counts) = (0.0, filled(book.ks(), 0, "the counts")?);
        let codewords = book.sub_space(sub_space);
        for (row, codes) in rows.chunks_exact(book.dim()).zip(codes.chunks_exact(m)) {
            let code = codes[sub_space] as usize;
            counts[code] += 1;
            sum += squared_distance(&row[sub_space * ds..][..ds], &codewords[code * ds..][..ds]);
        }
        Ok(SubSpace { error: sum / vectors.len().max(1) as f64, counts })
    })
}

/// recall@k (Jegou 2011, section V-B): the share of queries whose nearest neighbour, the first of
/// `truth`, is among the first `k` found. NaN without queries.
#[must_use]
pub fn recall_at_k(truth: &[Vec<i64>], found: &[Vec<i64>], k: usize) -> f64 {
    let hit = |(truth, found): (&Vec<i64>, &Vec<i64>)| {
        truth.first().is_some_and(|nearest| found.iter().take(k).any(|id| id == nearest))
    };
    let hits = truth.iter().zip(found).map(hit).filter(|&hit| hit).count();
    hits as f64 / truth.len() as f64
}

/// k-recall@k: how many of the `k` nearest neighbours are among the first `k` found, over k; the
/// mean over the queries. NaN without queries.
///
/// ```
/// use picopq::evaluate::{k_recall_at_k, recall_at_k};
/// let (truth, found) = ([vec![4, 2], vec![1, 9]], [vec![2, 4], vec![3, 1]]);
/// assert_eq!(recall_at_k(&truth, &found, 1), 0.0);
/// assert_eq!(k_recall_at_k(&truth, &found, 2), 0.75);
/// ```
#[must_use]
pub fn k_recall_at_k(truth: &[Vec<i64>], found: &[Vec<i64>], k: usize) -> f64 {
    let hits = |(truth, found): (&Vec<i64>, &Vec<i64>)| {
        let found: HashSet<_> = found.iter().take(k).collect();
        truth.iter().take(k).filter(|id| found.contains(id)).count()
    };
    truth.iter().zip(found).map(hits).sum::<usize>() as f64 / (k * truth.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::Codes;
    use crate::random::LegacyRandom;

    /// The plainest search there is, sorted by (distance as f32, row).
    fn plain(base: Vectors<'_>, query: &[f32], k: usize, metric: Metric) -> Vec<Neighbor> {
        let key = |id: usize| {
            let pairs = query.iter().zip(base.row(id)).map(|(&x, &y)| (f64::from(x), f64::from(y)));
            match metric {
                Metric::L2 => pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f64>() as f32,
                Metric::Dot => -pairs.map(|(x, y)| x * y).sum::<f64>() as f32,
            }
        };
        let mut all: Vec<_> = (0..base.len()).map(|row| (key(row), row as i64)).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let neighbor = |(key, id): Keyed| Neighbor { distance: metric.sign() * key, id };
        all.into_iter().take(k).map(neighbor).collect()
    }

    fn values(count: usize, value: impl Fn(f64) -> f64) -> Vec<f32> {
        let normals = LegacyRandom::new(count as u32).normals(count, &Task::new()).unwrap();
        normals.into_iter().map(|normal| value(normal) as f32).collect()
    }

    type Kind = (&'static str, Box<dyn Fn(f64) -> f64>);

    /// What makes products in f32 treacherous.
    fn kinds(dim: usize) -> [Kind; 6] {
        let limit = f64::from(vector_limit(dim));
        [
            ("normal", Box::new(|x| x)),
            ("ties", Box::new(f64::round)),
            ("far from 0", Box::new(|x| 1e5 + x)),
            ("below the normal numbers", Box::new(|x| 1e-22 * x)),
            ("uneven rows", Box::new(move |x| (9.0 * x).exp().min(limit / 2.0))),
            ("at the limit", Box::new(move |x| limit * (x / 3.0).clamp(-1.0, 1.0))),
        ]
    }

    #[test]
    fn the_neighbours_are_those_of_a_plain_search() {
        for (n, nq, dim) in [
            (1, 1, 1),
            (17, 3, 1),
            (2049, 2, 1),  // more rows than a tile
            (130, 129, 5), // more queries than a block
            (1030, 7, 128),
            (40, 2, 5000), // a tile as small as it gets
        ] {
            for (kind, value) in kinds(dim) {
                let (base, queries) = (values(n * dim, &value), values(nq * dim + 1, &value));
                let base = Vectors::new(&base, dim).unwrap();
                let queries = Vectors::new(&queries[..nq * dim], dim).unwrap();
                for metric in [Metric::L2, Metric::Dot] {
                    for k in [0, 1, 10, n, n + 5] {
                        let found = ground_truth(base, queries, k, metric, &Task::new()).unwrap();
                        assert_eq!(found.len(), nq);
                        for (query, found) in found.into_iter().enumerate() {
                            let wanted = plain(base, queries.row(query), k, metric);
                            assert_eq!(found, wanted, "{kind} {metric:?} {n} x {dim}, k {k}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_bound_excludes_nearly_all_rows() {
        let rows = values(4096 * 64, |x| 1e3 + x);
        let exact = Exact::new(Vectors::new(&rows, 64).unwrap(), 1, Metric::L2).unwrap();
        let (query, best) = (&rows[..64], 90.0);
        let mut centred = vec![0.0; rows.len()];
        exact.centred(&rows, &mut centred);
        let mut kept = Best::new(1);
        kept.offer(best, 0).unwrap();
        kept.offer(best, 1).unwrap();
        let mut bound = exact.bound(norm(&centred[..64]));
        exact.tighten(&mut bound, &mut kept);
        let (mut passed, mut near) = (0, 0);
        for (row, centred_row) in rows.chunks_exact(64).zip(centred.chunks_exact(64)) {
            let product = sum(&centred[..64], centred_row, |x, y| x * y) as f32;
            let passes = product >= bound.cutoff + bound.scale * exact.term(norm(centred_row));
            let distance = exact_distance(query, row, exact.metric);
            assert!(passes || distance > best);
            passed += usize::from(passes);
            near += usize::from(distance <= best * 1.001);
        }
        assert!(0 < near && passed <= near && near < 2048, "{passed} passed, {near} are near");
    }

    #[test]
    fn no_base_and_no_queries_have_no_neighbours() {
        let (none, one) = (Vectors::new(&[], 2).unwrap(), Vectors::new(&[1.0, 2.0], 2).unwrap());
        let search = |base, queries| ground_truth(base, queries, 3, Metric::L2, &Task::new());
        assert_eq!(search(none, one), Ok(vec![vec![]]));
        assert_eq!(search(one, none), Ok(vec![]));
    }

    #[test]
    fn progress_ends_at_its_total() {
        let rows = values(700 * 3, |x| x);
        let (rows, task) = (Vectors::new(&rows, 3).unwrap(), Task::new());
        ground_truth(rows, rows, 2, Metric::Dot, &task).unwrap();
        assert_eq!(task.progress(), (6 * 700, 6 * 700));
        task.cancel();
        assert_eq!(ground_truth(rows, rows, 2, Metric::Dot, &task), Err(Error::Cancelled));
    }

    #[test]
    fn the_distortion_is_the_mean_of_encode_and_decode() {
        let (m, ks, dim, n) = (3, 20, 6, 9001); // more rows than a block
        let (codewords, rows) = (values(m * ks * 2, |x| x), values(n * dim, |x| x));
        let book = Codebook::new(&codewords, m, ks, dim / m).unwrap();
        let rows = Vectors::new(&rows, dim).unwrap();
        let (sine, cosine) = 0.3_f32.sin_cos();
        let mut turn = vec![0.0; dim * dim];
        (0..dim).for_each(|d| turn[d * dim + d] = 1.0);
        (turn[0], turn[1], turn[dim], turn[dim + 1]) = (cosine, sine, -sine, cosine);
        for rotation in [None, Some(Rotation::new(&turn, dim).unwrap())] {
            let task = Task::new();
            let mut codes = vec![0_u8; n * m];
            book.encode_into(rotation, rows, &mut codes, &task).unwrap();
            let mut restored = vec![0.0; n * dim];
            let codes = Codes::new(codes, m, ks).unwrap();
            book.decode_into(rotation, &codes, &mut restored, &task).unwrap();
            let wanted = squared_distance(rows.as_slice(), &restored) / n as f64;
            let found = distortion(book, rotation, rows, &task).unwrap();
            assert!((found - wanted).abs() <= 1e-12 * wanted, "{found} for {wanted}");
            assert_eq!(task.progress(), (n as u64, n as u64));
        }
        let none = Vectors::new(&[], dim).unwrap();
        assert_eq!(distortion(book, None, none, &Task::new()), Ok(0.0));
    }
}
