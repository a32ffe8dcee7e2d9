//! Product quantization (PQ) and optimized product quantization (OPQ): vectors become short codes,
//! distances are read from small tables, search scans codes.
//!
//! ```text
//! vectors --train--> model (Pq | Opq) --encode--> codes
//!                        |                          |
//! query -----------------+----> distance table -----+--> adist, top-k
//! ```
//!
//! ```
//! use picopq::{Pq, PqOptions, Task, Vectors};
//!
//! let data: Vec<f32> = (0..8000).map(|i| ((i * 37) % 101) as f32).collect(); // (1000, 8)
//! let vectors = Vectors::new(&data, 8)?;
//! let options = PqOptions { ks: 64, ..PqOptions::new(4) };
//! let (pq, _) = Pq::train(vectors, &options, &Task::new())?;
//! let codes = pq.encode(vectors)?; // (1000, 4), one byte each
//! let best = pq.table(&data[..8])?.top_k(&codes, 3)?;
//! assert_eq!(best.len(), 3);
//! # Ok::<(), picopq::Error>(())
//! ```
//!
//! Letters mean the same everywhere: `n` vectors, `dim` values each, `m` sub-spaces of dimension
//! `ds = dim / m`, `ks` codewords in each. The same input and seed give the same bytes for any
//! number of threads.

mod alternation;
mod best;
mod codes;
mod error;
pub mod evaluate;
mod index;
pub mod io;
mod kernels;
mod kmeans;
mod linalg;
mod metric;
mod opq;
mod pq;
mod quantizer;
mod random;
mod seeding;
mod table;
mod threads;
mod tiles;
mod vectors;

pub use codes::{Code, CodeData, Codes};
pub use error::{Error, Result};
pub use index::{Filter, Index, Prepared, rerank};
#[cfg(fuzzing)]
pub use kernels::choose_kernels;
pub use kernels::{InstructionSet, instruction_set};
pub use linalg::Rotation;
pub use metric::Metric;
pub use opq::{Opq, OpqOptions, Start, eigenvalue_allocation};
pub use pq::{Codebook, Pq, PqOptions, Training};
pub use quantizer::Quantizer;
pub use seeding::Init;
pub use table::{DistanceTable, Neighbor, search};
pub use threads::{Task, num_threads, set_num_threads};
pub use vectors::Vectors;

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
