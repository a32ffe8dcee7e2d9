//! The same bytes for any number of threads. The number belongs to the process, so this is the
//! file's only test.
#![allow(clippy::unwrap_used)]

mod numbers;

use numbers::uniform;
use picopq::{
    Codes, Init, Metric, Opq, OpqOptions, Pq, PqOptions, Task, Vectors, eigenvalue_allocation,
    num_threads, search, set_num_threads,
};

/// Everything that is computed, as bits.
type Results = Vec<(&'static str, Vec<u64>)>;

fn bits(values: &[f32]) -> Vec<u64> {
    values.iter().map(|value| u64::from(value.to_bits())).collect()
}

fn loss_bits(losses: &[f64]) -> Vec<u64> {
    losses.iter().map(|loss| loss.to_bits()).collect()
}

fn trained_pq(name: &'static str, vectors: Vectors<'_>, init: Init, results: &mut Results) -> Pq {
    let options = PqOptions { ks: 32, iterations: 5, init, ..PqOptions::new(4) };
    let (pq, training) = Pq::train(vectors, &options, &Task::new()).unwrap();
    results.push((name, bits(pq.codebook().codewords())));
    results.push((name, loss_bits(&training.losses)));
    pq
}

fn trained_opq(name: &'static str, vectors: Vectors<'_>, m: usize, results: &mut Results) -> Opq {
    let pq = PqOptions { ks: 16, iterations: 3, ..PqOptions::new(m) };
    let options = OpqOptions { pq, rotations: 4, ..OpqOptions::new(m) };
    let (opq, training) = Opq::train(vectors, &options, &Task::new()).unwrap();
    results.push((name, bits(opq.rotation())));
    results.push((name, bits(opq.pq().codebook().codewords())));
    results.push((name, loss_bits(&training.losses)));
    opq
}

fn everything() -> Results {
    let mut results = Vec::new();
    // (40_000, 16): several chunks of every sum, and enough rows for a sample. Of so many
    // magnitudes that the order of a sum shows in f64.
    let dim = 16;
    let data: Vec<f32> = uniform(1, 40_000 * dim).iter().map(|value| value.powi(31)).collect();
    let vectors = Vectors::new(&data, dim).unwrap();
    let few = Vectors::new(&data[..9000 * dim], dim).unwrap();
    let wide = Vectors::new(&data[..2000 * 256], 256).unwrap();

    trained_pq("k-means++", few, Init::PlusPlus, &mut results);
    trained_pq("random codewords", few, Init::Random, &mut results);
    let pq = trained_pq("pq", vectors, Init::Points, &mut results);
    trained_opq("opq of few rows", few, 4, &mut results);
    trained_opq("opq of wide rows", wide, 8, &mut results);
    let opq = trained_opq("opq", vectors, 4, &mut results);
    let allocation = eigenvalue_allocation(vectors, 4, &Task::new()).unwrap();
    results.push(("eigenvalue allocation", bits(&allocation)));

    let mut codes = vec![0_u8; 40_000 * 4];
    pq.codebook().encode_into(None, vectors, &mut codes, &Task::new()).unwrap();
    results.push(("codes", codes.iter().map(|&code| u64::from(code)).collect()));
    let rotated = opq.encode(vectors).unwrap();
    results.push(("opq's decoded vectors", bits(&opq.decode(&rotated).unwrap())));

    // Four times the same rows: ties, in several parts of the scan.
    let codes = Codes::new(codes.repeat(4), 4, 32).unwrap();
    let mut tables = vec![0.0; 3 * 4 * 32];
    let queries = Vectors::new(&data[..3 * dim], dim).unwrap();
    let book = pq.codebook();
    book.tables_into(None, queries, Metric::L2, &mut tables, &Task::new()).unwrap();
    results.push(("tables", bits(&tables)));
    let tables = [pq.table(&data[..dim]).unwrap(), pq.table(&data[dim..2 * dim]).unwrap()];
    results.push(("distances", bits(&tables[0].adist(&codes).unwrap())));
    for found in search(&tables, &codes, 1000, &Task::new()).unwrap() {
        results.push(("ids", found.iter().map(|found| found.id as u64).collect()));
        let distances: Vec<f32> = found.iter().map(|found| found.distance).collect();
        results.push(("distances of the best", bits(&distances)));
    }
    results
}

#[test]
fn threads_change_no_byte() {
    set_num_threads(1);
    assert_eq!(num_threads(), 1);
    let wanted = everything();
    for threads in [2, 7] {
        set_num_threads(threads);
        assert_eq!(num_threads(), threads);
        for ((name, got), (_, wanted)) in everything().iter().zip(&wanted) {
            assert!(got == wanted, "{name}: other bytes with {threads} threads");
        }
    }
    set_num_threads(0);
}
