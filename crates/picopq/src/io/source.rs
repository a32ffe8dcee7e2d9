//! The cursor of every reader: it knows what remains, reads numbers, and allocates only for bytes
//! that are there.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::path::Path;

use half::f16;
#[cfg(target_os = "linux")]
use rustix::fs::{Advice, fadvise};

use super::rows::Dtype;
use crate::error::{Error, Result};
use crate::threads::Task;

/// Bytes read at once; a multiple of every number's size.
pub(crate) const CHUNK: usize = 1 << 18;
/// How far ahead the system is told to read, and how much at once: many small pieces cost it more.
#[cfg(target_os = "linux")]
const DISTANCE: u64 = 1 << 26;
#[cfg(target_os = "linux")]
const PIECE: NonZeroU64 = NonZeroU64::new(1 << 21).unwrap();
/// Bytes read ahead of small fields.
const AHEAD: usize = 1 << 15;

/// A number as files hold it.
pub trait Number: Copy + Send + Sync + 'static + sealed::Sealed {
    /// Its type in a file.
    const DTYPE: Dtype;
    /// Bytes it takes.
    #[doc(hidden)]
    const SIZE: usize = size_of::<Self>();
    #[doc(hidden)]
    fn from_le(bytes: &[u8]) -> Self;
    #[doc(hidden)]
    fn push_le(self, out: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($($type:ty, $dtype:ident;)*) => {$(
        impl sealed::Sealed for $type {}
        impl Number for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            fn from_le(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }
            fn push_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
number! {
    u8, U8; i8, I8; u16, U16; i16, I16; u32, U32; i32, I32; u64, U64; i64, I64;
    f16, F16; f32, F32; f64, F64;
}

/// A file, or bytes that come once.
pub(crate) enum Raw<'a> {
    File(File),
    Memory(Cursor<&'a [u8]>),
    Stream(Box<dyn Read + Send + 'a>),
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(bytes) => bytes.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

impl Seek for Raw<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(bytes) => bytes.seek(to),
            Self::Stream(_) => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

/// Bytes in order, with their name, the place reached and, where known, the length.
pub(crate) struct Source<'a> {
    inner: BufReader<Raw<'a>>,
    file: String,
    offset: u64,
    len: Option<u64>,
    /// Bytes read and handed back.
    ahead: Vec<u8>,
    buffer: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let open = || -> io::Result<_> {
            let file = File::open(path)?;
            let about = file.metadata()?;
            // Pipes and devices say 0.
            let len = about.is_file().then_some(about.len());
            Ok(match len {
                Some(_) => (Raw::File(file), len),
                None => (Raw::Stream(Box::new(file)), len),
            })
        };
        let (raw, len) = open().map_err(|error| io_error(&name, &error))?;
        Ok(Self::new(raw, name, len))
    }

    /// Bytes of a stream, whose length is not known before its end.
    pub(crate) fn stream(stream: impl Read + Send + 'a, name: &str) -> Self {
        Self::new(Raw::Stream(Box::new(stream)), name.to_string(), None)
    }

    pub(crate) fn memory(bytes: &'a [u8], name: &str) -> Self {
        let len = Some(bytes.len() as u64);
        Self::new(Raw::Memory(Cursor::new(bytes)), name.to_string(), len)
    }

    /// Bytes that a decoder makes of a file, so many if the file says the truth.
    #[cfg(feature = "parquet")]
    pub(crate) fn decoded(stream: impl Read + Send + 'a, name: &str, len: u64) -> Self {
        Self::new(Raw::Stream(Box::new(stream)), name.to_string(), Some(len))
    }

    fn new(raw: Raw<'a>, file: String, len: Option<u64>) -> Self {
        let inner = BufReader::with_capacity(AHEAD, raw);
        Self { inner, file, offset: 0, len, ahead: Vec::new(), buffer: Vec::new() }
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Whether [`Source::seek`] works.
    pub(crate) fn seekable(&self) -> bool {
        !matches!(self.inner.get_ref(), Raw::Stream(_))
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn remaining(&self) -> Option<u64> {
        self.len.map(|len| len.saturating_sub(self.offset))
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers hand over what they print")]
    pub(crate) fn bad(&self, field: &'static str, got: impl ToString, wanted: &str) -> Error {
        Error::BadField {
            file: self.file.clone(),
            offset: self.offset,
            field,
            got: got.to_string(),
            wanted: wanted.to_string(),
        }
    }

    pub(crate) fn unsupported(&self, what: impl Into<String>, wanted: &'static str) -> Error {
        Error::Unsupported { file: self.file.clone(), what: what.into(), wanted }
    }

    /// Refuses `wanted` bytes if they are known not to be there.
    pub(crate) fn need(&self, wanted: Option<u64>, field: &'static str) -> Result<u64> {
        let wanted = wanted.unwrap_or(u64::MAX);
        match self.remaining() {
            Some(remaining) if remaining < wanted => Err(self.truncated(field, wanted, remaining)),
            _ => Ok(wanted),
        }
    }

    fn truncated(&self, field: &'static str, wanted: u64, remaining: u64) -> Error {
        let (file, offset) = (self.file.clone(), self.offset);
        Error::Truncated { file, offset, field, wanted, remaining }
    }

    /// Tells the system, for each piece that the next `bytes` bytes begin, that one further on will
    /// be wanted soon.
    pub(crate) fn read_ahead(&self, bytes: u64) {
        #[cfg(target_os = "linux")]
        if let Raw::File(file) = self.inner.get_ref() {
            let first = self.offset.next_multiple_of(PIECE.get());
            for piece in (first..self.offset + bytes).step_by(PIECE.get() as usize) {
                // Where it is not taken, reading is slower.
                let _ = fadvise(file, piece + DISTANCE, Some(PIECE), Advice::WillNeed);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    /// Fills `out`; an end before that is an error.
    pub(crate) fn exact(&mut self, out: &mut [u8], field: &'static str) -> Result<()> {
        let got = self.some(out)?;
        if got == out.len() {
            return Ok(());
        }
        self.offset -= got as u64;
        Err(self.truncated(field, out.len() as u64, got as u64))
    }

    /// Fills `out` as far as there are bytes.
    pub(crate) fn some(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut got = self.ahead.len().min(out.len());
        out[..got].copy_from_slice(&self.ahead[..got]);
        self.ahead.drain(..got);
        while got < out.len() {
            match self.inner.read(&mut out[got..]) {
                Ok(0) => break,
                Ok(bytes) => got += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(&self.file, &error)),
            }
        }
        self.offset += got as u64;
        Ok(got)
    }

    pub(crate) fn number<T: Number>(&mut self, field: &'static str) -> Result<T> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes[..T::SIZE], field)?;
        Ok(T::from_le(&bytes[..T::SIZE]))
    }

    /// `count` numbers.
    pub(crate) fn numbers<T: Number>(
        &mut self,
        count: u64,
        field: &'static str,
        task: &Task,
    ) -> Result<Vec<T>> {
        self.numbers_seen(count, field, task, |_| ())
    }

    /// `count` numbers, whose bytes `see` is shown.
    pub(crate) fn numbers_seen<T: Number>(
        &mut self,
        count: u64,
        field: &'static str,
        task: &Task,
        mut see: impl FnMut(&[u8]),
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        let bytes = count.checked_mul(T::SIZE as u64);
        self.need(bytes, field)?;
        if self.len.is_some() {
            reserve(&mut out, count as usize, field)?;
        }
        self.chunks(bytes, field, task, |chunk| {
            see(chunk);
            // Without a known length, room grows with what has come.
            if out.len() + chunk.len() / T::SIZE > out.capacity() {
                let more = (out.len() / 16).max(chunk.len() / T::SIZE);
                reserve(&mut out, more, field)?;
            }
            out.extend(chunk.chunks_exact(T::SIZE).map(T::from_le));
            Ok(())
        })?;
        Ok(out)
    }

    /// Hands `bytes` bytes to `take`, in chunks that hold whole numbers.
    pub(crate) fn chunks(
        &mut self,
        bytes: Option<u64>,
        field: &'static str,
        task: &Task,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut left = self.need(bytes, field)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            task.check()?;
            let next = left.min(CHUNK as u64) as usize;
            let more = next.saturating_sub(buffer.len());
            reserve(&mut buffer, more, field)?;
            buffer.resize(next, 0);
            self.exact(&mut buffer, field)?;
            take(&buffer)?;
            left -= buffer.len() as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Hands back the last bytes read, which come again.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.offset -= bytes.len() as u64;
        self.ahead.splice(..0, bytes.iter().copied());
    }

    /// Goes to byte `to`.
    pub(crate) fn seek(&mut self, to: u64) -> Result<()> {
        let here = self.offset + self.ahead.len() as u64;
        self.ahead.clear();
        let forward = i64::try_from(i128::from(to) - i128::from(here));
        let moved = match forward {
            Ok(distance) => self.inner.seek_relative(distance),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        };
        moved.map_err(|error| io_error(&self.file, &error))?;
        self.offset = to;
        Ok(())
    }

    /// Refuses bytes after the last field.
    pub(crate) fn end(&mut self) -> Result<()> {
        let mut byte = [0];
        if self.some(&mut byte)? == 0 {
            return Ok(());
        }
        Err(Error::TrailingBytes { file: self.file.clone(), offset: self.offset - 1 })
    }
}

pub(crate) fn reserve<T>(out: &mut Vec<T>, more: usize, what: &'static str) -> Result<()> {
    let bytes = out.len().saturating_add(more).saturating_mul(size_of::<T>());
    out.try_reserve_exact(more).map_err(|_| Error::OutOfMemory { bytes, what })
}

pub(crate) fn io_error(file: &str, error: &io::Error) -> Error {
    // A decoder's own errors pass through.
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return own.clone();
    }
    Error::Io { file: file.to_string(), kind: error.kind(), code: error.raw_os_error() }
}
