//! AVX2 and FMA: lanes are rows, codewords are broadcast.
//!
//! ```text
//! for each strip of 16 rows (2 registers):
//!     for each chunk of 8 codewords, in two halves of 4 (8 accumulators: 12 leave the compiler
//!                                    too few registers for the rest):
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

use super::{
    ANY, CHUNK, Kernels, Metric, Nearest, Panel, STRIP, TILE, TileRef, of_dimension, scalar,
};

const LANES: usize = 8;
/// Registers of a strip, which one pass over the codewords holds.
const GROUP: usize = STRIP / LANES;

pub(super) fn nearest(_proof: Kernels, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    // SAFETY: AVX2 and FMA are there, because `Kernels` with this set is made by `Kernels::of`
    // alone, which checks them.
    unsafe { of_dimension!(nearest_in_tile(panel, tile, out)) }
}

#[target_feature(enable = "avx2,fma")]
fn nearest_in_tile<const DIFFERENCES: bool, const DS: usize>(
    panel: &Panel,
    tile: TileRef<'_>,
    out: &mut Nearest,
) {
    let ds = panel.dimension::<DS>();
    let lanes = &tile.lanes[..ds * TILE];
    let infinity = _mm256_castps_si256(_mm256_set1_ps(f32::INFINITY));
    for first in (0..TILE).step_by(STRIP) {
        let mut best = [infinity; GROUP];
        let mut best_chunk = [_mm256_setzero_si256(); GROUP];
        let norms = load_strip(&tile.norms[first..]);
        let chunks = panel.weights.chunks_exact(ds * CHUNK);
        for (chunk, (weights, codeword_norms)) in
            chunks.zip(panel.norms.chunks_exact(CHUNK)).enumerate()
        {
            let low = half::<DIFFERENCES>(weights, codeword_norms, 0, lanes, first, norms);
            let high = half::<DIFFERENCES>(weights, codeword_norms, 4, lanes, first, norms);
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
            let rows = first + g * LANES;
            store(&mut out.distances[rows..][..LANES], _mm256_castsi256_ps(best[g]));
            store_integers(&mut out.codes[rows..][..LANES], best_chunk[g]);
        }
    }
    resolve::<DIFFERENCES, DS>(panel, tile, out);
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
    unsafe { of_dimension!(among_in_strip(panel, numbers, tile, strip, out)) }
}

#[target_feature(enable = "avx2,fma")]
fn among_in_strip<const DIFFERENCES: bool, const DS: usize>(
    panel: &Panel,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
) {
    let first = strip * STRIP;
    let mut best = Best {
        distances: [_mm256_castps_si256(_mm256_set1_ps(f32::INFINITY)); GROUP],
        codes: [_mm256_setzero_si256(); GROUP],
    };
    let (fours, rest) = numbers.as_chunks::<4>();
    for four in fours {
        best.measure::<DIFFERENCES, DS, 4>(panel, four, tile, first);
    }
    for &one in rest {
        best.measure::<DIFFERENCES, DS, 1>(panel, &[one], tile, first);
    }
    for g in 0..GROUP {
        let lanes = first + g * LANES;
        store(&mut out.distances[lanes..][..LANES], _mm256_castsi256_ps(best.distances[g]));
        store_integers(&mut out.codes[lanes..][..LANES], best.codes[g]);
    }
}

/// The least distances of a strip's rows so far, and whose they are.
struct Best {
    distances: [__m256i; GROUP],
    codes: [__m256i; GROUP],
}

impl Best {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn measure<const DIFFERENCES: bool, const DS: usize, const N: usize>(
        &mut self,
        panel: &Panel,
        numbers: &[u32; N],
        tile: TileRef<'_>,
        first: usize,
    ) {
        let ds = panel.dimension::<DS>();
        let mut rows = [&panel.by_codeword[..ds]; N];
        for j in 0..N {
            rows[j] = &panel.by_codeword[numbers[j] as usize * ds..][..ds];
        }
        let mut sums = [[_mm256_setzero_ps(); GROUP]; N];
        if !DIFFERENCES {
            for j in 0..N {
                let norm = _mm256_set1_ps(panel.norms[numbers[j] as usize]);
                for g in 0..GROUP {
                    let norms = load8(&tile.norms[first + g * LANES..]);
                    sums[j][g] = _mm256_add_ps(norms, norm);
                }
            }
        }
        for (d, x) in tile.lanes[..ds * TILE].chunks_exact(TILE).enumerate() {
            let x = load_strip(&x[first..]);
            for j in 0..N {
                let weight = _mm256_set1_ps(rows[j][d]);
                for g in 0..GROUP {
                    sums[j][g] = step::<DIFFERENCES>(x[g], weight, sums[j][g]);
                }
            }
        }
        for j in 0..N {
            let code = _mm256_set1_epi32(numbers[j] as i32);
            for g in 0..GROUP {
                let sum = _mm256_castps_si256(sums[j][g]);
                let sum = _mm256_max_epi32(sum, _mm256_setzero_si256());
                let closer = _mm256_cmpgt_epi32(self.distances[g], sum);
                self.distances[g] = _mm256_min_epi32(self.distances[g], sum);
                self.codes[g] = _mm256_blendv_epi8(self.codes[g], code, closer);
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
        let x = load_strip(&x[first..]);
        for j in 0..4 {
            let weight = _mm256_set1_ps(weights[j0 + j]);
            for g in 0..GROUP {
                sums[j][g] = step::<DIFFERENCES>(x[g], weight, sums[j][g]);
            }
        }
    }
    let mut least = [_mm256_setzero_si256(); GROUP];
    for g in 0..GROUP {
        let bits = |j: usize| _mm256_castps_si256(sums[j][g]);
        let low = _mm256_min_epi32(bits(0), bits(1));
        least[g] = _mm256_min_epi32(low, _mm256_min_epi32(bits(2), bits(3)));
    }
    least
}

/// For each row of the tile, the lowest index in its best chunk whose distance is the row's best.
#[target_feature(enable = "avx2,fma")]
pub(super) fn resolve<const DIFFERENCES: bool, const DS: usize>(
    panel: &Panel,
    tile: TileRef<'_>,
    found: &mut Nearest,
) {
    for lane in 0..TILE {
        let chunk = found.codes[lane] as usize;
        let sums = Row { tile, lane }.measure::<DIFFERENCES, DS>(panel, chunk);
        let best = _mm256_set1_epi32(found.distances[lane].to_bits() as i32);
        found.codes[lane] = (chunk * CHUNK) as u32 + first_equal(sums, best);
    }
}

/// One row of a tile.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) tile: TileRef<'a>,
    pub(super) lane: usize,
}

impl Row<'_> {
    /// Its squared distances to the codewords of a chunk, as integers.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn measure<const DIFFERENCES: bool, const DS: usize>(
        self,
        panel: &Panel,
        chunk: usize,
    ) -> __m256i {
        let ds = panel.dimension::<DS>();
        let weights = &panel.weights[chunk * ds * CHUNK..][..ds * CHUNK];
        let mut sums = if DIFFERENCES {
            _mm256_setzero_ps()
        } else {
            let norms = load8(&panel.norms[chunk * CHUNK..][..CHUNK]);
            _mm256_add_ps(_mm256_set1_ps(self.tile.norms[self.lane]), norms)
        };
        let lanes = self.tile.lanes[..ds * TILE].chunks_exact(TILE);
        for (x, weights) in lanes.zip(weights.chunks_exact(CHUNK)) {
            sums = step::<DIFFERENCES>(_mm256_set1_ps(x[self.lane]), load8(weights), sums);
        }
        _mm256_max_epi32(_mm256_castps_si256(sums), _mm256_setzero_si256())
    }

    /// The least of them, as bits, and the first codeword that has it.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn least<const DIFFERENCES: bool, const DS: usize>(
        self,
        panel: &Panel,
        chunk: usize,
    ) -> (u32, u32) {
        let sums = self.measure::<DIFFERENCES, DS>(panel, chunk);
        let least = _mm256_min_epi32(sums, _mm256_permute2x128_si256::<1>(sums, sums));
        let least = _mm256_min_epi32(least, _mm256_shuffle_epi32::<0b01_00_11_10>(least));
        let least = _mm256_min_epi32(least, _mm256_shuffle_epi32::<0b10_11_00_01>(least));
        let value = _mm_cvtsi128_si32(_mm256_castsi256_si128(least)) as u32;
        (value, (chunk * CHUNK) as u32 + first_equal(sums, least))
    }
}

/// The first lane where both are equal.
#[inline]
#[target_feature(enable = "avx2")]
fn first_equal(a: __m256i, b: __m256i) -> u32 {
    let equal = _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b));
    (_mm256_movemask_ps(equal) as u32).trailing_zeros()
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
        // SAFETY: AVX2 and FMA are there, because `Kernels` with this set or a wider one is made
        // by `Kernels::of` alone, which checks them.
        unsafe {
            match centre.len() {
                4 => load_rows::<4>(rows, places, centre, first, lanes, norms),
                8 => load_rows::<8>(rows, places, centre, first, lanes, norms),
                16 => load_rows::<16>(rows, places, centre, first, lanes, norms),
                _ => load_rows::<ANY>(rows, places, centre, first, lanes, norms),
            }
        }
    }
}

/// Eight rows (ds,).
type Rows<'a> = [&'a [f32]; LANES];

/// The rows that begin at `places`, into the lanes from `first` on.
#[target_feature(enable = "avx2,fma")]
fn load_rows<const DS: usize>(
    rows: &[f32],
    places: [usize; LANES],
    centre: &[f32],
    first: usize,
    lanes: &mut [f32],
    norms: &mut [f32; TILE],
) {
    let ds = if DS == ANY { centre.len() } else { DS };
    let (centre, lanes) = (&centre[..ds], &mut lanes[..ds * TILE]);
    let mut slices = [centre; LANES];
    for (slice, place) in slices.iter_mut().zip(places) {
        *slice = &rows[place..][..ds];
    }
    let mut sums = _mm256_setzero_ps();
    for_columns(slices, |d, column| {
        let column = _mm256_sub_ps(column, _mm256_set1_ps(centre[d]));
        store(&mut lanes[d * TILE..][first..], column);
        sums = _mm256_fmadd_ps(column, column, sums);
    });
    store(&mut norms[first..], sums);
}

/// Calls `take` with each column of eight rows. Rows r and r + 4 share a register, so that a 4 x 4
/// transposition in each half leaves the lanes in the order of the rows.
#[inline]
#[target_feature(enable = "avx2")]
fn for_columns(rows: Rows<'_>, mut take: impl FnMut(usize, __m256)) {
    let ds = rows[0].len();
    let mut d = 0;
    while d + 4 <= ds {
        let pair = |row: usize| _mm256_set_m128(load4(&rows[row + 4][d..]), load4(&rows[row][d..]));
        let columns = transposed(pair(0), pair(1), pair(2), pair(3));
        for j in 0..4 {
            take(d + j, columns[j]);
        }
        d += 4;
    }
    if ds - d >= 2 {
        let pair = |row: usize| _mm256_set_m128(load2(&rows[row + 4][d..]), load2(&rows[row][d..]));
        let low = _mm256_unpacklo_ps(pair(0), pair(1));
        let high = _mm256_unpacklo_ps(pair(2), pair(3));
        take(d, _mm256_shuffle_ps::<0b01_00_01_00>(low, high));
        take(d + 1, _mm256_shuffle_ps::<0b11_10_11_10>(low, high));
        d += 2;
    }
    if d < ds {
        let mut column = [0.0; LANES];
        for (value, row) in column.iter_mut().zip(rows) {
            *value = row[d];
        }
        take(d, load8(&column));
    }
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
    for (codewords, out) in book.chunks_exact(LANES * ds).zip(out.chunks_exact_mut(LANES)) {
        let mut rows = [codewords; LANES];
        for (row, codeword) in rows.iter_mut().zip(codewords.chunks_exact(ds)) {
            *row = codeword;
        }
        let mut sums = _mm256_setzero_ps();
        for_columns(rows, |d, column| {
            sums = step::<L2>(column, _mm256_set1_ps(query[d]), sums);
        });
        store(out, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_strip(values: &[f32]) -> [__m256; GROUP] {
    let mut group = [_mm256_setzero_ps(); GROUP];
    for g in 0..GROUP {
        group[g] = load8(&values[g * LANES..]);
    }
    group
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
