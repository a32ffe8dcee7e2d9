//! AVX-512F: lanes are rows, codewords are broadcast; the scheme of the AVX2 file with one pass
//! of 3 registers x 8 codewords (24 accumulators) for the whole tile. The last step per row, of
//! eight codewords, is that file's own. Lists are measured for one register of rows at a time, which
//! keeps the number of the best codeword beside its distance.
//!
//! Bound: ds FMA per distance and lane, two registers a cycle.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{CHUNK, Kernels, Nearest, Panel, STRIP, TILE, TileRef, avx2};

const GROUP: usize = TILE / LANES;
const LANES: usize = 16;

pub(super) fn nearest(_proof: Kernels, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    // SAFETY: AVX-512F, AVX2 and FMA are there, because `Kernels` with this set is made by
    // `Kernels::of` alone, which checks them.
    unsafe {
        if panel.differences() {
            nearest_in_tile::<true>(panel, tile, out);
        } else {
            nearest_in_tile::<false>(panel, tile, out);
        }
    }
}

#[target_feature(enable = "avx512f,avx2,fma")]
fn nearest_in_tile<const DIFFERENCES: bool>(panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    let ds = panel.ds;
    let mut best = [_mm512_castps_si512(_mm512_set1_ps(f32::INFINITY)); GROUP];
    let mut best_chunk = [_mm512_setzero_si512(); GROUP];
    let norms: [__m512; GROUP] = std::array::from_fn(|g| load(&tile.norms[g * LANES..][..LANES]));
    let chunks = panel.weights.chunks_exact(ds * CHUNK);
    for (chunk, (weights, codeword_norms)) in
        chunks.zip(panel.norms.chunks_exact(CHUNK)).enumerate()
    {
        let mut sums = [[_mm512_setzero_ps(); GROUP]; CHUNK];
        if !DIFFERENCES {
            for j in 0..CHUNK {
                let norm = _mm512_set1_ps(codeword_norms[j]);
                for g in 0..GROUP {
                    sums[j][g] = _mm512_add_ps(norms[g], norm);
                }
            }
        }
        for (x, weights) in tile.lanes.chunks_exact(TILE).zip(weights.chunks_exact(CHUNK)) {
            let x: [__m512; GROUP] = std::array::from_fn(|g| load(&x[g * LANES..][..LANES]));
            for j in 0..CHUNK {
                let weight = _mm512_set1_ps(weights[j]);
                for g in 0..GROUP {
                    sums[j][g] = step::<DIFFERENCES>(x[g], weight, sums[j][g]);
                }
            }
        }
        let chunk = _mm512_set1_epi32(chunk as i32);
        for g in 0..GROUP {
            let mut least = _mm512_castps_si512(sums[0][g]);
            for j in 1..CHUNK {
                least = _mm512_min_epi32(least, _mm512_castps_si512(sums[j][g]));
            }
            let least = _mm512_max_epi32(least, _mm512_setzero_si512());
            let closer = _mm512_cmpgt_epi32_mask(best[g], least);
            best[g] = _mm512_min_epi32(best[g], least);
            best_chunk[g] = _mm512_mask_mov_epi32(best_chunk[g], closer, chunk);
        }
    }
    for g in 0..GROUP {
        store(&mut out.distances[g * LANES..][..LANES], _mm512_castsi512_ps(best[g]));
        store_integers(&mut out.codes[g * LANES..][..LANES], best_chunk[g]);
    }
    for lane in 0..TILE {
        out.codes[lane] = avx2::resolve::<DIFFERENCES>(panel, tile, lane, out);
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

#[target_feature(enable = "avx512f,avx2,fma")]
fn among_in_strip<const DIFFERENCES: bool>(
    panel: &Panel,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
) {
    let rows = strip * STRIP..(strip + 1) * STRIP;
    let mut best = Best {
        distances: _mm512_castps_si512(_mm512_set1_ps(f32::INFINITY)),
        codes: _mm512_setzero_si512(),
    };
    let (eights, rest) = numbers.as_chunks::<CHUNK>();
    for eight in eights {
        best.measure::<DIFFERENCES, CHUNK>(panel, eight, tile, rows.start);
    }
    let (fours, rest) = rest.as_chunks::<4>();
    for four in fours {
        best.measure::<DIFFERENCES, 4>(panel, four, tile, rows.start);
    }
    for &one in rest {
        best.measure::<DIFFERENCES, 1>(panel, &[one], tile, rows.start);
    }
    store(&mut out.distances[rows.clone()], _mm512_castsi512_ps(best.distances));
    store_integers(&mut out.codes[rows], best.codes);
}

/// The least distances of a strip's rows so far, and whose they are.
struct Best {
    distances: __m512i,
    codes: __m512i,
}

impl Best {
    #[inline]
    #[target_feature(enable = "avx512f,avx2,fma")]
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
        let mut sums = [_mm512_setzero_ps(); N];
        if !DIFFERENCES {
            let norms = load(&tile.norms[first..]);
            for j in 0..N {
                let norm = _mm512_set1_ps(panel.norms[numbers[j] as usize]);
                sums[j] = _mm512_add_ps(norms, norm);
            }
        }
        for (d, x) in tile.lanes.chunks_exact(TILE).enumerate() {
            let x = load(&x[first..]);
            for j in 0..N {
                sums[j] = step::<DIFFERENCES>(x, _mm512_set1_ps(rows[j][d]), sums[j]);
            }
        }
        for j in 0..N {
            let sum = _mm512_max_epi32(_mm512_castps_si512(sums[j]), _mm512_setzero_si512());
            let closer = _mm512_cmpgt_epi32_mask(self.distances, sum);
            let code = _mm512_set1_epi32(numbers[j] as i32);
            self.distances = _mm512_min_epi32(self.distances, sum);
            self.codes = _mm512_mask_mov_epi32(self.codes, closer, code);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step<const DIFFERENCES: bool>(x: __m512, weight: __m512, sum: __m512) -> __m512 {
    if DIFFERENCES {
        let difference = _mm512_sub_ps(x, weight);
        _mm512_fmadd_ps(difference, difference, sum)
    } else {
        _mm512_fmadd_ps(x, weight, sum)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    assert!(values.len() >= LANES);
    // SAFETY: sixteen floats are readable, because of the assertion above.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: &mut [f32], register: __m512) {
    assert!(values.len() >= LANES);
    // SAFETY: sixteen floats are writable, because of the assertion above.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), register) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_integers(values: &mut [u32], register: __m512i) {
    assert!(values.len() >= LANES);
    // SAFETY: sixteen integers are writable, because of the assertion above.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), register) }
}
