//! Every instruction set against the scalar reference, over one table of awkward sizes.

use super::*;
use crate::random::LegacyRandom;

/// (ds, ks): both forms of the distance, sizes on either side of the chunk and of the registers.
const SHAPES: [(usize, usize); 14] = [
    (1, 1),    // the smallest
    (1, 300),  // more codewords than a byte names
    (2, 7),    // one short of a chunk
    (3, 8),    // exactly a chunk
    (4, 9),    // one over a chunk; the widest difference sum
    (4, 256),  // the usual one
    (5, 3),    // the narrowest expanded form
    (7, 255),  // padding in the last chunk
    (8, 256),  // the usual one
    (13, 17),  // odd
    (16, 256), // the usual one
    (24, 16),  // 4-bit codes
    (32, 64),  // wide
    (129, 31), // wider than a tile
];

fn normals(random: &mut LegacyRandom, len: usize) -> Vec<f32> {
    (0..len).map(|_| random.normal() as f32).collect()
}

fn run(kernels: Kernels, rows: &[f32], codewords: &[f32], ds: usize) -> Nearest {
    let panel = Panel::new(codewords, centre(codewords, ds, 0..ds).unwrap()).unwrap();
    let mut tile = Tile::new(ds).unwrap();
    tile.load(kernels, rows, ds, panel.centre());
    let mut found = Nearest::new();
    kernels.nearest(&panel, tile.view(&[]), &mut found);
    found
}

fn exact_distance(x: &[f32], c: &[f32]) -> f64 {
    x.iter().zip(c).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum()
}

/// Where every operation is exact, all sets give the same bits, ties included.
#[test]
fn small_integers_give_the_same_bits() {
    let mut random = LegacyRandom::new(1);
    for (ds, ks) in SHAPES {
        let mut integers = |len| (0..len).map(|_| random.up_to(4) as f32).collect::<Vec<f32>>();
        let (rows, codewords) = (integers(TILE * ds), integers(ks * ds));
        let reference = run(Kernels(InstructionSet::Scalar), &rows, &codewords, ds);
        for (row, x) in rows.chunks_exact(ds).enumerate() {
            let distances = codewords.chunks_exact(ds).map(|c| exact_distance(x, c));
            let (code, least) = distances
                .enumerate()
                .fold((0, f64::INFINITY), |best, next| if next.1 < best.1 { next } else { best });
            assert_eq!(reference.codes[row], code as u32, "ds {ds} ks {ks} row {row}");
            assert_eq!(f64::from(reference.distances[row]), least);
        }
        for kernels in Kernels::available() {
            let found = run(kernels, &rows, &codewords, ds);
            assert_eq!(found.codes, reference.codes, "{kernels:?} ds {ds} ks {ks}");
            assert_eq!(found.distances, reference.distances, "{kernels:?} ds {ds} ks {ks}");
        }
    }
}

/// On real numbers the chosen codeword is the exact nearest, or as near to rounding.
#[test]
fn the_chosen_codeword_is_nearest_to_rounding() {
    let mut random = LegacyRandom::new(2);
    for (ds, ks) in SHAPES {
        let (rows, codewords) = (normals(&mut random, TILE * ds), normals(&mut random, ks * ds));
        for kernels in Kernels::available() {
            let found = run(kernels, &rows, &codewords, ds);
            for (row, x) in rows.chunks_exact(ds).enumerate() {
                let least = codewords
                    .chunks_exact(ds)
                    .map(|c| exact_distance(x, c))
                    .fold(f64::INFINITY, f64::min);
                let code = found.codes[row] as usize;
                let chosen = exact_distance(x, &codewords[code * ds..][..ds]);
                let scale = if ds <= MAX_DIFFERENCE_DIM {
                    least
                } else {
                    least + x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>()
                };
                let tolerance = 1e-6 * scale;
                assert!(chosen - least <= tolerance, "{kernels:?} ds {ds} ks {ks} row {row}");
                assert!((f64::from(found.distances[row]) - least).abs() <= tolerance);
            }
        }
    }
}

/// A list of codewords leads to what a panel of them alone leads to, bit for bit.
#[test]
fn lists_of_codewords_are_searched_alike() {
    let mut random = LegacyRandom::new(6);
    for (ds, ks) in SHAPES {
        let real = (normals(&mut random, TILE * ds), normals(&mut random, ks * ds));
        let mut integers = |len| (0..len).map(|_| random.up_to(4) as f32).collect::<Vec<f32>>();
        let coarse = (integers(TILE * ds), integers(ks * ds));
        for (rows, codewords) in [real, coarse] {
            let middle = centre(&codewords, ds, 0..ds).unwrap();
            let panel = Panel::new(&codewords, middle.clone()).unwrap();
            for step in [1, 2, 3, 7, 100] {
                let numbers: Vec<u32> = (0..ks as u32).step_by(step).collect();
                let chosen: Vec<f32> =
                    codewords.chunks_exact(ds).step_by(step).flatten().copied().collect();
                let few = Panel::new(&chosen, middle.clone()).unwrap();
                for kernels in Kernels::available() {
                    let mut tile = Tile::new(ds).unwrap();
                    tile.load(kernels, &rows, ds, &middle);
                    let (mut wanted, mut found) = (Nearest::new(), Nearest::new());
                    kernels.nearest(&few, tile.view(&[]), &mut wanted);
                    for strip in 0..TILE / STRIP {
                        kernels.nearest_among(&panel, &numbers, tile.view(&[]), strip, &mut found);
                    }
                    let codes = wanted.codes.map(|code| numbers[code as usize]);
                    assert_eq!(found.codes, codes, "{kernels:?} ds {ds} ks {ks} step {step}");
                    assert_eq!(found.distances, wanted.distances);
                    for strip in 0..TILE / STRIP {
                        kernels.codes_among(&panel, &numbers, tile.view(&[]), strip, &mut found);
                    }
                    assert_eq!(found.codes, codes, "{kernels:?} ds {ds} ks {ks} step {step}");
                }
            }
        }
    }
}

/// Integers only leave out what is not the nearest: with them and without, the answers are the same
/// bit for bit, for rows near to two codewords alike, far from all, or of any size.
#[test]
fn integers_lead_to_what_f32_leads_to() {
    let mut random = LegacyRandom::new(7);
    for (ds, ks) in [(1, 64), (2, 300), (3, 100), (4, 256), (7, 255), (8, 256), (16, 256), (64, 65)]
    {
        let codewords = normals(&mut random, ks * ds);
        let halfway = |random: &mut LegacyRandom, by: f32| -> Vec<f32> {
            let mut rows = Vec::new();
            for _ in 0..TILE {
                let mut codeword = || &codewords[random.up_to(ks as u64 - 1) as usize * ds..][..ds];
                let (a, b) = (codeword(), codeword());
                rows.extend(a.iter().zip(b).map(|(a, b)| (a + b) / 2.0 * (1.0 + by)));
            }
            rows
        };
        let times = |values: &[f32], by: f32| values.iter().map(|x| x * by).collect::<Vec<f32>>();
        let plus = |values: &[f32], by: f32| values.iter().map(|x| x + by).collect::<Vec<f32>>();
        let grid = |values: &[f32]| values.iter().map(|x| x.round()).collect::<Vec<f32>>();
        let rows = normals(&mut random, TILE * ds);
        let (between, nearly) = (halfway(&mut random, 0.0), halfway(&mut random, 1e-7));
        let mut outlier = codewords.clone();
        outlier[ds - 1] = 1e6;
        // Two far clusters, whose members are as near as what f32 takes from their distance to a row.
        let clusters: Vec<f32> = (0..ks * ds)
            .map(|i| if i / ds % 2 == 0 { 1.0 } else { -1.0 } + 3e-4 * random.normal() as f32)
            .collect();
        let cases = [
            (rows.clone(), codewords.clone()),
            (between.clone(), codewords.clone()),
            (nearly, codewords.clone()),
            (grid(&times(&rows, 2.0)), grid(&times(&codewords, 2.0))),
            (times(&rows, 1.5), codewords.clone()),
            (times(&rows, 3.0), codewords.clone()),
            (times(&rows, 1e3), codewords.clone()),
            (clusters.clone(), clusters),
            (times(&rows, 1e-12), times(&codewords, 1e-12)),
            (times(&rows, 1e-30), times(&codewords, 1e-30)),
            (times(&rows, 1e15), times(&codewords, 1e15)),
            (plus(&rows, 1e3), plus(&codewords, 1e3)),
            (rows, outlier),
            (between, vec![0.5; ks * ds]),
        ];
        for (case, (rows, codewords)) in cases.iter().enumerate() {
            let panel = Panel::new(codewords, centre(codewords, ds, 0..ds).unwrap()).unwrap();
            for kernels in Kernels::available() {
                let mut tile = Tile::new(ds).unwrap();
                tile.load(kernels, rows, ds, panel.centre());
                let [mut plain, mut found, mut codes] = [(); 3].map(|()| Nearest::new());
                plain.crowded = PATIENCE;
                kernels.nearest(&panel, tile.view(&[]), &mut plain);
                kernels.nearest(&panel, tile.view(&[]), &mut found);
                kernels.codes(&panel, tile.view(&[]), &mut codes);
                assert_eq!(found.codes, plain.codes, "{kernels:?} ds {ds} ks {ks} case {case}");
                assert_eq!(found.distances, plain.distances, "{kernels:?} ds {ds} case {case}");
                assert_eq!(codes.codes, plain.codes, "{kernels:?} ds {ds} ks {ks} case {case}");
            }
        }
    }
}

/// Integers say nothing where all codewords are nearly the same, and are given up.
#[test]
fn crowded_tiles_are_left_to_f32() {
    let mut random = LegacyRandom::new(8);
    let mut codewords = normals(&mut random, 256 * 16);
    codewords.iter_mut().for_each(|c| *c = 1e3 + *c / 1e3);
    codewords[0] = 1e4;
    let panel = Panel::new(&codewords, vec![0.0; 16]).unwrap();
    for kernels in Kernels::available().filter(|kernels| kernels.uses_integers()) {
        let mut tile = Tile::new(16).unwrap();
        tile.load(kernels, &codewords[16..], 16, panel.centre());
        let mut found = Nearest::new();
        for tries in 1..=2 * PATIENCE {
            kernels.nearest(&panel, tile.view(&[]), &mut found);
            assert_eq!(found.crowded, tries.min(PATIENCE), "{kernels:?}");
        }
        let numbers: Vec<u32> = (0..256).collect();
        let mut found = Nearest::new();
        for tries in 1..=2 * PATIENCE {
            kernels.codes_among(&panel, &numbers, tile.view(&[]), 0, &mut found);
            assert_eq!(found.crowded, tries.min(PATIENCE), "{kernels:?}");
        }
        // Rows on codewords that are far from each other.
        let codewords = normals(&mut random, 256 * 16);
        let panel = Panel::new(&codewords, vec![0.0; 16]).unwrap();
        tile.load(kernels, &codewords, 16, panel.centre());
        for left in [1, 0, 0] {
            found.crowded = found.crowded.min(2);
            kernels.codes_among(&panel, &numbers, tile.view(&[]), 0, &mut found);
            assert_eq!(found.crowded, left, "{kernels:?}");
        }
    }
}

/// A large common offset is centred away and costs no accuracy.
#[test]
fn an_offset_does_not_blur_the_distances() {
    let mut random = LegacyRandom::new(3);
    let shift = |value: &f32| value + 4096.0;
    let (rows, codewords) = (normals(&mut random, TILE * 16), normals(&mut random, 256 * 16));
    let rows: Vec<f32> = rows.iter().map(shift).collect();
    let codewords: Vec<f32> = codewords.iter().map(shift).collect();
    for kernels in Kernels::available() {
        let found = run(kernels, &rows, &codewords, 16);
        for (row, x) in rows.chunks_exact(16).enumerate() {
            let code = found.codes[row] as usize;
            let chosen = exact_distance(x, &codewords[code * 16..][..16]);
            let distances = codewords.chunks_exact(16).map(|c| exact_distance(x, c));
            assert!(chosen <= distances.fold(f64::INFINITY, f64::min) * (1.0 + 1e-6));
        }
    }
}

/// A tile is the same in every set: any number of rows, wherever the columns lie in them.
#[test]
fn tiles_are_the_same() {
    let mut random = LegacyRandom::new(4);
    for (ds, before, after) in [(1, 0, 0), (3, 2, 0), (4, 0, 5), (7, 1, 1), (8, 3, 0), (130, 1, 0)]
    {
        let (stride, middle) = (before + ds + after, normals(&mut random, ds));
        for n in [1, 7, 8, 9, 47, 48, 50] {
            let data = normals(&mut random, n * stride);
            let load = |kernels: Kernels| {
                let (mut lanes, mut norms) = (vec![0.0; ds * TILE], [0.0; TILE]);
                let (count, place) = (n.min(TILE), |row| row * stride);
                kernels.load(&data[before..], count, place, &middle, &mut lanes, &mut norms);
                (lanes, norms)
            };
            let reference = load(Kernels(InstructionSet::Scalar));
            for row in 0..n.min(TILE) {
                let wanted = data[row * stride + before] - middle[0];
                assert_eq!(reference.0[row], wanted);
            }
            for kernels in Kernels::available() {
                let (lanes, norms) = load(kernels);
                for row in 0..n.min(TILE) {
                    let of_row = |lanes: &[f32]| -> Vec<f32> {
                        lanes.iter().skip(row).step_by(TILE).copied().collect()
                    };
                    assert_eq!(of_row(&lanes), of_row(&reference.0), "{kernels:?} ds {ds} n {n}");
                    assert!((norms[row] - reference.1[row]).abs() <= 1e-5 * reference.1[row]);
                }
            }
        }
    }
}

/// Tables agree to rounding, for any number of codewords.
#[test]
fn tables_are_the_same() {
    let mut random = LegacyRandom::new(5);
    for (ds, ks) in SHAPES {
        let (query, book) = (normals(&mut random, ds), normals(&mut random, ks * ds));
        for metric in [Metric::L2, Metric::Dot] {
            let table = |kernels: Kernels| {
                let mut out = vec![f32::NAN; ks];
                kernels.table(&query, &book, metric, &mut out);
                out
            };
            for kernels in Kernels::available() {
                for (got, c) in table(kernels).into_iter().zip(book.chunks_exact(ds)) {
                    let terms = query.iter().zip(c).map(|(&q, &c)| (f64::from(q), f64::from(c)));
                    let (wanted, size) = match metric {
                        Metric::L2 => (exact_distance(&query, c), exact_distance(&query, c)),
                        Metric::Dot => terms.fold((0.0, 0.0), |(sum, size), (q, c)| {
                            (sum + q * c, size + (q * c).abs())
                        }),
                    };
                    let error = (f64::from(got) - wanted).abs();
                    assert!(error <= 1e-5 * size, "{kernels:?} {metric:?} ds {ds} ks {ks}");
                }
            }
        }
    }
}
