//! The screens in AVX2.
//!
//! ```text
//! add_up: for each block, for each sub-space, for each half of its 64 bytes:
//!     low  += table[byte & 15]      32 rows      (shuffle, saturating add)
//!     high += table[byte >> 4]      32 more
//!   store 4 x 32 sums, keep the block if one is within the bound
//! list: compare the 4 x 32 sums of a block, then take the rows out of masks that are not empty
//! screen_plane: the sums of add_up, compared in their registers
//! screen_batch: for each sub-space: sums += table[code]         32 queries x 1 row
//!   compare 32 sums with 32 bounds
//! entries: (key - least) * scale, at most 255, to bytes         32 queries
//! ```
//! Bounds: add_up, one shuffle, one addition and one and a half of a mask for 32 look-ups; a first step
//! reads bands in the order of memory. screen_batch, one load of an entry and one of a code for 32 look-ups.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::{Range, RangeInclusive};

use super::Kernels;
use super::scan::{
    BLOCK, BYTE, Band, Entry, LANES, Lanes, MASKS, Masks, NIBBLES, PLANE, PLANE_MASKS, Step, Sums,
};

/// How far ahead of the blocks in work codes are fetched: as much as comes while one waits.
pub(super) const AHEAD: usize = 4096;
/// Sub-spaces of the bands that most codes have.
pub(super) const UNROLLED: usize = 4;

pub(super) fn add_up(
    _proof: Kernels,
    step: Step<'_>,
    blocks: &mut [u32],
    sums: &mut [Sums],
) -> usize {
    // SAFETY: AVX2 is there, because `Kernels` with this set or a wider one is made by
    // `Kernels::of` alone, which checks it.
    unsafe {
        if step.begins {
            add_up_blocks::<true>(step, blocks, sums)
        } else {
            add_up_blocks::<false>(step, blocks, sums)
        }
    }
}

#[target_feature(enable = "avx2")]
fn add_up_blocks<const BEGINS: bool>(
    step: Step<'_>,
    blocks: &mut [u32],
    sums: &mut [Sums],
) -> usize {
    let bound = broadcast(step.bound);
    let mut left = 0;
    for at in 0..blocks.len() {
        let block = blocks[at];
        let place = &mut sums[(block - step.first) as usize];
        let found = sums_of_block::<BEGINS>(step.bands, block, place);
        let [a, b, c, d] = found;
        let least = _mm256_min_epu8(_mm256_min_epu8(a, b), _mm256_min_epu8(c, d));
        for (place, found) in place.0.iter_mut().zip(found) {
            store(place, found);
        }
        let is_left = passing(least, bound) != 0;
        blocks[left] = block;
        left += usize::from(is_left);
        fetch_next(step, block, is_left);
    }
    left
}

/// Fetches what the next step reads of a block, if it is left: without a branch, which would often be
/// foreseen wrongly.
#[inline]
pub(super) fn fetch_next(step: Step<'_>, block: u32, is_left: bool) {
    if let Some(next) = step.next {
        for bytes in next.of_block(block * u32::from(is_left)) {
            fetch(bytes);
        }
    }
}

pub(super) fn list(
    _proof: Kernels,
    blocks: &[u32],
    sums: (u32, &[Sums]),
    range: RangeInclusive<u8>,
    rows: &mut [u32],
) -> usize {
    // SAFETY: AVX2, BMI1 and POPCNT are there, because `Kernels` with this set or a wider one is made
    // by `Kernels::of` alone, which checks them.
    unsafe { list_blocks(blocks, sums, range, rows) }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn list_blocks(
    blocks: &[u32],
    (first, sums): (u32, &[Sums]),
    range: RangeInclusive<u8>,
    rows: &mut [u32],
) -> usize {
    let least = broadcast(*range.start());
    let length = broadcast(range.end() - range.start());
    let mut masks = Masks::new();
    let mut len = 0;
    for blocks in blocks.chunks(MASKS / 2) {
        let mut taken = 0;
        for &block in blocks {
            let sums = sums[(block - first) as usize].0.each_ref();
            let found = sums.map(|sums| passing(_mm256_sub_epi8(load(sums), least), length));
            taken = take(&mut masks, taken, found, block);
        }
        len = masks.list(taken, rows, len);
    }
    len
}

/// Takes the masks of a block, 32 rows each.
#[inline]
#[target_feature(enable = "avx2")]
fn take(masks: &mut Masks, taken: usize, found: [u32; PLANE_MASKS], block: u32) -> usize {
    let [a, b, c, d] = found.map(u64::from);
    let row = block * (2 * PLANE) as u32;
    let taken = masks.take(taken, a | b << BLOCK, row);
    masks.take(taken, c | d << BLOCK, row + PLANE as u32)
}

pub(super) fn screen_plane(
    _proof: Kernels,
    band: Band<'_>,
    blocks: Range<u32>,
    bound: u8,
    rows: &mut [u32],
) -> usize {
    // SAFETY: as in `list`.
    unsafe { screen_blocks(band, blocks, bound, rows) }
}

#[target_feature(enable = "avx2,bmi1,popcnt")]
fn screen_blocks(band: Band<'_>, blocks: Range<u32>, bound: u8, rows: &mut [u32]) -> usize {
    let bound = broadcast(bound);
    let mut masks = Masks::new();
    let (mut taken, mut len) = (0, 0);
    for block in blocks {
        let sums = sums_of_block::<true>(&[band], block, &Sums::default());
        taken = take(&mut masks, taken, sums.map(|sums| passing(sums, bound)), block);
        if taken > MASKS - 2 {
            len = masks.list(taken, rows, len);
            taken = 0;
        }
    }
    masks.list(taken, rows, len)
}

/// The sums of a block's rows, 32 to a register.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_block<const BEGINS: bool>(
    bands: &[Band<'_>],
    block: u32,
    sums: &Sums,
) -> [__m256i; PLANE_MASKS] {
    let mut sums = sums.0.each_ref().map(|sums| load(sums));
    if BEGINS {
        sums = [_mm256_setzero_si256(); PLANE_MASKS];
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
#[target_feature(enable = "avx2")]
fn add<const BEGINS: bool>(
    sums: &mut [__m256i; PLANE_MASKS],
    bytes: &[u8; PLANE],
    entries: &[u8; NIBBLES],
) {
    if BEGINS {
        fetch(bytes.as_ptr().wrapping_add(AHEAD));
    }
    let half = _mm256_set1_epi8(15);
    // SAFETY: 16 bytes are readable, because that is the length of the array.
    let table = unsafe { _mm_loadu_si128(entries.as_ptr().cast()) };
    let table = _mm256_broadcastsi128_si256(table);
    for (h, bytes) in bytes.as_chunks().0.iter().enumerate() {
        let bytes = load(bytes);
        let low = _mm256_and_si256(bytes, half);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half);
        sums[h] = _mm256_adds_epu8(sums[h], _mm256_shuffle_epi8(table, low));
        sums[2 + h] = _mm256_adds_epu8(sums[2 + h], _mm256_shuffle_epi8(table, high));
    }
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

/// Fetches the line of an address to the first cache. SSE, which every x86-64 processor has; an
/// address that cannot be read is passed over.
#[inline]
pub(super) fn fetch<T>(at: *const T) {
    // SAFETY: a hint, which reads nothing that the program sees.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

pub(super) fn screen_batch(
    _proof: Kernels,
    codes: &[u8],
    tables: &[[Entry; BYTE]],
    bounds: &[u8; LANES],
    masks: &mut [u32],
) {
    // SAFETY: as in `add_up`.
    unsafe { screen_rows(codes, tables, bounds, masks) }
}

/// Rows whose sums one pass holds: enough to hide the latency of the additions.
const ROWS: usize = 4;

#[target_feature(enable = "avx2")]
fn screen_rows(codes: &[u8], tables: &[[Entry; BYTE]], bounds: &[u8; LANES], masks: &mut [u32]) {
    let m = tables.len();
    let bounds = load(bounds);
    let (passes, left) = masks.as_chunks_mut::<ROWS>();
    let (codes, codes_left) = codes.split_at(passes.len() * ROWS * m);
    for (codes, masks) in codes.chunks_exact(ROWS * m).zip(passes) {
        let (a, rest) = codes.split_at(m);
        let (b, rest) = rest.split_at(m);
        let (c, d) = rest.split_at(m);
        let mut sums = [_mm256_setzero_si256(); ROWS];
        let codes = a.iter().zip(b).zip(c.iter().zip(d));
        for (table, ((&a, &b), (&c, &d))) in tables.iter().zip(codes) {
            for (sum, code) in sums.iter_mut().zip([a, b, c, d]) {
                *sum = _mm256_adds_epu8(*sum, load(&table[usize::from(code)].0));
            }
        }
        for (mask, sums) in masks.iter_mut().zip(sums) {
            *mask = passing(sums, bounds);
        }
    }
    for (codes, mask) in codes_left.chunks_exact(m).zip(left) {
        let mut sums = _mm256_setzero_si256();
        for (table, &code) in tables.iter().zip(codes) {
            sums = _mm256_adds_epu8(sums, load(&table[usize::from(code)].0));
        }
        *mask = passing(sums, bounds);
    }
}

pub(super) fn entries(
    _proof: Kernels,
    keys: &[Lanes],
    least: &Lanes,
    scale: &Lanes,
    entries: &mut [Entry],
) {
    // SAFETY: as in `add_up`.
    unsafe { entries_of(keys, least, scale, entries) }
}

/// Numbers of a register.
const FLOATS: usize = 8;

#[target_feature(enable = "avx2")]
fn entries_of(keys: &[Lanes], least: &Lanes, scale: &Lanes, entries: &mut [Entry]) {
    let most = _mm256_set1_ps(255.0);
    let [least, scale] = [registers(least), registers(scale)];
    // Packing takes four numbers of each register in turn.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (keys, entry) in keys.iter().zip(entries) {
        let mut numbers = [_mm256_setzero_si256(); LANES / FLOATS];
        for (at, (number, keys)) in numbers.iter_mut().zip(registers(keys)).enumerate() {
            let product = _mm256_mul_ps(_mm256_sub_ps(keys, least[at]), scale[at]);
            *number = _mm256_cvttps_epi32(_mm256_min_ps(product, most));
        }
        let [a, b, c, d] = numbers;
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        store(&mut entry.0, _mm256_permutevar8x32_epi32(bytes, order));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn registers(lanes: &Lanes) -> [__m256; LANES / FLOATS] {
    let (parts, _) = lanes.as_chunks::<FLOATS>();
    // SAFETY: eight numbers are readable, because that is the length of each part.
    std::array::from_fn(|at| unsafe { _mm256_loadu_ps(parts[at].as_ptr()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; BLOCK]) -> __m256i {
    // SAFETY: 32 bytes are readable, because that is the length of the array.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; BLOCK], register: __m256i) {
    // SAFETY: 32 bytes are writable, because that is the length of the array.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), register) }
}
