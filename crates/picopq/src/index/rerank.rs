//! The last step of a search that has the original vectors at hand.

use super::Neighbor;
use crate::best::{Best, Collect};
use crate::error::{Error, Result};
use crate::evaluate::exact_distance;
use crate::metric::Metric;
use crate::vectors::Vectors;

/// The `k` nearest of a query's candidates by exact distance: `vectors` (n, dim) are the originals
/// of the rows with these `ids` (n,). Best first, ties to the lower id. Cost: n dim multiply-adds,
/// summed in f64.
///
/// # Errors
/// [`Error::DimensionMismatch`] if the vectors are not as long as the query,
/// [`Error::LengthMismatch`] for `ids`, [`Error::NonFinite`] if a value or a distance is not finite.
///
/// ```
/// use picopq::{Metric, Vectors, rerank};
/// let candidates = Vectors::new(&[3.0, 4.0, 1.0, 0.0], 2)?;
/// let best = rerank(&[0.0, 0.0], candidates, &[17, 4], Metric::L2, 1)?;
/// assert_eq!((best[0].id, best[0].distance), (4, 1.0));
/// # Ok::<(), picopq::Error>(())
/// ```
pub fn rerank(
    query: &[f32],
    vectors: Vectors<'_>,
    ids: &[i64],
    metric: Metric,
    k: usize,
) -> Result<Vec<Neighbor>> {
    if query.len() != vectors.dim() {
        let (expected, got) = (query.len(), vectors.dim());
        return Err(Error::DimensionMismatch { argument: "rerank", expected, got });
    }
    if ids.len() != vectors.len() {
        let (expected, got) = (vectors.len(), ids.len());
        return Err(Error::LengthMismatch { argument: "ids", expected, got });
    }
    let mut best = Best::new(k);
    for (row, &id) in ids.iter().enumerate() {
        let distance = exact_distance(query, vectors.row(row), metric);
        if !distance.is_finite() {
            return Err(Error::NonFinite { argument: "rerank", row, column: 0, count: 1 });
        }
        best.offer(metric.sign() * distance, id)?;
    }
    let neighbor = |(key, id)| Neighbor { distance: metric.sign() * key, id };
    Ok(best.into_sorted().into_iter().map(neighbor).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_by_exact_distance_come_first() {
        let vectors = Vectors::new(&[1.0, 0.0, 0.0, 1.0, 2.0, 2.0], 2).unwrap();
        let ids = |metric, k| {
            let found = rerank(&[1.0, 1.0], vectors, &[9, 3, 5], metric, k).unwrap();
            found.into_iter().map(|found| (found.distance, found.id)).collect::<Vec<_>>()
        };
        assert_eq!(ids(Metric::L2, 2), [(1.0, 3), (1.0, 9)]);
        assert_eq!(ids(Metric::Dot, 9), [(4.0, 5), (1.0, 3), (1.0, 9)]);
    }

    #[test]
    fn bad_candidates_are_refused() {
        let vectors = Vectors::new(&[1.0, f32::NAN], 2).unwrap();
        let bad = |query: &[f32], ids: &[i64]| rerank(query, vectors, ids, Metric::L2, 1);
        assert!(matches!(bad(&[0.0; 3], &[0]), Err(Error::DimensionMismatch { .. })));
        assert!(matches!(bad(&[0.0; 2], &[0, 1]), Err(Error::LengthMismatch { .. })));
        assert!(matches!(bad(&[0.0; 2], &[0]), Err(Error::NonFinite { .. })));
    }
}
