//! Screens: sums of bytes that bound a code's distance from below, compared with a bound for many
//! codes at once. What passes is measured exactly by the caller; what does not cannot be an answer.
//!
//! ```text
//! bands (blocks, w, 64)     128 rows of nibbles, one query's 16 entries for each of w sub-spaces
//! columns (blocks, m, 256)  256 rows of bytes, one query's 256 entries for each sub-space
//! codes (rows, m)           bytes, 32 queries' entries side by side for each codeword
//! ```
//!
//! Sums saturate at 255, so that their order does not matter: every instruction set finds the same
//! rows.

use std::ops::{Range, RangeInclusive};

use super::{InstructionSet, Kernels};

/// Rows of a mask.
pub(crate) const BLOCK: usize = 32;
/// Entries of a nibble's table.
pub(crate) const NIBBLES: usize = 16;
/// Bytes of a plane's block for one sub-space: 64 rows in their low halves, 64 more in their high.
pub(crate) const PLANE: usize = 64;
/// Masks of a plane's block.
pub(crate) const PLANE_MASKS: usize = 2 * PLANE / BLOCK;
/// Queries whose tables are interleaved.
pub(crate) const LANES: usize = 32;
/// Rows of a block of columns: the bytes of a sub-space stand side by side.
pub(crate) const COLUMNS: usize = 256;
/// Masks of a block of columns.
pub(crate) const COLUMNS_MASKS: usize = COLUMNS / BLOCK;
/// Rows that a list takes at once.
pub(crate) const LISTED: usize = 4;
/// Masks that are listed together.
pub(super) const MASKS: usize = 32;
/// Bytes that come from memory together.
const LINE: usize = 64;
/// Codewords of an interleaved table: as many as a byte names.
pub(crate) const BYTE: usize = 256;

/// The sums of a plane's block: 64 rows of the low halves, then those of the high. None of these lies
/// across two lines of the cache.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(align(64))]
pub(crate) struct Sums(pub(crate) [[u8; BLOCK]; PLANE_MASKS]);

/// Some sub-spaces of a plane, bytes (blocks, w, 64), and a query's entries for them (w, 16).
#[derive(Clone, Copy, Default)]
pub(crate) struct Band<'a> {
    pub(crate) bytes: &'a [[u8; PLANE]],
    pub(crate) entries: &'a [[u8; NIBBLES]],
}

/// What [`Kernels::add_up`] does to each block.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    /// What is added.
    pub(crate) bands: &'a [Band<'a>],
    /// Whether the sums begin here, with blocks that follow each other.
    pub(crate) begins: bool,
    /// The block that the first sums belong to.
    pub(crate) first: u32,
    /// A block is left if a sum of it is at most this.
    pub(crate) bound: u8,
    /// What will be read of the blocks that are left.
    pub(crate) next: Option<Band<'a>>,
}

/// One query's lower bounds (m, 256) for columns, and the largest sum that passes.
#[derive(Clone, Copy)]
pub(crate) struct Sieve<'a> {
    pub(crate) entries: &'a [u8],
    pub(crate) bound: u8,
}

impl<'a> Band<'a> {
    /// Its bytes of a block.
    #[inline]
    pub(super) fn of_block(self, block: u32) -> &'a [[u8; PLANE]] {
        let width = self.entries.len();
        &self.bytes[block as usize * width..][..width]
    }
}

/// The entries of one codeword for every query of a batch. None lies across two lines of the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(align(32))]
pub(crate) struct Entry(pub(crate) [u8; LANES]);
/// A number for every query of a batch.
pub(crate) type Lanes = [f32; LANES];

impl Kernels {
    /// Adds the bands' entries to the sums of blocks; moves those blocks that are left to the front,
    /// but no sums, and returns how many there are.
    pub(crate) fn add_up(self, step: Step<'_>, blocks: &mut [u32], sums: &mut [Sums]) -> usize {
        match self.0 {
            InstructionSet::Scalar => scalar::add_up(step, blocks, sums),
            #[cfg(target_arch = "x86_64")]
            // Processors that run 512-bit shuffles in two halves gain little from them without VBMI.
            InstructionSet::Avx2 | InstructionSet::Avx512 => {
                super::scan_avx2::add_up(self, step, blocks, sums)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vbmi => super::scan_vbmi::add_up(self, step, blocks, sums),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// Writes the rows of blocks whose sums are in the range, in order, and returns how many; the first
    /// sums are those of the block `first`. `rows` has room for all rows, and [`LISTED`] more.
    pub(crate) fn list(
        self,
        blocks: &[u32],
        (first, sums): (u32, &[Sums]),
        range: RangeInclusive<u8>,
        rows: &mut [u32],
    ) -> usize {
        assert!(rows.len() >= blocks.len() * 2 * PLANE + LISTED && !range.is_empty());
        match self.0 {
            InstructionSet::Scalar => scalar::list(blocks, (first, sums), range, rows),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 | InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                super::scan_avx2::list(self, blocks, (first, sums), range, rows)
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// As [`Kernels::add_up`] of one band and [`Kernels::list`], for blocks that follow each other and
    /// sums that are at most `bound`; the sums stay in registers.
    pub(crate) fn screen_plane(
        self,
        band: Band<'_>,
        blocks: Range<u32>,
        bound: u8,
        rows: &mut [u32],
    ) -> usize {
        assert!(rows.len() >= blocks.len() * 2 * PLANE + LISTED);
        match self.0 {
            InstructionSet::Scalar => scalar::screen_plane(band, blocks, bound, rows),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 | InstructionSet::Avx512 => {
                super::scan_avx2::screen_plane(self, band, blocks, bound, rows)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vbmi => {
                super::scan_vbmi::screen_plane(self, band, blocks, bound, rows)
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// Whether [`Kernels::screen_columns`] is faster than a screen of groups, which reads half as much
    /// memory. A shuffle over 128 entries is one operation on AMD's processors and three on Intel's.
    pub(crate) fn prefers_columns(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vbmi => super::scan_vbmi::shuffles_in_one_operation(),
            _ => false,
        }
    }

    /// As [`Kernels::list`], of columns (blocks, m, 256), from row 0 on.
    pub(crate) fn screen_columns(
        self,
        columns: &[u8],
        sieve: Sieve<'_>,
        rows: &mut [u32],
    ) -> usize {
        assert!(rows.len() >= columns.len() * BYTE / sieve.entries.len() + LISTED);
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vbmi => {
                super::scan_vbmi::screen_columns(self, columns, sieve, rows)
            }
            _ => scalar::screen_columns(columns, sieve, rows),
        }
    }

    /// Bit q of `masks[row]` tells whether the row passes for query q: the sum of its entries'
    /// lanes q is at most `bounds[q]`. `codes` has the shape `(rows, m)`, `tables` `(m, 256)`.
    pub(crate) fn screen_batch(
        self,
        codes: &[u8],
        tables: &[[Entry; BYTE]],
        bounds: &[u8; LANES],
        masks: &mut [u32],
    ) {
        assert_eq!(codes.len(), masks.len() * tables.len());
        match self.0 {
            InstructionSet::Scalar => scalar::screen_batch(codes, tables, bounds, masks),
            #[cfg(target_arch = "x86_64")]
            // Bound by the loads of the entries: wider registers would not help.
            InstructionSet::Avx2 | InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                super::scan_avx2::screen_batch(self, codes, tables, bounds, masks);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// Writes the entries of codewords: lane q has the [`byte`] of query q. No key is below the least.
    pub(crate) fn entries(
        self,
        keys: &[Lanes],
        least: &Lanes,
        scale: &Lanes,
        entries: &mut [Entry],
    ) {
        assert_eq!(keys.len(), entries.len());
        match self.0 {
            InstructionSet::Scalar => scalar::entries(keys, least, scale, entries),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 | InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                super::scan_avx2::entries(self, keys, least, scale, entries);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }
}

/// `count` equal shares of `values`, where there are enough.
pub(crate) fn shares(values: &[f32], count: usize) -> std::slice::Chunks<'_, f32> {
    values.chunks(values.len().div_ceil(count).max(1))
}

/// Has the processor fetch `values`, which will be read soon.
#[inline]
pub(crate) fn prefetch<T>(values: &[T]) {
    for line in (0..size_of_val(values)).step_by(LINE) {
        #[cfg(target_arch = "x86_64")]
        super::scan_avx2::fetch(values.as_ptr().cast::<u8>().wrapping_add(line));
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// Those masks of 64 rows that are not empty, and the first row of each. Taking them out before their
/// rows, and writing some rows, whether they are there or not, spares branches that nobody foresees.
/// How many there are the caller knows: beside the arrays it would not stay in a register.
pub(super) struct Masks {
    masks: [u64; MASKS],
    firsts: [u32; MASKS],
}

impl Masks {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { masks: [0; MASKS], firsts: [0; MASKS] }
    }

    /// Takes a mask, unless it is empty, behind `taken` others, less than [`MASKS`]; returns how many
    /// there are.
    #[inline(always)]
    pub(super) fn take(&mut self, taken: usize, mask: u64, first: u32) -> usize {
        self.masks[taken] = mask;
        self.firsts[taken] = first;
        taken + usize::from(mask != 0)
    }

    /// Writes the rows of the masks taken behind the first `len`; returns how many rows there are.
    #[inline(always)]
    pub(super) fn list(&self, taken: usize, rows: &mut [u32], mut len: usize) -> usize {
        for (&mask, &first) in self.masks[..taken].iter().zip(&self.firsts) {
            let mut mask = mask;
            let mut at = len;
            len += mask.count_ones() as usize;
            while at < len {
                for row in &mut rows[at..][..LISTED] {
                    *row = first + mask.trailing_zeros();
                    mask &= mask.wrapping_sub(1);
                }
                at += LISTED;
            }
        }
        len
    }
}

/// The byte that stands for a codeword's key: `(key - least) * scale`, rounded down, at most 255.
#[inline]
pub(crate) fn byte(key: f32, least: f32, scale: f32) -> u8 {
    ((key - least) * scale) as u8
}

/// The nibble of `row` (of the block) in the bytes of a sub-space.
pub(crate) fn nibble(bytes: &[u8; PLANE], row: usize) -> u8 {
    bytes[row % PLANE] >> (row / PLANE * 4) & 15
}

mod scalar {
    use std::ops::{Range, RangeInclusive};

    use super::{BYTE, Band, COLUMNS, Entry, LANES, Lanes, PLANE, Sieve, Step, Sums, byte, nibble};

    pub(super) fn add_up(step: Step<'_>, blocks: &mut [u32], sums: &mut [Sums]) -> usize {
        let mut left = 0;
        for at in 0..blocks.len() {
            let block = blocks[at];
            let sums = &mut sums[(block - step.first) as usize];
            if step.begins {
                *sums = Sums::default();
            }
            for band in step.bands {
                let bytes = band.of_block(block);
                for (row, sum) in sums.0.as_flattened_mut().iter_mut().enumerate() {
                    for (bytes, entries) in bytes.iter().zip(band.entries) {
                        *sum = sum.saturating_add(entries[usize::from(nibble(bytes, row))]);
                    }
                }
            }
            blocks[left] = block;
            left += usize::from(sums.0.as_flattened().iter().any(|&sum| sum <= step.bound));
        }
        left
    }

    pub(super) fn list(
        blocks: &[u32],
        (first, sums): (u32, &[Sums]),
        range: RangeInclusive<u8>,
        rows: &mut [u32],
    ) -> usize {
        let sums = blocks.iter().flat_map(|&block| {
            let sums = sums[(block - first) as usize].0.as_flattened();
            (block * (2 * PLANE) as u32..).zip(sums)
        });
        let found = sums.filter(|(_, sum)| range.contains(sum)).map(|(row, _)| row);
        rows.iter_mut().zip(found).map(|(place, row)| *place = row).count()
    }

    pub(super) fn screen_plane(
        band: Band<'_>,
        blocks: Range<u32>,
        bound: u8,
        rows: &mut [u32],
    ) -> usize {
        let mut len = 0;
        for block in blocks {
            let (mut blocks, mut sums) = ([block], [Sums::default()]);
            let step = Step { bands: &[band], begins: true, first: block, bound, next: None };
            let left = add_up(step, &mut blocks, &mut sums);
            len += list(&blocks[..left], (block, &sums), 0..=bound, &mut rows[len..]);
        }
        len
    }

    pub(super) fn screen_columns(columns: &[u8], sieve: Sieve<'_>, rows: &mut [u32]) -> usize {
        let blocks = columns.chunks_exact(sieve.entries.len() / BYTE * COLUMNS);
        let sums = blocks.flat_map(|block| {
            (0..COLUMNS).map(|row| {
                let sub_spaces = block.chunks_exact(COLUMNS).zip(sieve.entries.chunks_exact(BYTE));
                let entries = sub_spaces.map(|(codes, table)| table[usize::from(codes[row])]);
                entries.fold(0, u8::saturating_add)
            })
        });
        let found = (0..).zip(sums).filter(|&(_, sum)| sum <= sieve.bound).map(|(row, _)| row);
        rows.iter_mut().zip(found).map(|(place, row)| *place = row).count()
    }

    pub(super) fn entries(keys: &[Lanes], least: &Lanes, scale: &Lanes, entries: &mut [Entry]) {
        for (keys, entry) in keys.iter().zip(entries) {
            for lane in 0..LANES {
                entry.0[lane] = byte(keys[lane], least[lane], scale[lane]);
            }
        }
    }

    pub(super) fn screen_batch(
        codes: &[u8],
        tables: &[[Entry; BYTE]],
        bounds: &[u8; LANES],
        masks: &mut [u32],
    ) {
        for (codes, mask) in codes.chunks_exact(tables.len()).zip(masks) {
            let mut sums = [0_u8; LANES];
            for (table, &code) in tables.iter().zip(codes) {
                for (sum, &entry) in sums.iter_mut().zip(&table[usize::from(code)].0) {
                    *sum = sum.saturating_add(entry);
                }
            }
            let passes = sums.iter().zip(bounds).enumerate();
            *mask = passes.fold(0, |mask, (q, (sum, bound))| mask | u32::from(sum <= bound) << q);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    /// More sub-spaces than a byte can sum; blocks on either side of what a pass takes.
    const SHAPES: [(usize, usize); 11] = [
        (1, 1),
        (1, 5),
        (2, 4),
        (3, 3),
        (7, 2),
        (8, 9),
        (16, 4),
        (31, 1),
        (33, 6),
        (64, 8),
        (600, 3),
    ];

    /// Entries up to `most`, so that sums fall on either side of the bound and of saturation.
    fn bytes(random: &mut LegacyRandom, len: usize, most: u64) -> Vec<u8> {
        (0..len).map(|_| random.up_to(most) as u8).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_sums_of_the_scalar_set() {
        let mut random = LegacyRandom::new(3);
        for (m, count) in SHAPES {
            // The sub-spaces in one band, in two of which the second is narrower, or one by one.
            for width in [m, m / 2 + 1, 1] {
                let bytes_of_bands = bytes(&mut random, count * m * PLANE, 255);
                let (bytes_of_bands, _) = bytes_of_bands.as_chunks();
                for most in [0, 1, 510 / m as u64, 255] {
                    let entries = bytes(&mut random, m * NIBBLES, most.min(255));
                    let bands = bytes_of_bands.chunks(width * count);
                    let bands = bands.zip(entries.as_chunks().0.chunks(width));
                    let bands: Vec<Band<'_>> =
                        bands.map(|(bytes, entries)| Band { bytes, entries }).collect();
                    for bound in [0, 1, 127, 254, 255] {
                        for kernels in Kernels::available() {
                            let what =
                                format!("{kernels:?} m {m} width {width} count {count} {bound}");
                            both_agree(&bands, bound, count, kernels, &what);
                        }
                    }
                }
            }
        }
    }

    /// All bands at once, and one after the other with the blocks that are left.
    fn both_agree(bands: &[Band<'_>], bound: u8, count: usize, kernels: Kernels, what: &str) {
        let blocks: Vec<u32> = (0..count as u32).collect();
        let mut all = (blocks.clone(), vec![Sums::default(); count]);
        let step = Step { bands, begins: true, first: 0, bound: u8::MAX, next: None };
        assert_eq!(kernels.add_up(step, &mut all.0, &mut all.1), count, "{what}");
        assert_eq!(all.0, blocks, "{what}");
        let mut found = (blocks.clone(), vec![Sums([[7; BLOCK]; PLANE_MASKS]); count]);
        let mut wanted = found.clone();
        let mut left = count;
        for (at, bands) in bands.chunks(1).enumerate() {
            let next = bands.first().copied();
            let step = Step { bands, begins: at == 0, first: 0, bound, next };
            let mine = kernels.add_up(step, &mut found.0[..left], &mut found.1);
            left = scalar::add_up(step, &mut wanted.0[..left], &mut wanted.1);
            assert_eq!(mine, left, "{what}");
            assert_eq!(found.0[..left], wanted.0[..left], "{what}");
            assert_eq!(found.1, wanted.1, "{what}");
        }
        // What is left has whole sums; what is not has none within the bound.
        let within = |sums: &Sums| sums.0.as_flattened().iter().any(|&sum| sum <= bound);
        let whole = blocks.iter().filter(|&&block| within(&all.1[block as usize]));
        assert!(whole.eq(&wanted.0[..left]), "{what}");
        for &block in &wanted.0[..left] {
            assert_eq!(wanted.1[block as usize], all.1[block as usize], "{what}");
        }
    }

    #[test]
    fn every_instruction_set_lists_the_rows_of_the_scalar_set() {
        let mut random = LegacyRandom::new(12);
        for count in [0, 1, 2, 15, 16, 17, 70] {
            // Rows within the range are rare, common, all.
            for rare in [0, 1, 9, 255] {
                let first = random.up_to(1000) as u32;
                let mut sum = || if random.up_to(rare) == 0 { 100 } else { 200 };
                let sums: Vec<Sums> = (0..count)
                    .map(|_| Sums([[0; BLOCK]; PLANE_MASKS].map(|mask| mask.map(|_| sum()))))
                    .collect();
                // All blocks, and the last of three.
                for step in [1, 3] {
                    let blocks: Vec<u32> =
                        (first..).take(count).skip(step - 1).step_by(step).collect();
                    for range in [0..=100, 100..=100, 101..=200, 0..=255, 0..=0] {
                        let room = blocks.len() * 2 * PLANE + LISTED;
                        let (mut rows, mut wanted) = (vec![0; room], vec![0; room]);
                        let sums = (first, &sums[..]);
                        let len = scalar::list(&blocks, sums, range.clone(), &mut wanted);
                        for kernels in Kernels::available() {
                            let mine = kernels.list(&blocks, sums, range.clone(), &mut rows);
                            let what = format!("{kernels:?} count {count} step {step} {range:?}");
                            assert_eq!(rows[..mine], wanted[..len], "{what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_screens_a_plane_as_the_scalar_set_does() {
        let mut random = LegacyRandom::new(8);
        for (m, count) in SHAPES.into_iter().chain([(3, 40), (8, 64)]) {
            let plane = bytes(&mut random, count * m * PLANE, 255);
            for most in [0, 510 / m as u64, 255] {
                let entries = bytes(&mut random, m * NIBBLES, most.min(255));
                let (bytes, entries) = (plane.as_chunks().0, entries.as_chunks().0);
                for bound in [0, 90, 127, 254, 255] {
                    for blocks in [0..count as u32, 1..count as u32, 0..count as u32 / 2] {
                        let room = blocks.len() * 2 * PLANE + LISTED;
                        let (mut rows, mut wanted) = (vec![0; room], vec![0; room]);
                        let band = Band { bytes, entries };
                        let len = scalar::screen_plane(band, blocks.clone(), bound, &mut wanted);
                        for kernels in Kernels::available() {
                            let mine = kernels.screen_plane(band, blocks.clone(), bound, &mut rows);
                            let what = format!("{kernels:?} m {m} {blocks:?} bound {bound}");
                            assert_eq!(rows[..mine], wanted[..len], "{what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_masks_of_the_scalar_batch() {
        let mut random = LegacyRandom::new(4);
        for (m, rows) in SHAPES {
            let codes = bytes(&mut random, rows * m, 255);
            let bounds = std::array::from_fn(|_| random.up_to(255) as u8);
            for most in [0, 510 / m as u64, 255] {
                let mut entry =
                    || Entry(std::array::from_fn(|_| random.up_to(most.min(255)) as u8));
                let tables: Vec<[Entry; BYTE]> =
                    (0..m).map(|_| std::array::from_fn(|_| entry())).collect();
                let mut wanted = vec![0; rows];
                scalar::screen_batch(&codes, &tables, &bounds, &mut wanted);
                for kernels in Kernels::available() {
                    let mut masks = vec![0; rows];
                    kernels.screen_batch(&codes, &tables, &bounds, &mut masks);
                    assert_eq!(masks, wanted, "{kernels:?} m {m} rows {rows}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_entries_of_the_scalar_batch() {
        let mut random = LegacyRandom::new(7);
        for count in [0, 1, 17, 256] {
            // Products on either side of 255, whole ones, and those of infinite keys.
            let mut lanes = |values: [f32; 4]| -> Lanes {
                std::array::from_fn(|_| values[random.up_to(3) as usize])
            };
            let least = lanes([0.0, 1.0, -3.5, -1e30]);
            let scale = lanes([0.0, 1.0, 63.75, 1e-28]);
            let keys: Vec<Lanes> = (0..count).map(|_| lanes([1.0, 4.999_999, 5.0, 1e30])).collect();
            let keys = [keys, vec![least; 1], vec![[f32::INFINITY; LANES]; 1]].concat();
            let scale = scale.map(|scale| scale.max(1e-30));
            let mut wanted = vec![Entry([7; LANES]); keys.len()];
            scalar::entries(&keys, &least, &scale, &mut wanted);
            for kernels in Kernels::available() {
                let mut entries = vec![Entry([9; LANES]); keys.len()];
                kernels.entries(&keys, &least, &scale, &mut entries);
                assert_eq!(entries, wanted, "{kernels:?} count {count}");
            }
        }
    }

    #[test]
    fn every_instruction_set_lists_the_rows_of_the_scalar_columns() {
        let mut random = LegacyRandom::new(6);
        for (m, blocks) in SHAPES {
            let columns = bytes(&mut random, blocks * m * COLUMNS, 255);
            for most in [0, 510 / m as u64, 255] {
                let entries = bytes(&mut random, m * BYTE, most.min(255));
                for bound in [0, 127, 254, 255] {
                    let sieve = Sieve { entries: &entries, bound };
                    let room = blocks * COLUMNS + LISTED;
                    let (mut rows, mut wanted) = (vec![0; room], vec![0; room]);
                    let len = scalar::screen_columns(&columns, sieve, &mut wanted);
                    for kernels in Kernels::available() {
                        let mine = kernels.screen_columns(&columns, sieve, &mut rows);
                        assert_eq!(
                            rows[..mine],
                            wanted[..len],
                            "{kernels:?} m {m} blocks {blocks}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_scalar_sums_are_those_of_the_entries() {
        // Row 0 has the nibbles 1 and 2, row 64 the nibbles 3 and 4, all others 0.
        let mut bytes = [[0; PLANE]; 2];
        (bytes[0][0], bytes[1][0]) = (0x31, 0x42);
        let mut entries = [[200; NIBBLES]; 2];
        (entries[0][1], entries[1][2]) = (5, 6);
        (entries[0][3], entries[1][4]) = (5, 7);
        let bands = [Band { bytes: &bytes, entries: &entries }];
        for (bound, left) in [(10, 0), (11, 1)] {
            let (mut blocks, mut sums) = ([0], [Sums::default()]);
            let step = Step { bands: &bands, begins: true, first: 0, bound, next: None };
            assert_eq!(scalar::add_up(step, &mut blocks, &mut sums), left);
            let flat = sums[0].0.as_flattened();
            assert_eq!((flat[0], flat[64], flat[1]), (11, 12, 255));
            let mut rows = [0; 2 * PLANE];
            assert_eq!(scalar::list(&[0], (0, &sums), 11..=12, &mut rows), 2);
            assert_eq!(rows[..2], [0, 64]);
        }
    }
}
