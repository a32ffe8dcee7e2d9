//! Where every writer writes: a stream, or a file that appears whole or not at all.
//!
//! ```text
//! temporary file beside the path -> write ... write -> fsync -> rename -> fsync of the folder
//! ```
//! Each of these operations passes one [`Seam`], where tests make the n-th fail.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::source::{Number, io_error};
use crate::error::{Error, Result, reserve};
use crate::threads::Task;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 18;

/// Called before every operation on the disk; an error takes the operation's place.
pub(crate) type Seam<'a> = Box<dyn FnMut(Operation) -> io::Result<()> + Send + 'a>;

/// What is done to a disk in the course of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
}

enum Target<'a> {
    File { temporary: NamedTempFile, path: PathBuf },
    Stream(Box<dyn Write + Send + 'a>),
}

/// A buffered destination of little-endian numbers. Dropped before [`Sink::finish`], a file leaves
/// nothing behind and what the path held before stays.
pub(crate) struct Sink<'a> {
    target: Target<'a>,
    name: String,
    buffer: Vec<u8>,
    seam: Seam<'a>,
}

impl<'a> Sink<'a> {
    /// A file that takes the place of `path` when it is finished.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Self::create_through(path, Box::new(|_| Ok(())))
    }

    pub(crate) fn create_through(path: &Path, mut seam: Seam<'a>) -> Result<Self> {
        let name = path.display().to_string();
        let mut create = || {
            if path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            seam(Operation::Create)?;
            // As an ordinary new file: the process's mask applies, errors have their number.
            tempfile::Builder::new().prefix(".picopq-").make_in(folder(path), |temporary| {
                File::options().write(true).create_new(true).open(temporary)
            })
        };
        let temporary = create().map_err(|error| io_error(&name, &error))?;
        let target = Target::File { temporary, path: path.to_path_buf() };
        Ok(Self { target, name, buffer: Vec::new(), seam })
    }

    /// A stream, such as standard output.
    pub(crate) fn stream(stream: impl Write + Send + 'a, name: &str) -> Self {
        let target = Target::Stream(Box::new(stream));
        Self { target, name: name.to_string(), buffer: Vec::new(), seam: Box::new(|_| Ok(())) }
    }

    /// Whether [`Sink::patch`] works.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.target, Target::File { .. })
    }

    pub(crate) fn unsupported(&self, what: impl Into<String>, wanted: &'static str) -> Error {
        Error::Unsupported { file: self.name.clone(), what: what.into(), wanted }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(BUFFER) {
            self.room(chunk.len())?;
            self.buffer.extend_from_slice(chunk);
            self.spill(BUFFER)?;
        }
        Ok(())
    }

    pub(crate) fn number<T: Number>(&mut self, value: T) -> Result<()> {
        value.push_le(&mut self.buffer);
        self.spill(BUFFER)
    }

    pub(crate) fn numbers<T: Number>(&mut self, values: &[T], task: &Task) -> Result<()> {
        for chunk in values.chunks(BUFFER / T::SIZE) {
            task.check()?;
            self.room(size_of_val(chunk))?;
            chunk.iter().for_each(|value| value.push_le(&mut self.buffer));
            self.spill(BUFFER)?;
        }
        Ok(())
    }

    /// Makes room in the buffer.
    fn room(&mut self, more: usize) -> Result<()> {
        reserve(&mut self.buffer, more, "what is to be written")
    }

    /// Writes the buffer out if it holds at least `enough` bytes.
    fn spill(&mut self, enough: usize) -> Result<()> {
        if self.buffer.is_empty() || self.buffer.len() < enough {
            return Ok(());
        }
        let written = (self.seam)(Operation::Write).and_then(|()| match &mut self.target {
            Target::File { temporary, .. } => temporary.as_file_mut().write_all(&self.buffer),
            Target::Stream(stream) => stream.write_all(&self.buffer),
        });
        written.map_err(|error| io_error(&self.name, &error))?;
        self.buffer.clear();
        Ok(())
    }

    /// Overwrites the beginning of a file.
    pub(crate) fn patch(&mut self, bytes: &[u8]) -> Result<()> {
        self.spill(0)?;
        let Target::File { temporary, .. } = &mut self.target else {
            return Err(io_error(&self.name, &io::ErrorKind::NotSeekable.into()));
        };
        let mut patch = || {
            (self.seam)(Operation::Write)?;
            let file = temporary.as_file_mut();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(bytes)
        };
        patch().map_err(|error| io_error(&self.name, &error))
    }

    /// Makes everything written last; a file takes its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.spill(0)?;
        let Self { target, name, mut seam, .. } = self;
        let finish = || match target {
            Target::Stream(mut stream) => stream.flush(),
            Target::File { temporary, path } => {
                seam(Operation::Sync)?;
                temporary.as_file().sync_all()?;
                seam(Operation::Rename)?;
                temporary.persist(&path).map_err(|error| error.error)?;
                seam(Operation::SyncFolder)?;
                sync_folder(folder(&path))
            }
        };
        finish().map_err(|error| io_error(&name, &error))
    }
}

pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename last, where folders can be opened.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::io::{Dtype, Format, RowWriter, Scan, Stored, faiss, safetensors};
    use crate::{Codes, Metric, Opq, Pq, Quantizer};

    /// Writes a whole file into a sink.
    type Write<'w> = Box<dyn Fn(Sink<'_>) -> Result<()> + 'w>;

    /// Saves over an old file, where operation `broken` fails; the operations seen.
    fn save(path: &Path, write: &Write<'_>, broken: usize) -> (Result<()>, Vec<Operation>) {
        let mut seen = Vec::new();
        let seam: Seam<'_> = Box::new(|operation| {
            seen.push(operation);
            if seen.len() - 1 == broken { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        let result = Sink::create_through(path, seam).and_then(write);
        (result, seen)
    }

    /// Everything there is to save, of some buffers' length where it can be.
    fn writers() -> Vec<(&'static str, Write<'static>)> {
        let task = Task::new;
        let numbers = move |mut sink: Sink<'_>| {
            sink.numbers(&vec![7_u32; 3 * BUFFER / 4 - 5], &task())?;
            sink.finish()
        };
        let mut all: Vec<(&'static str, Write<'static>)> = vec![("numbers", Box::new(numbers))];
        let pq = |ks| Pq::from_codewords(vec![0.5; 8 * ks], 8, ks, 1, Metric::L2).unwrap();
        let identity = (0..64).map(|at| if at % 9 == 0 { 1.0 } else { 0.0 }).collect();
        let opq = Opq::from_parts(pq(16), identity).unwrap();
        let codes = Codes::new(vec![3_u8; 8 * BUFFER / 4], 8, 16).unwrap();
        let ids: Vec<i64> = (0..codes.len() as i64).map(|id| 2 * id).collect();
        let index = |model: Quantizer, scan| Stored {
            model,
            codes: Some(codes.clone()),
            ids: Some(ids.clone()),
            scan,
        };
        for (own, for_faiss, stored) in [
            ("a PQ", "a PQ for Faiss", Stored::model(pq(1 << 14))),
            ("an OPQ", "an OPQ for Faiss", Stored::model(opq.clone())),
            ("an index", "an index for Faiss", index(pq(16).into(), Scan::Rows)),
            ("a rotated index", "one for Faiss", index(opq.into(), Scan::Fast { block: 64 })),
        ] {
            let twin = stored.clone();
            let write = move |mut sink: Sink<'_>| {
                safetensors::write(&stored, &mut sink, &task())?;
                sink.finish()
            };
            all.push((own, Box::new(write)));
            let write = move |mut sink: Sink<'_>| {
                faiss::write(&twin, faiss::ID_MAP, &mut sink, &task())?;
                sink.finish()
            };
            all.push((for_faiss, Box::new(write)));
        }
        for (name, format) in
            [("npy", Format::Npy), ("fbin", Format::Fbin), ("fvecs", Format::Fvecs)]
        {
            let write = move |sink: Sink<'_>| {
                let mut rows = RowWriter::to(sink, format, Dtype::F32, 3, None)?;
                rows.write(&vec![1.5_f32; 3 * BUFFER / 8])?;
                rows.write(&vec![2.5_f32; 3 * BUFFER / 8])?;
                rows.finish()
            };
            all.push((name, Box::new(write)));
        }
        all
    }

    #[test]
    fn whatever_fails_the_old_file_or_the_new_one_is_there_alone() {
        use Operation::{Create, Rename, Sync, SyncFolder, Write};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let mut faults = 0;
        for (name, write) in writers() {
            let (whole, operations) = save(&path, &write, usize::MAX);
            whole.unwrap();
            assert_eq!(operations[0], Create);
            assert_eq!(operations[operations.len() - 3..], [Sync, Rename, SyncFolder], "{name}");
            let writes = &operations[1..operations.len() - 3];
            assert!(writes.iter().all(|&operation| operation == Write) && !writes.is_empty());
            let new = fs::read(&path).unwrap();
            for broken in 0..operations.len() {
                fs::write(&path, "old").unwrap();
                let (result, _) = save(&path, &write, broken);
                let kind = io::ErrorKind::StorageFull;
                assert!(matches!(result, Err(Error::Io { kind: found, .. }) if found == kind));
                let renamed = operations[broken] == SyncFolder;
                let wanted = if renamed { &new[..] } else { b"old" };
                assert!(fs::read(&path).unwrap() == wanted, "{name}, operation {broken}");
                let alone = fs::read_dir(folder.path()).unwrap().count() == 1;
                assert!(alone, "{name}, operation {broken}");
                faults += 1;
            }
        }
        assert!(faults > 80, "{faults} faults");
    }
}
