//! Sixteen groups of codewords in each sub-space: what a 16-entry register can look up.
//!
//! The least entry of a group bounds those of its codewords from below (the minimum tables of
//! Andre, Kermarrec, Le Scouarnec: "Cache locality is not enough", VLDB 2015); codewords that are
//! near to each other share a group, so that the bound is close.

use crate::error::{Result, filled};
use crate::kernels::{BYTE, NIBBLES};
use crate::pq::Codebook;
use crate::random::LegacyRandom;
use crate::threads::{self, Task};

/// Starts of the grouping of a sub-space, of which the best is kept, and steps from each.
const STARTS: u32 = 3;
const STEPS: usize = 12;
/// Neighbours that tell how close codewords lie to each other.
const NEIGHBOURS: usize = 4;

pub(crate) struct Groups {
    of: Vec<[u8; BYTE]>, // (m,): the group of each code
    ks: usize,
}

impl Groups {
    /// Groups the codewords of every sub-space, 17 to 256 in each.
    pub(crate) fn new(book: Codebook<'_>) -> Result<Self> {
        let sub_spaces = (0..book.m()).collect();
        let of = threads::map(&Task::new(), sub_spaces, |m| {
            let mut groups = [0; BYTE];
            group(book.sub_space(m), book.ds(), &mut groups);
            Ok(groups)
        })?;
        Ok(Self { of, ks: book.ks() })
    }

    /// The group of each code of a row.
    pub(crate) fn of(&self, m: usize, code: u8) -> u8 {
        self.of[m][usize::from(code)]
    }

    /// The least key of each group, shape `(m, 16)`; `keys` has the shape `(m, ks)`. A group
    /// without codewords is infinitely far.
    pub(crate) fn minima(&self, keys: &[f32]) -> Result<Vec<f32>> {
        let mut minima = filled(self.of.len() * NIBBLES, f32::INFINITY, "the minimum tables")?;
        let sub_spaces = minima.chunks_exact_mut(NIBBLES).zip(keys.chunks_exact(self.ks));
        for ((minima, keys), groups) in sub_spaces.zip(&self.of) {
            for (&key, &group) in keys.iter().zip(groups) {
                let least = &mut minima[usize::from(group)];
                *least = least.min(key);
            }
        }
        Ok(minima)
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.of)
    }
}

/// Writes the group of each codeword, shape `(ks, ds)`: weighted k-means into 16. Codewords that
/// lie close together stand for the dense parts of the data, where most codes and queries are, so
/// a codeword weighs the inverse square of its distance to those around it.
fn group(codewords: &[f32], ds: usize, groups: &mut [u8; BYTE]) {
    let rows: Vec<&[f32]> = codewords.chunks_exact(ds).collect();
    let weights: Vec<f64> = rows
        .iter()
        .map(|row| {
            let mut around: Vec<f64> = rows.iter().map(|other| squared(row, other)).collect();
            let (near, _, _) = around.select_nth_unstable_by(NEIGHBOURS, f64::total_cmp);
            1.0 / near.iter().sum::<f64>().max(f64::MIN_POSITIVE)
        })
        .collect();
    let mut least = f64::INFINITY;
    for seed in 0..STARTS {
        let mut centres = start(&rows, &weights, seed);
        let mut labels = [0_u8; BYTE];
        let mut error = 0.0;
        for _ in 0..STEPS {
            error = 0.0;
            for ((row, label), weight) in rows.iter().zip(&mut labels).zip(&weights) {
                let (nearest, distance) = nearest(row, &centres);
                *label = nearest as u8;
                error += weight * distance;
            }
            for (group, centre) in centres.iter_mut().enumerate() {
                let members = labels.iter().zip(&rows).zip(&weights);
                let members = members.filter(|((label, _), _)| usize::from(**label) == group);
                let (mut sum, mut total) = (vec![0.0; ds], 0.0);
                for ((_, row), weight) in members {
                    sum.iter_mut().zip(*row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
                    total += weight;
                }
                if total > 0.0 && total.is_finite() {
                    centre.iter_mut().zip(sum).for_each(|(c, sum)| *c = (sum / total) as f32);
                }
            }
        }
        if error < least || seed == 0 {
            (least, *groups) = (error, labels);
        }
    }
}

/// Sixteen codewords, drawn one after another with the weighted squared distance to those before
/// (Arthur & Vassilvitskii 2007).
fn start(rows: &[&[f32]], weights: &[f64], seed: u32) -> Vec<Vec<f32>> {
    let mut random = LegacyRandom::new(seed);
    let mut centres = vec![rows[random.up_to(rows.len() as u64 - 1) as usize].to_vec()];
    while centres.len() < NIBBLES {
        let shares: Vec<f64> = rows
            .iter()
            .zip(weights)
            .map(|(row, weight)| weight * nearest(row, &centres).1)
            .collect();
        let mut rest = random.uniform() * shares.iter().sum::<f64>();
        let drawn = shares.iter().position(|share| {
            rest -= share;
            rest < 0.0
        });
        centres.push(rows[drawn.unwrap_or(0)].to_vec());
    }
    centres
}

/// The nearest centre, ties to the lowest, and its squared distance.
fn nearest(row: &[f32], centres: &[Vec<f32>]) -> (usize, f64) {
    let distances = centres.iter().map(|centre| squared(row, centre));
    distances
        .enumerate()
        .fold((0, f64::INFINITY), |best, next| if next.1 < best.1 { next } else { best })
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a - b) * f64::from(a - b)).sum()
}
