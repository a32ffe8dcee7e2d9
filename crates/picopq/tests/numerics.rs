//! Numbers at their limits: results are finite, and as near to those of f64 as docs/numerics.md
//! says.
#![allow(clippy::unwrap_used)]

mod numbers;

use numbers::uniform;
use picopq::{Filter, Index, Metric, Pq, PqOptions, Task, Vectors};

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1 << 24) as f64;
/// The least subnormal f32: what a product can lose below the range.
const TINY: f64 = 1.401_298_464_324_817e-45;
/// Sub-space dimension up to which differences are squared.
const DIFFERENCES: usize = 4;
/// Rows that are compared with f64, at most.
const COMPARED: usize = 100;

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

/// What the distance of `x` to any of the codewords (ks, ds) may be wrong by.
fn encode_bound(x: &[f32], codewords: &[f32], least_distance: f64) -> f64 {
    let ds = x.len();
    if ds <= DIFFERENCES {
        return (ds as f64 + 4.0) * U * least_distance + ds as f64 * TINY;
    }
    // The centre lies among the codewords: from x and from any of them it is at most so far.
    let (mut from_x, mut from_codeword) = (0.0, 0.0);
    for column in 0..ds {
        let values = codewords[column..].iter().step_by(ds).map(|&value| f64::from(value));
        let (least, most) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
                (least.min(value), most.max(value))
            });
        let value = f64::from(x[column]);
        from_x += (value - least).abs().max((value - most).abs()).powi(2);
        from_codeword += (most - least).powi(2);
    }
    let span: f64 = f64::sqrt(from_x) + f64::sqrt(from_codeword);
    (2.0 * ds as f64 + 8.0) * U * span * span + 4.0 * ds as f64 * TINY
}

/// Trains, encodes, measures and searches; compares with f64.
fn check(name: &str, data: &[f32], dim: usize, m: usize, ks: usize) {
    let task = Task::new();
    let vectors = Vectors::new(data, dim).unwrap();
    let (n, ds) = (vectors.len(), dim / m);
    let options = PqOptions { ks, iterations: 2, allow_few_rows: true, ..PqOptions::new(m) };
    let (pq, training) = Pq::train(vectors, &options, &task).unwrap();
    let book = pq.codebook();
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    assert!(finite(book.codewords()), "{name}: codewords");
    assert!(training.losses.iter().all(|loss| loss.is_finite() && *loss >= 0.0), "{name}: losses");

    let codes = pq.encode(vectors).unwrap();
    let decoded = pq.decode(&codes).unwrap();
    assert!(finite(&decoded), "{name}: decoded");
    for row in (0..n).step_by(n.div_ceil(COMPARED)) {
        for sub_space in 0..m.min(COMPARED) {
            let columns = sub_space * ds..(sub_space + 1) * ds;
            let x = &data[row * dim..][..dim][columns.clone()];
            let codewords = &book.codewords()[sub_space * ks * ds..][..ks * ds];
            let chosen = squared(x, &decoded[row * dim..][columns]);
            let least = codewords
                .chunks_exact(ds)
                .map(|codeword| squared(x, codeword))
                .fold(f64::INFINITY, f64::min);
            let bound = 2.0 * encode_bound(x, codewords, least);
            assert!(chosen <= least + bound, "{name}, row {row}: {chosen} {least} {bound}");
        }
    }

    for metric in [Metric::L2, Metric::Dot] {
        let model = Pq::from_codewords(book.codewords().to_vec(), m, ks, ds, metric).unwrap();
        let query = &data[n / 2 * dim..][..dim];
        let table = model.table(query).unwrap();
        let distances = table.adist(&codes).unwrap();
        let factor = (ds + m + 3) as f64 * U;
        for row in (0..n).step_by(n.div_ceil(COMPARED)) {
            let vector = &decoded[row * dim..][..dim];
            let products = query.iter().zip(vector).map(|(&a, &b)| f64::from(a) * f64::from(b));
            let (wanted, magnitude) = match metric {
                Metric::L2 => (squared(query, vector), squared(query, vector)),
                Metric::Dot => (products.clone().sum(), products.map(f64::abs).sum()),
            };
            let error = (f64::from(distances[row]) - wanted).abs();
            let bound = factor * magnitude + dim as f64 * TINY;
            assert!(error <= bound, "{name}, {metric:?}, row {row}: {error} above {bound}");
        }
        // The screens exclude no answer.
        let sign = if metric == Metric::Dot { -1.0 } else { 1.0 };
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| (sign * distances[a]).total_cmp(&(sign * distances[b])));
        let index = Index::new(model).unwrap();
        index.add_codes(&codes, None, &task).unwrap();
        let queries = Vectors::new(query, dim).unwrap();
        let found = &index.search(queries, 20.min(n), Filter::All, &task).unwrap()[0];
        for (found, &row) in found.iter().zip(&order) {
            assert_eq!(found.distance, distances[row], "{name}, {metric:?}");
        }
    }
}

/// Each kind of numbers, of as many rows.
fn kinds(n: usize, dim: usize) -> Vec<(&'static str, Vec<f32>)> {
    let plain = uniform(1, n * dim);
    let each = |number: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
        plain.iter().enumerate().map(|(at, &value)| number(at % dim, value)).collect()
    };
    // What a vector's values may be, at most.
    let limit = (f64::from(f32::MAX) / 33.0).sqrt() / dim as f64;
    vec![
        ("plain", plain.clone()),
        ("as large as allowed", each(&|_, value| (f64::from(value) * limit) as f32)),
        ("subnormal", each(&|_, value| value * 1e-40)),
        ("subnormal squares", each(&|_, value| value * 1e-21)),
        ("equal rows", each(&|column, _| (column as f32).sin())),
        ("equal rows but one", {
            let mut rows = each(&|_, _| 1.0);
            rows[..dim].fill(-3.0);
            rows
        }),
        ("duplicated columns", {
            let mut rows = plain.clone();
            rows.chunks_exact_mut(dim).for_each(|row| row.fill(row[0]));
            rows
        }),
        (
            "one dominant dimension",
            each(&|column, value| if column == 0 { value * 1e6 } else { value }),
        ),
        ("far from zero", each(&|_, value| value + 4096.0)),
        ("one far row", {
            let mut rows = plain.clone();
            rows[0] = (limit * 0.9) as f32;
            rows
        }),
    ]
}

#[test]
fn every_kind_of_numbers() {
    for (n, dim, m, ks) in
        [(600, 16, 4, 16), (600, 16, 1, 256), (3000, 24, 3, 40), (700, 12, 12, 256)]
    {
        for (name, data) in kinds(n, dim) {
            check(&format!("{name}, {dim} in {m}, ks {ks}"), &data, dim, m, ks);
        }
    }
}

#[test]
fn as_many_dimensions_as_there_are() {
    for m in [1, 64, 1024, 4096] {
        for (name, data) in kinds(60, 4096) {
            check(&format!("{name}, 4096 in {m}"), &data, 4096, m, 16);
        }
    }
}

#[test]
fn as_many_codewords_as_a_code_holds() {
    let (n, dim) = (66_000, 4);
    for (dim, m) in [(dim, 2), (dim, 4)] {
        check(&format!("ks 65536, m {m}"), &uniform(3, n * dim), dim, m, 1 << 16);
    }
}
