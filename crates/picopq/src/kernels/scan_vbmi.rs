//! Screens in AVX-512 VBMI, whose shuffles take an index of six bits, or of seven over two registers.
//!
//! ```text
//! screen_columns: for each sub-space, for each block of a pass: 64 codes c
//!     sums += c < 128 ? table[0..128][c] : table[128..256][c]     (two shuffles, a blend)
//!   compare 64 sums with the bound
//! screen: for each sub-space: 64 bytes, 128 nibbles
//!     low  += table[byte]           the table four times over, so that whatever is in
//!     high += table[byte >> 4]      the index's two upper bits does not matter
//!   compare 128 sums with the bound
//! ```
//! Bounds: screen_columns, two shuffles over 128 entries for 64 look-ups; the four registers of a
//! table serve the blocks of a pass. screen, a shuffle, an addition and half a shift for 64.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Kernels;
use super::scan::{BYTE, COLUMNS, COLUMNS_MASKS, NIBBLES, PLANE, PLANE_MASKS, Sieve};
use super::scan_avx2::{AHEAD, prefetch};

/// Blocks of columns in a pass: they share the loads of a table.
const PASS: usize = 4;
const BYTES: usize = 64;

pub(super) fn screen_columns(
    _proof: Kernels,
    columns: &[u8],
    sieve: Sieve<'_>,
    masks: &mut [[u32; COLUMNS_MASKS]],
) {
    let block_bytes = sieve.entries.len() / BYTE * COLUMNS;
    let whole = masks.len() / PASS * PASS;
    let (blocks, left) = columns.split_at(whole * block_bytes);
    let (passes, masks_left) = masks.split_at_mut(whole);
    for (blocks, masks) in
        blocks.chunks_exact(PASS * block_bytes).zip(passes.chunks_exact_mut(PASS))
    {
        // SAFETY: AVX-512F, BW and VBMI are there, because `Kernels` with this set is made by
        // `Kernels::of` alone, which checks them.
        masks.copy_from_slice(&unsafe { screen_blocks::<PASS>(blocks, sieve) });
    }
    for (block, mask) in left.chunks_exact(block_bytes).zip(masks_left) {
        // SAFETY: as above.
        [*mask] = unsafe { screen_blocks::<1>(block, sieve) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn screen_blocks<const B: usize>(
    blocks: &[u8], // (B, m, 64)
    sieve: Sieve<'_>,
) -> [[u32; COLUMNS_MASKS]; B] {
    let block_bytes = sieve.entries.len() / BYTE * COLUMNS;
    assert!(blocks.len() == B * block_bytes);
    let mut sums = [_mm512_setzero_si512(); B];
    for (m, table) in sieve.entries.chunks_exact(BYTE).enumerate() {
        let (low_a, low_b) = (load(&table[..BYTES]), load(&table[BYTES..]));
        let (high_a, high_b) = (load(&table[2 * BYTES..]), load(&table[3 * BYTES..]));
        let ahead = blocks.as_ptr().wrapping_add(AHEAD.max(blocks.len()) + m * B * BYTES);
        // To the second cache, as the first holds the tables.
        prefetch::<_MM_HINT_T0, _>(ahead..ahead.wrapping_add(B * BYTES));
        for b in 0..B {
            let codes = load(&blocks[b * block_bytes + m * COLUMNS..]);
            let low = _mm512_permutex2var_epi8(low_a, codes, low_b);
            let high = _mm512_permutex2var_epi8(high_a, codes, high_b);
            let entries = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
            sums[b] = _mm512_adds_epu8(sums[b], entries);
        }
    }
    let bound = _mm512_set1_epi8(sieve.bound as i8);
    sums.map(|sums| halves(_mm512_cmple_epu8_mask(sums, bound)))
}

pub(super) fn screen<const Q: usize>(
    _proof: Kernels,
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    masks: [&mut [[u32; PLANE_MASKS]]; Q],
) {
    // SAFETY: as in `screen_columns`.
    unsafe { screen_plane(plane, sieves, masks) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn screen_plane<const Q: usize>(
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    masks: [&mut [[u32; PLANE_MASKS]]; Q],
) {
    let block_bytes = sieves[0].entries.len() / NIBBLES * PLANE;
    for (at, block) in plane.chunks_exact(block_bytes).enumerate() {
        let sums = sums_of_block(block, sieves);
        for q in 0..Q {
            let bound = _mm512_set1_epi8(sieves[q].bound as i8);
            let [low, high] = sums[q].map(|sums| halves(_mm512_cmple_epu8_mask(sums, bound)));
            masks[q][at] = [low[0], low[1], high[0], high[1]];
        }
    }
}

/// The sums of a block's rows for each query, 64 to a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn sums_of_block<const Q: usize>(
    block: &[u8], // (m, 64)
    sieves: [Sieve<'_>; Q],
) -> [[__m512i; 2]; Q] {
    let mut sums = [[_mm512_setzero_si512(); 2]; Q];
    let tables = sieves.map(|sieve| sieve.entries.as_chunks::<NIBBLES>().0);
    let (bytes, _) = block.as_chunks::<PLANE>();
    assert!(tables.iter().all(|tables| tables.len() == bytes.len()));
    for (at, bytes) in bytes.iter().enumerate() {
        let ahead = bytes.as_ptr().wrapping_add(AHEAD);
        prefetch::<_MM_HINT_T0, _>(ahead..ahead.wrapping_add(PLANE));
        let low = load(bytes);
        let high = _mm512_srli_epi16::<4>(low);
        for q in 0..Q {
            // SAFETY: 16 bytes are readable, because that is the length of the array.
            let table = unsafe { _mm_loadu_si128(tables[q][at].as_ptr().cast()) };
            let table = _mm512_broadcast_i32x4(table);
            let [low_sums, high_sums] = &mut sums[q];
            *low_sums = _mm512_adds_epu8(*low_sums, _mm512_permutexvar_epi8(low, table));
            *high_sums = _mm512_adds_epu8(*high_sums, _mm512_permutexvar_epi8(high, table));
        }
    }
    sums
}

fn halves(mask: u64) -> [u32; COLUMNS_MASKS] {
    [mask as u32, (mask >> 32) as u32]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() >= BYTES);
    // SAFETY: 64 bytes are readable, because of the assertion above.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
