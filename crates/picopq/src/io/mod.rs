//! Files: rows of vectors, codes and ids; models and indexes in picopq's own format and in Faiss's.
//!
//! ```text
//! rows    .npy  fvecs bvecs ivecs  fbin u8bin i8bin ibin   RowReader, RowWriter: in blocks
//!         .parquet                                         RowReader (with the feature `parquet`)
//! models  safetensors with checksums  |  Faiss                      Stored: load, save, read_faiss, write_faiss
//! ```
//! Nothing from a file is believed: sizes are compared with the bytes that are there before anything
//! is allocated, whatever follows the last field is an error, and every invariant of a value is
//! checked when it is read. A file is written beside its path and takes the path's name when it is
//! complete and on the disk: after a crash the path holds the old file or the new one.

mod bin;
mod faiss;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod safetensors;
mod sink;
mod source;
mod stream;
mod vecs;

use std::path::Path;

pub use rows::{Dtype, Format, RowNumber, RowReader, RowWriter};
pub use source::Number;
pub use stream::{
    EncodeOptions, block_rows, decode_blocks, encode_blocks, encode_file, partial_path, read_codes,
    read_ids, read_vectors, sample,
};

use crate::codes::Codes;
use crate::error::{Error, Result, filled};
use crate::index::Index;
use crate::metric::Metric;
use crate::pq::Pq;
use crate::quantizer::Quantizer;
use crate::threads::Task;
use sink::Sink;
use source::Source;

/// How an index lays out its codes. Values here are row by row whatever it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    /// Row by row: Faiss's `IndexPQ`.
    #[default]
    Rows,
    /// In blocks for 4-bit registers, for ks = 16: Faiss's `IndexPQFastScan`.
    Fast {
        /// Rows of a block, a multiple of 32; 32 is usual.
        block: usize,
    },
}

/// What a file of a model or an index holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The quantizer.
    pub model: Quantizer,
    /// The codes, shape `(n, m)`; `None` in a file of a model alone.
    pub codes: Option<Codes<'static>>,
    /// A number for each row of codes; `None` where rows are called by their place.
    pub ids: Option<Vec<i64>>,
    /// How the index scans.
    pub scan: Scan,
}

impl Stored {
    /// A model alone.
    #[must_use]
    pub fn model(model: impl Into<Quantizer>) -> Self {
        Self { model: model.into(), codes: None, ids: None, scan: Scan::Rows }
    }

    /// A copy of an index, as it is at this moment.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn index(index: &Index) -> Result<Self> {
        let (ids, codes) = index.rows()?;
        let counted = ids.iter().enumerate().all(|(row, &id)| row as i64 == id);
        Ok(Self {
            model: index.quantizer().copy()?,
            codes: Some(codes),
            ids: (!counted).then_some(ids),
            scan: Scan::Rows,
        })
    }

    /// An index of what a file holds; empty for a model alone.
    ///
    /// # Errors
    /// As [`Index::add_codes`]: a file may name an id twice.
    pub fn into_index(self, task: &Task) -> Result<Index> {
        let index = Index::new(self.model)?;
        if let Some(codes) = &self.codes {
            index.add_codes(codes, self.ids.as_deref(), task)?;
        }
        Ok(index)
    }

    /// Reads picopq's own file; `docs/format.md` has the layout. Cost: the file is read once;
    /// memory: what it holds.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Truncated`], [`Error::BadField`], [`Error::TrailingBytes`],
    /// [`Error::Checksum`], [`Error::Unsupported`] for a newer version, [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    ///
    /// ```
    /// use picopq::{Metric, Pq, Task, io::Stored};
    /// let pq = Pq::from_codewords(vec![0.0, 1.0, 2.0, 3.0], 1, 2, 2, Metric::L2)?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("model.safetensors");
    /// Stored::model(pq.clone()).save(&path, &Task::new())?;
    /// assert_eq!(Stored::load(&path, &Task::new())?.model.pq(), &pq);
    /// # Ok::<(), picopq::Error>(())
    /// ```
    pub fn load(path: &Path, task: &Task) -> Result<Self> {
        safetensors::read(&mut Source::open(path)?, task)
    }

    /// Reads the bytes of picopq's own file; see [`Stored::load`].
    ///
    /// # Errors
    /// As [`Stored::load`].
    pub fn from_bytes(bytes: &[u8], task: &Task) -> Result<Self> {
        safetensors::read(&mut Source::memory(bytes, "bytes"), task)
    }

    /// Writes picopq's own file: all of it, or nothing.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::LengthMismatch`] or [`Error::DimensionMismatch`] for parts that do
    /// not fit each other, [`Error::Cancelled`].
    pub fn save(&self, path: &Path, task: &Task) -> Result<()> {
        self.check()?;
        let mut sink = Sink::create(path)?;
        safetensors::write(self, &mut sink, task)?;
        sink.finish()
    }

    /// Reads a Faiss file of an `IndexPQ`, `IndexPQFastScan`, `IndexPreTransform` of rotations
    /// around one of them, `IndexIDMap` or `IndexIDMap2`, or of a `ProductQuantizer` alone (whose
    /// metric is L2). Codes are unpacked to whole integers.
    ///
    /// # Errors
    /// As [`Stored::load`]; [`Error::Unsupported`] names other types.
    pub fn read_faiss(path: &Path, task: &Task) -> Result<Self> {
        faiss::read(&mut Source::open(path)?, task)
    }

    /// Reads the bytes of a Faiss file; see [`Stored::read_faiss`].
    ///
    /// # Errors
    /// As [`Stored::read_faiss`].
    pub fn from_faiss_bytes(bytes: &[u8], task: &Task) -> Result<Self> {
        faiss::read(&mut Source::memory(bytes, "bytes"), task)
    }

    /// Writes a Faiss index, byte for byte as Faiss does: an `IndexPQ` or `IndexPQFastScan`, in an
    /// `IndexPreTransform` if there is a rotation, in an `IndexIDMap` if there are ids. Where ks
    /// is no power of two, codewords that no vector is near fill it up.
    ///
    /// # Errors
    /// As [`Stored::save`]; [`Error::Unsupported`] for more than 2^24 codewords.
    pub fn write_faiss(&self, path: &Path, task: &Task) -> Result<()> {
        self.write_mapped(faiss::ID_MAP, path, task)
    }

    /// As [`Stored::write_faiss`], but ids stand in an `IndexIDMap2`, in which Faiss finds rows by
    /// them. Both kinds hold the same, so which one was read is not remembered.
    ///
    /// # Errors
    /// As [`Stored::write_faiss`].
    pub fn write_faiss_id_map2(&self, path: &Path, task: &Task) -> Result<()> {
        self.write_mapped(faiss::ID_MAP2, path, task)
    }

    fn write_mapped(&self, map: &[u8; 4], path: &Path, task: &Task) -> Result<()> {
        self.check()?;
        let mut sink = Sink::create(path)?;
        faiss::write(self, map, &mut sink, task)?;
        sink.finish()
    }

    /// Number of codes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.codes.as_ref().map_or(0, Codes::len)
    }

    /// Whether there are no codes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks what each part says of the others.
    fn check(&self) -> Result<()> {
        let book = self.model.pq().codebook();
        if let Some(codes) = &self.codes {
            if codes.m() != book.m() {
                let (argument, expected, got) = ("codes", book.m(), codes.m());
                return Err(Error::DimensionMismatch { argument, expected, got });
            }
            if codes.ks() > book.ks() {
                let wanted = "at most that of the model";
                return Err(Error::OutOfRange { argument: "ks", got: codes.ks() as u64, wanted });
            }
        }
        if let Some(ids) = &self.ids
            && ids.len() != self.len()
        {
            let (expected, got) = (self.len(), ids.len());
            return Err(Error::LengthMismatch { argument: "ids", expected, got });
        }
        if let Scan::Fast { block } = self.scan {
            if book.ks() != 16 {
                let (got, wanted) = (book.ks() as u64, "16 for a fast scan");
                return Err(Error::OutOfRange { argument: "ks", got, wanted });
            }
            if block == 0 || !block.is_multiple_of(32) || block > MAX_BLOCK {
                let (got, wanted) = (block as u64, "a multiple of 32, to 65536");
                return Err(Error::OutOfRange { argument: "block", got, wanted });
            }
        }
        Ok(())
    }
}

/// Rows of a block of a fast scan, at most.
const MAX_BLOCK: usize = 1 << 16;
