//! Screens in AVX-512 VBMI, whose shuffles take an index of six bits, or of seven over two registers.
//!
//! ```text
//! screen_columns: for each sub-space, for each block of a pass: 64 codes c
//!     sums += c < 128 ? table[0..128][c] : table[128..256][c]     (two shuffles, a blend)
//!   compare 64 sums with the bound
//! screen_wide: for each sub-space, for each block of a pass: 64 bytes, 128 nibbles
//!     low  += table[byte]           the table four times over, so that whatever is in
//!     high += table[byte >> 4]      the index's two upper bits does not matter
//!   compare 128 sums with the bound
//! ```
//! Bounds: screen_columns, two shuffles over 128 entries for 64 look-ups; the four registers of a
//! table serve the blocks of a pass. screen_wide, a shuffle, an addition and half a shift for 64.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Kernels;
use super::scan::{BYTE, COLUMNS, NIBBLES, Sieve, WIDE};
use super::scan_avx2::{AHEAD, prefetch};

/// Blocks of a pass.
const PASS: usize = 4;
const BYTES: usize = 64;

pub(super) fn screen_columns(_proof: Kernels, columns: &[u8], sieve: Sieve<'_>, masks: &mut [u64]) {
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
) -> [u64; B] {
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
    let mut masks = [0; B];
    for b in 0..B {
        masks[b] = _mm512_cmple_epu8_mask(sums[b], bound);
    }
    masks
}

pub(super) fn screen_wide<const Q: usize>(
    _proof: Kernels,
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    mut masks: [&mut [u64]; Q],
) {
    // SAFETY: as in `screen_columns`.
    unsafe {
        match Q {
            1 => screen_plane::<Q, PASS>(plane, sieves, &mut masks),
            _ => screen_plane::<Q, 2>(plane, sieves, &mut masks),
        }
    }
}

/// `B` blocks a pass, and one a pass at the end.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn screen_plane<const Q: usize, const B: usize>(
    plane: &[u8],
    sieves: [Sieve<'_>; Q],
    masks: &mut [&mut [u64]; Q],
) {
    let block_bytes = sieves[0].entries.len() / NIBBLES * WIDE;
    let passes = plane.chunks_exact(B * block_bytes);
    let (first_left, left) = (passes.len() * B, passes.remainder());
    for (pass, blocks) in passes.enumerate() {
        let found = screen_wide_blocks::<Q, B>(blocks, sieves);
        for q in 0..Q {
            masks[q][2 * pass * B..][..2 * B].copy_from_slice(found[q].as_flattened());
        }
    }
    for (block, bytes) in left.chunks_exact(block_bytes).enumerate() {
        let found = screen_wide_blocks::<Q, 1>(bytes, sieves);
        for q in 0..Q {
            masks[q][2 * (first_left + block)..][..2].copy_from_slice(&found[q][0]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn screen_wide_blocks<const Q: usize, const B: usize>(
    blocks: &[u8], // (B, m, 64)
    sieves: [Sieve<'_>; Q],
) -> [[[u64; 2]; B]; Q] {
    let m = sieves[0].entries.len() / NIBBLES;
    assert!(blocks.len() == B * m * WIDE);
    assert!(sieves.iter().all(|sieve| sieve.entries.len() == m * NIBBLES));
    let mut sums = [[[_mm512_setzero_si512(); 2]; B]; Q];
    for at in 0..m {
        // Four passes ahead, where they are long; to the second cache, as the first holds the tables.
        let ahead = blocks.as_ptr().wrapping_add(AHEAD.max(blocks.len()) + at * B * WIDE);
        prefetch::<_MM_HINT_T0, _>(ahead..ahead.wrapping_add(B * WIDE));
        let mut tables = [_mm512_setzero_si512(); Q];
        for q in 0..Q {
            // SAFETY: 16 bytes are readable, because of the assertion above.
            let table =
                unsafe { _mm_loadu_si128(sieves[q].entries.as_ptr().add(at * NIBBLES).cast()) };
            tables[q] = _mm512_broadcast_i32x4(table);
        }
        for b in 0..B {
            let low = load(&blocks[(b * m + at) * WIDE..]);
            let high = _mm512_srli_epi16::<4>(low);
            for q in 0..Q {
                let [low_sums, high_sums] = &mut sums[q][b];
                *low_sums = _mm512_adds_epu8(*low_sums, _mm512_permutexvar_epi8(low, tables[q]));
                *high_sums = _mm512_adds_epu8(*high_sums, _mm512_permutexvar_epi8(high, tables[q]));
            }
        }
    }
    let mut masks = [[[0; 2]; B]; Q];
    for q in 0..Q {
        let bound = _mm512_set1_epi8(sieves[q].bound as i8);
        for b in 0..B {
            masks[q][b] = sums[q][b].map(|sums| _mm512_cmple_epu8_mask(sums, bound));
        }
    }
    masks
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() >= BYTES);
    // SAFETY: 64 bytes are readable, because of the assertion above.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
