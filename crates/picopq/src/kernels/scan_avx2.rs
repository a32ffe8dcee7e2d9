//! The screens in AVX2.
//!
//! ```text
//! screen: for each pair of sub-spaces (32 bytes of a block):
//!     low  += table[byte & 15]      16 rows x 2 sub-spaces      (shuffle, saturating add)
//!     high += table[byte >> 4]      the other 16 rows
//!   add the two halves of each, compare 32 sums with the bound
//! screen_batch: for each sub-space: sums += table[code]         32 queries x 1 row
//!   compare 32 sums with 32 bounds
//! ```
//! Bounds: screen, one shuffle and one addition for 32 look-ups, two of each a cycle; a table's
//! load serves the blocks of a pass, a block's load the queries of a pass. screen_batch, one load
//! of an entry and one of a code for 32 look-ups.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Kernels;
use super::scan::{BYTE, Entry, NIBBLES, Sieve};

/// Bytes of a register: two sub-spaces of a block.
const PAIR: usize = 2 * NIBBLES;

pub(super) fn screen(_proof: Kernels, plane: &[u8], sieve: Sieve<'_>, masks: &mut [u32]) {
    // SAFETY: AVX2 is there, because `Kernels` with this set or a wider one is made by
    // `Kernels::of` alone, which checks it.
    unsafe { screen_plane::<1, 4>(plane, [sieve], [masks]) }
}

pub(super) fn screen_two(
    _proof: Kernels,
    plane: &[u8],
    sieves: [Sieve<'_>; 2],
    masks: [&mut [u32]; 2],
) {
    // SAFETY: as in `screen`.
    unsafe { screen_plane::<2, 2>(plane, sieves, masks) }
}

/// `B` blocks a pass, and one a pass at the end.
#[target_feature(enable = "avx2")]
fn screen_plane<const Q: usize, const B: usize>(
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    mut masks: [&mut [u32]; Q],
) {
    let block_bytes = sieves[0].entries.len();
    let passes = plane.chunks_exact(B * block_bytes);
    let (first_left, left) = (passes.len() * B, passes.remainder());
    for (pass, blocks) in passes.enumerate() {
        for (masks, found) in masks.iter_mut().zip(screen_blocks::<Q, B>(blocks, sieves)) {
            masks[pass * B..][..B].copy_from_slice(&found);
        }
    }
    for (block, bytes) in left.chunks_exact(block_bytes).enumerate() {
        for (masks, found) in masks.iter_mut().zip(screen_blocks::<Q, 1>(bytes, sieves)) {
            masks[first_left + block] = found[0];
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn screen_blocks<const Q: usize, const B: usize>(
    blocks: &[u8], // (B, m, 16)
    sieves: [Sieve<'_>; Q],
) -> [[u32; B]; Q] {
    let block_bytes = sieves[0].entries.len();
    assert!(blocks.len() == B * block_bytes);
    assert!(sieves.iter().all(|sieve| sieve.entries.len() == block_bytes));
    let low_half = _mm256_set1_epi8(15);
    let mut low = [[_mm256_setzero_si256(); B]; Q];
    let mut high = [[_mm256_setzero_si256(); B]; Q];
    let mut add = |bytes: [__m256i; B], tables: [__m256i; Q]| {
        for b in 0..B {
            let low_nibbles = _mm256_and_si256(bytes[b], low_half);
            let high_nibbles = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes[b]), low_half);
            for q in 0..Q {
                let entries = _mm256_shuffle_epi8(tables[q], low_nibbles);
                low[q][b] = _mm256_adds_epu8(low[q][b], entries);
                let entries = _mm256_shuffle_epi8(tables[q], high_nibbles);
                high[q][b] = _mm256_adds_epu8(high[q][b], entries);
            }
        }
    };
    let whole = block_bytes / PAIR * PAIR;
    for at in (0..whole).step_by(PAIR) {
        // SAFETY: 32 bytes are readable at each place, because `at + 32 <= block_bytes`, and the
        // assertions above give the blocks and the tables their lengths.
        unsafe {
            let pair = |start: *const u8| _mm256_loadu_si256(start.add(at).cast());
            add(
                std::array::from_fn(|b| pair(blocks.as_ptr().add(b * block_bytes))),
                std::array::from_fn(|q| pair(sieves[q].entries.as_ptr())),
            );
        }
    }
    if whole < block_bytes {
        // The table of the absent sub-space is all zero.
        // SAFETY: 16 bytes are readable at each place, because `whole + 16 = block_bytes`, and the
        // assertions above give the blocks and the tables their lengths.
        unsafe {
            let single =
                |start: *const u8| _mm256_zextsi128_si256(_mm_loadu_si128(start.add(whole).cast()));
            add(
                std::array::from_fn(|b| single(blocks.as_ptr().add(b * block_bytes))),
                std::array::from_fn(|q| single(sieves[q].entries.as_ptr())),
            );
        }
    }
    std::array::from_fn(|q| {
        let bound = _mm256_set1_epi8(sieves[q].bound as i8);
        std::array::from_fn(|b| {
            let even = _mm256_permute2x128_si256::<0x20>(low[q][b], high[q][b]);
            let odd = _mm256_permute2x128_si256::<0x31>(low[q][b], high[q][b]);
            passing(_mm256_adds_epu8(even, odd), bound)
        })
    })
}

/// A bit for each byte that is at most its bound.
#[inline]
#[target_feature(enable = "avx2")]
fn passing(sums: __m256i, bounds: __m256i) -> u32 {
    let passes = _mm256_cmpeq_epi8(_mm256_min_epu8(sums, bounds), sums);
    _mm256_movemask_epi8(passes) as u32
}

pub(super) fn screen_batch(
    _proof: Kernels,
    codes: &[u8],
    tables: &[[Entry; BYTE]],
    bounds: &Entry,
    masks: &mut [u32],
) {
    // SAFETY: as in `screen`.
    unsafe { screen_rows(codes, tables, bounds, masks) }
}

/// Rows whose sums one pass holds: enough to hide the latency of the additions.
const ROWS: usize = 4;

#[target_feature(enable = "avx2")]
fn screen_rows(codes: &[u8], tables: &[[Entry; BYTE]], bounds: &Entry, masks: &mut [u32]) {
    let m = tables.len();
    let bounds = load(bounds);
    let (passes, left) = masks.as_chunks_mut::<ROWS>();
    let (codes, codes_left) = codes.split_at(passes.len() * ROWS * m);
    for (codes, masks) in codes.chunks_exact(ROWS * m).zip(passes) {
        let (a, rest) = codes.split_at(m);
        let (b, rest) = rest.split_at(m);
        let (c, d) = rest.split_at(m);
        let mut sums = [_mm256_setzero_si256(); ROWS];
        for ((((table, a), b), c), d) in tables.iter().zip(a).zip(b).zip(c).zip(d) {
            for (sum, &code) in sums.iter_mut().zip([a, b, c, d]) {
                *sum = _mm256_adds_epu8(*sum, load(&table[usize::from(code)]));
            }
        }
        *masks = sums.map(|sums| passing(sums, bounds));
    }
    for (codes, mask) in codes_left.chunks_exact(m).zip(left) {
        let entries =
            tables.iter().zip(codes).map(|(table, &code)| load(&table[usize::from(code)]));
        let sums = entries.fold(_mm256_setzero_si256(), |sum, entry| _mm256_adds_epu8(sum, entry));
        *mask = passing(sums, bounds);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(entry: &Entry) -> __m256i {
    // SAFETY: 32 bytes are readable, because that is the length of an entry.
    unsafe { _mm256_loadu_si256(entry.as_ptr().cast()) }
}
