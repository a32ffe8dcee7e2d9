//! What must hold for any model and any data: random shapes, fixed seeds.
//!
//! Integers from -8 to 8 make every operation exact, so that ties are real ties; numbers of 24 bits
//! in [-1, 1) are the ordinary case.
#![allow(clippy::unwrap_used)]

mod numbers;

use numbers::uniform;
use picopq::{Code, CodeData, Codes, Init, Metric, Pq, PqOptions, Task, Vectors, search};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

/// What a model and its vectors are made from.
#[derive(Clone, Copy, Debug)]
struct Shape {
    m: usize,
    ks: usize,
    ds: usize,
    n: usize,
    integers: bool,
    seed: u64,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1..=8_usize, 1..=300_usize, 1..=40_usize, 0..=300_usize, any::<bool>(), any::<u64>())
        .prop_map(|(m, ks, ds, n, integers, seed)| Shape { m, ks, ds, n, integers, seed })
}

impl Shape {
    fn dim(&self) -> usize {
        self.m * self.ds
    }

    fn values(&self, stream: u64, len: usize) -> Vec<f32> {
        let values = uniform(self.seed ^ stream, len);
        if self.integers {
            values.iter().map(|value| (8.0 * value).round()).collect()
        } else {
            values
        }
    }

    /// A model of codewords that no training has tidied up, and vectors, shape `(n, dim)`.
    fn make(&self, metric: Metric) -> (Pq, Vec<f32>) {
        let codewords = self.values(1, self.m * self.ks * self.ds);
        let pq = Pq::from_codewords(codewords, self.m, self.ks, self.ds, metric).unwrap();
        (pq, self.values(2, self.n * self.dim()))
    }
}

fn rows(data: &[f32], dim: usize) -> Vectors<'_> {
    Vectors::new(data, dim).unwrap()
}

fn indices(codes: &Codes<'_>) -> Vec<usize> {
    match codes.data() {
        CodeData::U8(codes) => codes.iter().map(|code| code.index()).collect(),
        CodeData::U16(codes) => codes.iter().map(|code| code.index()).collect(),
        CodeData::U32(codes) => codes.iter().map(|code| code.index()).collect(),
    }
}

fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    terms.sum()
}

fn squared_norm(x: &[f32]) -> f64 {
    sum(x.iter().map(|&x| f64::from(x).powi(2)))
}

fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    sum(x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)))
}

/// Mean squared distance of the vectors to their reconstructions.
fn mean_error(vectors: Vectors<'_>, decoded: &[f32]) -> f64 {
    squared_distance(vectors.as_slice(), decoded) / vectors.len() as f64
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_code_names_the_nearest_codeword(shape in shapes()) {
        let Shape { m, ks, ds, .. } = shape;
        let (pq, data) = shape.make(Metric::L2);
        let codes = indices(&pq.encode(rows(&data, shape.dim())).unwrap());
        prop_assert_eq!(codes.len(), shape.n * m);
        for (place, (x, &code)) in data.chunks_exact(ds).zip(&codes).enumerate() {
            let book = &pq.codebook().codewords()[place % m * ks * ds..][..ks * ds];
            let distances: Vec<f64> =
                book.chunks_exact(ds).map(|codeword| squared_distance(x, codeword)).collect();
            let nearest = (0..ks).fold(0, |best, k| {
                if distances[k] < distances[best] { k } else { best }
            });
            if shape.integers {
                prop_assert_eq!(code, nearest, "row {}, sub-space {}", place / m, place % m);
            } else {
                let scale = squared_norm(x) + squared_norm(&book[nearest * ds..][..ds]);
                let excess = distances[code] - distances[nearest];
                prop_assert!(excess <= 1e-6 * scale, "{} above the least", excess);
            }
        }
    }

    #[test]
    fn decoded_vectors_keep_their_codes(shape in shapes()) {
        let (pq, data) = shape.make(Metric::L2);
        let codes = pq.encode(rows(&data, shape.dim())).unwrap();
        let decoded = pq.decode(&codes).unwrap();
        prop_assert_eq!(pq.encode(rows(&decoded, shape.dim())).unwrap(), codes);
    }

    #[test]
    fn a_row_has_the_same_code_alone(shape in shapes()) {
        let (pq, data) = shape.make(Metric::L2);
        let codes = indices(&pq.encode(rows(&data, shape.dim())).unwrap());
        for (row, codes) in data.chunks_exact(shape.dim()).zip(codes.chunks_exact(shape.m)).step_by(7) {
            prop_assert_eq!(indices(&pq.encode(rows(row, shape.dim())).unwrap()), codes);
        }
    }

    #[test]
    fn a_distance_is_that_to_the_decoded_vector(shape in shapes(), dot in any::<bool>()) {
        let metric = if dot { Metric::Dot } else { Metric::L2 };
        let (pq, data) = shape.make(metric);
        let codes = pq.encode(rows(&data, shape.dim())).unwrap();
        let query = shape.values(3, shape.dim());
        let distances = pq.table(&query).unwrap().adist(&codes).unwrap();
        let decoded = pq.decode(&codes).unwrap();
        prop_assert_eq!(distances.len(), shape.n);
        // Each of the roundings on the way from a term to the sum is at most half an epsilon.
        let roundings = (shape.ds + shape.m + 3) as f64;
        for (&distance, x) in distances.iter().zip(decoded.chunks_exact(shape.dim())) {
            let term = |(&q, &x): (&f32, &f32)| match metric {
                Metric::L2 => (f64::from(q) - f64::from(x)).powi(2),
                Metric::Dot => f64::from(q) * f64::from(x),
            };
            let terms = || query.iter().zip(x).map(term);
            let bound = if shape.integers {
                0.0
            } else {
                roundings * f64::from(f32::EPSILON) / 2.0 * sum(terms().map(f64::abs))
            };
            prop_assert!((f64::from(distance) - sum(terms())).abs() <= bound);
        }
    }

    #[test]
    fn the_best_are_those_of_a_stable_sort(shape in shapes(), dot in any::<bool>(), k in 0..400_usize) {
        let metric = if dot { Metric::Dot } else { Metric::L2 };
        let (pq, data) = shape.make(metric);
        let codes = pq.encode(rows(&data, shape.dim())).unwrap();
        let table = |stream| pq.table(&shape.values(stream, shape.dim())).unwrap();
        let tables = [table(3), table(4)];
        let found = search(&tables, &codes, k, &Task::new()).unwrap();
        for (table, found) in tables.iter().zip(found) {
            let distances = table.adist(&codes).unwrap();
            let mut order: Vec<usize> = (0..shape.n).collect();
            order.sort_by(|&a, &b| match metric {
                Metric::L2 => distances[a].partial_cmp(&distances[b]).unwrap(),
                Metric::Dot => distances[b].partial_cmp(&distances[a]).unwrap(),
            });
            order.truncate(k);
            prop_assert_eq!(found.iter().map(|found| found.id as usize).collect::<Vec<_>>(), order);
            prop_assert!(found.iter().all(|found| found.distance == distances[found.id as usize]));
            prop_assert_eq!(table.top_k(&codes, k).unwrap(), found);
        }
    }

    #[test]
    fn the_width_of_the_codes_changes_nothing(shape in shapes()) {
        let (pq, data) = shape.make(Metric::L2);
        let vectors = rows(&data, shape.dim());
        let narrowest = pq.encode(vectors).unwrap();
        let table = pq.table(&shape.values(3, shape.dim())).unwrap();
        let wide = [encoded::<u16>(&pq, vectors), encoded::<u32>(&pq, vectors)];
        prop_assert_eq!(matches!(narrowest.data(), CodeData::U8(_)), shape.ks <= 256);
        for codes in &wide {
            prop_assert_eq!(indices(codes), indices(&narrowest));
            prop_assert_eq!(pq.decode(codes).unwrap(), pq.decode(&narrowest).unwrap());
            prop_assert_eq!(table.adist(codes).unwrap(), table.adist(&narrowest).unwrap());
        }
    }
}

fn encoded<T: Code>(pq: &Pq, vectors: Vectors<'_>) -> Codes<'static> {
    let (book, mut codes) = (pq.codebook(), Vec::new());
    codes.resize(vectors.len() * book.m(), T::default());
    book.encode_into(None, vectors, &mut codes, &Task::new()).unwrap();
    Codes::new(codes, book.m(), book.ks()).unwrap()
}

/// Halfway between two codewords rounding decides, and must decide alike for equal rows, whatever
/// their places. A third codeword, far off, keeps the middle of the codewords away from the rows.
#[test]
fn equal_rows_have_equal_codes() {
    for ds in 1..=40 {
        for seed in 0..50 {
            let mut codewords = uniform(seed, 2 * ds);
            let middle = |d| (codewords[d] + codewords[ds + d]) / 2.0;
            let equal_rows: Vec<f32> = (0..ds).map(middle).collect::<Vec<_>>().repeat(59);
            codewords.resize(3 * ds, 3.0);
            let pq = Pq::from_codewords(codewords, 1, 3, ds, Metric::L2).unwrap();
            let codes = indices(&pq.encode(rows(&equal_rows, ds)).unwrap());
            assert!(codes.iter().all(|&code| code == codes[0]), "ds {ds}, seed {seed}: {codes:?}");
        }
    }
}

/// A shape to train on, with more rows than codewords.
fn training_shapes() -> impl Strategy<Value = Shape> {
    (1..=4_usize, 1..=64_usize, 1..=12_usize, 1..=600_usize, any::<bool>(), any::<u64>()).prop_map(
        |(m, ks, ds, more, integers, seed)| Shape { m, ks, ds, n: ks + more, integers, seed },
    )
}

fn init(shape: Shape) -> impl Strategy<Value = (Shape, Init)> {
    let given = Init::Codewords(shape.values(5, shape.m * shape.ks * shape.ds));
    let init =
        prop_oneof![Just(Init::Points), Just(Init::PlusPlus), Just(Init::Random), Just(given)];
    (Just(shape), init)
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn no_training_step_raises_the_loss((shape, init) in training_shapes().prop_flat_map(init)) {
        let data = shape.values(2, shape.n * shape.dim());
        let vectors = rows(&data, shape.dim());
        let options = PqOptions { ks: shape.ks, init, ..PqOptions::new(shape.m) };
        let (pq, training) = Pq::train(vectors, &options, &Task::new()).unwrap();
        let decoded = pq.decode(&pq.encode(vectors).unwrap()).unwrap();
        let mut losses = training.losses;
        losses.push(mean_error(vectors, &decoded));
        let rounding = 1e-6 * squared_norm(&data) / shape.n as f64;
        for pair in losses.windows(2) {
            prop_assert!(pair[1] <= pair[0] + rounding, "{:?}", losses);
        }
    }

    /// Integers, so that equal sub-vectors are equal after every rounding.
    #[test]
    fn empty_clusters_are_codewords_beyond_the_distinct_rows(
        shape in training_shapes(),
        iterations in 1..=20_usize,
    ) {
        let shape = Shape { integers: true, ..shape };
        let data = shape.values(2, shape.n * shape.dim());
        let options = PqOptions { ks: shape.ks, iterations, ..PqOptions::new(shape.m) };
        let (_, training) = Pq::train(rows(&data, shape.dim()), &options, &Task::new()).unwrap();
        let beyond = (0..shape.m).map(|m| {
            let bits = |row: &[f32]| -> Vec<i32> {
                row[m * shape.ds..][..shape.ds].iter().map(|&value| value as i32).collect()
            };
            let distinct: std::collections::HashSet<_> =
                data.chunks_exact(shape.dim()).map(bits).collect();
            shape.ks.saturating_sub(distinct.len())
        });
        prop_assert_eq!(training.empty_clusters, beyond.sum::<usize>());
    }
}
