//! What training and encoding allocate beyond their inputs and outputs.
//!
//! One test in a process of its own, so that nobody else allocates meanwhile.

use peak_alloc::PeakAlloc;
use picopq::{Codebook, Init, Pq, PqOptions, Task, Vectors};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most that is in use at once during the work, beyond what was before.
fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let answer = work();
    (answer, ALLOCATOR.peak_usage() - before)
}

fn rows(n: usize, dim: usize) -> Vec<f32> {
    let value = |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as f32;
    (0..n * dim).map(value).collect()
}

#[test]
fn scratch_is_bounded() {
    let task = Task::new();

    // Training: at most twice the rows, at every sub-space dimension from 4.
    let (n, dim) = (40_000, 32);
    let data = rows(n, dim);
    let vectors = Vectors::new(&data, dim).unwrap();
    for m in [2, 4, 8] {
        for init in [Init::Points, Init::PlusPlus] {
            let options = PqOptions { iterations: 3, init, ..PqOptions::new(m) };
            let (_, scratch) = peak(|| Pq::train(vectors, &options, &task).unwrap());
            let bound = 2 * size_of_val(&data[..]);
            assert!(scratch <= bound, "m {m} {:?}: {scratch} of {bound} bytes", options.init);
        }
    }

    // Encoding: at most 64 MiB, whatever the input; a tenth of the rows need the same.
    let mut codes = vec![0_u8; n * 8];
    let book = Codebook::new(&data[..256 * dim], 8, 256, dim / 8).unwrap();
    let mut scratch = |rows: usize| {
        let vectors = Vectors::new(&data[..rows * dim], dim).unwrap();
        peak(|| book.encode_into(None, vectors, &mut codes[..rows * 8], &task).unwrap()).1
    };
    let (few, all) = (scratch(n / 10), scratch(n));
    assert!(all < 64 << 20, "{all} bytes");
    // The list of tasks grows, by some bytes for each thousand rows.
    assert!(all < few + (1 << 20), "{few} bytes, then {all}");
}
