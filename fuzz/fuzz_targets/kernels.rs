//! The kernels of every instruction set against the scalar ones and f64, as docs/numerics.md bounds
//! them: codes and distance tables of any small shape.
#![no_main]

use picopq::{Codes, InstructionSet, Metric, Pq, Vectors};

mod input;

/// Unit roundoff of f32, and its least subnormal.
const U: f64 = 1.0 / (1 << 24) as f64;
const TINY: f64 = 1.401_298_464_324_817e-45;

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

/// What the distance of `x` to any of the codewords (ks, ds) may be wrong by.
fn bound(x: &[f32], codewords: &[f32], least: f64) -> f64 {
    let ds = x.len();
    if ds <= 4 {
        return (ds as f64 + 4.0) * U * least + ds as f64 * TINY;
    }
    // The centre lies among the codewords.
    let (mut from_x, mut from_codeword) = (0.0, 0.0);
    for (column, &x) in x.iter().enumerate() {
        let values = || codewords[column..].iter().step_by(ds).map(|&value| f64::from(value));
        let (least, most) =
            (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        from_x += (f64::from(x) - least).abs().max((f64::from(x) - most).abs()).powi(2);
        from_codeword += (most - least).powi(2);
    }
    let span = from_x.sqrt() + from_codeword.sqrt();
    (2.0 * ds as f64 + 8.0) * U * span * span + 4.0 * ds as f64 * TINY
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = input::Bytes(bytes);
    let integers = input.next() % 2 == 0;
    let (m, ds) = (1 + input.below(4), 1 + input.below(40));
    let (ks, n) = (1 + input.below(300), input.below(100));
    let mut random = input.random();
    let pool: Vec<f32> = (0..32)
        .map(|_| if integers { f32::from(input.next() as i8 % 9) } else { input.float() })
        .collect();
    let mut values = |len: usize| -> Vec<f32> {
        let mut value = || pool[random.below(pool.len())];
        (0..len).map(|_| if integers { value() } else { value() + value() / 64.0 }).collect()
    };
    let (codewords, rows) = (values(m * ks * ds), values(n * m * ds));
    // What the distance of each sub-vector to its codeword may be.
    let within: Vec<f64> = rows
        .chunks_exact(ds)
        .enumerate()
        .map(|(at, x)| {
            let book = &codewords[at % m * ks * ds..][..ks * ds];
            let distances = book.chunks_exact(ds).map(|codeword| squared(x, codeword));
            let least = distances.fold(f64::INFINITY, f64::min);
            if integers { least } else { least + 2.0 * bound(x, book, least) }
        })
        .collect();
    let sets: Vec<InstructionSet> = (0..).map_while(picopq::choose_kernels).collect();
    let mut reference: Option<Codes<'_>> = None;
    for number in 0..sets.len() {
        let set = picopq::choose_kernels(number).unwrap();
        let pq = Pq::from_codewords(codewords.clone(), m, ks, ds, Metric::L2).unwrap();
        let codes = pq.encode(Vectors::new(&rows, m * ds).unwrap()).unwrap();
        let decoded = pq.decode(&codes).unwrap();
        let chosen = rows.chunks_exact(ds).zip(decoded.chunks_exact(ds));
        for (at, ((x, codeword), &most)) in chosen.zip(&within).enumerate() {
            assert!(squared(x, codeword) <= most, "{set:?}: sub-vector {at}");
        }
        // Where every operation is exact, ties are ties in every set.
        if integers {
            assert_eq!(&codes, reference.get_or_insert_with(|| codes.clone()), "{set:?}");
        }
        let Some(query) = rows.chunks_exact(m * ds).next() else { continue };
        for metric in [Metric::L2, Metric::Dot] {
            let pq = Pq::from_codewords(codewords.clone(), m, ks, ds, metric).unwrap();
            let table = pq.table(query).unwrap();
            for (at, (&got, codeword)) in
                table.values().iter().zip(codewords.chunks_exact(ds)).enumerate()
            {
                let x = &query[at / ks * ds..][..ds];
                let products = x.iter().zip(codeword).map(|(&x, &c)| f64::from(x) * f64::from(c));
                let (wanted, size) = match metric {
                    Metric::L2 => (squared(x, codeword), squared(x, codeword)),
                    Metric::Dot => (products.clone().sum(), products.map(f64::abs).sum()),
                };
                let most = (ds as f64 + 4.0) * U * size + ds as f64 * TINY;
                assert!((f64::from(got) - wanted).abs() <= most, "{set:?} {metric:?}: entry {at}");
            }
        }
    }
});
