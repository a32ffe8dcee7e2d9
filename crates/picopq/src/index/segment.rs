//! At most 65,536 stored rows: codes, their plane of groups, ids. A segment never changes; the
//! index replaces it.

use std::borrow::Cow;
use std::ops::Range;

use super::groups::Groups;
use crate::codes::{Code, CodeData, Codes};
use crate::error::{Result, copied, with_capacity};
use crate::kernels::{BLOCK, NIBBLES, nibble};
use crate::table::Scan;

/// Rows of a full segment.
pub(crate) const SEGMENT_ROWS: usize = 1 << 16;

pub(crate) struct Segment {
    stored: Stored,
    ids: Ids,
    m: usize,
    len: usize,
}

/// Codes by width, shape `(len, m)`; planes have the shape `(blocks, m, 16)`.
enum Stored {
    /// At most 16 codewords: the plane holds the codes.
    Nibbles(Vec<u8>),
    /// At most 256.
    Bytes {
        codes: Vec<u8>,
        plane: Vec<u8>,
    },
    Words(Vec<u16>),
    Longs(Vec<u32>),
}

/// The ids of a segment's rows.
#[derive(Clone)]
pub(crate) enum Ids {
    /// This one and those that follow it.
    From(i64),
    Each(Vec<i64>),
}

impl Ids {
    pub(crate) fn of(&self, row: usize) -> i64 {
        match self {
            Self::From(first) => first + row as i64,
            Self::Each(ids) => ids[row],
        }
    }
}

impl Segment {
    /// `codes` are `(len, m)`, each below the codebook's `ks`, in its narrowest integer.
    pub(crate) fn new(
        codes: CodeData<'_>,
        m: usize,
        ids: Ids,
        groups: Option<&Groups>,
    ) -> Result<Self> {
        let (len, stored) = match (codes, groups) {
            (CodeData::U8(codes), Some(groups)) if groups.are_codes() => {
                (codes.len(), Stored::Nibbles(groups.plane(&codes)?))
            }
            (CodeData::U8(codes), Some(groups)) => {
                let plane = groups.plane(&codes)?;
                (codes.len(), Stored::Bytes { codes: owned(codes)?, plane })
            }
            (CodeData::U8(_), None) => unreachable!("codes of a byte have groups"),
            (CodeData::U16(codes), _) => (codes.len(), Stored::Words(owned(codes)?)),
            (CodeData::U32(codes), _) => (codes.len(), Stored::Longs(owned(codes)?)),
        };
        Ok(Self { stored, ids, m, len: len / m })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    pub(crate) fn id(&self, row: usize) -> i64 {
        self.ids.of(row)
    }

    /// Blocks of 32 rows, the last of which may be unfinished.
    pub(crate) fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    /// The plane of some blocks; `None` for codes wider than a byte.
    pub(crate) fn plane(&self, blocks: Range<usize>) -> Option<&[u8]> {
        match &self.stored {
            Stored::Nibbles(plane) | Stored::Bytes { plane, .. } => {
                let block = self.m * NIBBLES;
                Some(&plane[blocks.start * block..blocks.end * block])
            }
            Stored::Words(_) | Stored::Longs(_) => None,
        }
    }

    /// The codes of some rows, where they are stored as bytes.
    pub(crate) fn bytes(&self, rows: Range<usize>) -> Option<&[u8]> {
        match &self.stored {
            Stored::Bytes { codes, .. } => Some(&codes[rows.start * self.m..rows.end * self.m]),
            _ => None,
        }
    }

    /// The exact distances of the rows that `rows` names.
    pub(crate) fn pick(&self, scan: &Scan<'_>, rows: &[u32], distances: &mut [f32]) -> Result<()> {
        match &self.stored {
            Stored::Nibbles(_) => {
                scan.run(&self.unpack(rows.iter().map(|&row| row as usize))?, distances);
            }
            Stored::Bytes { codes, .. } => scan.pick(codes, rows, distances),
            Stored::Words(codes) => scan.pick(codes, rows, distances),
            Stored::Longs(codes) => scan.pick(codes, rows, distances),
        }
        Ok(())
    }

    /// The exact distances of successive rows.
    pub(crate) fn run(
        &self,
        scan: &Scan<'_>,
        rows: Range<usize>,
        distances: &mut [f32],
    ) -> Result<()> {
        let codes = rows.start * self.m..rows.end * self.m;
        match &self.stored {
            Stored::Nibbles(_) => scan.run(&self.unpack(rows)?, distances),
            Stored::Bytes { codes: all, .. } => scan.run(&all[codes], distances),
            Stored::Words(all) => scan.run(&all[codes], distances),
            Stored::Longs(all) => scan.run(&all[codes], distances),
        }
        Ok(())
    }

    /// The codes of some rows, shape `(rows, m)`.
    pub(crate) fn codes(&self, rows: &[u32], ks: usize) -> Result<Codes<'static>> {
        fn some<T: Code>(codes: &[T], m: usize, rows: &[u32]) -> Result<Vec<T>> {
            let mut out = with_capacity(rows.len() * m, "the codes")?;
            rows.iter().for_each(|&row| out.extend_from_slice(&codes[row as usize * m..][..m]));
            Ok(out)
        }
        match &self.stored {
            Stored::Nibbles(_) => {
                Codes::new(self.unpack(rows.iter().map(|&row| row as usize))?, self.m, ks)
            }
            Stored::Bytes { codes, .. } => Codes::new(some(codes, self.m, rows)?, self.m, ks),
            Stored::Words(codes) => Codes::new(some(codes, self.m, rows)?, self.m, ks),
            Stored::Longs(codes) => Codes::new(some(codes, self.m, rows)?, self.m, ks),
        }
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        let codes = match &self.stored {
            Stored::Nibbles(plane) => plane.capacity(),
            Stored::Bytes { codes, plane } => codes.capacity() + plane.capacity(),
            Stored::Words(codes) => codes.capacity() * size_of::<u16>(),
            Stored::Longs(codes) => codes.capacity() * size_of::<u32>(),
        };
        let ids = match &self.ids {
            Ids::From(_) => 0,
            Ids::Each(ids) => ids.capacity() * size_of::<i64>(),
        };
        codes + ids + size_of::<Self>()
    }

    /// Codes from nibbles, shape `(rows, m)`.
    fn unpack(&self, rows: impl ExactSizeIterator<Item = usize>) -> Result<Vec<u8>> {
        let mut codes = with_capacity(rows.len() * self.m, "the unpacked codes")?;
        for row in rows {
            let block = self.plane(row / BLOCK..row / BLOCK + 1).unwrap_or_default();
            codes.extend(block.chunks_exact(NIBBLES).map(|bytes| nibble(bytes, row % BLOCK)));
        }
        Ok(codes)
    }
}

fn owned<T: Copy>(codes: Cow<'_, [T]>) -> Result<Vec<T>> {
    match codes {
        // A segment keeps no spare room.
        Cow::Owned(codes) if codes.len() == codes.capacity() => Ok(codes),
        codes => copied(&codes, "the codes"),
    }
}
