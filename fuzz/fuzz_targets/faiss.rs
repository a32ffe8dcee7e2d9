//! Faiss's files.
#![no_main]

use picopq::Task;
use picopq::io::Stored;

mod used;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(stored) = Stored::from_faiss_bytes(bytes, &Task::new()) {
        used::stored(stored);
    }
});
