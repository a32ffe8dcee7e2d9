//! picopq's own files.
#![no_main]

use picopq::Task;
use picopq::io::Stored;

mod used;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let known = Stored::from_bytes(bytes, &Task::new());
    used::piped(bytes, &known, Stored::load);
    if let Ok(stored) = known {
        used::stored(stored);
    }
});
