//! Asymmetric distances (Jegou 2011, section III-B): a table for each query, a sum of m look-ups
//! for each code, and the k best of them.

use std::borrow::Cow;

use crate::codes::{Code, Codes, with_codes};
use crate::error::{Error, Result, filled, size, with_capacity};
use crate::metric::Metric;
use crate::threads::{self, Task};
use crate::vectors::{Vectors, all_finite};

/// Codes that one task scans.
const SCAN_CODES: usize = 1 << 16;
/// Codes whose distances are computed before the best are picked.
const BLOCK_CODES: usize = 4096;

/// The distances of one query's sub-vectors to every codeword, shape `(m, ks)`.
#[derive(Clone, Debug, PartialEq)]
pub struct DistanceTable<'a> {
    values: Cow<'a, [f32]>, // (m, ks)
    m: usize,
    ks: usize,
    metric: Metric,
}

/// One answer of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbor {
    /// Squared distance or dot product, as the metric says.
    pub distance: f32,
    /// Row of the code.
    pub id: usize,
}

impl<'a> DistanceTable<'a> {
    /// Views or takes `values` as a table of `m` rows.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `m` is 0, [`Error::LengthMismatch`] if the rows are not equal,
    /// [`Error::NonFinite`].
    pub fn new(values: impl Into<Cow<'a, [f32]>>, m: usize, metric: Metric) -> Result<Self> {
        let values = values.into();
        if m == 0 {
            return Err(Error::OutOfRange { argument: "m", got: 0, wanted: "at least 1" });
        }
        let ks = values.len() / m;
        if ks == 0 || ks * m != values.len() {
            let expected = (ks + 1).saturating_mul(m);
            return Err(Error::LengthMismatch { argument: "dtable", expected, got: values.len() });
        }
        if !all_finite(&values) {
            return Err(Vectors::new(&values, ks)?.fault("dtable", f32::MAX));
        }
        Ok(Self { values, m, ks, metric })
    }

    /// The table, shape `(m, ks)`.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// What the entries are.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The distance of the query to each code: the sum of `m` entries, in an order that depends on
    /// `m` alone. Cost: n m look-ups.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] if the codes have another `m`, [`Error::CodeOutOfRange`] if
    /// they name codewords that the table lacks.
    ///
    /// ```
    /// use picopq::{Codes, DistanceTable, Metric};
    /// let table = DistanceTable::new(&[0.0, 1.0, 10.0, 20.0][..], 2, Metric::L2)?;
    /// let codes = Codes::new(&[0_u8, 0, 1, 1][..], 2, 2)?;
    /// assert_eq!(table.adist(&codes)?, [10.0, 21.0]);
    /// # Ok::<(), picopq::Error>(())
    /// ```
    pub fn adist(&self, codes: &Codes<'_>) -> Result<Vec<f32>> {
        let mut distances = filled(codes.len(), 0.0, "the distances")?;
        self.adist_into(codes, &mut distances, &Task::new())?;
        Ok(distances)
    }

    /// [`DistanceTable::adist`] into memory of the caller's, shape `(n,)`.
    ///
    /// # Errors
    /// As `adist`; [`Error::LengthMismatch`] for `distances`, [`Error::Cancelled`].
    pub fn adist_into(&self, codes: &Codes<'_>, distances: &mut [f32], task: &Task) -> Result<()> {
        self.check(codes)?;
        if distances.len() != codes.len() {
            let (expected, got) = (codes.len(), distances.len());
            return Err(Error::LengthMismatch { argument: "distances", expected, got });
        }
        with_codes!(codes, |codes| self.adist_slice(codes, distances, task))
    }

    fn adist_slice<T: Code>(&self, codes: &[T], distances: &mut [f32], task: &Task) -> Result<()> {
        let scan = Scan::new(self)?;
        let blocks = codes.chunks(SCAN_CODES * self.m).zip(distances.chunks_mut(SCAN_CODES));
        threads::map(task, blocks.collect(), |(codes, distances)| {
            scan.run(codes, distances);
            Ok(())
        })?;
        Ok(())
    }

    /// The `k` nearest codes (fewer if there are fewer), best first, ties to the lower row.
    ///
    /// # Errors
    /// As [`DistanceTable::adist`].
    pub fn top_k(&self, codes: &Codes<'_>, k: usize) -> Result<Vec<Neighbor>> {
        let answers = search(std::slice::from_ref(self), codes, k, &Task::new())?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    fn check(&self, codes: &Codes<'_>) -> Result<()> {
        if codes.m() != self.m {
            let (expected, got) = (self.m, codes.m());
            return Err(Error::DimensionMismatch { argument: "codes", expected, got });
        }
        if codes.ks() <= self.ks {
            return Ok(());
        }
        // Codes made for a larger codebook may still all be small enough.
        with_codes!(codes, |slice| {
            match slice.iter().position(|code| code.index() >= self.ks) {
                None => Ok(()),
                Some(first) => Err(Error::CodeOutOfRange {
                    code: slice[first].index() as u64,
                    row: first / self.m,
                    sub_space: first % self.m,
                    ks: self.ks,
                }),
            }
        })
    }
}

/// The `k` nearest codes of every table, best first, ties to the lower row: an exact scan.
/// Cost: n m look-ups for each table.
///
/// # Errors
/// As [`DistanceTable::adist`]; [`Error::Cancelled`].
pub fn search(
    tables: &[DistanceTable<'_>],
    codes: &Codes<'_>,
    k: usize,
    task: &Task,
) -> Result<Vec<Vec<Neighbor>>> {
    for table in tables {
        table.check(codes)?;
    }
    let k = k.min(codes.len());
    let parts = codes.len().div_ceil(SCAN_CODES);
    let items = (0..tables.len()).flat_map(|query| (0..parts).map(move |part| (query, part)));
    let items: Vec<_> = items.collect();
    task.begin(items.len() as u64);
    let found = threads::map(task, items, |(query, part)| {
        let best = with_codes!(codes, |codes| best_of_part(&tables[query], codes, part, k))?;
        task.advance(1);
        Ok(best)
    })?;
    let mut found = found.into_iter();
    tables
        .iter()
        .map(|table| {
            let mut best = Best::new(k)?;
            for (key, id) in found.by_ref().take(parts).flatten() {
                best.offer(key, id);
            }
            let sign = table.metric.sign();
            let neighbor = |(key, id)| Neighbor { distance: sign * key, id };
            Ok(best.into_sorted().into_iter().map(neighbor).collect())
        })
        .collect()
}

fn best_of_part<T: Code>(
    table: &DistanceTable<'_>,
    codes: &[T],
    part: usize,
    k: usize,
) -> Result<Vec<(f32, usize)>> {
    let scan = Scan::new(table)?;
    let sign = table.metric.sign();
    let first = part * SCAN_CODES;
    let rows = codes.len() / table.m;
    let part = &codes[first * table.m..rows.min(first + SCAN_CODES) * table.m];
    let mut best = Best::new(k.min(part.len() / table.m))?;
    let mut distances = [0.0; BLOCK_CODES];
    for (block, codes) in part.chunks(BLOCK_CODES * table.m).enumerate() {
        let distances = &mut distances[..codes.len() / table.m];
        scan.run(codes, distances);
        for (row, &distance) in distances.iter().enumerate() {
            best.offer(sign * distance, first + block * BLOCK_CODES + row);
        }
    }
    Ok(best.into_sorted())
}

/// The k least (key, id) pairs of those offered.
pub(crate) struct Best {
    k: usize,
    kept: Vec<(f32, usize)>,
    /// No better than the k-th best so far; `None` while fewer than 2 k were offered.
    pub(crate) worst: Option<(f32, usize)>,
}

impl Best {
    pub(crate) fn new(k: usize) -> Result<Self> {
        Ok(Self { k, kept: with_capacity(2 * k, "the best answers")?, worst: None })
    }

    pub(crate) fn offer(&mut self, key: f32, id: usize) {
        if self.k == 0 || self.worst.is_some_and(|worst| !before(&(key, id), &worst)) {
            return;
        }
        self.kept.push((key, id));
        if self.kept.len() == 2 * self.k {
            self.kept.select_nth_unstable_by(self.k - 1, order);
            self.kept.truncate(self.k);
            self.worst = self.kept.last().copied();
        }
    }

    pub(crate) fn into_sorted(mut self) -> Vec<(f32, usize)> {
        self.kept.sort_unstable_by(order);
        self.kept.truncate(self.k);
        self.kept
    }
}

/// Finite keys ascending, then ids; the two zeros are equal.
fn order(a: &(f32, usize), b: &(f32, usize)) -> std::cmp::Ordering {
    (a.0 + 0.0).total_cmp(&(b.0 + 0.0)).then(a.1.cmp(&b.1))
}

fn before(a: &(f32, usize), b: &(f32, usize)) -> bool {
    order(a, b).is_lt()
}

/// A table with rows as long as a byte can index, so that 8-bit codes need no bounds checks.
struct Scan<'a> {
    table: Cow<'a, [f32]>, // (m, width)
    m: usize,
    width: usize,
}

/// Rows of a table that every `u8` can index.
const BYTE: usize = 256;

impl<'a> Scan<'a> {
    fn new(table: &'a DistanceTable<'_>) -> Result<Self> {
        let (m, ks) = (table.m, table.ks);
        if ks >= BYTE {
            return Ok(Self { table: Cow::Borrowed(&table.values), m, width: ks });
        }
        let mut wide = filled(size(&[m, BYTE], "the table")?, 0.0, "the table")?;
        for (wide, row) in wide.chunks_exact_mut(BYTE).zip(table.values.chunks_exact(ks)) {
            wide[..ks].copy_from_slice(row);
        }
        Ok(Self { table: Cow::Owned(wide), m, width: BYTE })
    }

    /// Adds in the order of the sub-spaces.
    fn run<T: Code>(&self, codes: &[T], distances: &mut [f32]) {
        match T::as_bytes(codes).filter(|_| self.width == BYTE) {
            Some(bytes) => {
                let (rows, _) = self.table.as_chunks::<BYTE>();
                for (codes, out) in bytes.chunks_exact(self.m).zip(distances) {
                    let entries = rows.iter().zip(codes).map(|(row, &code)| row[usize::from(code)]);
                    *out = entries.fold(0.0, |sum, entry| sum + entry);
                }
            }
            None => {
                for (codes, out) in codes.chunks_exact(self.m).zip(distances) {
                    let rows = self.table.chunks_exact(self.width);
                    *out = rows.zip(codes).fold(0.0, |sum, (row, &code)| sum + row[code.index()]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    fn case(m: usize, ks: usize, n: usize) -> (Vec<f32>, Vec<u16>) {
        let mut random = LegacyRandom::new(5);
        let table = (0..m * ks).map(|_| random.up_to(50) as f32).collect();
        let codes = (0..n * m).map(|_| random.up_to(ks as u64 - 1) as u16).collect();
        (table, codes)
    }

    #[test]
    fn scans_equal_a_plain_sum_and_a_stable_sort() {
        for (m, ks, n) in [
            (1, 1, 3),
            (2, 16, 0),
            (3, 256, 4099),
            (7, 300, 130),
            (5, 9, 66_000),
            (8, 256, 9),
            (19, 200, 103),
        ] {
            let (table, codes) = case(m, ks, n);
            let plain: Vec<f32> = codes
                .chunks_exact(m)
                .map(|row| row.iter().enumerate().map(|(m, &c)| table[m * ks + c as usize]).sum())
                .collect();
            for metric in [Metric::L2, Metric::Dot] {
                let table = DistanceTable::new(&table[..], m, metric).unwrap();
                let bytes: Vec<u8> = codes.iter().map(|&code| code as u8).collect();
                let wide = Codes::new(&codes[..], m, ks).unwrap();
                let mut widths = vec![wide];
                if ks <= 256 {
                    widths.push(Codes::new(&bytes[..], m, ks).unwrap());
                }
                for codes in &widths {
                    assert_eq!(table.adist(codes).unwrap(), plain);
                    let mut order: Vec<usize> = (0..n).collect();
                    let sign = table.metric.sign();
                    order.sort_by(|&a, &b| (sign * plain[a]).total_cmp(&(sign * plain[b])));
                    for k in [0, 1, 10, n, n + 5] {
                        let found = table.top_k(codes, k).unwrap();
                        let ids: Vec<usize> = found.iter().map(|neighbor| neighbor.id).collect();
                        assert_eq!(ids, order[..k.min(n)], "m {m} ks {ks} n {n} k {k}");
                        assert!(found.iter().all(|found| found.distance == plain[found.id]));
                    }
                }
            }
        }
    }

    #[test]
    fn codes_of_a_larger_codebook_are_checked() {
        let table = DistanceTable::new(&[1.0, 2.0][..], 1, Metric::L2).unwrap();
        let codes = Codes::new(&[1_u8, 0][..], 1, 256).unwrap();
        assert_eq!(table.adist(&codes).unwrap(), [2.0, 1.0]);
        let codes = Codes::new(&[1_u8, 2][..], 1, 256).unwrap();
        let wanted = Error::CodeOutOfRange { code: 2, row: 1, sub_space: 0, ks: 2 };
        assert_eq!(table.adist(&codes).unwrap_err(), wanted);
    }

    #[test]
    fn bad_tables_are_refused() {
        let bad = [1.0, 2.0, f32::INFINITY, f32::NAN];
        assert!(matches!(
            DistanceTable::new(&bad[..], 2, Metric::L2),
            Err(Error::NonFinite { argument: "dtable", row: 1, column: 0, count: 2 })
        ));
        assert!(matches!(
            DistanceTable::new(&bad[..], 3, Metric::L2),
            Err(Error::LengthMismatch { .. })
        ));
    }
}
