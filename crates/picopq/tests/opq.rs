//! What a learnt rotation is worth: never a larger error than without one.
#![allow(clippy::unwrap_used)]

mod numbers;

use numbers::uniform;
use picopq::{Opq, OpqOptions, Pq, PqOptions, Start, Task, Vectors};

/// `n` rows of `dim` nearly normal numbers.
fn normal(seed: u64, n: usize, dim: usize) -> Vec<f32> {
    uniform(seed, 12 * n * dim)
        .chunks_exact(12)
        .map(|twelve| twelve.iter().sum::<f32>() / 2.0)
        .collect()
}

/// The rows of `data` (n, dim), each column times its scale.
fn scaled(mut data: Vec<f32>, dim: usize, scale: impl Fn(usize) -> f32) -> Vec<f32> {
    data.iter_mut().enumerate().for_each(|(index, value)| *value *= scale(index % dim));
    data
}

/// The rows of `data` (n, dim) times a matrix (dim, dim) of normal numbers.
fn mixed(data: &[f32], dim: usize) -> Vec<f32> {
    let matrix = normal(9, dim, dim);
    let mix = |row: &[f32]| -> Vec<f32> {
        let dot = |column: usize| (0..dim).map(|d| row[d] * matrix[d * dim + column]).sum();
        (0..dim).map(dot).collect()
    };
    data.chunks_exact(dim).flat_map(mix).collect()
}

/// Rows about `centres` points, round robin.
fn clustered(centres: usize, n: usize, dim: usize) -> Vec<f32> {
    let centre = normal(8, centres, dim);
    let noise = normal(7, n, dim);
    let place = |index: usize| centre[(index / dim % centres) * dim + index % dim];
    noise.iter().enumerate().map(|(index, noise)| place(index) + 0.2 * noise).collect()
}

/// Mean squared distance of the rows to their reconstructions.
fn error(data: &[f32], dim: usize, decoded: &[f32]) -> f64 {
    let square = |(&x, &y): (&f32, &f32)| (f64::from(x) - f64::from(y)).powi(2);
    data.iter().zip(decoded).map(square).sum::<f64>() / (data.len() / dim) as f64
}

#[test]
fn the_error_is_not_above_that_of_pq() {
    let decaying = |d: usize| 0.8_f32.powi(d as i32);
    let skewed = normal(6, 4000, 16).iter().map(|x| x.exp()).collect();
    // Rows, dim, m, ks, and the most that the error may be of the error without a rotation.
    for (name, data, dim, m, ks, most) in [
        ("independent columns", normal(1, 4000, 16), 16, 4, 64, 1.0),
        ("uniform columns", uniform(2, 4000 * 16), 16, 4, 64, 1.0),
        ("skewed columns", skewed, 16, 4, 64, 1.0),
        ("clusters", clustered(50, 4000, 24), 24, 6, 32, 0.6),
        ("correlated columns", mixed(&normal(3, 4000, 16), 16), 16, 4, 64, 0.6),
        ("columns of unequal variance", scaled(normal(4, 4000, 32), 32, decaying), 32, 8, 64, 0.1),
        ("one dimension each", mixed(&normal(12, 2000, 8), 8), 8, 8, 16, 0.9),
        ("hardly more rows than codewords", mixed(&normal(10, 300, 16), 16), 16, 4, 256, 0.6),
        ("rows enough to be sampled", mixed(&normal(11, 40_000, 8), 8), 8, 4, 16, 0.6),
    ] {
        let vectors = Vectors::new(&data, dim).unwrap();
        let options =
            OpqOptions { pq: PqOptions { ks, ..PqOptions::new(m) }, ..OpqOptions::new(m) };
        let (pq, _) = Pq::train(vectors, &options.pq, &Task::new()).unwrap();
        let (opq, _) = Opq::train(vectors, &options, &Task::new()).unwrap();
        let without = error(&data, dim, &pq.decode(&pq.encode(vectors).unwrap()).unwrap());
        let with = error(&data, dim, &opq.decode(&opq.encode(vectors).unwrap()).unwrap());
        let share = with / without;
        assert!(share <= most, "{name}: {share} of the error without a rotation");
    }
}

#[test]
fn the_last_loss_is_the_error_and_the_rotation_keeps_lengths() {
    let (dim, data) = (16, mixed(&normal(3, 4000, 16), 16));
    let vectors = Vectors::new(&data, dim).unwrap();
    let options =
        OpqOptions { pq: PqOptions { ks: 64, ..PqOptions::new(4) }, ..OpqOptions::new(4) };
    let (opq, training) = Opq::train(vectors, &options, &Task::new()).unwrap();
    let decoded = opq.decode(&opq.encode(vectors).unwrap()).unwrap();
    let (loss, error) = (training.losses.last().unwrap(), error(&data, dim, &decoded));
    assert!((loss - error).abs() <= 1e-6 * error, "{loss} and {error}");
    let rotated = opq.rotate(vectors).unwrap();
    let length = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    for (before, after) in data.chunks_exact(dim).zip(rotated.chunks_exact(dim)) {
        assert!((length(after) / length(before) - 1.0).abs() <= 1e-6);
    }
}

/// The default is one of the two starts, and not the one that is clearly worse; also where both are
/// learnt from to the end, on a sample of the rows at first.
#[test]
fn the_better_start_is_found() {
    let natural = |d: usize| if d % 8 < 4 { 1.0 } else { 0.3 };
    for (name, data, dim, m, ks) in [
        ("independent columns", normal(1, 2000, 16), 16, 4, 16),
        ("natural sub-spaces", scaled(clustered(40, 4000, 16), 16, natural), 16, 4, 16),
        ("correlated columns", mixed(&normal(3, 2000, 16), 16), 16, 4, 16),
        ("weakly correlated columns", mixed(&clustered(100, 4000, 4), 4), 4, 2, 8),
        ("sampled, correlated", mixed(&normal(11, 40_000, 8), 8), 8, 4, 16),
        ("sampled, independent", normal(11, 40_000, 8), 8, 4, 16),
    ] {
        let vectors = Vectors::new(&data, dim).unwrap();
        let loss = |start| {
            let pq = PqOptions { ks, ..PqOptions::new(m) };
            let options = OpqOptions { pq, start, ..OpqOptions::new(m) };
            let task = Task::new();
            let (_, training) = Opq::train(vectors, &options, &task).unwrap();
            let (done, total) = task.progress();
            assert_eq!(done, total, "{name}: {start:?}");
            assert_eq!(task.losses().len(), options.rotations);
            *training.losses.last().unwrap()
        };
        let (identity, allocation) = (loss(Start::Identity), loss(Start::EigenvalueAllocation));
        let better = loss(Start::Better);
        assert!([identity, allocation].contains(&better), "{name}");
        assert!(better <= 1.02 * identity.min(allocation), "{name}: {better}");
    }
}

/// Neither a codeword at the origin nor the largest values that are accepted upset the products.
#[test]
fn the_scale_of_the_data_does_not_matter() {
    let dim = 4;
    for largest in [1e-38, 1.0, 5e17] {
        let rows = uniform(5, 500 * dim);
        let symmetric = rows.iter().flat_map(|value| [value - 0.5, 0.5 - value]);
        let data: Vec<f32> = symmetric.map(|value| value * largest).collect();
        for ks in [1, 16] {
            let pq = PqOptions { ks, ..PqOptions::new(2) };
            let options = OpqOptions { pq, ..OpqOptions::new(2) };
            let vectors = Vectors::new(&data, dim).unwrap();
            let (opq, training) = Opq::train(vectors, &options, &Task::new()).unwrap();
            assert!(training.losses.iter().all(|loss| loss.is_finite()), "{largest} {ks}");
            assert_eq!(opq.encode(vectors).unwrap().len(), 1000);
        }
    }
}
