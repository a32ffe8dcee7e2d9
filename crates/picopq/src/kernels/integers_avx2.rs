//! The nearest codeword by way of integers, with AVX2: lanes are rows, two dimensions to a lane.
//!
//! ```text
//! for each strip of 16 rows:
//!     pairs[p] = X of dimensions 2p and 2p + 1
//!     for each chunk of 8 codewords:
//!         acc[j] = |C_j|^2 / 2;  for p: acc[j] -= pairs[p] . C_j of dimensions 2p and 2p + 1
//!         minima[chunk] = min over j acc[j];  the least so far, its chunk, and the second
//!     for each row: the code is that of the only codeword within its limit of the least; where there
//!         are several, or a distance is wanted, measure in f32 the chunks with a minimum within it
//! ```
//! Bound: ds / 2 multiplications and as many additions per distance and lane, two and two a cycle at
//! most, against ds FMA.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::avx2::{Row, load_strip};
use super::integers::{Integers, LONGEST_CODEWORD, LONGEST_ROW, Space, Strip};
use super::{
    ANY, CHUNK, InstructionSet, Kernels, Nearest, Panel, STRIP, TILE, TileRef, integers_vnni,
    of_dimension, prefetch, shares,
};

const LANES: usize = 8;
/// Registers of a strip.
const GROUP: usize = STRIP / LANES;

/// `false` if a row of the tile is too long. Unless all are to be measured, there are no distances,
/// and only rows with several candidates are measured in f32.
pub(super) fn nearest(
    kernels: Kernels,
    panel: &Panel,
    integers: &Integers,
    tile: TileRef<'_>,
    out: &mut Nearest,
    measure: bool,
) -> bool {
    // SAFETY: AVX2 and FMA are there, because `Kernels` with this set or a wider one is made by
    // `Kernels::of` alone, which checks them.
    unsafe { of_dimension!(nearest_in_tile(panel, integers, tile, out, kernels, measure)) }
}

#[target_feature(enable = "avx2,fma")]
fn nearest_in_tile<const DIFFERENCES: bool, const DS: usize>(
    panel: &Panel,
    integers: &Integers,
    tile: TileRef<'_>,
    out: &mut Nearest,
    kernels: Kernels,
    measure: bool,
) -> bool {
    let Nearest { codes, distances, space, crowded } = out;
    let mut others = 0;
    // A processor has room for a dozen lines that it waits for.
    let mut ahead = shares(tile.ahead, TILE / STRIP);
    for first in (0..TILE).step_by(STRIP) {
        ahead.next().into_iter().for_each(prefetch);
        let squares = convert::<DIFFERENCES, DS>(integers, tile, first, &mut space.pairs);
        if !all_fit(squares) {
            return false;
        }
        if kernels.0 == InstructionSet::Avx512Vbmi {
            integers_vnni::search(kernels, integers, space);
        } else {
            search(integers, space);
        }
        let limits = limits::<DIFFERENCES>(integers, squares, &space.least);
        for lane in 0..STRIP {
            let (chunk, limit) = (space.nearest[lane] as usize, limits[lane]);
            let alone = space.second[lane] > limit;
            if !measure && alone {
                let candidates = candidates::<DS>(integers, &space.pairs, lane, chunk, limit);
                if candidates.is_power_of_two() {
                    codes[first + lane] = (chunk * CHUNK) as u32 + candidates.trailing_zeros();
                    continue;
                }
            }
            let row = Row { tile, lane: first + lane };
            let (mut least, mut code) = row.least::<DIFFERENCES, DS>(panel, chunk);
            if !alone {
                for chunk in space.others(integers.chunks(), lane, limit) {
                    (least, code) =
                        (least, code).min(least_again::<DIFFERENCES, DS>(panel, row, chunk));
                    others += 1;
                }
            }
            distances[first + lane] = f32::from_bits(least);
            codes[first + lane] = code;
        }
    }
    if others > TILE {
        *crowded += 1;
    }
    true
}

/// The nearest codewords among these, without distances; `false` if a row of the strip is too long
/// or has several candidates.
pub(super) fn codes_among(
    kernels: Kernels,
    panel: &Panel,
    integers: &Integers,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
) -> bool {
    // SAFETY: as in `nearest`.
    unsafe { of_dimension!(codes_in_strip(panel, integers, numbers, tile, strip, out, kernels)) }
}

#[target_feature(enable = "avx2,fma")]
fn codes_in_strip<const DIFFERENCES: bool, const DS: usize>(
    _panel: &Panel,
    integers: &Integers,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
    kernels: Kernels,
) -> bool {
    let (first, space) = (strip * STRIP, &mut out.space);
    let squares = convert::<DIFFERENCES, DS>(integers, tile, first, &mut space.pairs);
    if !all_fit(squares) {
        return false;
    }
    if kernels.0 == InstructionSet::Avx512Vbmi {
        integers_vnni::search_among(kernels, integers, numbers, space);
    } else {
        search_among(integers, numbers, space);
    }
    let limits = limits::<DIFFERENCES>(integers, squares, &space.least);
    for (code, &nearest) in out.codes[first..].iter_mut().zip(&space.nearest) {
        *code = nearest as u32;
    }
    space.second.iter().zip(limits).all(|(&second, limit)| second > limit)
}

/// The codewords of a chunk, as bits, that can be the nearest of a row.
#[inline]
#[target_feature(enable = "avx2")]
fn candidates<const DS: usize>(
    integers: &Integers,
    pairs: &[Strip],
    lane: usize,
    chunk: usize,
    limit: i32,
) -> u32 {
    let count = if DS == ANY { integers.middle.len() } else { DS }.div_ceil(2);
    let weights = &integers.weights[chunk * count * CHUNK..][..count * CHUNK];
    let mut sums = load_integers(&integers.halves[chunk * CHUNK..][..CHUNK]);
    for (x, weights) in pairs[..count].iter().zip(weights.as_chunks::<CHUNK>().0) {
        let products = _mm256_madd_epi16(_mm256_set1_epi32(x[lane]), load_integers(weights));
        sums = _mm256_add_epi32(sums, products);
    }
    let beyond = _mm256_cmpgt_epi32(sums, _mm256_set1_epi32(limit));
    !_mm256_movemask_ps(_mm256_castsi256_ps(beyond)) as u32 & 0xff
}

/// Apart from the usual case, whose registers it would take.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn least_again<const DIFFERENCES: bool, const DS: usize>(
    panel: &Panel,
    row: Row<'_>,
    chunk: usize,
) -> (u32, u32) {
    row.least::<DIFFERENCES, DS>(panel, chunk)
}

/// Writes the rows from `first` on in integers, and returns |scale (x - middle)|^2.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn convert<const DIFFERENCES: bool, const DS: usize>(
    integers: &Integers,
    tile: TileRef<'_>,
    first: usize,
    pairs: &mut [Strip],
) -> [__m256; GROUP] {
    let ds = if DS == ANY { integers.middle.len() } else { DS };
    let (middle, lanes) = (&integers.middle[..ds], &tile.lanes[..ds * TILE]);
    let scale = _mm256_set1_ps(integers.scale);
    let mut squares = load_strip(&tile.norms[first..]);
    for g in 0..GROUP {
        // Tiles are centred but for differences.
        squares[g] = if DIFFERENCES {
            _mm256_setzero_ps()
        } else {
            _mm256_mul_ps(squares[g], _mm256_mul_ps(scale, scale))
        };
    }
    for (pair, out) in pairs[..ds.div_ceil(2)].iter_mut().enumerate() {
        let mut both = [[_mm256_setzero_si256(); 2]; GROUP];
        for odd in 0..2 {
            let d = 2 * pair + odd;
            if d == ds {
                break;
            }
            let x = load_strip(&lanes[d * TILE..][first..]);
            for g in 0..GROUP {
                let x = if DIFFERENCES {
                    let x = _mm256_mul_ps(_mm256_sub_ps(x[g], _mm256_set1_ps(middle[d])), scale);
                    squares[g] = _mm256_fmadd_ps(x, x, squares[g]);
                    x
                } else {
                    _mm256_mul_ps(x[g], scale)
                };
                both[g][odd] = _mm256_cvtps_epi32(x);
            }
        }
        for g in 0..GROUP {
            let high = _mm256_slli_epi32::<16>(both[g][1]);
            store_integers(
                &mut out[g * LANES..],
                _mm256_blend_epi16::<0b10_10_10_10>(both[g][0], high),
            );
        }
    }
    squares
}

/// Whether no row is longer than [`LONGEST_ROW`], or not a number.
#[inline]
#[target_feature(enable = "avx2")]
fn all_fit(squares: [__m256; GROUP]) -> bool {
    let most = _mm256_set1_ps(LONGEST_ROW * LONGEST_ROW);
    let mut fit = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
    for g in 0..GROUP {
        fit = _mm256_and_ps(fit, _mm256_cmp_ps::<_CMP_LE_OQ>(squares[g], most));
    }
    _mm256_movemask_ps(fit) == 0xff
}

/// Up to which S a codeword may be the nearest.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn limits<const DIFFERENCES: bool>(
    integers: &Integers,
    squares: [__m256; GROUP],
    least: &Strip,
) -> Strip {
    let error = _mm256_set1_ps(integers.error);
    let f32_error = _mm256_set1_ps(integers.f32_error);
    let mut limits = [0; STRIP];
    for g in 0..GROUP {
        let least = load_integers(&least[g * LANES..]);
        let length = _mm256_sqrt_ps(squares[g]);
        // |X|^2, and more than f32 takes from it and from its sum with 2 S.
        let square = _mm256_add_ps(length, error);
        let square = _mm256_mul_ps(square, square);
        let square = _mm256_mul_ps(square, _mm256_set1_ps(1.0 + 1e-5));
        let twice = _mm256_cvtepi32_ps(_mm256_add_epi32(least, least));
        let distance = _mm256_max_ps(_mm256_add_ps(twice, square), _mm256_setzero_ps());
        let distance = _mm256_add_ps(_mm256_sqrt_ps(distance), error);
        let terms = if DIFFERENCES {
            distance
        } else {
            _mm256_add_ps(length, _mm256_set1_ps(LONGEST_CODEWORD + 10.0))
        };
        // And what halves and conversions round.
        let margin = _mm256_fmadd_ps(_mm256_mul_ps(terms, terms), f32_error, _mm256_set1_ps(4.0));
        let margin = _mm256_fmadd_ps(_mm256_add_ps(error, error), distance, margin);
        let limit = _mm256_add_epi32(least, _mm256_cvtps_epi32(margin));
        store_integers(&mut limits[g * LANES..], limit);
    }
    limits
}

/// Fills what [`Space`] says of the minima.
#[target_feature(enable = "avx2")]
fn search(integers: &Integers, space: &mut Space) {
    let pairs = &space.pairs[..integers.middle.len().div_ceil(2)];
    let mut least = [_mm256_set1_epi32(i32::MAX); GROUP];
    let mut second = least;
    let mut nearest = [_mm256_setzero_si256(); GROUP];
    let chunks = integers.weights.chunks_exact(pairs.len() * CHUNK);
    let halves = integers.halves.as_chunks::<CHUNK>().0;
    for (chunk, (minima, (weights, halves))) in
        space.minima.iter_mut().zip(chunks.zip(halves)).enumerate()
    {
        let low = half(weights, halves, 0, pairs);
        let high = half(weights, halves, 4, pairs);
        let chunk = _mm256_set1_epi32(chunk as i32);
        for g in 0..GROUP {
            let of_chunk = _mm256_min_epi32(low[g], high[g]);
            store_integers(&mut minima[g * LANES..], of_chunk);
            second[g] = _mm256_min_epi32(second[g], _mm256_max_epi32(least[g], of_chunk));
            let closer = _mm256_cmpgt_epi32(least[g], of_chunk);
            nearest[g] = _mm256_blendv_epi8(nearest[g], chunk, closer);
            least[g] = _mm256_min_epi32(least[g], of_chunk);
        }
    }
    for g in 0..GROUP {
        store_integers(&mut space.least[g * LANES..], least[g]);
        store_integers(&mut space.nearest[g * LANES..], nearest[g]);
        store_integers(&mut space.second[g * LANES..], second[g]);
    }
}

/// The least S of four codewords.
#[inline]
#[target_feature(enable = "avx2")]
fn half(
    weights: &[i32], // (pairs, CHUNK)
    halves: &[i32; CHUNK],
    j0: usize,
    pairs: &[Strip],
) -> [__m256i; GROUP] {
    let mut sums = [[_mm256_setzero_si256(); GROUP]; 4];
    for j in 0..4 {
        sums[j] = [_mm256_set1_epi32(halves[j0 + j]); GROUP];
    }
    for (x, weights) in pairs.iter().zip(weights.as_chunks::<CHUNK>().0) {
        for g in 0..GROUP {
            let x = load_integers(&x[g * LANES..]);
            for j in 0..4 {
                let weight = _mm256_set1_epi32(weights[j0 + j]);
                sums[j][g] = _mm256_add_epi32(sums[j][g], _mm256_madd_epi16(x, weight));
            }
        }
    }
    let mut least = [_mm256_setzero_si256(); GROUP];
    for g in 0..GROUP {
        let low = _mm256_min_epi32(sums[0][g], sums[1][g]);
        least[g] = _mm256_min_epi32(low, _mm256_min_epi32(sums[2][g], sums[3][g]));
    }
    least
}

/// Fills what [`Space`] says of lists.
#[target_feature(enable = "avx2")]
fn search_among(integers: &Integers, numbers: &[u32], space: &mut Space) {
    let pairs = &space.pairs[..integers.middle.len().div_ceil(2)];
    let most = [_mm256_set1_epi32(i32::MAX); GROUP];
    let mut best = Best { least: most, second: most, codes: [_mm256_setzero_si256(); GROUP] };
    let (fours, rest) = numbers.as_chunks::<4>();
    for four in fours {
        best.measure(integers, four, pairs);
    }
    for &one in rest {
        best.measure(integers, &[one], pairs);
    }
    for g in 0..GROUP {
        store_integers(&mut space.least[g * LANES..], best.least[g]);
        store_integers(&mut space.nearest[g * LANES..], best.codes[g]);
        store_integers(&mut space.second[g * LANES..], best.second[g]);
    }
}

/// The least S of a strip's rows so far, the least but for that, and whose the first is.
struct Best {
    least: [__m256i; GROUP],
    second: [__m256i; GROUP],
    codes: [__m256i; GROUP],
}

impl Best {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn measure<const N: usize>(
        &mut self,
        integers: &Integers,
        numbers: &[u32; N],
        pairs: &[Strip],
    ) {
        let mut rows = [&integers.by_codeword[..pairs.len()]; N];
        let mut sums = [[_mm256_setzero_si256(); GROUP]; N];
        for j in 0..N {
            let number = numbers[j] as usize;
            rows[j] = &integers.by_codeword[number * pairs.len()..][..pairs.len()];
            sums[j] = [_mm256_set1_epi32(integers.halves[number]); GROUP];
        }
        for (pair, x) in pairs.iter().enumerate() {
            for j in 0..N {
                let weight = _mm256_set1_epi32(rows[j][pair]);
                for g in 0..GROUP {
                    let products = _mm256_madd_epi16(load_integers(&x[g * LANES..]), weight);
                    sums[j][g] = _mm256_add_epi32(sums[j][g], products);
                }
            }
        }
        for j in 0..N {
            let code = _mm256_set1_epi32(numbers[j] as i32);
            for g in 0..GROUP {
                let (sum, least) = (sums[j][g], self.least[g]);
                self.second[g] = _mm256_min_epi32(self.second[g], _mm256_max_epi32(least, sum));
                let closer = _mm256_cmpgt_epi32(least, sum);
                self.codes[g] = _mm256_blendv_epi8(self.codes[g], code, closer);
                self.least[g] = _mm256_min_epi32(least, sum);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_integers(values: &[i32]) -> __m256i {
    assert!(values.len() >= LANES);
    // SAFETY: eight integers are readable, because of the assertion above.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_integers(values: &mut [i32], register: __m256i) {
    assert!(values.len() >= LANES);
    // SAFETY: eight integers are writable, because of the assertion above.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), register) }
}
