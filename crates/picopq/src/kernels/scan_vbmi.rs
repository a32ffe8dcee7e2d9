//! Screens in AVX-512 VBMI, whose shuffles take an index of six bits, or of seven over two registers.
//!
//! ```text
//! screen_columns: for each sub-space, for each quarter of a block: 64 codes c
//!     sums += c < 128 ? table[0..128][c] : table[128..256][c]     (two shuffles, a blend)
//!   compare 64 sums with the bound, list the rows
//! add_up: for each block, for each sub-space: 64 bytes, 128 nibbles
//!     low  += table[byte]           the table four times over, so that whatever is in
//!     high += table[byte >> 4]      the index's two upper bits does not matter
//!   store 128 sums, keep the block if one is within the bound
//! screen_plane: the sums of add_up, compared in their registers, list the rows
//! ```
//! Bounds: screen_columns, two shuffles over 128 entries for 64 look-ups; the four registers of a
//! table serve a block. add_up, a shuffle, an addition and half a shift for 64.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::Range;

use super::Kernels;
use super::scan::{BYTE, Band, COLUMNS, MASKS, Masks, NIBBLES, PLANE, Sieve, Step, Sums};
use super::scan_avx2::{AHEAD, UNROLLED, fetch, fetch_next};

/// Bytes of a register.
const BYTES: usize = 64;
/// Registers of a block of columns.
const REGISTERS: usize = COLUMNS / BYTES;

pub(super) fn screen_columns(
    _proof: Kernels,
    columns: &[u8],
    sieve: Sieve<'_>,
    rows: &mut [u32],
) -> usize {
    // SAFETY: AVX-512F, BW and VBMI, BMI1 and POPCNT are there, because `Kernels` with this set is
    // made by `Kernels::of` alone, which checks them.
    unsafe { screen_bytes(columns, sieve, rows) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,popcnt")]
fn screen_bytes(columns: &[u8], sieve: Sieve<'_>, rows: &mut [u32]) -> usize {
    let (tables, _) = sieve.entries.as_chunks::<BYTE>();
    let bound = _mm512_set1_epi8(sieve.bound as i8);
    let mut masks = Masks::new();
    let mut len = 0;
    for (row, block) in (0..).step_by(COLUMNS).zip(columns.chunks_exact(tables.len() * COLUMNS)) {
        let mut sums = [_mm512_setzero_si512(); REGISTERS];
        for (column, table) in block.as_chunks::<COLUMNS>().0.iter().zip(tables) {
            let (low_a, low_b) = (load(&table[..BYTES]), load(&table[BYTES..]));
            let (high_a, high_b) = (load(&table[2 * BYTES..]), load(&table[3 * BYTES..]));
            for (sums, codes) in sums.iter_mut().zip(column.as_chunks::<BYTES>().0) {
                fetch(codes.as_ptr().wrapping_add(AHEAD));
                let codes = load(codes);
                let low = _mm512_permutex2var_epi8(low_a, codes, low_b);
                let high = _mm512_permutex2var_epi8(high_a, codes, high_b);
                let entries = _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
                *sums = _mm512_adds_epu8(*sums, entries);
            }
        }
        let mut taken = 0;
        for (row, sums) in (row..).step_by(BYTES).zip(sums) {
            taken = masks.take(taken, _mm512_cmple_epu8_mask(sums, bound), row);
        }
        len = masks.list(taken, rows, len);
    }
    len
}

pub(super) fn add_up(
    _proof: Kernels,
    step: Step<'_>,
    blocks: &mut [u32],
    sums: &mut [Sums],
) -> usize {
    // SAFETY: as in `screen_columns`.
    unsafe {
        if step.begins {
            add_up_blocks::<true>(step, blocks, sums)
        } else {
            add_up_blocks::<false>(step, blocks, sums)
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_up_blocks<const BEGINS: bool>(
    step: Step<'_>,
    blocks: &mut [u32],
    sums: &mut [Sums],
) -> usize {
    let bound = _mm512_set1_epi8(step.bound as i8);
    let mut left = 0;
    for at in 0..blocks.len() {
        let block = blocks[at];
        let place = &mut sums[(block - step.first) as usize];
        let [low, high] = sums_of_block::<BEGINS>(step.bands, block, place);
        let (halves, _) = place.0.as_flattened_mut().as_chunks_mut::<BYTES>();
        for (half, sums) in halves.iter_mut().zip([low, high]) {
            store(half, sums);
        }
        blocks[left] = block;
        let is_left = _mm512_cmple_epu8_mask(_mm512_min_epu8(low, high), bound) != 0;
        left += usize::from(is_left);
        fetch_next(step, block, is_left);
    }
    left
}

pub(super) fn screen_plane(
    _proof: Kernels,
    band: Band<'_>,
    blocks: Range<u32>,
    bound: u8,
    rows: &mut [u32],
) -> usize {
    // SAFETY: as in `screen_columns`.
    unsafe { screen_blocks(band, blocks, bound, rows) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,popcnt")]
fn screen_blocks(band: Band<'_>, blocks: Range<u32>, bound: u8, rows: &mut [u32]) -> usize {
    let bound = _mm512_set1_epi8(bound as i8);
    let mut masks = Masks::new();
    let (mut taken, mut len) = (0, 0);
    for block in blocks {
        let row = block * (2 * PLANE) as u32;
        let [low, high] = sums_of_block::<true>(&[band], block, &Sums::default());
        taken = masks.take(taken, _mm512_cmple_epu8_mask(low, bound), row);
        taken = masks.take(taken, _mm512_cmple_epu8_mask(high, bound), row + PLANE as u32);
        if taken > MASKS - 2 {
            len = masks.list(taken, rows, len);
            taken = 0;
        }
    }
    masks.list(taken, rows, len)
}

/// Whether this is an AMD processor, see `Kernels::prefers_columns`.
pub(super) fn shuffles_in_one_operation() -> bool {
    let maker = __cpuid(0);
    [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// The sums of a block's rows, 64 to a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn sums_of_block<const BEGINS: bool>(bands: &[Band<'_>], block: u32, sums: &Sums) -> [__m512i; 2] {
    let (halves, _) = sums.0.as_flattened().as_chunks::<BYTES>();
    let mut sums = [load(&halves[0]), load(&halves[1])];
    if BEGINS {
        sums = [_mm512_setzero_si512(); 2];
    }
    for band in bands {
        let (bytes, last) = band.of_block(block).as_chunks::<UNROLLED>();
        let (entries, last_entries) = band.entries.as_chunks::<UNROLLED>();
        for (bytes, entries) in bytes.iter().zip(entries) {
            for (bytes, entries) in bytes.iter().zip(entries) {
                add::<BEGINS>(&mut sums, bytes, entries);
            }
        }
        for (bytes, entries) in last.iter().zip(last_entries) {
            add::<BEGINS>(&mut sums, bytes, entries);
        }
    }
    sums
}

/// Adds the entries of a block's bytes in one sub-space.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add<const BEGINS: bool>(sums: &mut [__m512i; 2], bytes: &[u8; PLANE], entries: &[u8; NIBBLES]) {
    if BEGINS {
        fetch(bytes.as_ptr().wrapping_add(AHEAD));
    }
    // SAFETY: 16 bytes are readable, because that is the length of the array.
    let table = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
    let table = _mm512_broadcast_i32x4(table);
    let low = load(bytes);
    let high = _mm512_srli_epi16::<4>(low);
    sums[0] = _mm512_adds_epu8(sums[0], _mm512_permutexvar_epi8(low, table));
    sums[1] = _mm512_adds_epu8(sums[1], _mm512_permutexvar_epi8(high, table));
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8]) -> __m512i {
    assert!(bytes.len() >= BYTES);
    // SAFETY: 64 bytes are readable, because of the assertion above.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(bytes: &mut [u8; BYTES], register: __m512i) {
    // SAFETY: 64 bytes are writable, because that is the length of the array.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), register) }
}
