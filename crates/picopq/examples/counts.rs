//! One piece of work for `bench/counts.py` to count the instructions of:
//! `counts encode|fit M KS ROWS`, on made-up clustered rows of 128 values.
//!
//! Only what runs inside [`measured`] is counted.

use std::env::args;

use picopq::{Codebook, Pq, PqOptions, Result, Task, Vectors, set_num_threads};

const DIM: usize = 128;
const CLUSTERS: usize = 1000;
const ITERATIONS: usize = 5;

/// Rows about some hundred centres, the same at every run.
fn rows(n: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 16) as f32 // 0 to 256
    };
    let centres: Vec<f32> = (0..CLUSTERS * DIM).map(|_| draw()).collect();
    let centres = centres.chunks_exact(DIM).cycle().take(n);
    centres.flatten().map(|centre| (centre + draw() / 4.0).round()).collect()
}

#[inline(never)]
fn measured(work: impl FnOnce() -> Result<()>) -> Result<()> {
    work()
}

fn main() -> Result<()> {
    let given: Vec<String> = args().skip(1).collect();
    let number = |place: usize| given.get(place)?.parse().ok();
    let (Some(work), Some(m), Some(ks), Some(n)) = (given.first(), number(1), number(2), number(3))
    else {
        panic!("usage: counts encode|fit M KS ROWS");
    };
    set_num_threads(1);
    let (data, task) = (rows(n), Task::new());
    let vectors = Vectors::new(&data, DIM)?;
    match work.as_str() {
        "fit" => {
            let options = PqOptions { ks, iterations: ITERATIONS, ..PqOptions::new(m) };
            measured(|| Pq::train(vectors, &options, &task).map(drop))
        }
        _ => {
            let codewords = &data[..ks * DIM];
            let mut codes = vec![0_u8; n * m];
            let book = Codebook::new(codewords, m, ks, DIM / m)?;
            measured(|| book.encode_into(None, vectors, &mut codes, &task))
        }
    }
}
