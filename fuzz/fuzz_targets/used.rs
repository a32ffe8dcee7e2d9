//! What is read can be used, and a pipe reads as memory does.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use picopq::io::Stored;
use picopq::{Filter, Result, Task, Vectors};

/// What a pipe holds before its writer waits.
const PIPE: usize = 1 << 16;

/// Reads the bytes from a pipe, whose length nobody knows, and compares with `known`.
pub fn piped(bytes: &[u8], known: &Result<Stored>, read: fn(&Path, &Task) -> Result<Stored>) {
    if bytes.len() > PIPE {
        return;
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(bytes).unwrap();
    drop(writer);
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    match (known, read(Path::new(&path), &Task::new())) {
        (Ok(known), Ok(piped)) => assert_eq!(*known, piped),
        (known, piped) => assert_eq!(known.is_ok(), piped.is_ok(), "{known:?} {piped:?}"),
    }
}

/// Decodes and searches; errors are answers, panics are not.
pub fn stored(stored: Stored) {
    let task = Task::new();
    let book = stored.model.pq().codebook();
    let dim = book.dim();
    // Training groups of codewords takes its time.
    if book.codewords().len() > 1 << 12 || stored.len() > 1 << 12 {
        return;
    }
    if let Some(codes) = &stored.codes {
        let mut vectors = vec![0.0; codes.len() * dim];
        let _ = book.decode_into(stored.model.rotation(), codes, &mut vectors, &task);
    }
    let n = stored.len();
    let Ok(index) = stored.into_index(&task) else { return };
    assert_eq!(index.len(), n);
    let query = vec![0.25; dim];
    if let Ok(queries) = Vectors::new(&query, dim)
        && let Ok(found) = index.search(queries, 3, Filter::All, &task)
    {
        assert_eq!(found[0].len(), n.min(3));
        let ids: Vec<i64> = found[0].iter().map(|found| found.id).collect();
        assert!(index.reconstruct(&ids, &task).is_ok());
        assert_eq!(index.remove(&ids, &task), Ok(ids.len()));
    }
}
