//! Sixteen groups of codewords in each sub-space: what a 16-entry register can look up.
//!
//! The least entry of a group bounds those of its codewords from below (the minimum tables of
//! Andre, Kermarrec, Le Scouarnec: "Cache locality is not enough", VLDB 2015); codewords that are
//! near to each other share a group, so that the bound is close.

use crate::error::{Result, copied, filled, with_capacity};
use crate::kernels::{BYTE, NIBBLES};
use crate::pq::Codebook;
use crate::random::LegacyRandom;
use crate::threads::{self, Task};

/// How often every codeword is looked at, at most, for a group that suits it better.
const ROUNDS: usize = 6;
/// Neighbours that tell how close codewords lie to each other.
const NEIGHBOURS: usize = 3;
/// Neighbours whose groups a codeword may join.
const NEAR: usize = 8;

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
            group(book.sub_space(m), book.ds(), &mut groups)?;
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

/// Writes the group of each codeword, shape `(ks, ds)`.
///
/// To a query, a codeword looks as near as the nearest of its group. What looks near is not excluded,
/// so with queries q where the codewords are,
///
/// ```text
/// sum over q and c of weight(c) * max over c' in the group of c of exp(-|q - c'|^2 / mean)
/// ```
///
/// is made small: codewords move, one at a time, to the group where it is least. Those that lie close
/// together stand for the dense parts of the data and are met more often, so a codeword weighs the
/// inverse of its distance to those around it.
fn group(codewords: &[f32], ds: usize, groups: &mut [u8; BYTE]) -> Result<()> {
    let (ks, what) = (codewords.len() / ds, "the distances of codewords");
    let mut distances = with_capacity(ks * ks, what)?;
    for a in codewords.chunks_exact(ds) {
        distances.extend(codewords.chunks_exact(ds).map(|b| squared(a, b)));
    }
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let mean = mean.max(f64::MIN_POSITIVE);
    let mut weights = [0.0; BYTE];
    let mut neighbours = filled(ks, [0; NEAR + 1], what)?;
    // The matrix is symmetric: a row has how near each query sees one codeword.
    let mut seen: Vec<Seen> = filled(ks, [0.0; BYTE], what)?;
    for (c, distances) in distances.chunks_exact(ks).enumerate() {
        let mut order: [usize; BYTE] = std::array::from_fn(|c| c);
        let nearer = |a: &usize, b: &usize| distances[*a].total_cmp(&distances[*b]);
        order[..ks].select_nth_unstable_by(NEAR, nearer);
        order[..=NEAR].sort_unstable_by(nearer);
        neighbours[c].copy_from_slice(&order[..=NEAR]);
        let around: f64 = order[..=NEIGHBOURS].iter().map(|&c| distances[c]).sum();
        // Of codewords that coincide, no weight would be too much.
        weights[c] = (mean / around.max(1e-6 * mean)).sqrt() as f32;
        for (seen, distance) in seen[c].iter_mut().zip(distances) {
            *seen = ((-distance / mean) as f32).exp();
        }
    }

    start(&distances, ks, groups)?;
    let mut seen_of_groups = [[0.0; BYTE]; NIBBLES];
    let mut weight_of_groups = [0.0; NIBBLES];
    for ((seen, weight), &group) in seen.iter().zip(&weights).zip(&*groups) {
        raise(&mut seen_of_groups[usize::from(group)], seen);
        weight_of_groups[usize::from(group)] += weight;
    }
    for _ in 0..ROUNDS {
        let mut moved = false;
        for c in 0..ks {
            let from = usize::from(groups[c]);
            // Its group without it.
            seen_of_groups[from] = [0.0; BYTE];
            for (other, seen) in seen.iter().enumerate() {
                if other != c && usize::from(groups[other]) == from {
                    raise(&mut seen_of_groups[from], seen);
                }
            }
            weight_of_groups[from] -= weights[c];
            let more = |group: usize| {
                let [before, after] = totals(&seen_of_groups[group], &seen[c]);
                let weight = weight_of_groups[group];
                (weight + weights[c]) * after - weight * before
            };
            // Groups far away are not looked at.
            let (mut to, mut least) = (from, more(from));
            let mut met = 1_u32 << from;
            for &neighbour in &neighbours[c] {
                let group = usize::from(groups[neighbour]);
                if met >> group & 1 == 0 {
                    met |= 1 << group;
                    let more = more(group);
                    if more < least {
                        (to, least) = (group, more);
                    }
                }
            }
            groups[c] = to as u8;
            raise(&mut seen_of_groups[to], &seen[c]);
            weight_of_groups[to] += weights[c];
            moved |= to != from;
        }
        if !moved {
            break;
        }
    }
    Ok(())
}

/// How near each query sees something.
type Seen = [f32; BYTE];

/// As `f32::max` of numbers, in one instruction.
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// A group is seen at least as near as its codeword.
fn raise(group: &mut Seen, codeword: &Seen) {
    group
        .iter_mut()
        .zip(codeword)
        .for_each(|(group, codeword)| *group = greater(*group, *codeword));
}

/// The sums over all queries before and after [`raise`].
fn totals(group: &Seen, codeword: &Seen) -> [f32; 2] {
    const LANES: usize = 8; // sums that a processor adds side by side
    let mut totals = [[0.0; LANES]; 2];
    for (group, codeword) in
        group.as_chunks::<LANES>().0.iter().zip(codeword.as_chunks::<LANES>().0)
    {
        for lane in 0..LANES {
            totals[0][lane] += group[lane];
            totals[1][lane] += greater(group[lane], codeword[lane]);
        }
    }
    totals.map(|lanes| lanes.iter().sum())
}

/// Sixteen codewords, drawn one after another by the squared distance to those before (Arthur &
/// Vassilvitskii 2007); every codeword begins in the group of the nearest.
fn start(distances: &[f64], ks: usize, groups: &mut [u8; BYTE]) -> Result<()> {
    let mut random = LegacyRandom::new(0);
    let row = |c: usize| &distances[c * ks..][..ks];
    let mut drawn = random.up_to(ks as u64 - 1) as usize;
    let mut nearest = copied(row(drawn), "the distances of codewords")?;
    for group in 1..NIBBLES as u8 {
        let mut rest = random.uniform() * nearest.iter().sum::<f64>();
        let next = nearest.iter().position(|share| {
            rest -= share;
            rest < 0.0
        });
        drawn = next.unwrap_or(0);
        for ((nearest, &distance), of) in nearest.iter_mut().zip(row(drawn)).zip(&mut *groups) {
            if distance < *nearest {
                (*nearest, *of) = (distance, group);
            }
        }
    }
    Ok(())
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a - b) * f64::from(a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteen heaps of codewords are the groups, whatever the order of the codewords.
    #[test]
    fn heaps_are_groups() {
        for (ks, ds) in [(17, 1), (48, 4), (255, 8), (256, 5)] {
            let mut random = LegacyRandom::new(5);
            let heap = |c: usize| c * 7 % NIBBLES;
            // Corners of a cube, or places on a line.
            let corner = |heap: usize, d: usize| if ds == 1 { heap } else { heap >> (d % 4) & 1 };
            let codewords: Vec<f32> = (0..ks * ds)
                .map(|at| 100.0 * corner(heap(at / ds), at % ds) as f32 + random.normal() as f32)
                .collect();
            let mut groups = [0; BYTE];
            group(&codewords, ds, &mut groups).unwrap();
            for a in 0..ks {
                for b in 0..ks {
                    let together = groups[a] == groups[b];
                    assert_eq!(together, heap(a) == heap(b), "ks {ks} ds {ds} of {a} and {b}");
                }
            }
        }
    }

    #[test]
    fn awkward_codewords_are_grouped() {
        for values in [[0.0, 0.0], [1e18, -1e18], [1e-30, 2e-30], [f32::MIN_POSITIVE, 1e18]] {
            let codewords = values.repeat(100);
            let mut groups = [0; BYTE];
            group(&codewords, 1, &mut groups).unwrap();
            assert!(groups.iter().all(|&group| usize::from(group) < NIBBLES));
        }
    }
}
