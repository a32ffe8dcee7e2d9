//! AVX-512 VNNI: two products of 16-bit integers and their sum in one instruction.
//!
//! Bound: ds / 2 instructions per distance and 16 rows, one or two a cycle.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::integers::{Integers, Space, Strip};
use super::{CHUNK, Kernels};

/// See the AVX2 file.
pub(super) fn search(_proof: Kernels, integers: &Integers, space: &mut Space) {
    // SAFETY: AVX-512F and VNNI are there, because `Kernels` with this set is made by `Kernels::of`
    // alone, which checks them.
    unsafe { search_strip(integers, space) }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn search_strip(integers: &Integers, space: &mut Space) {
    let pairs = &space.pairs[..integers.middle.len().div_ceil(2)];
    let mut least = _mm512_set1_epi32(i32::MAX);
    let mut second = least;
    let mut nearest = _mm512_setzero_si512();
    let chunks = integers.weights.chunks_exact(pairs.len() * CHUNK);
    let halves = integers.halves.as_chunks::<CHUNK>().0;
    for (chunk, (minima, (weights, halves))) in
        space.minima.iter_mut().zip(chunks.zip(halves)).enumerate()
    {
        let mut sums = [_mm512_setzero_si512(); CHUNK];
        for j in 0..CHUNK {
            sums[j] = _mm512_set1_epi32(halves[j]);
        }
        for (x, weights) in pairs.iter().zip(weights.as_chunks::<CHUNK>().0) {
            let x = load(x);
            for j in 0..CHUNK {
                sums[j] = _mm512_dpwssd_epi32(sums[j], x, _mm512_set1_epi32(weights[j]));
            }
        }
        let pair = |j: usize| _mm512_min_epi32(sums[j], sums[j + 1]);
        let (low, high) = (_mm512_min_epi32(pair(0), pair(2)), _mm512_min_epi32(pair(4), pair(6)));
        let of_chunk = _mm512_min_epi32(low, high);
        store(minima, of_chunk);
        second = _mm512_min_epi32(second, _mm512_max_epi32(least, of_chunk));
        let closer = _mm512_cmpgt_epi32_mask(least, of_chunk);
        nearest = _mm512_mask_mov_epi32(nearest, closer, _mm512_set1_epi32(chunk as i32));
        least = _mm512_min_epi32(least, of_chunk);
    }
    store(&mut space.least, least);
    store(&mut space.nearest, nearest);
    store(&mut space.second, second);
}

/// See the AVX2 file.
pub(super) fn search_among(
    _proof: Kernels,
    integers: &Integers,
    numbers: &[u32],
    space: &mut Space,
) {
    // SAFETY: as in `search`.
    unsafe { search_list(integers, numbers, space) }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn search_list(integers: &Integers, numbers: &[u32], space: &mut Space) {
    let pairs = &space.pairs[..integers.middle.len().div_ceil(2)];
    let mut best = Best {
        least: _mm512_set1_epi32(i32::MAX),
        second: _mm512_set1_epi32(i32::MAX),
        codes: _mm512_setzero_si512(),
    };
    let (eights, rest) = numbers.as_chunks::<CHUNK>();
    for eight in eights {
        best.measure(integers, eight, pairs);
    }
    for &one in rest {
        best.measure(integers, &[one], pairs);
    }
    store(&mut space.least, best.least);
    store(&mut space.nearest, best.codes);
    store(&mut space.second, best.second);
}

/// The least S of a strip's rows so far, the least but for that, and whose the first is.
struct Best {
    least: __m512i,
    second: __m512i,
    codes: __m512i,
}

impl Best {
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn measure<const N: usize>(
        &mut self,
        integers: &Integers,
        numbers: &[u32; N],
        pairs: &[Strip],
    ) {
        let mut rows = [&integers.by_codeword[..pairs.len()]; N];
        let mut sums = [_mm512_setzero_si512(); N];
        for j in 0..N {
            let number = numbers[j] as usize;
            rows[j] = &integers.by_codeword[number * pairs.len()..][..pairs.len()];
            sums[j] = _mm512_set1_epi32(integers.halves[number]);
        }
        for (pair, x) in pairs.iter().enumerate() {
            let x = load(x);
            for j in 0..N {
                sums[j] = _mm512_dpwssd_epi32(sums[j], x, _mm512_set1_epi32(rows[j][pair]));
            }
        }
        for j in 0..N {
            self.second = _mm512_min_epi32(self.second, _mm512_max_epi32(self.least, sums[j]));
            let closer = _mm512_cmpgt_epi32_mask(self.least, sums[j]);
            let code = _mm512_set1_epi32(numbers[j] as i32);
            self.codes = _mm512_mask_mov_epi32(self.codes, closer, code);
            self.least = _mm512_min_epi32(self.least, sums[j]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &Strip) -> __m512i {
    // SAFETY: sixteen integers are readable.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(values: &mut Strip, register: __m512i) {
    // SAFETY: sixteen integers are writable.
    unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), register) }
}
