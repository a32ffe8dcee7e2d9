//! Which codewords can be the nearest, told by 16-bit integers: an instruction makes twice the
//! products that it makes of f32.
//!
//! ```text
//! X = round(scale (x - middle)),  C_j = round(scale (c_j - middle)),  S_j = |C_j|^2 / 2 - X.C_j
//! ```
//! |X - C_j|, the root of 2 S_j + |X|^2, is scale |x - c_j| but for e, the most that rounding takes
//! from a row and a codeword. So a codeword with |X - C_j| > min |X - C| + 2 e is not the nearest: one
//! whose S_j is above the least S by more than 2 e (min |X - C| + e), and by what f32 can be off by.
//! The others, few, are measured in f32, in the order of operations of the f32 kernels: codes and
//! distances are theirs, bit for bit.
//!
//! The scale has the longest codeword span [`LONGEST_CODEWORD`]; a row's sums stay within i32 up to
//! [`LONGEST_ROW`]. Tiles with a longer row are left to f32.

use super::{CHUNK, STRIP, uses_differences};
use crate::error::{Result, filled, size, with_capacity};

/// Bound on |scale (c - middle)|.
pub(super) const LONGEST_CODEWORD: f32 = 21_800.0;
/// Bound on |X|: its values fit in i16, and twice LONGEST_ROW LONGEST_CODEWORD + LONGEST_CODEWORD^2 / 2
/// in i32, with room for rounding and the margin.
pub(super) const LONGEST_ROW: f32 = 32_700.0;
/// With fewer codewords the work for each row takes longer than what is saved.
const LEAST_KS: usize = 64;
/// What [`Space`] holds.
const MOST_CHUNKS: usize = 64;
const MOST_PAIRS: usize = 32;
/// Codewords' norms, within which no square in f32 is near its limits.
const NORMS: std::ops::Range<f64> = 1e-12..1e12;

/// The codewords of a panel in integers.
pub(super) struct Integers {
    pub(super) middle: Vec<f32>, // (ds,)
    pub(super) scale: f32,
    /// -C: for chunk and pair of dimensions, two i16 of each codeword.
    pub(super) weights: Vec<i32>, // (chunks, pairs, CHUNK)
    pub(super) by_codeword: Vec<i32>, // (ks, pairs)
    pub(super) halves: Vec<i32>, // (chunks, CHUNK), of squared norms; i32::MAX past the last codeword
    /// At least e: how much nearer a row can seem to a codeword, or farther.
    pub(super) error: f32,
    /// What a distance in f32 is off by, in S, is at most this part of the square of its terms.
    pub(super) f32_error: f32,
}

/// A value of each row of a strip.
pub(super) type Strip = [i32; STRIP];

/// What a kernel knows of a strip's rows.
pub(super) struct Space {
    /// X: two dimensions, of 16 bits each.
    pub(super) pairs: [Strip; MOST_PAIRS],
    /// The least S of each chunk.
    pub(super) minima: [Strip; MOST_CHUNKS],
    /// The least of them, the first chunk that has it, and the least of the other chunks. For lists of
    /// codewords, the least S, its codeword, and the least of the others.
    pub(super) least: Strip,
    pub(super) nearest: Strip,
    pub(super) second: Strip,
}

impl Space {
    pub(super) fn new() -> Self {
        let none = [0; STRIP];
        let (pairs, minima) = ([none; MOST_PAIRS], [none; MOST_CHUNKS]);
        Self { pairs, minima, least: none, nearest: none, second: none }
    }

    /// The chunks of `count` with a minimum within the limit, but for the one in `nearest`.
    pub(super) fn others(
        &self,
        count: usize,
        lane: usize,
        limit: i32,
    ) -> impl Iterator<Item = usize> {
        let best = self.nearest[lane] as usize;
        (0..count).filter(move |&chunk| chunk != best && self.minima[chunk][lane] <= limit)
    }
}

impl Integers {
    pub(super) fn chunks(&self) -> usize {
        self.halves.len() / CHUNK
    }

    /// `None` where they would not help. `centred` (ks, ds) are the codewords as the tiles' rows are.
    pub(super) fn new(centred: &[f32], ds: usize) -> Result<Option<Self>> {
        let (ks, pairs) = (centred.len() / ds, ds.div_ceil(2));
        let chunks = ks.div_ceil(CHUNK);
        if ks < LEAST_KS || chunks > MOST_CHUNKS || pairs > MOST_PAIRS {
            return Ok(None);
        }
        let mut middle = vec![0.0; ds];
        if uses_differences(ds) {
            // Such tiles are not centred.
            for (d, middle) in middle.iter_mut().enumerate() {
                let sum: f64 = centred[d..].iter().step_by(ds).map(|&c| f64::from(c)).sum();
                *middle = (sum / ks as f64) as f32;
            }
        }
        let about_middle = |codeword: &[f32]| -> Vec<f64> {
            codeword.iter().zip(&middle).map(|(&c, &m)| f64::from(c) - f64::from(m)).collect()
        };
        let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let longest =
            centred.chunks_exact(ds).map(|c| norm(&about_middle(c))).fold(0.0_f64, f64::max);
        if !NORMS.contains(&longest) {
            return Ok(None);
        }
        let scale = (f64::from(LONGEST_CODEWORD) / longest) as f32;

        let what = "the codewords' integers";
        let mut weights = filled(size(&[chunks, pairs, CHUNK], what)?, 0, what)?;
        let mut by_codeword = with_capacity(ks * pairs, what)?;
        let mut halves = filled(chunks * CHUNK, i32::MAX, what)?;
        let mut most_lost = 0.0_f64;
        for (k, codeword) in centred.chunks_exact(ds).enumerate() {
            let (chunk, j) = (k / CHUNK, k % CHUNK);
            let scaled: Vec<f64> =
                about_middle(codeword).iter().map(|c| c * f64::from(scale)).collect();
            let lost: Vec<f64> = scaled.iter().map(|c| c - c.round()).collect();
            most_lost = most_lost.max(norm(&lost));
            let square: f64 = scaled.iter().map(|c| c.round().powi(2)).sum();
            halves[k] = (square / 2.0) as i32;
            for (pair, values) in scaled.chunks(2).enumerate() {
                let bits = |place: usize| {
                    let value = values.get(place).map_or(0.0, |c| -c.round());
                    u32::from((value as i16) as u16)
                };
                let weight = (bits(0) | bits(1) << 16) as i32;
                weights[(chunk * pairs + pair) * CHUNK + j] = weight;
                by_codeword.push(weight);
            }
        }
        // Differences are off by less, see `Search::new`. Twice, for two codewords; and twice again,
        // because (|X - C| - e)^2 may grow by no more than half of what |X - C|^2 does.
        let f32_error = 2.0 * (ds + 4) as f32 * f32::EPSILON;
        // Of the row's values f32 takes 2^-22 at most.
        let error = (ds as f64).sqrt() / 2.0 + most_lost;
        let error = error as f32 + LONGEST_ROW * f32::EPSILON * 2.0;
        Ok(Some(Self { middle, scale, weights, by_codeword, halves, error, f32_error }))
    }
}
