//! AVX2 and FMA: lanes are rows, codewords are broadcast.
//!
//! ```text
//! for each 24 rows of the tile (3 registers):
//!     for each chunk of 8 codewords, in two halves of 4 (12 accumulators):
//!         acc[j] = |c_j|^2 + |x|^2;  for d: acc[j] += x_d * weight[d][j]
//!         t = max(0, min over j acc[j])
//!         where t < best: best = t, best_chunk = chunk          (strict: lowest chunk wins)
//!     for each row: measure the 8 codewords of its best chunk again, in the same order of
//!         operations, and take the first that equals best       (lowest index wins)
//! ```
//! Bound: ds FMA per distance and lane, two registers a cycle; the minimum works on integers
//! (non-negative floats order as i32), beside the FMA pipes. Difference sums cost a subtraction
//! more per dimension.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{CHUNK, Kernels, Metric, Nearest, Panel, STRIP, TILE, TileRef, scalar};

/// Registers of rows that one pass over the codewords holds.
const GROUP: usize = 3;
const LANES: usize = 8;

pub(super) fn nearest(_proof: Kernels, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    // SAFETY: AVX2 and FMA are there, because `Kernels` with this set is made by `Kernels::of`
    // alone, which checks them.
    unsafe {
        if panel.differences() {
            nearest_in_tile::<true>(panel, tile, out);
        } else {
            nearest_in_tile::<false>(panel, tile, out);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn nearest_in_tile<const DIFFERENCES: bool>(panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    let ds = panel.ds;
    let infinity = _mm256_castps_si256(_mm256_set1_ps(f32::INFINITY));
    for first in (0..TILE).step_by(GROUP * LANES) {
        let mut best = [infinity; GROUP];
        let mut best_chunk = [_mm256_setzero_si256(); GROUP];
        let norms: [__m256; GROUP] =
            std::array::from_fn(|g| load8(&tile.norms[first + g * LANES..][..LANES]));
        let chunks = panel.weights.chunks_exact(ds * CHUNK);
        for (chunk, (weights, codeword_norms)) in
            chunks.zip(panel.norms.chunks_exact(CHUNK)).enumerate()
        {
            let low = half::<DIFFERENCES>(weights, codeword_norms, 0, tile.lanes, first, norms);
            let high = half::<DIFFERENCES>(weights, codeword_norms, 4, tile.lanes, first, norms);
            let chunk = _mm256_set1_epi32(chunk as i32);
            for g in 0..GROUP {
                let least = _mm256_min_epi32(low[g], high[g]);
                let least = _mm256_max_epi32(least, _mm256_setzero_si256());
                let closer = _mm256_cmpgt_epi32(best[g], least);
                best[g] = _mm256_min_epi32(best[g], least);
                best_chunk[g] = _mm256_blendv_epi8(best_chunk[g], chunk, closer);
            }
        }
        for g in 0..GROUP {
            let lanes = first + g * LANES;
            store(&mut out.distances[lanes..][..LANES], _mm256_castsi256_ps(best[g]));
            store_integers(&mut out.codes[lanes..][..LANES], best_chunk[g]);
        }
    }
    for lane in 0..TILE {
        out.codes[lane] = resolve::<DIFFERENCES>(panel, tile, lane, out);
    }
}

pub(super) fn nearest_among(
    _proof: Kernels,
    panel: &Panel,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
) {
    // SAFETY: as in `nearest`.
    unsafe {
        if panel.differences() {
            among_in_strip::<true>(panel, numbers, tile, strip, out);
        } else {
            among_in_strip::<false>(panel, numbers, tile, strip, out);
        }
    }
}

/// Registers of a strip.
const HALVES: usize = STRIP / LANES;

#[target_feature(enable = "avx2,fma")]
fn among_in_strip<const DIFFERENCES: bool>(
    panel: &Panel,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
) {
    let first = strip * STRIP;
    let mut best = Best {
        distances: [_mm256_castps_si256(_mm256_set1_ps(f32::INFINITY)); HALVES],
        codes: [_mm256_setzero_si256(); HALVES],
    };
    let (fours, rest) = numbers.as_chunks::<4>();
    for four in fours {
        best.measure::<DIFFERENCES, 4>(panel, four, tile, first);
    }
    for &one in rest {
        best.measure::<DIFFERENCES, 1>(panel, &[one], tile, first);
    }
    for h in 0..HALVES {
        let lanes = first + h * LANES;
        store(&mut out.distances[lanes..][..LANES], _mm256_castsi256_ps(best.distances[h]));
        store_integers(&mut out.codes[lanes..][..LANES], best.codes[h]);
    }
}

/// The least distances of a strip's rows so far, and whose they are.
struct Best {
    distances: [__m256i; HALVES],
    codes: [__m256i; HALVES],
}

impl Best {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn measure<const DIFFERENCES: bool, const N: usize>(
        &mut self,
        panel: &Panel,
        numbers: &[u32; N],
        tile: TileRef<'_>,
        first: usize,
    ) {
        let ds = panel.ds;
        let mut rows = [&panel.by_codeword[..ds]; N];
        for j in 0..N {
            rows[j] = &panel.by_codeword[numbers[j] as usize * ds..][..ds];
        }
        let mut sums = [[_mm256_setzero_ps(); HALVES]; N];
        if !DIFFERENCES {
            for j in 0..N {
                let norm = _mm256_set1_ps(panel.norms[numbers[j] as usize]);
                for h in 0..HALVES {
                    let norms = load8(&tile.norms[first + h * LANES..]);
                    sums[j][h] = _mm256_add_ps(norms, norm);
                }
            }
        }
        for (d, x) in tile.lanes.chunks_exact(TILE).enumerate() {
            let x: [__m256; HALVES] = std::array::from_fn(|h| load8(&x[first + h * LANES..]));
            for j in 0..N {
                let weight = _mm256_set1_ps(rows[j][d]);
                for h in 0..HALVES {
                    sums[j][h] = step::<DIFFERENCES>(x[h], weight, sums[j][h]);
                }
            }
        }
        for j in 0..N {
            let code = _mm256_set1_epi32(numbers[j] as i32);
            for h in 0..HALVES {
                let sum = _mm256_castps_si256(sums[j][h]);
                let sum = _mm256_max_epi32(sum, _mm256_setzero_si256());
                let closer = _mm256_cmpgt_epi32(self.distances[h], sum);
                self.distances[h] = _mm256_min_epi32(self.distances[h], sum);
                self.codes[h] = _mm256_blendv_epi8(self.codes[h], code, closer);
            }
        }
    }
}

/// The least of four codewords' squared distances, as integers, for each row of the group.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn half<const DIFFERENCES: bool>(
    weights: &[f32],        // (ds, CHUNK)
    codeword_norms: &[f32], // (CHUNK,)
    j0: usize,
    lanes: &[f32], // (ds, TILE)
    first: usize,
    norms: [__m256; GROUP],
) -> [__m256i; GROUP] {
    let mut sums = [[_mm256_setzero_ps(); GROUP]; 4];
    if !DIFFERENCES {
        for j in 0..4 {
            let norm = _mm256_set1_ps(codeword_norms[j0 + j]);
            for g in 0..GROUP {
                sums[j][g] = _mm256_add_ps(norms[g], norm);
            }
        }
    }
    for (x, weights) in lanes.chunks_exact(TILE).zip(weights.chunks_exact(CHUNK)) {
        let x: [__m256; GROUP] = std::array::from_fn(|g| load8(&x[first + g * LANES..][..LANES]));
        for j in 0..4 {
            let weight = _mm256_set1_ps(weights[j0 + j]);
            for g in 0..GROUP {
                sums[j][g] = step::<DIFFERENCES>(x[g], weight, sums[j][g]);
            }
        }
    }
    std::array::from_fn(|g| {
        let bits = |j: usize| _mm256_castps_si256(sums[j][g]);
        let low = _mm256_min_epi32(bits(0), bits(1));
        _mm256_min_epi32(low, _mm256_min_epi32(bits(2), bits(3)))
    })
}

/// The lowest index in the row's best chunk whose distance is the row's best.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn resolve<const DIFFERENCES: bool>(
    panel: &Panel,
    tile: TileRef<'_>,
    lane: usize,
    found: &Nearest,
) -> u32 {
    let chunk = found.codes[lane] as usize;
    let weights = &panel.weights[chunk * panel.ds * CHUNK..][..panel.ds * CHUNK];
    let mut sums = if DIFFERENCES {
        _mm256_setzero_ps()
    } else {
        _mm256_add_ps(
            _mm256_set1_ps(tile.norms[lane]),
            load8(&panel.norms[chunk * CHUNK..][..CHUNK]),
        )
    };
    for (x, weights) in tile.lanes.chunks_exact(TILE).zip(weights.chunks_exact(CHUNK)) {
        sums = step::<DIFFERENCES>(_mm256_set1_ps(x[lane]), load8(weights), sums);
    }
    let sums = _mm256_max_epi32(_mm256_castps_si256(sums), _mm256_setzero_si256());
    let best = _mm256_set1_epi32(found.distances[lane].to_bits() as i32);
    let equal = _mm256_castsi256_ps(_mm256_cmpeq_epi32(sums, best));
    (chunk * CHUNK) as u32 + (_mm256_movemask_ps(equal) as u32).trailing_zeros()
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn step<const DIFFERENCES: bool>(x: __m256, weight: __m256, sum: __m256) -> __m256 {
    if DIFFERENCES {
        let difference = _mm256_sub_ps(x, weight);
        _mm256_fmadd_ps(difference, difference, sum)
    } else {
        _mm256_fmadd_ps(x, weight, sum)
    }
}

/// Transposes 8 rows x 4 columns at a time. Where fewer rows are left the last one fills the
/// lanes, so that a row's norm is rounded the same wherever it stands.
pub(super) fn load(
    _proof: Kernels,
    rows: &[f32],
    count: usize,
    place: impl Fn(usize) -> usize,
    centre: &[f32],    // (ds,)
    lanes: &mut [f32], // (ds, TILE)
    norms: &mut [f32; TILE],
) {
    for first in (0..count).step_by(LANES) {
        let places = std::array::from_fn(|row| place((first + row).min(count - 1)));
        let norms = &mut norms[first..][..LANES];
        // SAFETY: AVX2 and FMA are there, because `Kernels` with this set or a wider one is made
        // by `Kernels::of` alone, which checks them.
        unsafe { load_rows(rows, places, centre, &mut lanes[first..], norms) };
    }
}

/// Where eight rows begin.
type Places = [usize; LANES];

/// Eight rows; `lanes` begins at the first row's lane.
#[target_feature(enable = "avx2,fma")]
fn load_rows(rows: &[f32], places: Places, centre: &[f32], lanes: &mut [f32], norms: &mut [f32]) {
    let ds = centre.len();
    let mut sums = _mm256_setzero_ps();
    let mut take = |d: usize, column: __m256| {
        let column = _mm256_sub_ps(column, _mm256_set1_ps(centre[d]));
        store(&mut lanes[d * TILE..], column);
        sums = _mm256_fmadd_ps(column, column, sums);
    };
    for d in (0..ds / 4 * 4).step_by(4) {
        for (j, column) in four_columns(rows, places, d).into_iter().enumerate() {
            take(d + j, column);
        }
    }
    let mut d = ds / 4 * 4;
    if ds - d >= 2 {
        let [even, odd] = two_columns(rows, places, d);
        take(d, even);
        take(d + 1, odd);
        d += 2;
    }
    if d < ds {
        take(d, one_column(rows, places, d));
    }
    store(norms, sums);
}

/// Columns d to d + 4 of eight rows. Rows r and r + 4 share a register, so that a 4 x 4
/// transposition in each half leaves the lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx2")]
fn four_columns(rows: &[f32], places: Places, d: usize) -> [__m256; 4] {
    let pair = |row: usize| {
        let low = load4(&rows[places[row] + d..]);
        _mm256_set_m128(load4(&rows[places[row + 4] + d..]), low)
    };
    transposed(pair(0), pair(1), pair(2), pair(3))
}

/// Both halves of four registers, each as a 4 x 4 matrix.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(a: __m256, b: __m256, c: __m256, e: __m256) -> [__m256; 4] {
    let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let (ce_low, ce_high) = (_mm256_unpacklo_ps(c, e), _mm256_unpackhi_ps(c, e));
    [
        _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, ce_low),
        _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, ce_low),
        _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, ce_high),
        _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, ce_high),
    ]
}

/// Columns d and d + 1 of eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn two_columns(rows: &[f32], places: Places, d: usize) -> [__m256; 2] {
    // Rows r and r + 4 in the halves of a register, as in `four_columns`.
    let pair = |row: usize| {
        let low = load2(&rows[places[row] + d..]);
        _mm256_set_m128(load2(&rows[places[row + 4] + d..]), low)
    };
    let low = _mm256_unpacklo_ps(pair(0), pair(1));
    let high = _mm256_unpacklo_ps(pair(2), pair(3));
    [_mm256_shuffle_ps::<0b01_00_01_00>(low, high), _mm256_shuffle_ps::<0b11_10_11_10>(low, high)]
}

/// Column d of eight rows.
#[inline]
#[target_feature(enable = "avx2")]
fn one_column(rows: &[f32], places: Places, d: usize) -> __m256 {
    let column: [f32; LANES] = places.map(|place| rows[place + d]);
    load8(&column)
}

pub(super) fn table(_proof: Kernels, query: &[f32], book: &[f32], metric: Metric, out: &mut [f32]) {
    let ds = query.len();
    let whole = out.len() / LANES * LANES;
    let (lanes, tail) = out.split_at_mut(whole);
    // SAFETY: AVX2 and FMA are there, because `Kernels` with this set or a wider one is made by
    // `Kernels::of` alone, which checks them.
    unsafe {
        match metric {
            Metric::L2 => table_of_lanes::<true>(query, book, lanes),
            Metric::Dot => table_of_lanes::<false>(query, book, lanes),
        }
    }
    scalar::table(query, &book[whole * ds..], metric, tail);
}

/// The usual dimensions have code of their own, which knows where everything lies.
#[target_feature(enable = "avx2,fma")]
fn table_of_lanes<const L2: bool>(query: &[f32], book: &[f32], out: &mut [f32]) {
    match query.len() {
        4 => table_fixed::<L2, 4>(query, book, out),
        8 => table_fixed::<L2, 8>(query, book, out),
        16 => table_fixed::<L2, 16>(query, book, out),
        _ => table_rows::<L2>(query, book, out),
    }
}

/// [`table_rows`] for one dimension, a multiple of 4.
#[target_feature(enable = "avx2,fma")]
fn table_fixed<const L2: bool, const DS: usize>(query: &[f32], book: &[f32], out: &mut [f32]) {
    let (codewords, _) = book.as_chunks::<DS>();
    let (groups, _) = codewords.as_chunks::<LANES>();
    let mut values = [_mm256_setzero_ps(); DS];
    values.iter_mut().zip(query).for_each(|(value, &q)| *value = _mm256_set1_ps(q));
    for (rows, out) in groups.iter().zip(out.chunks_exact_mut(LANES)) {
        let mut sums = _mm256_setzero_ps();
        for d in (0..DS).step_by(4) {
            let pair =
                |row: usize| _mm256_set_m128(load4(&rows[row + 4][d..]), load4(&rows[row][d..]));
            let columns = transposed(pair(0), pair(1), pair(2), pair(3));
            for j in 0..4 {
                sums = step::<L2>(columns[j], values[d + j], sums);
            }
        }
        store(out, sums);
    }
}

/// Eight codewords at a time, transposed in registers.
#[target_feature(enable = "avx2,fma")]
fn table_rows<const L2: bool>(query: &[f32], book: &[f32], out: &mut [f32]) {
    let ds = query.len();
    let places = std::array::from_fn(|row| row * ds);
    for (codewords, out) in book.chunks_exact(LANES * ds).zip(out.chunks_exact_mut(LANES)) {
        let mut sums = _mm256_setzero_ps();
        let mut take = |d: usize, column: __m256| {
            let q = _mm256_set1_ps(query[d]);
            sums = if L2 {
                let difference = _mm256_sub_ps(column, q);
                _mm256_fmadd_ps(difference, difference, sums)
            } else {
                _mm256_fmadd_ps(column, q, sums)
            };
        };
        for d in (0..ds / 4 * 4).step_by(4) {
            for (j, column) in four_columns(codewords, places, d).into_iter().enumerate() {
                take(d + j, column);
            }
        }
        for d in ds / 4 * 4..ds {
            take(d, one_column(codewords, places, d));
        }
        store(out, sums);
    }
}

/// Two floats and two zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn load2(values: &[f32]) -> __m128 {
    assert!(values.len() >= 2);
    // SAFETY: two floats are readable, because of the assertion above; the load needs no alignment.
    unsafe { _mm_castsi128_ps(_mm_loadl_epi64(values.as_ptr().cast())) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load4(values: &[f32]) -> __m128 {
    assert!(values.len() >= 4);
    // SAFETY: four floats are readable, because of the assertion above.
    unsafe { _mm_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load8(values: &[f32]) -> __m256 {
    assert!(values.len() >= LANES);
    // SAFETY: eight floats are readable, because of the assertion above.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(values: &mut [f32], register: __m256) {
    assert!(values.len() >= LANES);
    // SAFETY: eight floats are writable, because of the assertion above.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), register) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_integers(values: &mut [u32], register: __m256i) {
    assert!(values.len() >= LANES);
    // SAFETY: eight integers are writable, because of the assertion above.
    unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), register) }
}
