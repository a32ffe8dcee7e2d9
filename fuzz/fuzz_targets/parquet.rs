//! Parquet tables: what can be opened is read, in blocks of one length and of another, alike.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{env, fs, panic, process};

use picopq::io::{Format, RowReader};

/// Values that are read at most: a table may repeat one page without end.
const MOST: usize = 1 << 20;

fn some(path: &Path, rows: usize) -> picopq::Result<Vec<u32>> {
    let mut reader = RowReader::open_column(path, Format::Parquet, None)?;
    let (mut all, mut block) = (Vec::new(), Vec::new());
    while all.len() < MOST && reader.read::<f32>(rows, &mut block)? > 0 {
        all.extend(block.iter().map(|value| value.to_bits()));
    }
    Ok(all)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        // The decoder's panics, which become errors, are no findings; those of the library are.
        let abort = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(|place| place.file().to_string());
            if place.is_none_or(|file| file.contains("picopq") || file.contains("fuzz_targets")) {
                abort(panic);
            }
        }));
        env::temp_dir().join(format!("picopq-fuzz-{}.parquet", process::id()))
    });
    fs::write(path, bytes).expect("a file can be written");
    if let (Ok(a), Ok(b)) = (some(path, 1), some(path, 1000)) {
        let both = a.len().min(b.len());
        assert_eq!(a[..both], b[..both]);
    }
});
