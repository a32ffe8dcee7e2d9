//! Inputs of any length: read while others compute.
//!
//! ```text
//! stream:  reader thread --(at most 2 blocks wait)--> encode on all threads --> codes, in order
//!                ^------------- empty blocks come back --------------'
//! file:    each thread: take the next chunk, read it, encode it  --> codes, in order
//! ```
//! A stream may keep its reader waiting, which must not hold the others. A file does not, and a chunk
//! that its own thread reads is in that processor's cache when it is encoded.
//! [`encode_file`] writes to `<output>.partial`, whose first bytes are a [`Checkpoint`] instead of
//! the header of an array: how many rows were encoded, from which input, with which model. At the end the
//! header takes its place and the file its name. Codes count as written when a checkpoint behind
//! them is on the disk, so that neither a killed process nor a lost machine leaves false ones.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::npy;
use super::rows::{Dtype, RowNumber, RowReader};
use super::sink::{folder, sync_folder};
use super::source::{Number, io_error};
use crate::codes::{Code, Codes, with_codes, with_width};
use crate::error::{Error, Result, reserve};
use crate::kernels::TILE;
use crate::pq::Encoder;
use crate::quantizer::Quantizer;
use crate::threads::{self, Task};
use crate::vectors::{Vectors, vector_limit};

/// Values of a block: 16 MiB of f32, of which at most four are held.
const BLOCK_VALUES: usize = 1 << 22;
/// Blocks that wait for the one who computes.
const WAITING: usize = 2;
/// Values that one thread reads from a file at once: with their source in the system's cache they
/// leave room in a processor's own for codewords.
const CHUNK_VALUES: usize = 1 << 15;
/// Blocks between two checkpoints.
const CHECKPOINT_BLOCKS: u64 = 16;
/// How often one who waits for a block looks whether the task is cancelled.
const TICK: Duration = Duration::from_millis(20);

/// Rows of a block where the caller does not say.
#[must_use]
pub fn block_rows(dim: usize) -> usize {
    (BLOCK_VALUES / dim.max(1)).max(1)
}

/// The blocks of a reader, which a thread reads ahead. Dropped before the end, the thread stops
/// after the read that it is in.
enum Blocks<T> {
    Ahead {
        full: Receiver<Result<Vec<T>>>,
        empty: Sender<Vec<T>>,
    },
    /// On a machine that refuses the thread.
    Here {
        reader: Arc<Mutex<RowReader<'static>>>,
        rows: usize,
        spare: Vec<T>,
    },
}

impl<T: RowNumber + Send + 'static> Blocks<T> {
    fn new(reader: RowReader<'static>, rows: usize) -> Self {
        let reader = Arc::new(Mutex::new(reader));
        let (send_full, full) = sync_channel(WAITING);
        let (empty, take_empty) = channel::<Vec<T>>();
        let theirs = Arc::clone(&reader);
        let spawned = std::thread::Builder::new().name("picopq-reader".into()).spawn(move || {
            let mut reader = theirs.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let mut block = take_empty.try_recv().unwrap_or_default();
                let read = reader.read(rows, &mut block).map(|_| block);
                let last = read.as_ref().map_or(true, Vec::is_empty);
                if send_full.send(read).is_err() || last {
                    return;
                }
            }
        });
        match spawned {
            Ok(_) => Self::Ahead { full, empty },
            Err(_) => Self::Here { reader, rows, spare: Vec::new() },
        }
    }

    /// The next block; `None` at the end.
    fn next(&mut self, task: &Task) -> Result<Option<Vec<T>>> {
        let block = match self {
            Self::Ahead { full, .. } => loop {
                task.check()?;
                match full.recv_timeout(TICK) {
                    Ok(block) => break block?,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => panic!("the reader panicked"),
                }
            },
            Self::Here { reader, rows, spare } => {
                task.check()?;
                let mut block = std::mem::take(spare);
                reader.lock().unwrap_or_else(PoisonError::into_inner).read(*rows, &mut block)?;
                block
            }
        };
        Ok(Some(block).filter(|block| !block.is_empty()))
    }

    /// Hands a block back for reuse.
    fn done(&mut self, block: Vec<T>) {
        match self {
            // A reader that has ended needs none.
            Self::Ahead { empty, .. } => drop(empty.send(block)),
            Self::Here { spare, .. } => *spare = block,
        }
    }
}

/// Encodes all rows of `reader` that are left and hands the codes, block by block and in order, to
/// `each`; returns the number of rows. `rows` is the size of a block, [`block_rows`] by default.
/// Reading overlaps with computing. Memory, whatever the length of the input: four blocks of a stream;
/// of a file some 128 KiB for each thread, and the codes of a block.
///
/// # Errors
/// As [`crate::Codebook::encode_into`], with rows counted from the reader's first, and
/// [`RowReader::read`]; whatever `each` returns.
///
/// ```
/// use picopq::io::{Format, RowReader, encode_blocks};
/// use picopq::{Metric, Pq, Task};
/// let pq = Pq::from_codewords(vec![0.0, 10.0], 1, 2, 1, Metric::L2)?;
/// let fbin = [[2, 0, 0, 0], [1, 0, 0, 0], 1.5_f32.to_le_bytes(), 8.5_f32.to_le_bytes()].concat();
/// let reader = RowReader::stream(std::io::Cursor::new(fbin), "fbin", Format::Fbin)?;
/// let rows = encode_blocks(&pq.into(), reader, None, &Task::new(), |codes| {
///     assert_eq!(codes, &picopq::Codes::new(&[0_u8, 1][..], 1, 2)?);
///     Ok(())
/// })?;
/// assert_eq!(rows, 2);
/// # Ok::<(), picopq::Error>(())
/// ```
pub fn encode_blocks(
    model: &Quantizer,
    mut reader: RowReader<'static>,
    rows: Option<usize>,
    task: &Task,
    mut each: impl FnMut(&Codes<'_>) -> Result<()>,
) -> Result<u64> {
    let book = model.codebook();
    if reader.rows() == Some(0) || reader.dim() == 0 {
        return Ok(0);
    }
    book.check_dim("vectors", reader.dim())?;
    let (m, ks, dim) = (book.m(), book.ks(), book.dim());
    let first = reader.row();
    begin(task, &reader);
    let encoder = Encoder::new(book, model.rotation(), task)?;
    let rows = rows.unwrap_or(block_rows(dim)).max(1);
    let mut done = 0;
    with_width!(ks, T, {
        let mut codes: Vec<T> = Vec::new();
        if reader.is_file() {
            let mut buffers = vec![Vec::new(); threads::num_threads()];
            while let Some(left) = reader.rows().map(|all| all - reader.row()).filter(|&n| n > 0) {
                let rows = left.min(rows as u64) as usize;
                codes.clear();
                reserve(&mut codes, rows * m, "a block of codes")?;
                codes.resize(rows * m, T::default());
                encode_chunks(&encoder, &mut reader, &mut buffers, &mut codes, m, task)?;
                done += rows as u64;
                each(&Codes::new(&codes, m, ks)?)?;
            }
            return Ok(done);
        }
        let mut blocks = Blocks::<f32>::new(reader, rows);
        while let Some(block) = blocks.next(task)? {
            let vectors = Vectors::new(&block, dim)?;
            codes.clear();
            reserve(&mut codes, vectors.len() * m, "a block of codes")?;
            codes.resize(vectors.len() * m, T::default());
            let at = |error| at_row(error, first + done);
            encoder.encode(vectors, &mut codes, task).map_err(at)?;
            done += vectors.len() as u64;
            each(&Codes::new(&codes, m, ks)?)?;
            blocks.done(block);
        }
        Ok(done)
    })
}

/// Encodes the next rows of a file, as many as `codes` has room for, by one worker for each buffer.
/// Of several errors it returns that of the first row.
fn encode_chunks<T: Code>(
    encoder: &Encoder<'_>,
    reader: &mut RowReader<'static>,
    buffers: &mut [Vec<f32>],
    codes: &mut [T],
    m: usize,
    task: &Task,
) -> Result<()> {
    let dim = reader.dim();
    let rows = (CHUNK_VALUES / dim).next_multiple_of(TILE).clamp(TILE, encoder.chunk_rows());
    let chunks = codes.chunks_mut(rows * m);
    let shared = Mutex::new((reader, chunks));
    let faults = threads::map(task, buffers.iter_mut().collect(), |buffer: &mut Vec<f32>| {
        loop {
            let (first, codes, read) = {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let (reader, chunks) = &mut *shared;
                let Some(codes) = chunks.next() else { return Ok(None) };
                let (first, read) = (reader.row(), reader.read(codes.len() / m, buffer));
                if read.is_err() {
                    // There is nothing behind it.
                    *chunks = [].chunks_mut(1);
                }
                (first, codes, read)
            };
            let done = read.and_then(|rows| {
                let vectors = Vectors::new(buffer, dim)?;
                let good = encoder.run(buffer, codes, task)?;
                task.advance(rows as u64);
                if good { Ok(()) } else { Err(vectors.fault("vectors", vector_limit(dim))) }
            });
            match done {
                Ok(()) => {}
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => return Ok(Some((first, at_row(error, first)))),
            }
        }
    })?;
    match faults.into_iter().flatten().min_by_key(|&(first, _)| first) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// The vectors that the codes of `reader`, any integers, stand for, block by block; see
/// [`encode_blocks`].
///
/// # Errors
/// [`Error::CodeOutOfRange`] with the row in the input, [`Error::DimensionMismatch`], those of
/// [`RowReader::read`], and whatever `each` returns.
pub fn decode_blocks(
    model: &Quantizer,
    reader: RowReader<'static>,
    rows: Option<usize>,
    task: &Task,
    mut each: impl FnMut(&[f32]) -> Result<()>,
) -> Result<u64> {
    let book = model.codebook();
    if reader.rows() == Some(0) || reader.dim() == 0 {
        return Ok(0);
    }
    let m = reader.dim();
    if m != book.m() {
        let (expected, got) = (book.m(), m);
        return Err(Error::DimensionMismatch { argument: "codes", expected, got });
    }
    let mut done = reader.row();
    let first = done;
    begin(task, &reader);
    let mut blocks = Blocks::<i64>::new(reader, rows.unwrap_or(block_rows(book.dim())).max(1));
    let mut vectors = Vec::new();
    while let Some(block) = blocks.next(task)? {
        let codes = checked_codes(&block, m, book.ks()).map_err(|error| at_row(error, done))?;
        vectors.resize(codes.len() * book.dim(), 0.0);
        book.decode_into(model.rotation(), &codes, &mut vectors, &Task::new())?;
        each(&vectors)?;
        done += codes.len() as u64;
        task.advance(codes.len() as u64);
        blocks.done(block);
    }
    Ok(done - first)
}

/// All codes of `reader`, any integers, for codebooks of `ks` codewords.
///
/// # Errors
/// [`Error::CodeOutOfRange`], [`Error::OutOfMemory`], those of [`RowReader::read`].
pub fn read_codes(reader: RowReader<'static>, ks: usize, task: &Task) -> Result<Codes<'static>> {
    let m = reader.dim().max(1);
    begin(task, &reader);
    let mut blocks = Blocks::<i64>::new(reader, block_rows(m));
    with_width!(ks, T, {
        let mut all: Vec<T> = Vec::new();
        while let Some(block) = blocks.next(task)? {
            let first = (all.len() / m) as u64;
            let codes = checked_codes(&block, m, ks).map_err(|error| at_row(error, first))?;
            reserve(&mut all, block.len(), "the codes")?;
            with_codes!(codes, |codes| {
                all.extend(codes.iter().map(|code| T::from_index(code.index() as u32)));
            });
            task.advance(codes.len() as u64);
            blocks.done(block);
        }
        Codes::new(all, m, ks)
    })
}

/// All vectors of `reader`, shape (n, dim).
///
/// # Errors
/// [`Error::OutOfMemory`], those of [`RowReader::read`].
pub fn read_vectors(reader: RowReader<'static>, task: &Task) -> Result<Vec<f32>> {
    read_all(reader, "the vectors", task)
}

/// All numbers of `reader`, shape (n, dim), as ids.
///
/// # Errors
/// [`Error::OutOfMemory`], [`Error::Unsupported`] for floats, those of [`RowReader::read`].
pub fn read_ids(reader: RowReader<'static>, task: &Task) -> Result<Vec<i64>> {
    read_all(reader, "the ids", task)
}

fn read_all<T: RowNumber + Send + 'static>(
    reader: RowReader<'static>,
    what: &'static str,
    task: &Task,
) -> Result<Vec<T>> {
    let dim = reader.dim().max(1);
    begin(task, &reader);
    let mut blocks = Blocks::new(reader, block_rows(dim));
    let mut all = Vec::new();
    while let Some(block) = blocks.next(task)? {
        reserve(&mut all, block.len(), what)?;
        all.extend_from_slice(&block);
        task.advance((block.len() / dim) as u64);
        blocks.done(block);
    }
    Ok(all)
}

/// At most `count` rows of `reader`, spread evenly, shape (rows, dim); of a stream of unknown
/// length every s-th row, s the least power of two that leaves at most `count`. Rows between are
/// skipped where the input can seek; memory: the sample, twice that for a stream.
///
/// # Errors
/// [`Error::OutOfMemory`], those of [`RowReader::read`].
pub fn sample(mut reader: RowReader<'_>, count: usize, task: &Task) -> Result<Vec<f32>> {
    /// Reading so many values costs less than a seek.
    const NEAR_VALUES: usize = 1 << 16;
    let dim = reader.dim().max(1);
    let near = (NEAR_VALUES / dim).max(1);
    let (mut rows, mut block) = (Vec::new(), Vec::new());
    let Some(all) = reader.rows() else {
        let (mut stride, mut at) = (1, 0);
        while reader.read(near, &mut block)? > 0 {
            task.check()?;
            for row in block.chunks_exact(dim) {
                if at % stride == 0 {
                    if rows.len() / dim == count {
                        thin(&mut rows, dim);
                        stride *= 2;
                    }
                    if at % stride == 0 {
                        reserve(&mut rows, dim, "the sampled vectors")?;
                        rows.extend_from_slice(row);
                    }
                }
                at += 1_u64;
            }
        }
        return Ok(rows);
    };
    let count = all.min(count as u64);
    let place = |i: u64| (u128::from(i) * u128::from(all) / u128::from(count)) as u64;
    task.begin(count);
    let (mut i, mut at) = (0, reader.row());
    while i < count {
        task.check()?;
        if place(i) - at >= near as u64 {
            reader.skip(place(i) - at)?;
            at = place(i);
        }
        let read = reader.read(near, &mut block)? as u64;
        let first = i;
        while i < count && place(i) < at + read {
            reserve(&mut rows, dim, "the sampled vectors")?;
            rows.extend_from_slice(&block[(place(i) - at) as usize * dim..][..dim]);
            i += 1;
        }
        task.advance(i - first);
        at += read;
        if read == 0 {
            break;
        }
    }
    Ok(rows)
}

/// Leaves every second row.
fn thin(rows: &mut Vec<f32>, dim: usize) {
    let kept = (rows.len() / dim).div_ceil(2);
    for row in 1..kept {
        rows.copy_within(2 * row * dim..(2 * row + 1) * dim, row * dim);
    }
    rows.truncate(kept * dim);
}

/// How [`encode_file`] works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Rows of a block; [`block_rows`] by default.
    pub block_rows: Option<usize>,
    /// Goes on where an interrupted call stopped, if there was one.
    pub resume: bool,
}

/// Where [`encode_file`] writes until it is complete: `<output>.partial`.
#[must_use]
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Encodes all rows of `reader` into the .npy file `output`, shape (n, m); returns n. Memory: as
/// [`encode_blocks`]. An interrupted call leaves [`partial_path`], from which one with `resume`
/// goes on, to the same bytes; it loses at most 16 blocks. A call without `resume` begins anew.
///
/// # Errors
/// As [`encode_blocks`]; [`Error::BadField`] if the partial file comes from another model, another
/// shape of input or another instruction set, [`Error::Unsupported`] while another process writes
/// it, [`Error::Io`].
pub fn encode_file(
    model: &Quantizer,
    mut reader: RowReader<'static>,
    output: &Path,
    options: &EncodeOptions,
    task: &Task,
) -> Result<u64> {
    let mut partial = Partial::open(output, model, &reader, options.resume)?;
    reader.skip(partial.rows)?;
    let append = |codes: &Codes<'_>| partial.append(codes);
    match encode_blocks(model, reader, options.block_rows, task, append) {
        Ok(_) => partial.finish(output),
        Err(error) => Err(partial.abandon(error)),
    }
}

/// The file of an encoding under way: a checkpoint in the place of the array's header, then codes.
struct Partial {
    file: BufWriter<File>,
    path: PathBuf,
    dtype: Dtype,
    m: usize,
    fingerprint: Vec<u8>,
    /// Rows written.
    rows: u64,
    /// Blocks since the last checkpoint.
    blocks: u64,
}

const MAGIC: &[u8; 8] = b"picopart";
/// The magic number, the fingerprint, the rows and a CRC-32 of these; shorter than any header.
const CHECKPOINT: usize = 8 + FINGERPRINT + 8 + 4;
const FINGERPRINT: usize = 30;

/// What the codes depend on: the model, the shape of the input and its column, the kernels.
fn fingerprint(model: &Quantizer, reader: &RowReader<'_>) -> Result<Vec<u8>> {
    let book = model.codebook();
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = Vec::new();
    let rotation = model.rotation().map_or(&[][..], |rotation| rotation.matrix());
    for values in [book.codewords(), rotation].iter().flat_map(|values| values.chunks(1 << 16)) {
        bytes.clear();
        values.iter().for_each(|value| value.push_le(&mut bytes));
        crc.update(&bytes);
    }
    crc.update(reader.column().unwrap_or_default().as_bytes());
    let mut out = crc.finalize().to_le_bytes().to_vec();
    out.extend((book.m() as u64).to_le_bytes());
    out.extend((book.ks() as u64).to_le_bytes());
    out.extend(reader.rows().unwrap_or(u64::MAX).to_le_bytes());
    out.push(reader.dtype() as u8);
    out.push(crate::kernels::instruction_set()? as u8);
    Ok(out)
}

impl Partial {
    /// Opens the file of `output`, for this process alone; where it does not resume, empty.
    fn open(
        output: &Path,
        model: &Quantizer,
        reader: &RowReader<'_>,
        resume: bool,
    ) -> Result<Self> {
        let path = partial_path(output);
        let name = path.display().to_string();
        let fail = |error: &io::Error| io_error(&name, error);
        if output.is_dir() {
            return Err(io_error(&output.display().to_string(), &ErrorKind::IsADirectory.into()));
        }
        let mut options = OpenOptions::new();
        let open = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(|error| fail(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(fail(&error)),
            Err(TryLockError::WouldBlock) => {
                let what = "a second process that writes it".into();
                return Err(Error::Unsupported { file: name, what, wanted: "one at a time" });
            }
        }
        let dtype = with_width!(model.codebook().ks(), T, <T as Number>::DTYPE);
        let m = model.codebook().m();
        let fingerprint = fingerprint(model, reader)?;
        let mut partial =
            Self { file: BufWriter::new(file), path, dtype, m, fingerprint, rows: 0, blocks: 0 };
        if resume {
            partial.rows = partial.rows_done()?;
        }
        partial.start().map_err(|error| fail(&error))?;
        Ok(partial)
    }

    fn row_bytes(&self) -> u64 {
        (self.m * self.dtype.size()) as u64
    }

    fn header_bytes(&self) -> u64 {
        npy::header(self.dtype, 0, self.m).len() as u64
    }

    /// Rows behind which there is a checkpoint: 0 in a new file, and in one whose checkpoint the
    /// array's header has replaced already.
    fn rows_done(&mut self) -> Result<u64> {
        let name = self.path.display().to_string();
        let mut bytes = Vec::new();
        let file = self.file.get_mut();
        let read = file.take(CHECKPOINT as u64).read_to_end(&mut bytes);
        read.map_err(|error| io_error(&name, &error))?;
        let length = file.metadata().map_err(|error| io_error(&name, &error))?.len();
        let bad = |field, got: String, wanted: &str| {
            let (offset, wanted) = (CHECKPOINT as u64, wanted.to_string());
            Error::BadField { file: name.clone(), offset, field, got, wanted }
        };
        if bytes.is_empty() || bytes.starts_with(npy::MAGIC) {
            return Ok(0);
        }
        let (body, crc) = bytes.split_at(bytes.len().min(CHECKPOINT - 4));
        if !bytes.starts_with(MAGIC) || crc32fast::hash(body).to_le_bytes() != crc {
            return Err(bad("the checkpoint", "damaged".into(), "that of an encoding under way"));
        }
        let (found, rows) = body[MAGIC.len()..].split_at(FINGERPRINT);
        if found != self.fingerprint {
            let (got, wanted) = (hex(found), hex(&self.fingerprint));
            return Err(bad("the fingerprint of model and input", got, &wanted));
        }
        let rows = <u64 as Number>::from_le(rows);
        let wanted = rows.checked_mul(self.row_bytes()).map(|codes| codes + self.header_bytes());
        if wanted.is_none_or(|wanted| wanted > length) {
            return Err(bad("the number of rows", rows.to_string(), "no more than the file has"));
        }
        Ok(rows)
    }

    /// Cuts the file behind the rows that count, and goes there.
    fn start(&mut self) -> io::Result<()> {
        let end = self.header_bytes() + self.rows * self.row_bytes();
        self.file.get_mut().set_len(end)?;
        self.checkpoint()
    }

    fn append(&mut self, codes: &Codes<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        reserve(&mut bytes, codes.len() * self.row_bytes() as usize, "a block of codes")?;
        with_codes!(codes, |codes| codes.iter().for_each(|code| code.push_le(&mut bytes)));
        let mut write = || {
            self.file.write_all(&bytes)?;
            self.rows += codes.len() as u64;
            self.blocks += 1;
            if self.blocks == CHECKPOINT_BLOCKS { self.checkpoint() } else { Ok(()) }
        };
        write().map_err(|error| io_error(&self.path.display().to_string(), &error))
    }

    /// Makes the rows last, then says that they count.
    fn checkpoint(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let file = self.file.get_mut();
        file.sync_data()?;
        let mut bytes = [MAGIC, &self.fingerprint[..], &self.rows.to_le_bytes()].concat();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&bytes)?;
        file.seek(SeekFrom::End(0))?;
        self.blocks = 0;
        Ok(())
    }

    /// Leaves what was done so far to be taken up again, and nothing where nothing was done.
    fn abandon(mut self, error: Error) -> Error {
        // What cannot be saved now is encoded again; `error` says why the call ends.
        let _ = if self.rows == 0 { std::fs::remove_file(&self.path) } else { self.checkpoint() };
        error
    }

    /// The file becomes an array and takes its name.
    fn finish(mut self, output: &Path) -> Result<u64> {
        let header = npy::header(self.dtype, self.rows, self.m);
        let mut finish = || {
            self.file.flush()?;
            let file = self.file.get_mut();
            file.sync_data()?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.sync_all()?;
            std::fs::rename(&self.path, output)?;
            sync_folder(folder(output))
        };
        finish().map_err(|error| io_error(&self.path.display().to_string(), &error))?;
        Ok(self.rows)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn begin(task: &Task, reader: &RowReader<'_>) {
    task.begin(reader.rows().map_or(0, |rows| rows - reader.row()));
}

/// Codes of integers that came from a file.
fn checked_codes(numbers: &[i64], m: usize, ks: usize) -> Result<Codes<'static>> {
    with_width!(ks, T, {
        let mut codes: Vec<T> = Vec::new();
        reserve(&mut codes, numbers.len(), "a block of codes")?;
        for (at, &number) in numbers.iter().enumerate() {
            let code = u32::try_from(number).ok().filter(|&code| (code as usize) < ks);
            let Some(code) = code else {
                let (row, sub_space) = (at / m, at % m);
                return Err(Error::CodeOutOfRange { code: number as u64, row, sub_space, ks });
            };
            codes.push(T::from_index(code));
        }
        Codes::new(codes, m, ks)
    })
}

/// The error of a block, whose row is counted from the beginning of the input.
fn at_row(mut error: Error, first: u64) -> Error {
    if let Error::NonFinite { row, .. }
    | Error::TooLarge { row, .. }
    | Error::CodeOutOfRange { row, .. } = &mut error
    {
        *row += first as usize;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;
    use crate::pq::Pq;

    const DIM: usize = 4;

    /// An .npy file of `n` rows.
    fn input(n: usize) -> Vec<u8> {
        let mut bytes = npy::header(Dtype::F32, n as u64, DIM);
        (0..n * DIM).for_each(|i| ((i * 37 % 101) as f32).push_le(&mut bytes));
        bytes
    }

    fn reader(bytes: &[u8]) -> RowReader<'static> {
        let stream = io::Cursor::new(bytes.to_vec());
        RowReader::stream(stream, "input", super::super::Format::Npy).unwrap()
    }

    fn model(ks: usize) -> Quantizer {
        let codewords = (0..ks * DIM).map(|i| (i * 53 % 101) as f32).collect();
        Pq::from_codewords(codewords, 2, ks, DIM / 2, Metric::L2).unwrap().into()
    }

    /// Stops after `blocks` blocks as a kill would, without a last checkpoint.
    fn killed(model: &Quantizer, bytes: &[u8], output: &Path, rows: usize, blocks: usize) {
        let mut partial = Partial::open(output, model, &reader(bytes), false).unwrap();
        let mut left = blocks;
        let stop = encode_blocks(model, reader(bytes), Some(rows), &Task::new(), |codes| {
            if left == 0 {
                return Err(Error::Cancelled);
            }
            left -= 1;
            partial.append(codes)
        });
        assert_eq!(stop, Err(Error::Cancelled));
    }

    #[test]
    fn a_resumed_file_has_the_bytes_of_an_uninterrupted_one() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("codes.npy");
        let bytes = input(200);
        for ks in [3, 300] {
            let model = model(ks);
            let options = EncodeOptions { block_rows: Some(3), resume: true };
            let task = Task::new();
            assert_eq!(encode_file(&model, reader(&bytes), &output, &options, &task), Ok(200));
            assert_eq!(task.progress(), (200, 200));
            let whole = std::fs::read(&output).unwrap();
            for blocks in [0, 1, 16, 17, 40, 66] {
                std::fs::remove_file(&output).unwrap();
                killed(&model, &bytes, &output, 3, blocks);
                let task = Task::new();
                let rows = encode_file(&model, reader(&bytes), &output, &options, &task);
                assert_eq!(rows, Ok(200));
                assert_eq!(task.progress().0, 200 - (blocks / 16 * 48) as u64);
                assert_eq!(std::fs::read(&output).unwrap(), whole, "{blocks} blocks");
                assert!(!partial_path(&output).exists());
            }
        }
    }

    #[test]
    fn another_model_or_input_and_damage_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("codes.npy");
        let (bytes, resume) = (input(100), EncodeOptions { block_rows: Some(2), resume: true });
        let run = |ks, bytes: &[u8]| {
            encode_file(&model(ks), reader(bytes), &output, &resume, &Task::new())
        };
        killed(&model(3), &bytes, &output, 2, 20);
        let saved = std::fs::read(partial_path(&output)).unwrap();
        assert!(matches!(run(4, &bytes), Err(Error::BadField { .. })));
        assert!(matches!(run(3, &input(101)), Err(Error::BadField { .. })));
        for at in 0..CHECKPOINT {
            let mut damaged = saved.clone();
            damaged[at] ^= 1;
            std::fs::write(partial_path(&output), damaged).unwrap();
            assert!(matches!(run(3, &bytes), Err(Error::BadField { .. })), "byte {at}");
        }
        for length in [1, CHECKPOINT - 5, CHECKPOINT, 150] {
            std::fs::write(partial_path(&output), &saved[..length]).unwrap();
            assert!(matches!(run(3, &bytes), Err(Error::BadField { .. })), "{length} bytes");
        }
        std::fs::write(partial_path(&output), &saved).unwrap();
        let mine = Partial::open(&output, &model(3), &reader(&bytes), true).unwrap();
        assert!(matches!(run(3, &bytes), Err(Error::Unsupported { .. })));
        drop(mine);
        assert_eq!(run(3, &bytes), Ok(100));
    }

    #[test]
    fn an_error_names_the_row_of_the_input_and_what_was_done_stays() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("codes.npy");
        let mut bytes = input(100);
        let place = bytes.len() - 3 * DIM * 4;
        bytes[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let options = EncodeOptions { block_rows: Some(5), resume: true };
        let run =
            |bytes: &[u8]| encode_file(&model(3), reader(bytes), &output, &options, &Task::new());
        assert!(matches!(run(&bytes), Err(Error::NonFinite { row: 97, column: 0, .. })));
        assert!(partial_path(&output).exists() && !output.exists());
        assert_eq!(run(&input(100)), Ok(100));
        let task = Task::new();
        task.cancel();
        let result = encode_file(&model(3), reader(&bytes), &output, &options, &task);
        assert_eq!(result, Err(Error::Cancelled));
        assert!(!partial_path(&output).exists(), "nothing was done");
    }

    #[test]
    fn a_file_gives_the_codes_and_the_errors_of_a_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.npy");
        const ROWS: usize = 20_000;
        let mut bytes = input(ROWS);
        std::fs::write(&path, &bytes).unwrap();
        let all = |reader: RowReader<'static>, rows| {
            let mut out = Vec::new();
            let done = encode_blocks(&model(300), reader, rows, &Task::new(), |codes| {
                with_codes!(codes, |codes| out.extend(codes.iter().map(|code| code.index())));
                Ok(())
            })?;
            assert_eq!(done as usize * 2, out.len());
            Ok(out)
        };
        let whole = all(reader(&bytes), None);
        assert!(whole.as_ref().is_ok_and(|codes| codes.len() == 2 * ROWS));
        for rows in [None, Some(7001), Some(usize::MAX)] {
            assert_eq!(all(RowReader::open(&path).unwrap(), rows), whole, "{rows:?}");
        }
        // The file shrinks when it is open: the rows that are left are read.
        let open = RowReader::open(&path).unwrap();
        let cut = bytes.len() - 9 * DIM * 4;
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert!(matches!(all(open, None), Err(Error::Truncated { .. })));
        // Of bad values in several chunks, the first is named.
        for row in [19_999, 15_000, 12_345] {
            let at = bytes.len() - (ROWS - row) * DIM * 4;
            bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            std::fs::write(&path, &bytes).unwrap();
            let found = all(RowReader::open(&path).unwrap(), None);
            assert!(
                matches!(found, Err(Error::NonFinite { row: at, .. }) if at == row),
                "{found:?}"
            );
        }
        let mut open = RowReader::open(&path).unwrap();
        open.skip(12_346).unwrap();
        assert!(matches!(all(open, None), Err(Error::NonFinite { row: 15_000, .. })));
    }

    #[test]
    fn codes_come_back_and_samples_are_spread() {
        let bytes = input(50);
        let mut numbers = npy::header(Dtype::I64, 0, 2);
        let rows = encode_blocks(&model(300), reader(&bytes), Some(7), &Task::new(), |codes| {
            with_codes!(codes, |codes| codes
                .iter()
                .for_each(|code| (code.index() as i64).push_le(&mut numbers)));
            Ok(())
        });
        assert_eq!(rows, Ok(50));
        let header = npy::header(Dtype::I64, 50, 2);
        numbers[..header.len()].copy_from_slice(&header);
        let codes = read_codes(reader(&numbers), 300, &Task::new()).unwrap();
        let mut decoded = Vec::new();
        let rows = decode_blocks(&model(300), reader(&numbers), Some(7), &Task::new(), |block| {
            decoded.extend_from_slice(block);
            Ok(())
        });
        assert_eq!(rows, Ok(50));
        let Quantizer::Pq(pq) = model(300) else { unreachable!() };
        assert_eq!(decoded, pq.decode(&codes).unwrap());
        let last = codes.len() as u64 - 1;
        let found = read_codes(reader(&numbers), 2, &Task::new());
        assert!(matches!(found, Err(Error::CodeOutOfRange { row, .. }) if row as u64 <= last));

        let all = read_vectors(reader(&bytes), &Task::new()).unwrap();
        let vectors = Vectors::new(&all, DIM).unwrap();
        for count in [0, 1, 7, 50, 99] {
            let found = sample(reader(&bytes), count, &Task::new()).unwrap();
            assert_eq!(found, vectors.spread(count).unwrap(), "{count}");
        }
        let mut fvecs = Vec::new();
        for row in all.chunks_exact(DIM) {
            (DIM as i32).push_le(&mut fvecs);
            row.iter().for_each(|value| value.push_le(&mut fvecs));
        }
        let stream = || io::Cursor::new(fvecs.clone());
        let unknown = RowReader::stream(stream(), "s", super::super::Format::Fvecs).unwrap();
        let found = sample(unknown, 13, &Task::new()).unwrap();
        let every = |stride| all.chunks_exact(DIM).step_by(stride).flatten().copied();
        assert_eq!(found, every(4).collect::<Vec<_>>());
    }
}
