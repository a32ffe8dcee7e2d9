//! What the scans of a thread write while they work, some 90 KB. A thread keeps it for its next search:
//! to make it anew takes some microseconds, and to free it at times dozens, which a short search feels.

use std::cell::Cell;

use super::views::CHUNK_BLOCKS;
use crate::error::{Result, filled, with_capacity};
use crate::kernels::{BLOCK, Kernels, LISTED, PLANE_MASKS, Sums};
use crate::threads::Task;

/// Blocks of a plane in a chunk.
pub(crate) const CHUNK: usize = CHUNK_BLOCKS / PLANE_MASKS;

/// Room for rows that are kept, more than are left as a rule. What grows from little may lie in the
/// memory of another thread, which then waits, or has to be waited for, when it grows.
const KEPT: usize = 1 << 12;

/// Room for a chunk of rows, and what is kept of several.
pub(crate) struct Scratch {
    /// Distances, one for each row.
    pub(crate) distances: Vec<f32>,
    pub(crate) chunk: Chunk,
    /// The sums of the chunk's blocks, whole for those that are left.
    pub(crate) sums: Vec<Sums>,
    /// Rows that are left of chunks.
    pub(crate) listed: Vec<u32>,
}

/// What a screen leaves of a chunk.
pub(crate) struct Chunk {
    pub(crate) blocks: Vec<u32>,
    /// As long as what a kernel may write for all rows.
    pub(crate) rows: Vec<u32>,
}

/// What one thread takes queries through rows with.
pub(crate) struct Work<'a> {
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) kernels: Kernels,
    pub(crate) task: &'a Task,
}

thread_local! {
    static OF_THREAD: Cell<Option<Scratch>> = const { Cell::new(None) };
}

impl Scratch {
    /// Lends the thread's own to `work`. A search that `work` might begin gets another.
    pub(crate) fn lend<T>(work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut scratch = match OF_THREAD.take() {
            Some(scratch) => scratch,
            None => Self::new()?,
        };
        let result = work(&mut scratch);
        // What one search needed more of is not kept.
        scratch.listed.clear();
        scratch.listed.shrink_to(KEPT);
        OF_THREAD.set(Some(scratch));
        result
    }

    fn new() -> Result<Self> {
        let (rows, what) = (CHUNK_BLOCKS * BLOCK, "the rows that are left");
        Ok(Self {
            distances: filled(rows, 0.0, "the distances")?,
            chunk: Chunk { blocks: filled(CHUNK, 0, what)?, rows: filled(rows + LISTED, 0, what)? },
            sums: filled(CHUNK, Sums::default(), "the sums of a chunk")?,
            listed: with_capacity(KEPT, what)?,
        })
    }
}
