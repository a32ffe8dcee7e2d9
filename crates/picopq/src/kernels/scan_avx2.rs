//! The screens in AVX2.
//!
//! ```text
//! screen: for each pair of sub-spaces (32 bytes of a block):
//!     low  += table[byte & 15]      16 rows x 2 sub-spaces      (shuffle, saturating add)
//!     high += table[byte >> 4]      the other 16 rows
//!   add the two halves of each, compare 32 sums with the bound (add_up: store them)
//! screen_batch: for each sub-space: sums += table[code]         32 queries x 1 row
//!   compare 32 sums with 32 bounds
//! ```
//! Bounds: screen, one shuffle and one addition for 32 look-ups, two of each a cycle; a table's
//! load serves the blocks of a pass, a block's load the queries of a pass. screen_batch, one load
//! of an entry and one of a code for 32 look-ups.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::RangeInclusive;

use super::Kernels;
use super::scan::{BLOCK, BYTE, Entry, NIBBLES, Sieve, list_rows};

/// Bytes of a register: two sub-spaces of a block.
const PAIR: usize = 2 * NIBBLES;

/// Blocks that one query takes in a pass.
const PASS: usize = 4;

/// Bytes that come from memory together.
const LINE: usize = 64;
/// How far ahead of the blocks in work codes are fetched, at least: the blocks of a pass are read
/// side by side, in an order that the processor does not foresee.
pub(super) const AHEAD: usize = 8192;

pub(super) fn screen<const Q: usize>(
    _proof: Kernels,
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    mut masks: [&mut [u32]; Q],
) {
    // SAFETY: AVX2 is there, because `Kernels` with this set or a wider one is made by
    // `Kernels::of` alone, which checks it.
    unsafe {
        match Q {
            1 => screen_plane::<Q, PASS>(plane, sieves, &mut masks),
            _ => screen_plane::<Q, 2>(plane, sieves, &mut masks),
        }
    }
}

/// `B` blocks a pass, and one a pass at the end.
#[target_feature(enable = "avx2")]
fn screen_plane<const Q: usize, const B: usize>(
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    masks: &mut [&mut [u32]; Q],
) {
    let block_bytes = sieves[0].entries.len();
    let passes = plane.chunks_exact(B * block_bytes);
    let (first_left, left) = (passes.len() * B, passes.remainder());
    for (pass, blocks) in passes.enumerate() {
        let sums = sums_of_blocks::<Q, B>(blocks, sieves);
        for q in 0..Q {
            for b in 0..B {
                masks[q][pass * B + b] = passing(sums[q][b], broadcast(sieves[q].bound));
            }
        }
    }
    for (block, bytes) in left.chunks_exact(block_bytes).enumerate() {
        let sums = sums_of_blocks::<Q, 1>(bytes, sieves);
        for q in 0..Q {
            masks[q][first_left + block] = passing(sums[q][0], broadcast(sieves[q].bound));
        }
    }
}

pub(super) fn add_up(_proof: Kernels, plane: &[u8], entries: &[u8], sums: &mut Vec<[u8; BLOCK]>) {
    // SAFETY: as in `screen`.
    unsafe { add_up_plane(plane, entries, sums) }
}

#[target_feature(enable = "avx2")]
fn add_up_plane(plane: &[u8], entries: &[u8], sums: &mut Vec<[u8; BLOCK]>) {
    let sieve = Sieve { entries, bound: 0 };
    let passes = plane.chunks_exact(PASS * entries.len());
    let left = passes.remainder();
    for blocks in passes {
        let [found] = sums_of_blocks::<1, PASS>(blocks, [sieve]);
        let mut bytes = [[0; BLOCK]; PASS];
        for b in 0..PASS {
            store(&mut bytes[b], found[b]);
        }
        sums.extend_from_slice(&bytes);
    }
    for block in left.chunks_exact(entries.len()) {
        let [[found]] = sums_of_blocks::<1, 1>(block, [sieve]);
        let mut bytes = [0; BLOCK];
        store(&mut bytes, found);
        sums.push(bytes);
    }
}

pub(super) fn between(
    _proof: Kernels,
    sums: &[[u8; BLOCK]],
    range: RangeInclusive<u8>,
    masks: &mut [u32],
) {
    // SAFETY: as in `screen`.
    unsafe { between_bounds(sums, range, masks) }
}

#[target_feature(enable = "avx2")]
fn between_bounds(sums: &[[u8; BLOCK]], range: RangeInclusive<u8>, masks: &mut [u32]) {
    let (least, most) = (broadcast(*range.start()), broadcast(*range.end()));
    for (sums, mask) in sums.iter().zip(masks) {
        let sums = load(sums);
        let enough = _mm256_cmpeq_epi8(_mm256_max_epu8(sums, least), sums);
        *mask = passing(sums, most) & _mm256_movemask_epi8(enough) as u32;
    }
}

pub(super) fn list(_proof: Kernels, masks: &[u32], first: u32, rows: &mut [u32]) -> usize {
    // SAFETY: BMI1 and POPCNT are there, because `Kernels` with this set or a wider one is made by
    // `Kernels::of` alone, which checks them.
    unsafe { list_bits(masks, first, rows) }
}

/// With the instructions that count bits.
#[target_feature(enable = "bmi1,popcnt")]
fn list_bits(masks: &[u32], first: u32, rows: &mut [u32]) -> usize {
    list_rows(masks, first, rows)
}

/// The sums of the rows of some blocks for each query.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_blocks<const Q: usize, const B: usize>(
    blocks: &[u8], // (B, m, 16)
    sieves: [Sieve<'_>; Q],
) -> [[__m256i; B]; Q] {
    let block_bytes = sieves[0].entries.len();
    assert!(blocks.len() == B * block_bytes);
    assert!(sieves.iter().all(|sieve| sieve.entries.len() == block_bytes));
    let mut sums = [[[_mm256_setzero_si256(); 2]; B]; Q];
    let whole = block_bytes / PAIR * PAIR;
    for at in (0..whole).step_by(PAIR) {
        let ahead = blocks.as_ptr().wrapping_add(AHEAD.max(blocks.len()) + B * at);
        // To the second cache, as the first holds the tables.
        prefetch::<_MM_HINT_T0, _>(ahead..ahead.wrapping_add(B * PAIR));
        let mut bytes = [_mm256_setzero_si256(); B];
        for b in 0..B {
            // SAFETY: 32 bytes are readable, because `at + 32 <= block_bytes`, and the assertion
            // above gives the blocks their length.
            bytes[b] = unsafe { load_pair(blocks.as_ptr().add(b * block_bytes + at)) };
        }
        for q in 0..Q {
            // SAFETY: as above, of the tables.
            let table = unsafe { load_pair(sieves[q].entries.as_ptr().add(at)) };
            add(&mut sums[q], table, bytes);
        }
    }
    if whole < block_bytes {
        // The table of the absent sub-space is all zero.
        let mut bytes = [_mm256_setzero_si256(); B];
        for b in 0..B {
            // SAFETY: 16 bytes are readable, because `whole + 16 = block_bytes`, and the assertion
            // above gives the blocks their length.
            bytes[b] = unsafe { load_single(blocks.as_ptr().add(b * block_bytes + whole)) };
        }
        for q in 0..Q {
            // SAFETY: as above, of the tables.
            let table = unsafe { load_single(sieves[q].entries.as_ptr().add(whole)) };
            add(&mut sums[q], table, bytes);
        }
    }
    let mut whole = [[_mm256_setzero_si256(); B]; Q];
    for q in 0..Q {
        for b in 0..B {
            let [low, high] = sums[q][b];
            let even = _mm256_permute2x128_si256::<0x20>(low, high);
            let odd = _mm256_permute2x128_si256::<0x31>(low, high);
            whole[q][b] = _mm256_adds_epu8(even, odd);
        }
    }
    whole
}

/// Adds two sub-spaces' entries to the sums of each block: of its low rows and of its high rows.
#[inline]
#[target_feature(enable = "avx2")]
fn add<const B: usize>(sums: &mut [[__m256i; 2]; B], table: __m256i, bytes: [__m256i; B]) {
    let half = _mm256_set1_epi8(15);
    for b in 0..B {
        let low = _mm256_and_si256(bytes[b], half);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes[b]), half);
        sums[b][0] = _mm256_adds_epu8(sums[b][0], _mm256_shuffle_epi8(table, low));
        sums[b][1] = _mm256_adds_epu8(sums[b][1], _mm256_shuffle_epi8(table, high));
    }
}

/// # Safety
/// 32 bytes must be readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_pair(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(bytes.cast()) }
}

/// # Safety
/// 16 bytes must be readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_single(bytes: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_zextsi128_si256(_mm_loadu_si128(bytes.cast())) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn broadcast(bound: u8) -> __m256i {
    _mm256_set1_epi8(bound as i8)
}

/// A bit for each byte that is at most its bound.
#[inline]
#[target_feature(enable = "avx2")]
fn passing(sums: __m256i, bounds: __m256i) -> u32 {
    let passes = _mm256_cmpeq_epi8(_mm256_min_epu8(sums, bounds), sums);
    _mm256_movemask_epi8(passes) as u32
}

/// Fetches to the first cache (`HINT` = `_MM_HINT_T0`) or to the second (`_MM_HINT_T1`). SSE, which
/// every x86-64 processor has; an address that cannot be read is passed over.
#[inline]
pub(super) fn prefetch<const HINT: i32, T>(values: std::ops::Range<*const T>) {
    let bytes = values.start.cast::<i8>()..values.end.cast::<i8>();
    let mut at = bytes.start;
    while at < bytes.end {
        // SAFETY: a hint, which reads nothing that the program sees.
        unsafe { _mm_prefetch::<HINT>(at) };
        at = at.wrapping_add(LINE);
    }
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
        for (mask, sums) in masks.iter_mut().zip(sums) {
            *mask = passing(sums, bounds);
        }
    }
    for (codes, mask) in codes_left.chunks_exact(m).zip(left) {
        let mut sums = _mm256_setzero_si256();
        for (table, &code) in tables.iter().zip(codes) {
            sums = _mm256_adds_epu8(sums, load(&table[usize::from(code)]));
        }
        *mask = passing(sums, bounds);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; PAIR]) -> __m256i {
    // SAFETY: 32 bytes are readable, because that is the length of the array.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; PAIR], register: __m256i) {
    // SAFETY: 32 bytes are writable, because that is the length of the array.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), register) }
}
