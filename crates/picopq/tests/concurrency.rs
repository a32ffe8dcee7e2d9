//! Long calls as another thread sees them: they stop when told to, and say how far they are.
#![allow(clippy::unwrap_used)]

mod numbers;

use std::thread;
use std::time::{Duration, Instant};

use numbers::uniform;
use picopq::{
    Codebook, Codes, DistanceTable, Error, Init, Metric, Opq, OpqOptions, Pq, PqOptions, Result,
    Rotation, Start, Task, Vectors, search,
};

/// The promise: a cancelled call returns within this time.
const PROMPT: Duration = Duration::from_millis(100);
/// When calls are cancelled, in milliseconds after their start.
const MOMENTS: [u64; 5] = [5, 50, 100, 200, 400];
/// A machine that is busy with something else delays a call now and then, but not every time.
const ATTEMPTS: usize = 3;

/// What a call that is cancelled `moment` milliseconds after its start returns, and how much later.
fn cancelled(call: &(dyn Fn(&Task) -> Result<()> + Sync), moment: u64) -> (Result<()>, Duration) {
    let task = Task::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| (call(&task), Instant::now()));
        thread::sleep(Duration::from_millis(moment));
        let cancelled = Instant::now();
        task.cancel();
        let (result, returned) = running.join().unwrap();
        (result, returned.saturating_duration_since(cancelled))
    })
}

/// Adds to `late` the moments after which the call goes on for longer than it may.
fn cancel_at_every_moment(
    name: &str,
    late: &mut Vec<String>,
    call: &(dyn Fn(&Task) -> Result<()> + Sync),
) {
    for moment in MOMENTS {
        let (result, mut delay) = cancelled(call, moment);
        // Later, a fast machine may have finished.
        if moment == MOMENTS[0] {
            assert_eq!(result, Err(Error::Cancelled), "{name}");
        }
        for _ in 1..ATTEMPTS {
            if delay > PROMPT {
                delay = cancelled(call, moment).1;
            }
        }
        if delay > PROMPT {
            late.push(format!("{name}: {} ms, cancelled at {moment} ms", delay.as_millis()));
        }
    }
}

fn identity(dim: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; dim * dim];
    matrix.iter_mut().step_by(dim + 1).for_each(|diagonal| *diagonal = 1.0);
    matrix
}

/// One test, because the calls share the processors.
#[test]
fn a_cancelled_call_returns_promptly() {
    let (n, dim) = (1_000_000, 64); // 256 MB
    let data = uniform(1, n * dim);
    let vectors = Vectors::new(&data, dim).unwrap();
    let mut late = Vec::new();

    let endless = |m| PqOptions { iterations: 100_000, ..PqOptions::new(m) };
    for (m, init) in [(8, Init::Points), (1, Init::Points), (1, Init::PlusPlus), (1, Init::Random)]
    {
        let name = format!("pq, m = {m}, from {init:?}");
        let options = PqOptions { init, ..endless(m) };
        cancel_at_every_moment(&name, &mut late, &|task| {
            Pq::train(vectors, &options, task).map(drop)
        });
    }
    for m in [8, 1] {
        // So few rotations that all rows, not a sample, are soon at work.
        let options = OpqOptions { pq: endless(m), rotations: 2, start: Start::Identity };
        cancel_at_every_moment(&format!("opq, m = {m}"), &mut late, &|task| {
            Opq::train(vectors, &options, task).map(drop)
        });
    }

    let (codewords, rotation) = (uniform(2, 4096 * dim), identity(dim));
    let book = Codebook::new(&codewords, 8, 4096, dim / 8).unwrap();
    let rotation = Rotation::new(&rotation, dim).unwrap();
    for (name, rotation) in [("encode", None), ("encode, rotated", Some(rotation))] {
        cancel_at_every_moment(name, &mut late, &|task| {
            book.encode_into(rotation, vectors, &mut vec![0_u16; n * 8], task)
        });
    }

    // Rotating a block of rows, and decomposing, are the longest steps of wide vectors.
    for (dim, rotations) in [(3072, 0), (1024, 100_000)] {
        let wide = Vectors::new(&data[..4096 * dim], dim).unwrap();
        let options = OpqOptions { pq: endless(8), rotations, start: Start::Identity };
        cancel_at_every_moment(&format!("opq, dim = {dim}"), &mut late, &|task| {
            Opq::train(wide, &options, task).map(drop)
        });
    }
    assert!(late.is_empty(), "{late:#?}");
}

#[test]
fn progress_ends_at_the_total() {
    let (n, dim) = (5000, 8);
    // Sub-vectors of few distinct values: with ks = 64 some clusters are empty.
    let data: Vec<f32> = uniform(1, n * dim).iter().map(|value| (2.0 * value).round()).collect();
    let vectors = Vectors::new(&data, dim).unwrap();
    let finished = |name: &str, call: &dyn Fn(&Task) -> Result<()>| {
        let task = Task::new();
        assert_eq!(task.progress(), (0, 0));
        assert_eq!(call(&task), Ok(()));
        let (done, total) = task.progress();
        assert!(done == total && total > 0, "{name}: {done} of {total}");
        (total, task.losses())
    };

    for (m, ks, iterations) in [(4, 16, 20), (8, 64, 1), (2, 5, 10_000)] {
        let options = PqOptions { ks, iterations, ..PqOptions::new(m) };
        let train = |task: &Task| Pq::train(vectors, &options, task).map(drop);
        assert_eq!(finished("pq", &train).0, (m * iterations) as u64);
        for start in [Start::Better, Start::Identity, Start::EigenvalueAllocation] {
            for rotations in [0, 1, 2, 10] {
                let options = OpqOptions { pq: options.clone(), rotations, start };
                let train = |task: &Task| Opq::train(vectors, &options, task).map(drop);
                let name = format!("opq, m = {m}, {start:?}, {rotations} rotations");
                assert_eq!(finished(&name, &train).1.len(), rotations.max(1), "{name}");
            }
        }
    }
    // (40_000, 1): enough rows for a sample.
    let many = Vectors::new(&data, 1).unwrap();
    let options = OpqOptions { pq: PqOptions { ks: 4, ..PqOptions::new(1) }, ..OpqOptions::new(1) };
    finished("opq of a sample", &|task| Opq::train(many, &options, task).map(drop));

    let book = Codebook::new(&data[..16 * dim], 4, 16, dim / 4).unwrap();
    let codes = Codes::new(vec![3_u8; n * 4], 4, 16).unwrap();
    let matrix = identity(dim);
    let rotation = Rotation::new(&matrix, dim).unwrap();
    let rows = n as u64;
    for rotation in [None, Some(rotation)] {
        let encode =
            |task: &Task| book.encode_into(rotation, vectors, &mut vec![0_u8; n * 4], task);
        let decode =
            |task: &Task| book.decode_into(rotation, &codes, &mut vec![0.0; n * dim], task);
        assert_eq!(finished("encode", &encode).0, rows);
        assert_eq!(finished("decode", &decode).0, rows);
    }
    let rotate = |task: &Task| rotation.apply_into(vectors, &mut vec![0.0; n * dim], task);
    assert_eq!(finished("rotate", &rotate).0, rows);
    let table = DistanceTable::new(&data[..64], 4, Metric::L2).unwrap();
    finished("search", &|task| search(&[table.clone(), table.clone()], &codes, 5, task).map(drop));
}
