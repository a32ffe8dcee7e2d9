//! Look-ups in registers, with AVX-512 VBMI.
//!
//! ```text
//! for each batch of 256 codes, for each 16 of their sub-spaces:
//!     transpose the codes: 64 rows of a sub-space to a register
//!     for each sub-space: the table's four planes are 16 registers; for each 64 rows:
//!         bytes[p] = plane[p][codes]           (two shuffles over 128 entries, a blend)
//!         interleave the bytes: 4 registers of f32;  add them to the sums
//! ```
//! Bound: 16 shuffles for 64 look-ups and one for each 16 codes transposed; as loads the look-ups
//! would take 32 cycles.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{BYTE, Kernels, prefetch};

/// Rows that a register holds a sub-space of.
const ROWS: usize = 64;
/// Sub-spaces that are transposed together: bytes of a quarter of a register.
const COLUMNS: usize = 16;
/// Rows whose codes, transposed codes and sums stay in the first cache.
const BATCH: usize = 256;
const LANES: usize = 16;

/// See `Kernels::look_up`; rows are left over also where reading 16 codes would leave the slice.
pub(super) fn look_up(
    _proof: Kernels,
    planes: &[[[u8; BYTE]; 4]],
    codes: &[u8], // (n, m)
    distances: &mut [f32],
) -> usize {
    let m = planes.len();
    let beyond = COLUMNS.saturating_sub(m).div_ceil(m);
    let rows = distances.len().saturating_sub(beyond) / ROWS * ROWS;
    for (batch, distances) in distances[..rows].chunks_mut(BATCH).enumerate() {
        // SAFETY: AVX-512F, BW and VBMI are there, because `Kernels` with this set is made by
        // `Kernels::of` alone, which checks them.
        unsafe { add_up(planes, &codes[batch * BATCH * m..], distances) }
    }
    rows
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_up(planes: &[[[u8; BYTE]; 4]], codes: &[u8], distances: &mut [f32]) {
    let m = planes.len();
    let mut columns = [[[0; ROWS]; BATCH / ROWS]; COLUMNS];
    distances.fill(0.0);
    for first in (0..m).step_by(COLUMNS) {
        // The last sub-spaces come with some before them, or with the next row's.
        let from = first.min(m.saturating_sub(COLUMNS));
        for block in 0..distances.len() / ROWS {
            if first == 0 {
                let ahead = codes.get((BATCH + block * ROWS) * m..);
                prefetch(ahead.and_then(|codes| codes.get(..ROWS * m)).unwrap_or_default());
            }
            transpose(&codes[block * ROWS * m + from..], m, block, &mut columns);
        }
        let planes = &planes[first..m.min(first + COLUMNS)];
        for (planes, column) in planes.iter().zip(&columns[first - from..]) {
            add_entries(planes, column, distances);
        }
    }
}

/// Bytes 0 to 15 of 64 rows, `stride` apart. Byte 16 l + 4 q + e of a column is that of row
/// 16 q + 4 l + e, so that interleaved entries stand in the order of the rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(
    codes: &[u8],
    stride: usize,
    block: usize,
    columns: &mut [[[u8; ROWS]; BATCH / ROWS]; COLUMNS],
) {
    let mut registers = [_mm512_setzero_si512(); COLUMNS];
    for q in 0..4 {
        let rows = &codes[16 * q * stride..][..15 * stride + COLUMNS];
        for e in 0..4 {
            let row = |l: usize| load16(&rows[(4 * l + e) * stride..]);
            let two = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(row(0)), row(1));
            let three = _mm512_inserti32x4::<2>(two, row(2));
            registers[4 * q + e] = _mm512_inserti32x4::<3>(three, row(3));
        }
    }
    for _ in 0..4 {
        let mut next = registers;
        for i in 0..COLUMNS / 2 {
            let (a, b) = (registers[i], registers[i + COLUMNS / 2]);
            next[2 * i] = _mm512_unpacklo_epi8(a, b);
            next[2 * i + 1] = _mm512_unpackhi_epi8(a, b);
        }
        registers = next;
    }
    for (column, register) in columns.iter_mut().zip(registers) {
        // SAFETY: 64 bytes are writable.
        unsafe { _mm512_storeu_si512(column[block].as_mut_ptr().cast(), register) }
    }
}

/// Adds a sub-space's entries to the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_entries(planes: &[[u8; BYTE]; 4], column: &[[u8; ROWS]], distances: &mut [f32]) {
    let mut tables = [[_mm512_setzero_si512(); 4]; 4];
    for p in 0..4 {
        for part in 0..4 {
            tables[p][part] = load(&planes[p][part * ROWS..]);
        }
    }
    for (codes, distances) in column.iter().zip(distances.chunks_exact_mut(ROWS)) {
        let codes = load(codes);
        let high = _mm512_movepi8_mask(codes);
        let mut bytes = [codes; 4];
        for p in 0..4 {
            let [a, b, c, d] = tables[p];
            let (low_entries, high_entries) =
                (_mm512_permutex2var_epi8(a, codes, b), _mm512_permutex2var_epi8(c, codes, d));
            bytes[p] = _mm512_mask_blend_epi8(high, low_entries, high_entries);
        }
        let words = [
            (_mm512_unpacklo_epi8(bytes[0], bytes[1]), _mm512_unpacklo_epi8(bytes[2], bytes[3])),
            (_mm512_unpackhi_epi8(bytes[0], bytes[1]), _mm512_unpackhi_epi8(bytes[2], bytes[3])),
        ];
        let (quarters, _) = distances.as_chunks_mut::<LANES>();
        for (quarters, (low, high)) in quarters.chunks_exact_mut(2).zip(words) {
            add(&mut quarters[0], _mm512_unpacklo_epi16(low, high));
            add(&mut quarters[1], _mm512_unpackhi_epi16(low, high));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(sums: &mut [f32; LANES], entries: __m512i) {
    // SAFETY: sixteen floats are readable and writable.
    unsafe {
        let sum = _mm512_add_ps(_mm512_loadu_ps(sums.as_ptr()), _mm512_castsi512_ps(entries));
        _mm512_storeu_ps(sums.as_mut_ptr(), sum);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() >= ROWS);
    // SAFETY: 64 bytes are readable, because of the assertion above.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn load16(bytes: &[u8]) -> __m128i {
    assert!(bytes.len() >= COLUMNS);
    // SAFETY: 16 bytes are readable, because of the assertion above.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
