//! Products of rows and matrices, the symmetric eigenproblem and the polar factor.
//!
//! The one file that knows the linear algebra dependency. Every product runs on fixed blocks of
//! rows with the library single-threaded inside, so that results do not depend on the number of
//! threads and a call can be cancelled between blocks.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatMut, MatRef, Par, Scale, Side};

use std::ops::Range;

use crate::error::{Error, Result, collected, filled, size, with_capacity};
use crate::threads::{self, Task};
use crate::vectors::{Vectors, all_finite};

/// Rows of a product with a (dim, dim) matrix that are computed together: so many that the product
/// runs at full speed, so few that a cancelled task does not wait for more than some milliseconds.
pub(crate) fn block_rows(dim: usize) -> usize {
    const WORK: usize = 1 << 28;
    (WORK / dim / dim).clamp(16, 1024)
}

/// Partial sums over all rows, at most; each is a sequence of blocks, and they are added in order.
const STRIPES: usize = 16;
/// Values that the partial sums hold together, at most (128 MiB).
const STRIPE_VALUES: usize = 1 << 24;
/// Matrices from here on are decomposed so that a cancelled task does not wait.
const LONG_DIM: usize = 256;

/// A borrowed rotation `R`, shape `(dim, dim)` row by row: a row vector x becomes `x R`.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    matrix: &'a [f32], // (dim, dim)
    dim: usize,
}

impl<'a> Rotation<'a> {
    /// Views `matrix` as `(dim, dim)`. Orthogonality is the caller's: the inverse is taken to be
    /// the transpose.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] or [`Error::NonFinite`].
    pub fn new(matrix: &'a [f32], dim: usize) -> Result<Self> {
        let expected = size(&[dim, dim], "the rotation")?;
        if matrix.len() != expected || dim == 0 {
            return Err(Error::LengthMismatch {
                argument: "rotation",
                expected: expected.max(1),
                got: matrix.len(),
            });
        }
        if !all_finite(matrix) {
            return Err(Vectors::new(matrix, dim)?.fault("rotation", f32::MAX));
        }
        Ok(Self { matrix, dim })
    }

    /// Views a matrix that [`Rotation::new`] has accepted before.
    pub(crate) fn of_checked(matrix: &'a [f32], dim: usize) -> Self {
        Self { matrix, dim }
    }

    /// The matrix, shape `(dim, dim)`.
    #[must_use]
    pub fn matrix(&self) -> &'a [f32] {
        self.matrix
    }

    /// Rows and columns.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `out = vectors R`, shapes `(n, dim)`. Cost: n dim^2 multiply-adds.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::LengthMismatch`] for `out`, [`Error::Cancelled`].
    pub fn apply_into(&self, vectors: Vectors<'_>, out: &mut [f32], task: &Task) -> Result<()> {
        self.multiply(vectors, false, out, task)
    }

    /// `out = vectors R^T`, which undoes [`Rotation::apply_into`].
    ///
    /// # Errors
    /// As [`Rotation::apply_into`].
    pub fn undo_into(&self, vectors: Vectors<'_>, out: &mut [f32], task: &Task) -> Result<()> {
        self.multiply(vectors, true, out, task)
    }

    fn multiply(
        &self,
        vectors: Vectors<'_>,
        transposed: bool,
        out: &mut [f32], // (n, dim)
        task: &Task,
    ) -> Result<()> {
        self.check(vectors.dim())?;
        if out.len() != vectors.as_slice().len() {
            let (expected, got) = (vectors.as_slice().len(), out.len());
            return Err(Error::LengthMismatch { argument: "out", expected, got });
        }
        task.begin(vectors.len() as u64);
        let block = block_rows(self.dim) * self.dim;
        let blocks = vectors.as_slice().chunks(block).zip(out.chunks_mut(block)).collect();
        threads::map(task, blocks, |(rows, out)| {
            if transposed {
                self.undo_rows(rows, out);
            } else {
                self.apply_rows(rows, out);
            }
            task.advance((rows.len() / self.dim) as u64);
            Ok(())
        })?;
        Ok(())
    }

    pub(crate) fn check(&self, dim: usize) -> Result<()> {
        if dim == self.dim {
            return Ok(());
        }
        Err(Error::DimensionMismatch { argument: "vectors", expected: self.dim, got: dim })
    }

    /// One block of rows on this thread.
    pub(crate) fn apply_rows(&self, rows: &[f32], out: &mut [f32]) {
        product(rows, self.as_mat(), out);
    }

    pub(crate) fn undo_rows(&self, rows: &[f32], out: &mut [f32]) {
        product(rows, self.as_mat().transpose(), out);
    }

    fn as_mat(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(self.matrix, self.dim, self.dim)
    }
}

/// `out = rows matrix`, all row by row.
fn product(rows: &[f32], matrix: MatRef<'_, f32>, out: &mut [f32]) {
    let (inner, outer) = (matrix.nrows(), matrix.ncols());
    let n = rows.len() / inner;
    matmul(
        MatMut::from_row_major_slice_mut(out, n, outer),
        Accum::Replace,
        MatRef::from_row_major_slice(rows, n, inner),
        matrix,
        1.0,
        Par::Seq,
    );
}

/// `out = left right^T`, the dot products of every pair of rows, all row by row.
pub(crate) fn dot_products(left: &[f32], right: &[f32], dim: usize, out: &mut [f32]) {
    product(left, MatRef::from_row_major_slice(right, right.len() / dim, dim).transpose(), out);
}

/// `out = left^T right`, all row by row, of matrices with equally many rows; `right` has `columns`.
pub(crate) fn transposed_product(left: &[f32], right: &[f32], columns: usize, out: &mut [f32]) {
    let (inner, rows) = (right.len() / columns, out.len() / columns);
    matmul(
        MatMut::from_row_major_slice_mut(out, rows, columns),
        Accum::Replace,
        MatRef::from_row_major_slice(left, inner, rows).transpose(),
        MatRef::from_row_major_slice(right, inner, columns),
        1.0,
        Par::Seq,
    );
}

/// Mean (dim,) and covariance (dim, dim), divided by n - 1, of the columns `columns` of the rows;
/// of the symmetric covariance the lower triangle alone. In f64, over blocks of [`block_rows`].
pub(crate) fn covariance(
    vectors: Vectors<'_>,
    columns: Range<usize>,
    task: &Task,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let what = "the covariance";
    let (n, dim) = (vectors.len(), columns.len());
    let square = size(&[dim, dim], what)?;
    let mut mean = vec![0.0_f64; dim];
    for row in 0..n {
        let values = &vectors.row(row)[columns.clone()];
        mean.iter_mut().zip(values).for_each(|(mean, &value)| *mean += f64::from(value));
    }
    mean.iter_mut().for_each(|mean| *mean /= n as f64);
    let block_rows = block_rows(dim);
    let blocks = n.div_ceil(block_rows);
    let count = (STRIPE_VALUES / square).clamp(2, STRIPES);
    let stripes = (0..count).map(|s| s * blocks / count..(s + 1) * blocks / count);
    let stripes = stripes.filter(|stripe| !stripe.is_empty()).collect();
    let partial = threads::map(task, stripes, |stripe: Range<usize>| {
        let mut sum = filled(square, 0.0_f64, what)?;
        let mut block = filled(block_rows * dim, 0.0_f64, what)?;
        for first in stripe.map(|block| block * block_rows) {
            task.check()?;
            let rows = first..n.min(first + block_rows);
            let block = &mut block[..rows.len() * dim];
            for (row, out) in rows.zip(block.chunks_exact_mut(dim)) {
                let values = vectors.row(row)[columns.clone()].iter().zip(&mean);
                for (out, (&value, mean)) in out.iter_mut().zip(values) {
                    *out = f64::from(value) - mean;
                }
            }
            let block = MatRef::from_row_major_slice(&*block, block.len() / dim, dim);
            triangular::matmul(
                MatMut::from_row_major_slice_mut(&mut sum, dim, dim),
                BlockStructure::TriangularLower,
                Accum::Add,
                block.transpose(),
                BlockStructure::Rectangular,
                block,
                BlockStructure::Rectangular,
                1.0,
                Par::Seq,
            );
        }
        Ok(sum)
    })?;
    let mut covariance = filled(square, 0.0, what)?;
    for part in partial {
        covariance.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    let scale = 1.0 / n.saturating_sub(1).max(1) as f64;
    covariance.iter_mut().for_each(|value| *value *= scale);
    Ok((mean, covariance))
}

/// Eigenvalues, descending, and eigenvectors, column i of (dim, dim) for value i, of the symmetric
/// matrix with this lower triangle.
pub(crate) fn symmetric_eigen(
    matrix: Vec<f64>,
    dim: usize,
    task: &Task,
) -> Result<(Vec<f64>, Vec<f64>)> {
    decompose(dim, task, move || {
        let eigen = MatRef::from_row_major_slice(&matrix, dim, dim)
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| Error::NoConvergence { what: "symmetric eigenproblem" })?;
        let values = (0..dim).rev().map(|i| eigen.S().column_vector()[i]).collect();
        Ok((values, row_major(dim, |row, column| eigen.U()[(row, dim - 1 - column)])?))
    })
}

/// The orthogonal matrix nearest to `matrix` (dim, dim): U V^T of its singular value
/// decomposition, the solution of the orthogonal Procrustes problem. Decomposed in f32, at half the
/// time of f64; one Newton-Schulz step in f64 then squares what is left of the orthogonality error.
pub(crate) fn polar_factor(matrix: Vec<f64>, dim: usize, task: &Task) -> Result<Mat<f64>> {
    decompose(dim, task, move || {
        // Scaled so that no square inside the decomposition can overflow or vanish.
        let largest = matrix.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        let scale = if largest > 0.0 { largest.recip() } else { 1.0 };
        let scaled =
            Mat::from_fn(dim, dim, |row, column| (matrix[row * dim + column] * scale) as f32);
        let svd = scaled
            .svd()
            .map_err(|_| Error::NoConvergence { what: "singular value decomposition" })?;
        let rough = svd.U() * svd.V().transpose();
        let rough = Mat::from_fn(dim, dim, |row, column| f64::from(rough[(row, column)]));
        let cube = &rough * (rough.transpose() * &rough);
        Ok(rough * Scale(1.5) - cube * Scale(0.5))
    })
}

/// No rotation, shape (dim, dim).
pub(crate) fn identity(dim: usize) -> Result<Vec<f64>> {
    let mut rotation = filled(size(&[dim, dim], "the rotation")?, 0.0, "the rotation")?;
    rotation.iter_mut().step_by(dim + 1).for_each(|diagonal| *diagonal = 1.0);
    Ok(rotation)
}

/// The rotation in f32.
pub(crate) fn narrow(rotation: &[f64]) -> Result<Vec<f32>> {
    collected(rotation.iter().map(|&value| value as f32), rotation.len(), "the rotation")
}

/// The rotation that lies so many `times` as far from `rotation` as `target` does, in its direction:
/// `target (rotation^T target)^(times - 1)`; row by row.
pub(crate) fn turned(rotation: &[f64], target: Mat<f64>, times: usize) -> Result<Vec<f64>> {
    let dim = target.nrows();
    let mut product = target;
    if times > 1 {
        let turn = MatRef::from_row_major_slice(rotation, dim, dim).transpose() * &product;
        product = (1..times).fold(product, |product, _| product * &turn);
    }
    row_major(dim, |row, column| product[(row, column)])
}

fn decompose<T, W>(dim: usize, task: &Task, work: W) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    if dim < LONG_DIM { work() } else { threads::abandonable(task, work)? }
}

/// The lower factor L, row by row, of a positive semi-definite matrix = L L^T, of which the lower
/// triangle is read. A pivot that is zero to rounding gives a zero column, so that a rank-deficient
/// matrix has a factor too.
pub(crate) fn cholesky(matrix: &[f64], dim: usize, task: &Task) -> Result<Vec<f64>> {
    let largest = (0..dim).fold(0.0_f64, |most, i| most.max(matrix[i * dim + i]));
    let negligible = largest * dim as f64 * f64::EPSILON;
    let mut lower = filled(dim * dim, 0.0, "the factor")?;
    for column in 0..dim {
        task.check()?;
        let dot = |lower: &[f64], row: usize| {
            let pair = |k: usize| lower[row * dim + k] * lower[column * dim + k];
            matrix[row * dim + column] - (0..column).map(pair).sum::<f64>()
        };
        let pivot = dot(&lower, column);
        if pivot <= negligible {
            continue;
        }
        for row in column..dim {
            lower[row * dim + column] = dot(&lower, row) / pivot.sqrt();
        }
    }
    Ok(lower)
}

fn row_major<T>(dim: usize, value: impl Fn(usize, usize) -> T) -> Result<Vec<T>> {
    let mut values = with_capacity(dim * dim, "a matrix")?;
    values.extend((0..dim * dim).map(|index| value(index / dim, index % dim)));
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    fn normals(seed: u32, len: usize) -> Vec<f64> {
        let mut random = LegacyRandom::new(seed);
        (0..len).map(|_| random.normal()).collect()
    }

    fn polar(matrix: Vec<f64>, dim: usize) -> Vec<f64> {
        let factor = polar_factor(matrix, dim, &Task::new()).unwrap();
        row_major(dim, |row, column| factor[(row, column)]).unwrap()
    }

    fn orthogonality_error(matrix: &[f64], dim: usize) -> f64 {
        let dot = |a: usize, b: usize| -> f64 {
            (0..dim).map(|k| matrix[k * dim + a] * matrix[k * dim + b]).sum()
        };
        let error = |index: usize| {
            let (a, b) = (index / dim, index % dim);
            (dot(a, b) - f64::from(u8::from(a == b))).abs()
        };
        (0..dim * dim).map(error).fold(0.0, f64::max)
    }

    #[test]
    fn the_polar_factor_is_orthogonal_even_of_deficient_matrices() {
        let dim = 17;
        let full = normals(1, dim * dim);
        let mut deficient = full.clone();
        deficient[dim * 5..].fill(0.0);
        for matrix in [full, deficient, vec![0.0; dim * dim], vec![1e-200; dim * dim]] {
            assert!(orthogonality_error(&polar(matrix, dim), dim) < 1e-10);
        }
    }

    #[test]
    fn the_polar_factor_of_a_rotation_times_a_positive_matrix_is_the_rotation() {
        let matrix = vec![0.0, -3.0, 2.0, 0.0]; // a quarter turn times diag(2, 3)
        for (got, wanted) in polar(matrix, 2).iter().zip([0.0, -1.0, 1.0, 0.0]) {
            assert!((got - wanted).abs() < 1e-10);
        }
    }

    #[test]
    fn two_eighths_of_a_turn_are_a_quarter() {
        let half = 0.5_f64.sqrt();
        let turn = |sine: f64, cosine: f64| [cosine, -sine, sine, cosine];
        let target = || Mat::from_fn(2, 2, |row, column| turn(1.0, 0.0)[row * 2 + column]);
        for (times, wanted) in
            [(1, turn(1.0, 0.0)), (2, turn(half, -half)), (4, turn(-half, -half))]
        {
            let got = turned(&turn(half, half), target(), times).unwrap();
            assert!(got.iter().zip(&wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-12));
        }
    }

    #[test]
    fn eigenvalues_descend_and_rebuild_the_matrix() {
        let matrix = [2.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 5.0];
        let (values, vectors) = symmetric_eigen(matrix.to_vec(), 3, &Task::new()).unwrap();
        for (got, wanted) in values.iter().zip([5.0, 3.0, 1.0]) {
            assert!((got - wanted).abs() < 1e-12);
        }
        for row in 0..3 {
            for column in 0..3 {
                let rebuilt: f64 = (0..3)
                    .map(|i| values[i] * vectors[row * 3 + i] * vectors[column * 3 + i])
                    .sum();
                assert!((rebuilt - matrix[row * 3 + column]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_cholesky_factor_rebuilds_a_deficient_matrix() {
        let matrix = [4.0, 2.0, 2.0, 2.0, 1.0, 1.0, 2.0, 1.0, 5.0];
        let lower = cholesky(&matrix, 3, &Task::new()).unwrap();
        for row in 0..3 {
            for column in 0..3 {
                let rebuilt: f64 = (0..3).map(|k| lower[row * 3 + k] * lower[column * 3 + k]).sum();
                assert!((rebuilt - matrix[row * 3 + column]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn undo_inverts_apply() {
        let dim = 9;
        let rotation: Vec<f32> =
            polar(normals(2, dim * dim), dim).iter().map(|&value| value as f32).collect();
        let rotation = Rotation::new(&rotation, dim).unwrap();
        let data: Vec<f32> = normals(3, dim * 2500).iter().map(|&value| value as f32).collect();
        let (mut there, mut back) = (vec![0.0; data.len()], vec![0.0; data.len()]);
        let task = Task::new();
        rotation.apply_into(Vectors::new(&data, dim).unwrap(), &mut there, &task).unwrap();
        rotation.undo_into(Vectors::new(&there, dim).unwrap(), &mut back, &task).unwrap();
        assert!(data.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5));
        assert!(data.iter().zip(&there).any(|(a, b)| (a - b).abs() > 0.1));
    }

    #[test]
    fn the_covariance_is_that_of_the_chosen_columns() {
        let data = [9.0, 1.0, 2.0, 9.0, 3.0, 2.0, 9.0, 5.0, 8.0];
        let vectors = Vectors::new(&data, 3).unwrap();
        let (mean, covariance) = covariance(vectors, 1..3, &Task::new()).unwrap();
        assert_eq!(mean, [3.0, 4.0]);
        assert_eq!(covariance, [4.0, 0.0, 6.0, 12.0]);
    }
}
