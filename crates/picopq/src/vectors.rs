//! Rows of f32: the one input of training and encoding, its shape checked once.

use crate::error::{Error, Result, size, with_capacity};
use crate::threads::{self, Task};

/// Borrowed vectors, shape `(n, dim)`, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    data: &'a [f32], // (n, dim)
    dim: usize,
}

/// Rows that one task checks for bad values.
const CHECK_ROWS: usize = 4096;

impl<'a> Vectors<'a> {
    /// Views `data` as rows of `dim` values.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `dim` is 0, [`Error::LengthMismatch`] if `data` does not end with a
    /// whole row. Values are checked by the call that reads them.
    pub fn new(data: &'a [f32], dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(Error::OutOfRange { argument: "dim", got: 0, wanted: "at least 1" });
        }
        if !data.len().is_multiple_of(dim) {
            let expected = size(&[data.len() / dim + 1, dim], "the vectors")?;
            return Err(Error::LengthMismatch { argument: "vectors", expected, got: data.len() });
        }
        Ok(Self { data, dim })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Values in a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, shape `(n, dim)`.
    #[must_use]
    pub fn as_slice(&self) -> &'a [f32] {
        self.data
    }

    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.dim..][..self.dim]
    }

    /// A copy of `count` rows (at most all), evenly spaced.
    pub(crate) fn spread(&self, count: usize) -> Result<Vec<f32>> {
        let count = count.min(self.len());
        let mut rows = with_capacity(count * self.dim, "the sampled vectors")?;
        let place = |i| (i as u128 * self.len() as u128 / count as u128) as usize;
        (0..count).for_each(|i| rows.extend_from_slice(self.row(place(i))));
        Ok(rows)
    }

    /// Refuses NaN, infinities and magnitudes above `limit`.
    pub(crate) fn check(&self, argument: &'static str, limit: f32, task: &Task) -> Result<()> {
        let blocks = self.data.chunks(CHECK_ROWS * self.dim).collect();
        let good = threads::map(task, blocks, |block| Ok(all_within(block, limit)))?;
        if good.into_iter().all(|block| block) { Ok(()) } else { Err(self.fault(argument, limit)) }
    }

    /// The error for rows that [`all_within`] refused.
    pub(crate) fn fault(&self, argument: &'static str, limit: f32) -> Error {
        let place = |index| (index / self.dim, index % self.dim);
        let mut bad = (0..self.data.len()).filter(|&index| !self.data[index].is_finite());
        if let Some(first) = bad.next() {
            let (row, column) = place(first);
            return Error::NonFinite { argument, row, column, count: 1 + bad.count() };
        }
        let first = self.data.iter().position(|value| value.abs() > limit).unwrap_or(0);
        let (row, column) = place(first);
        Error::TooLarge { argument, row, column, dim: self.dim, limit: limit as u64 }
    }

    /// The numbers, ascending, of the rows without NaN or infinity. One pass over the data.
    #[must_use]
    pub fn finite_rows(&self) -> Vec<usize> {
        let finite = |row: &usize| self.row(*row).iter().all(|value| value.is_finite());
        (0..self.len()).filter(finite).collect()
    }
}

/// The largest magnitude of a codeword or of a rotated vector, for sums over `ds` dimensions: with
/// x, c and a centre between them within it, |x - centre|^2 + |c - centre|^2 + 2 |x - centre|
/// |c - centre| is at most 18 ds limit^2, and does not overflow.
pub(crate) fn codeword_limit(ds: usize) -> f32 {
    (f64::from(f32::MAX) / (32.0 * ds as f64)).sqrt() as f32
}

/// The largest magnitude of a vector's values: however a rotation gathers them, none is then above
/// [`codeword_limit`].
pub(crate) fn vector_limit(dim: usize) -> f32 {
    ((f64::from(f32::MAX) / 33.0).sqrt() / dim as f64) as f32
}

/// Whether no value is NaN or infinite.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    all_within(values, f32::MAX)
}

/// Whether every magnitude is at most `limit`, which NaN is not. Counts instead of stopping at the
/// first, so that it vectorises and runs at the speed of the memory.
pub(crate) fn all_within(values: &[f32], limit: f32) -> bool {
    let within = |block: &[f32]| {
        block.iter().fold(0, |count: u32, value| count + u32::from(value.abs() <= limit))
    };
    values.chunks(4096).all(|block| within(block) as usize == block.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_value_is_named() {
        let mut data = vec![1.0_f32; 6];
        data[3] = f32::NAN;
        data[5] = f32::NEG_INFINITY;
        let vectors = Vectors::new(&data, 2).unwrap();
        let error = vectors.check("vectors", 10.0, &Task::new()).unwrap_err();
        let wanted = Error::NonFinite { argument: "vectors", row: 1, column: 1, count: 2 };
        assert_eq!(error, wanted);
        assert_eq!(vectors.finite_rows(), [0]);
    }

    #[test]
    fn large_values_are_refused_just_above_the_limit() {
        let limit = vector_limit(3);
        assert!(all_within(&[limit, -limit, 0.0], limit));
        let data = [0.0, -limit * 1.001, 0.0];
        let error = Vectors::new(&data, 3).unwrap().fault("query", limit);
        assert!(matches!(error, Error::TooLarge { argument: "query", row: 0, column: 1, .. }));
    }

    #[test]
    fn sums_within_the_limits_do_not_overflow() {
        for dim in [1, 3, 128, 4096] {
            let (codeword, vector) = (codeword_limit(dim), vector_limit(dim));
            assert!((18.0 * dim as f32 * codeword * codeword).is_finite());
            assert!((dim as f32).sqrt() * vector <= codeword);
        }
    }

    #[test]
    fn a_sample_is_spread_over_all_rows() {
        let data: Vec<f32> = (0..20_u8).map(f32::from).collect();
        let vectors = Vectors::new(&data, 2).unwrap();
        assert_eq!(vectors.spread(3).unwrap(), [0.0, 1.0, 6.0, 7.0, 12.0, 13.0]);
        assert_eq!(vectors.spread(99).unwrap(), data);
    }

    #[test]
    fn a_ragged_array_is_refused() {
        assert!(matches!(
            Vectors::new(&[0.0; 5], 2),
            Err(Error::LengthMismatch { expected: 6, got: 5, .. })
        ));
        assert!(matches!(Vectors::new(&[], 0), Err(Error::OutOfRange { .. })));
    }
}
