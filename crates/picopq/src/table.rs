//! Asymmetric distances (Jegou 2011, section III-B): a table for each query, a sum of m look-ups
//! for each code, and the k best of them.

use std::borrow::Cow;

use crate::best::{Best, Collect, Keyed};
use crate::codes::{Code, Codes, with_codes};
use crate::error::{Error, Result, filled, size};
use crate::kernels::{BYTE, Kernels, NIBBLES, Planes, prefetch};
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
    /// Row of the code, or the id that an index has for it.
    pub id: i64,
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
        let scan = Scan::of_many(&*self.values, self.m, distances.len())?;
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
        codes.check_below(self.ks)
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
            let mut best = Best::new(k);
            for (key, id) in found.by_ref().take(parts).flatten() {
                best.offer(key, id)?;
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
) -> Result<Vec<Keyed>> {
    let sign = table.metric.sign();
    let first = part * SCAN_CODES;
    let rows = codes.len() / table.m;
    let part = &codes[first * table.m..rows.min(first + SCAN_CODES) * table.m];
    let scan = Scan::of_many(&*table.values, table.m, part.len() / table.m)?;
    let mut best = Best::new(k);
    let mut distances = [0.0; BLOCK_CODES];
    for (block, codes) in part.chunks(BLOCK_CODES * table.m).enumerate() {
        let distances = &mut distances[..codes.len() / table.m];
        scan.run(codes, distances);
        for (row, &distance) in distances.iter().enumerate() {
            best.offer(sign * distance, (first + block * BLOCK_CODES + row) as i64)?;
        }
    }
    Ok(best.into_sorted())
}

/// Rows whose codes are on their way from memory while one is measured.
const PREFETCH: usize = 16;

/// Sub-spaces whose rows of the table (8 KiB) stay in the L1 cache while codes go by, and how many
/// codes go by: each sum is taken up again by the next group, in the same order.
const GROUP: usize = 8;
const GROUP_CODES: usize = 256;

/// A table for exact scans. Rows as long as a byte, or a nibble, can index spare codes the bounds checks.
pub(crate) struct Scan<'a> {
    table: Cow<'a, [f32]>, // (m, width)
    m: usize,
    width: usize,
    planes: Option<(Kernels, Planes)>,
}

/// With fewer codes it takes longer to split a table into planes than they save.
const MANY_CODES: usize = 4096;

impl<'a> Scan<'a> {
    /// For [`Scan::run`] over `n` codes.
    fn of_many(values: impl Into<Cow<'a, [f32]>>, m: usize, n: usize) -> Result<Self> {
        let mut scan = Self::widened(values.into(), m, BYTE)?;
        if scan.width == BYTE && n >= MANY_CODES {
            let kernels = Kernels::active()?;
            let planes = Planes::new(kernels, scan.table.as_chunks().0)?;
            scan.planes = planes.map(|planes| (kernels, planes));
        }
        Ok(scan)
    }

    /// For some codes; `values` has the shape `(m, ks)`.
    pub(crate) fn new(values: &'a [f32], m: usize) -> Result<Self> {
        let width = if values.len() / m <= NIBBLES { NIBBLES } else { BYTE };
        Self::widened(values.into(), m, width)
    }

    /// Rows of the table that are shorter than `width` are filled up.
    fn widened(values: Cow<'a, [f32]>, m: usize, width: usize) -> Result<Self> {
        let ks = values.len() / m;
        if ks >= width {
            return Ok(Self { table: values, m, width: ks, planes: None });
        }
        let mut wide = filled(size(&[m, width], "the table")?, 0.0, "the table")?;
        for (wide, row) in wide.chunks_exact_mut(width).zip(values.chunks_exact(ks)) {
            wide[..ks].copy_from_slice(row);
        }
        Ok(Self { table: Cow::Owned(wide), m, width, planes: None })
    }

    /// The table, shape `(m, width)`.
    pub(crate) fn rows<const WIDTH: usize>(&self) -> &[[f32; WIDTH]] {
        debug_assert_eq!(self.width, WIDTH);
        self.table.as_chunks().0
    }

    /// The distance of each code, shape `(n, m)`.
    pub(crate) fn run<T: Code>(&self, codes: &[T], distances: &mut [f32]) {
        if T::MAX_KS == BYTE && self.width == BYTE {
            let done = match (&self.planes, T::as_bytes(codes)) {
                (Some((kernels, planes)), Some(codes)) => kernels.look_up(planes, codes, distances),
                _ => 0,
            };
            let (codes, distances) = (&codes[done * self.m..], &mut distances[done..]);
            let blocks = codes.chunks(GROUP_CODES * self.m);
            for (codes, distances) in blocks.zip(distances.chunks_mut(GROUP_CODES)) {
                self.run_bytes(codes, distances);
            }
        } else {
            for (codes, distance) in codes.chunks_exact(self.m).zip(distances) {
                *distance = self.sum(codes);
            }
        }
    }

    /// [`Scan::run`] for some 8-bit codes, one group of sub-spaces after the other.
    fn run_bytes<T: Code>(&self, codes: &[T], distances: &mut [f32]) {
        let (rows, _) = self.table.as_chunks::<BYTE>();
        let (groups, rest) = rows.as_chunks::<GROUP>();
        distances.fill(0.0);
        for (group, rows) in groups.iter().enumerate() {
            for (codes, distance) in codes.chunks_exact(self.m).zip(&mut *distances) {
                let (codes, _) = codes[group * GROUP..].as_chunks::<GROUP>();
                for (row, code) in rows.iter().zip(codes[0]) {
                    *distance += row[code.index()];
                }
            }
        }
        for (codes, distance) in codes.chunks_exact(self.m).zip(distances) {
            for (row, code) in rest.iter().zip(&codes[groups.len() * GROUP..]) {
                *distance += row[code.index()];
            }
        }
    }

    /// The distances of some rows of the codes, shape `(n, m)`.
    pub(crate) fn pick<T: Code>(&self, codes: &[T], rows: &[u32], distances: &mut [f32]) {
        let row = |row: u32| &codes[row as usize * self.m..][..self.m];
        rows.iter().take(PREFETCH).for_each(|&first| prefetch(row(first)));
        for (at, distance) in distances.iter_mut().enumerate().take(rows.len()) {
            if let Some(&ahead) = rows.get(at + PREFETCH) {
                prefetch(row(ahead));
            }
            *distance = self.sum(row(rows[at]));
        }
    }

    /// Adds in the order of the sub-spaces.
    #[inline]
    fn sum<T: Code>(&self, codes: &[T]) -> f32 {
        let mut sum = 0.0;
        if T::MAX_KS == BYTE && self.width == BYTE {
            let (rows, _) = self.table.as_chunks::<BYTE>();
            for (row, &code) in rows.iter().zip(codes) {
                sum += row[code.index()];
            }
        } else {
            for (row, &code) in self.table.chunks_exact(self.width).zip(codes) {
                sum += row[code.index()];
            }
        }
        sum
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
                        let ids: Vec<usize> = found.iter().map(|found| found.id as usize).collect();
                        assert_eq!(ids, order[..k.min(n)], "m {m} ks {ks} n {n} k {k}");
                        assert!(
                            found.iter().all(|found| found.distance == plain[found.id as usize])
                        );
                    }
                }
            }
        }
    }

    /// Many codes lead to the same bits as few, which are summed one by one.
    #[test]
    fn sums_do_not_depend_on_how_many_there_are() {
        let mut random = LegacyRandom::new(6);
        for m in [1, 2, 3, 7, 8, 15, 16, 17, 24, 31, 32, 33, 64, 100] {
            let table: Vec<f32> = (0..m * 256).map(|_| random.normal() as f32).collect();
            let table = DistanceTable::new(table, m, Metric::Dot).unwrap();
            for n in [MANY_CODES, MANY_CODES + 63, MANY_CODES + 64, MANY_CODES + 601] {
                let codes: Vec<u8> = (0..n * m).map(|_| random.up_to(255) as u8).collect();
                let all = table.adist(&Codes::new(&codes[..], m, 256).unwrap()).unwrap();
                for (few, codes) in all.chunks(1000).zip(codes.chunks(1000 * m)) {
                    let codes = Codes::new(codes, m, 256).unwrap();
                    assert_eq!(few, table.adist(&codes).unwrap(), "m {m} n {n}");
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
