//! AVX-512F: lanes are rows, codewords are broadcast; the scheme of the AVX2 file with a strip of
//! rows in one register and eight codewords at a time (8 accumulators; with more registers of rows
//! there are more accumulators, but steps and minima overlap less). The last step per row, of eight
//! codewords, is that file's own. Lists are measured in the same way, but keep the number of the best
//! codeword beside its distance.
//!
//! Bound: ds FMA per distance and lane, one or two registers a cycle.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{CHUNK, Kernels, Nearest, Panel, STRIP, TILE, TileRef, avx2, of_dimension};

const LANES: usize = 16;
const _: () = assert!(LANES == STRIP);

pub(super) fn nearest(_proof: Kernels, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    // SAFETY: AVX-512F, AVX2 and FMA are there, because `Kernels` with this set is made by
    // `Kernels::of` alone, which checks them.
    unsafe { of_dimension!(nearest_in_tile(panel, tile, out)) }
}

#[target_feature(enable = "avx512f,avx2,fma")]
fn nearest_in_tile<const DIFFERENCES: bool, const DS: usize>(
    panel: &Panel,
    tile: TileRef<'_>,
    out: &mut Nearest,
) {
    let ds = panel.dimension::<DS>();
    for first in (0..TILE).step_by(LANES) {
        let mut best = _mm512_castps_si512(_mm512_set1_ps(f32::INFINITY));
        let mut best_chunk = _mm512_setzero_si512();
        let norm = load(&tile.norms[first..]);
        let chunks = panel.weights.chunks_exact(ds * CHUNK);
        for (chunk, (weights, codeword_norms)) in
            chunks.zip(panel.norms.chunks_exact(CHUNK)).enumerate()
        {
            let mut sums = [_mm512_setzero_ps(); CHUNK];
            if !DIFFERENCES {
                for j in 0..CHUNK {
                    sums[j] = _mm512_add_ps(norm, _mm512_set1_ps(codeword_norms[j]));
                }
            }
            let lanes = tile.lanes[..ds * TILE].chunks_exact(TILE);
            for (x, weights) in lanes.zip(weights.chunks_exact(CHUNK)) {
                let x = load(&x[first..]);
                for j in 0..CHUNK {
                    sums[j] = step::<DIFFERENCES>(x, _mm512_set1_ps(weights[j]), sums[j]);
                }
            }
            let pair = |j: usize| {
                _mm512_min_epi32(_mm512_castps_si512(sums[j]), _mm512_castps_si512(sums[j + 1]))
            };
            let (low, high) =
                (_mm512_min_epi32(pair(0), pair(2)), _mm512_min_epi32(pair(4), pair(6)));
            let least = _mm512_max_epi32(_mm512_min_epi32(low, high), _mm512_setzero_si512());
            let closer = _mm512_cmpgt_epi32_mask(best, least);
            best = _mm512_min_epi32(best, least);
            best_chunk = _mm512_mask_mov_epi32(best_chunk, closer, _mm512_set1_epi32(chunk as i32));
        }
        store(&mut out.distances[first..], _mm512_castsi512_ps(best));
        store_integers(&mut out.codes[first..], best_chunk);
    }
    avx2::resolve::<DIFFERENCES, DS>(panel, tile, out);
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

#[target_feature(enable = "avx512f,avx2,fma")]
fn among_in_strip<const DIFFERENCES: bool, const DS: usize>(
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
        best.measure::<DIFFERENCES, DS, CHUNK>(panel, eight, tile, rows.start);
    }
    let (fours, rest) = rest.as_chunks::<4>();
    for four in fours {
        best.measure::<DIFFERENCES, DS, 4>(panel, four, tile, rows.start);
    }
    for &one in rest {
        best.measure::<DIFFERENCES, DS, 1>(panel, &[one], tile, rows.start);
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
        let mut sums = [_mm512_setzero_ps(); N];
        if !DIFFERENCES {
            let norms = load(&tile.norms[first..]);
            for j in 0..N {
                let norm = _mm512_set1_ps(panel.norms[numbers[j] as usize]);
                sums[j] = _mm512_add_ps(norms, norm);
            }
        }
        for (d, x) in tile.lanes[..ds * TILE].chunks_exact(TILE).enumerate() {
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
