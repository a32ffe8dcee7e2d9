//! The reference kernels: plain Rust, read first, and the judge of every faster version.
//!
//! ```text
//! for each row x of the tile:
//!     best = infinity
//!     for k in 0..ks:
//!         d = sum (x - c_k)^2           or, above four dimensions,
//!         d = max(0, |c_k|^2 + |x|^2 - 2 x.c_k)
//!         if d < best: best = d, code = k        (strict: ties stay with the lowest index)
//! ```

use std::ops::Range;

use super::{Metric, Nearest, Panel, STRIP, TILE, TileRef};

pub(super) fn nearest(panel: &Panel, tile: TileRef<'_>, out: &mut Nearest) {
    among(panel, 0..panel.by_codeword.len() / panel.ds, tile, 0..TILE, out);
}

pub(super) fn nearest_among(
    panel: &Panel,
    numbers: &[u32],
    tile: TileRef<'_>,
    strip: usize,
    out: &mut Nearest,
) {
    let rows = strip * STRIP..(strip + 1) * STRIP;
    among(panel, numbers.iter().map(|&k| k as usize), tile, rows, out);
}

fn among(
    panel: &Panel,
    numbers: impl Iterator<Item = usize>,
    tile: TileRef<'_>,
    rows: Range<usize>,
    out: &mut Nearest,
) {
    out.codes[rows.clone()].fill(0);
    out.distances[rows.clone()].fill(f32::INFINITY);
    for k in numbers {
        let distances = measure(panel, k, tile);
        for lane in rows.clone() {
            if distances[lane] < out.distances[lane] {
                out.distances[lane] = distances[lane];
                out.codes[lane] = k as u32;
            }
        }
    }
}

/// The squared distances of the tile's rows to codeword `k`.
fn measure(panel: &Panel, k: usize, tile: TileRef<'_>) -> [f32; TILE] {
    let mut sums = [0.0_f32; TILE];
    let columns = tile.lanes.chunks_exact(TILE).zip(&panel.by_codeword[k * panel.ds..]);
    if panel.differences() {
        for (x, &c) in columns {
            for lane in 0..TILE {
                let difference = x[lane] - c;
                sums[lane] += difference * difference;
            }
        }
    } else {
        for lane in 0..TILE {
            sums[lane] = panel.norms[k] + tile.norms[lane];
        }
        for (x, &weight) in columns {
            for lane in 0..TILE {
                sums[lane] += x[lane] * weight;
            }
        }
    }
    sums.map(|sum| sum.max(0.0))
}

/// See [`super::Kernels::load`].
pub(super) fn load(
    rows: &[f32],
    count: usize,
    place: impl Fn(usize) -> usize,
    centre: &[f32],    // (ds,)
    lanes: &mut [f32], // (ds, TILE)
    norms: &mut [f32; TILE],
) {
    for row in 0..count {
        let mut norm = 0.0;
        for (d, (&value, &centre)) in rows[place(row)..].iter().zip(centre).enumerate() {
            let centred = value - centre;
            lanes[d * TILE + row] = centred;
            norm += centred * centred;
        }
        norms[row] = norm;
    }
}

/// The distances or dot products of `query` (ds,) and every codeword of `book` (ks, ds).
pub(super) fn table(query: &[f32], book: &[f32], metric: Metric, out: &mut [f32]) {
    for (out, codeword) in out.iter_mut().zip(book.chunks_exact(query.len())) {
        let pairs = query.iter().zip(codeword);
        *out = match metric {
            Metric::L2 => pairs.map(|(q, c)| (q - c) * (q - c)).sum(),
            Metric::Dot => pairs.map(|(q, c)| q * c).sum(),
        };
    }
}
