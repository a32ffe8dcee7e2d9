//! The inner loops, one file per instruction set, chosen once at run time.
//!
//! The only `unsafe` of the workspace lives in the files of the instruction sets. Every function
//! exists in [`scalar`] first; `parity` compares each instruction set with it.
//!
//! ```text
//! rows (n, ds) --Tile::load--> Tile (ds, 48)  --nearest(Panel)--> 48 codes, 48 squared distances
//!                                             --codes(Panel)--> 48 codes
//! ```

// Other processors have the scalar kernels alone.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables))]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod integers;
#[cfg(target_arch = "x86_64")]
mod integers_avx2;
#[cfg(target_arch = "x86_64")]
mod integers_vnni;
mod look_up;
#[cfg(target_arch = "x86_64")]
mod look_up_vbmi;
#[cfg(test)]
mod parity;
mod scalar;
mod scan;
#[cfg(target_arch = "x86_64")]
mod scan_avx2;
#[cfg(target_arch = "x86_64")]
mod scan_vbmi;

pub(crate) use look_up::Planes;
pub(crate) use scan::{
    BLOCK, BYTE, Band, COLUMNS, COLUMNS_MASKS, Entry, LANES, LISTED, Lanes, NIBBLES, PLANE,
    PLANE_MASKS, Sieve, Step, Sums, byte, nibble, prefetch, shares,
};

use std::ops::Range;
use std::sync::OnceLock;
#[cfg(fuzzing)]
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use integers::{Integers, Space};

use crate::error::{Error, Result, collected, filled, size, with_capacity};
use crate::metric::Metric;

/// Rows in a tile: three AVX-512 or six AVX2 registers of lanes.
pub(crate) const TILE: usize = 48;
/// Rows of a tile that have a list of codewords to themselves.
pub(crate) const STRIP: usize = 16;
/// Codewords that a kernel measures together.
pub(crate) const CHUNK: usize = 8;
/// Up to this sub-space dimension distances are summed from differences; above it, from
/// |c|^2 - 2 x.c + |x|^2 on centred data, whose rounding error (relative to |x|^2) is by then
/// small against the distances themselves.
const MAX_DIFFERENCE_DIM: usize = 4;

/// Stands for any dimension where code is made for one dimension.
pub(crate) const ANY: usize = 0;

/// Calls `$kernel::<DIFFERENCES, DS>`: the usual dimensions have code of their own, unrolled.
#[cfg(target_arch = "x86_64")]
macro_rules! of_dimension {
    ($kernel:ident($panel:expr, $($argument:expr),*)) => {
        match $panel.ds {
            4 => $kernel::<{ $crate::kernels::uses_differences(4) }, 4>($panel, $($argument),*),
            8 => $kernel::<{ $crate::kernels::uses_differences(8) }, 8>($panel, $($argument),*),
            16 => $kernel::<{ $crate::kernels::uses_differences(16) }, 16>($panel, $($argument),*),
            _ if $panel.differences() => $kernel::<true, { $crate::kernels::ANY }>($panel, $($argument),*),
            _ => $kernel::<false, { $crate::kernels::ANY }>($panel, $($argument),*),
        }
    };
}
#[cfg(target_arch = "x86_64")]
use of_dimension;

/// The numbers of so few codewords that [`Kernels::nearest_among`] is faster with all of them.
const ALL_OF_FEW: [u32; 32] = {
    let mut numbers = [0; 32];
    let mut k = 0;
    while k < numbers.len() {
        numbers[k] = k as u32;
        k += 1;
    }
    numbers
};

/// With fewer codewords in a list [`Kernels::codes_among`] measures them in f32.
const LEAST_LISTED: usize = 12;

/// After so many crowded tiles [`Kernels::nearest`] tries no more integers, and after so many more
/// crowded strips than others [`Kernels::codes_among`].
const PATIENCE: u32 = 8;

/// The kernels in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Plain Rust: the reference that the others are compared with.
    Scalar,
    /// AVX2, FMA, BMI1 and POPCNT (x86-64-v3).
    Avx2,
    /// AVX-512F.
    Avx512,
    /// AVX-512 with BW, VBMI and VNNI.
    Avx512Vbmi,
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Avx512Vbmi];

    /// The name that `PICOPQ_KERNELS` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vbmi => "avx512vbmi",
        }
    }

    fn runs_here(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Self::Avx2.runs_here() && is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vbmi => {
                Self::Avx512.runs_here()
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Proof that the processor runs an instruction set: made only by [`Kernels::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernels(InstructionSet);

impl Kernels {
    fn of(set: InstructionSet) -> Option<Self> {
        set.runs_here().then_some(Self(set))
    }

    /// Every instruction set of this processor, the widest last.
    fn available() -> impl Iterator<Item = Self> {
        InstructionSet::ALL.into_iter().filter_map(Self::of)
    }

    /// The kernels of this process: `PICOPQ_KERNELS` where set, else the widest.
    pub(crate) fn active() -> Result<Self> {
        #[cfg(fuzzing)]
        if let Some(kernels) = Self::available().nth(CHOSEN.load(Relaxed)) {
            return Ok(kernels);
        }
        static ACTIVE: OnceLock<Result<Kernels>> = OnceLock::new();
        ACTIVE.get_or_init(|| Self::choose(std::env::var("PICOPQ_KERNELS").ok())).clone()
    }

    fn choose(requested: Option<String>) -> Result<Self> {
        let Some(requested) = requested.filter(|name| !name.is_empty()) else {
            return Ok(Self::available().last().unwrap_or(Self(InstructionSet::Scalar)));
        };
        Self::available().find(|kernels| kernels.0.name() == requested).ok_or_else(|| {
            let available: Vec<_> = Self::available().map(|kernels| kernels.0.name()).collect();
            Error::KernelsUnavailable { requested, available: available.join(", ") }
        })
    }

    /// The nearest codeword of `panel` for each of the tile's rows, ties to the lowest index, and
    /// its squared distance.
    pub(crate) fn nearest(self, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
        self.search(panel, tile, out, true);
    }

    /// As [`Kernels::nearest`]; the distances mean nothing.
    pub(crate) fn codes(self, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
        self.search(panel, tile, out, false);
    }

    fn search(self, panel: &Panel, tile: TileRef<'_>, out: &mut Nearest, measure: bool) {
        assert_eq!(tile.lanes.len(), panel.ds * TILE);
        if let Some(numbers) = ALL_OF_FEW.get(..panel.by_codeword.len() / panel.ds) {
            prefetch(tile.ahead);
            for strip in 0..TILE / STRIP {
                self.nearest_among(panel, numbers, tile, strip, out);
            }
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if self.uses_integers()
            && out.crowded < PATIENCE
            && let Some(integers) = &panel.integers
            && integers_avx2::nearest(self, panel, integers, tile, out, measure)
        {
            return;
        }
        prefetch(tile.ahead);
        match self.0 {
            InstructionSet::Scalar => scalar::nearest(panel, tile, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::nearest(self, panel, tile, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                avx512::nearest(self, panel, tile, out);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// With AVX-512 but no VNNI f32 is as fast as integers.
    fn uses_integers(self) -> bool {
        matches!(self.0, InstructionSet::Avx2 | InstructionSet::Avx512Vbmi)
    }

    /// As [`Kernels::nearest`], bit for bit, for one strip of the tile and among the codewords of
    /// these ascending `numbers` alone. For short lists: there is no last step per row, but a little
    /// more work for each codeword.
    pub(crate) fn nearest_among(
        self,
        panel: &Panel,
        numbers: &[u32],
        tile: TileRef<'_>,
        strip: usize,
        out: &mut Nearest,
    ) {
        assert_eq!(tile.lanes.len(), panel.ds * TILE);
        assert!(strip < TILE / STRIP);
        match self.0 {
            InstructionSet::Scalar => scalar::nearest_among(panel, numbers, tile, strip, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::nearest_among(self, panel, numbers, tile, strip, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                avx512::nearest_among(self, panel, numbers, tile, strip, out);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// As [`Kernels::nearest_among`]; the distances mean nothing.
    pub(crate) fn codes_among(
        self,
        panel: &Panel,
        numbers: &[u32],
        tile: TileRef<'_>,
        strip: usize,
        out: &mut Nearest,
    ) {
        assert_eq!(tile.lanes.len(), panel.ds * TILE);
        assert!(strip < TILE / STRIP);
        #[cfg(target_arch = "x86_64")]
        if self.uses_integers()
            && numbers.len() >= LEAST_LISTED
            && out.crowded < PATIENCE
            && let Some(integers) = &panel.integers
        {
            if integers_avx2::codes_among(self, panel, integers, numbers, tile, strip, out) {
                out.crowded = out.crowded.saturating_sub(1);
                return;
            }
            out.crowded += 1;
        }
        self.nearest_among(panel, numbers, tile, strip, out);
    }

    /// The squared distances or dot products of `query` (ds,) and every codeword of `book`
    /// (ks, ds), into `out` (ks,).
    pub(crate) fn table(self, query: &[f32], book: &[f32], metric: Metric, out: &mut [f32]) {
        assert_eq!(book.len(), query.len() * out.len());
        match self.0 {
            InstructionSet::Scalar => scalar::table(query, book, metric, out),
            #[cfg(target_arch = "x86_64")]
            // Bound by its loads and shuffles: wider registers would not help.
            InstructionSet::Avx2 | InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                avx2::table(self, query, book, metric, out);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }

    /// Transposes `count` rows, at most [`TILE`], less `centre` (ds,), into `lanes` (ds, TILE), and
    /// writes their squared norms. Row i is `rows[place(i)..][..ds]`. What lanes past the last row
    /// hold means nothing.
    pub(crate) fn load(
        self,
        rows: &[f32],
        count: usize,
        place: impl Fn(usize) -> usize,
        centre: &[f32],
        lanes: &mut [f32],
        norms: &mut [f32; TILE],
    ) {
        assert!(count <= TILE);
        assert_eq!(lanes.len(), centre.len() * TILE);
        match self.0 {
            InstructionSet::Scalar => scalar::load(rows, count, place, centre, lanes, norms),
            #[cfg(target_arch = "x86_64")]
            // Bound by its loads and shuffles: wider registers would not help.
            InstructionSet::Avx2 | InstructionSet::Avx512 | InstructionSet::Avx512Vbmi => {
                avx2::load(self, rows, count, place, centre, lanes, norms);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Kernels::of made no such value"),
        }
    }
}

/// The instruction set of the kernels that this process uses.
///
/// # Errors
/// [`Error::KernelsUnavailable`] if `PICOPQ_KERNELS` asks for one that is not here.
pub fn instruction_set() -> Result<InstructionSet> {
    Kernels::active().map(|kernels| kernels.0)
}

/// The place among the available sets of the one that [`choose_kernels`] named.
#[cfg(fuzzing)]
static CHOSEN: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Has all later calls use an instruction set of this processor, numbered from 0, the scalar one;
/// `None` where there are fewer. For the fuzz targets, which compare the sets in one process.
#[cfg(fuzzing)]
pub fn choose_kernels(number: usize) -> Option<InstructionSet> {
    let kernels = Kernels::available().nth(number)?;
    CHOSEN.store(number, Relaxed);
    Some(kernels.0)
}

/// The codewords of one sub-space, laid out for [`Kernels::nearest`].
///
/// `weights[(chunk * ds + d) * CHUNK + j]` belongs to codeword `chunk * CHUNK + j`, taken about the
/// centre: `c_d` where distances are summed from differences, else `-2 c_d` beside `|c|^2` in
/// `norms`. Codewords past `ks` are infinitely far. [`Kernels::nearest_among`] reads the same weights
/// codeword by codeword.
pub(crate) struct Panel {
    ds: usize,
    weights: Vec<f32>,     // (chunks, ds, CHUNK)
    by_codeword: Vec<f32>, // (ks, ds)
    norms: Vec<f32>,       // (chunks, CHUNK)
    centre: Vec<f32>,      // (ds,)
    integers: Option<Integers>,
}

impl Panel {
    /// `codewords` has the shape `(ks, ds)`; tiles are loaded about the same `centre` (ds,).
    pub(crate) fn new(codewords: &[f32], centre: Vec<f32>) -> Result<Self> {
        let ds = centre.len();
        let ks = codewords.len() / ds;
        let chunks = ks.div_ceil(CHUNK);
        let differences = uses_differences(ds);
        let padding = if differences { f32::INFINITY } else { 0.0 };
        let what = "the codewords' panel";
        let mut weights = filled(size(&[chunks, ds, CHUNK], what)?, padding, what)?;
        let mut by_codeword = with_capacity(codewords.len(), what)?;
        let mut norms = filled(chunks * CHUNK, f32::INFINITY, what)?;
        for codeword in codewords.chunks_exact(ds) {
            by_codeword.extend(codeword.iter().zip(&centre).map(|(c, centre)| c - centre));
        }
        let integers = Integers::new(&by_codeword, ds)?;
        for (k, codeword) in by_codeword.chunks_exact_mut(ds).enumerate() {
            let (chunk, j) = (k / CHUNK, k % CHUNK);
            norms[k] = codeword.iter().map(|&c| f64::from(c) * f64::from(c)).sum::<f64>() as f32;
            for (d, c) in codeword.iter_mut().enumerate() {
                *c *= if differences { 1.0 } else { -2.0 };
                weights[(chunk * ds + d) * CHUNK + j] = *c;
            }
        }
        Ok(Self { ds, weights, by_codeword, norms, centre, integers })
    }

    fn differences(&self) -> bool {
        uses_differences(self.ds)
    }

    pub(crate) fn ds(&self) -> usize {
        self.ds
    }

    /// The dimension, known to the compiler unless `DS` is [`ANY`].
    #[inline]
    fn dimension<const DS: usize>(&self) -> usize {
        if DS == ANY {
            return self.ds;
        }
        assert_eq!(self.ds, DS);
        DS
    }

    /// What [`Tile::load`] subtracts from the rows.
    pub(crate) fn centre(&self) -> &[f32] {
        &self.centre
    }
}

/// Whether a distance is a sum of squared differences; else |c|^2 - 2 x.c + |x|^2.
const fn uses_differences(ds: usize) -> bool {
    ds <= MAX_DIFFERENCE_DIM
}

/// Rows that [`centre`] looks at.
const CENTRE_ROWS: usize = 1024;

/// A point in the middle of the sub-space `columns` of `rows` (n, dim), for the expanded distance
/// to work about: each column's mean over some of the rows, rounded to about a sixteenth of the
/// column's spread. A number of few bits keeps x - centre exact for integers and other coarse data:
/// their ties stay ties.
pub(crate) fn centre(rows: &[f32], dim: usize, columns: Range<usize>) -> Result<Vec<f32>> {
    let n = rows.len() / dim;
    if uses_differences(columns.len()) || n == 0 {
        return filled(columns.len(), 0.0, "the centre");
    }
    let of_column = |column: usize| {
        let values = rows[column..].iter().step_by(dim * n.div_ceil(CENTRE_ROWS));
        let (mut sum, mut count) = (0.0, 0.0);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.map(|&value| f64::from(value)) {
            (sum, count) = (sum + value, count + 1.0);
            (least, most) = (least.min(value), most.max(value));
        }
        if least == most {
            return least as f32;
        }
        let grain = ((most - least).log2().floor() - 4.0).exp2();
        ((sum / count / grain).round() * grain) as f32
    };
    collected(columns.clone().map(of_column), columns.len(), "the centre")
}

/// 48 rows of one sub-space, centred and transposed: `lanes[d * TILE + row]`.
#[derive(Clone, Copy)]
pub(crate) struct TileRef<'a> {
    pub(crate) lanes: &'a [f32],       // (ds, TILE)
    pub(crate) norms: &'a [f32; TILE], // |x|^2 of each row
    /// What is read next: the processor fetches it meanwhile.
    pub(crate) ahead: &'a [f32],
}

/// A tile that owns its memory, for rows that are read once.
pub(crate) struct Tile {
    lanes: Vec<f32>, // (ds, TILE)
    norms: [f32; TILE],
}

impl Tile {
    pub(crate) fn new(ds: usize) -> Result<Self> {
        Ok(Self { lanes: filled(ds * TILE, 0.0, "a tile")?, norms: [0.0; TILE] })
    }

    /// Takes up to 48 rows: row i is `rows[i * stride..][..ds]`, less `centre`.
    pub(crate) fn load(&mut self, kernels: Kernels, rows: &[f32], stride: usize, centre: &[f32]) {
        let count = rows.len().div_ceil(stride).min(TILE);
        let place = |row: usize| row * stride;
        kernels.load(rows, count, place, centre, &mut self.lanes, &mut self.norms);
    }

    /// Whether no row is longer, by the square of its length. Lanes past the last row may deny it.
    pub(crate) fn is_within(&self, square: f32) -> bool {
        self.norms.iter().fold(true, |all, &norm| all & (norm <= square))
    }

    pub(crate) fn view<'a>(&'a self, ahead: &'a [f32]) -> TileRef<'a> {
        TileRef { lanes: &self.lanes, norms: &self.norms, ahead }
    }
}

/// The answer of [`Kernels::nearest`] for one tile.
pub(crate) struct Nearest {
    pub(crate) codes: [u32; TILE],
    pub(crate) distances: [f32; TILE],
    space: Space,
    /// Tiles and strips of which integers left many codewords to measure.
    crowded: u32,
}

impl Nearest {
    pub(crate) fn new() -> Self {
        Self { codes: [0; TILE], distances: [0.0; TILE], space: Space::new(), crowded: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_level_is_refused_by_name() {
        let error = Kernels::choose(Some("mmx".into())).unwrap_err();
        assert!(matches!(error, Error::KernelsUnavailable { requested, .. } if requested == "mmx"));
        let scalar = Kernels::choose(Some("scalar".into())).unwrap();
        assert_eq!(scalar.0, InstructionSet::Scalar);
    }
}
