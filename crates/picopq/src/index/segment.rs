//! At most 262,144 stored rows: codes in their layout, ids. A segment never changes; the
//! index replaces it.

use std::borrow::Cow;
use std::ops::Range;

use super::bands::{Columns, Plane};
use super::layout::Layout;
use super::memory::Memory;
use crate::codes::{Code, CodeData, Codes};
use crate::error::{Result, copied, with_capacity};
use crate::kernels::{BLOCK, COLUMNS_MASKS, PLANE_MASKS};
use crate::table::Scan;

/// A part of a segment begins with a multiple of so many blocks of 32 rows: no screen reads more at
/// once.
pub(crate) const WIDEST: usize =
    if COLUMNS_MASKS > PLANE_MASKS { COLUMNS_MASKS } else { PLANE_MASKS };

/// Rows of a full segment.
pub(crate) const SEGMENT_ROWS: usize = 1 << 18;

pub(crate) struct Segment {
    stored: Stored,
    ids: Ids,
    m: usize,
    len: usize,
}

/// Codes as [`Layout`] says; rows have the shape `(len, m)`.
enum Stored {
    Nibbles(Plane),
    Grouped { codes: Memory, plane: Plane },
    Columns(Columns),
    Words(Vec<u16>),
    Longs(Vec<u32>),
}

/// What a screen reads.
#[derive(Clone, Copy)]
pub(crate) enum Screened<'a> {
    Plane(&'a Plane),
    Columns(&'a Columns),
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
    pub(crate) fn new(codes: CodeData<'_>, m: usize, ids: Ids, layout: &Layout) -> Result<Self> {
        let (len, stored) = match codes {
            CodeData::U8(codes) => {
                let len = codes.len();
                let stored = match layout {
                    Layout::Nibbles => {
                        Stored::Nibbles(Plane::new(&codes, m, layout.band(m), |_, code| code)?)
                    }
                    Layout::Grouped(groups) => {
                        let plane =
                            Plane::new(&codes, m, layout.band(m), |m, code| groups.of(m, code))?;
                        Stored::Grouped { codes: Memory::of(&codes, "the codes")?, plane }
                    }
                    Layout::Columns => Stored::Columns(Columns::new(&codes, m)?),
                    Layout::Rows => unreachable!("codes of a byte have a screen"),
                };
                (len, stored)
            }
            CodeData::U16(codes) => (codes.len(), Stored::Words(owned(codes)?)),
            CodeData::U32(codes) => (codes.len(), Stored::Longs(owned(codes)?)),
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

    /// What a screen reads; `None` for codes wider than a byte.
    pub(crate) fn screened(&self) -> Option<Screened<'_>> {
        match &self.stored {
            Stored::Nibbles(plane) | Stored::Grouped { plane, .. } => Some(Screened::Plane(plane)),
            Stored::Columns(columns) => Some(Screened::Columns(columns)),
            Stored::Words(_) | Stored::Longs(_) => None,
        }
    }

    /// The codes of some rows, where they are stored as rows of bytes.
    pub(crate) fn bytes(&self, rows: Range<usize>) -> Option<&[u8]> {
        match &self.stored {
            Stored::Grouped { codes, .. } => Some(&codes[rows.start * self.m..rows.end * self.m]),
            _ => None,
        }
    }

    /// The exact distances of the rows that `rows` names.
    pub(crate) fn pick(&self, scan: &Scan<'_>, rows: &[u32], distances: &mut [f32]) {
        match &self.stored {
            Stored::Nibbles(plane) => plane.pick(scan, rows, distances),
            Stored::Columns(columns) => columns.pick(scan, rows, distances),
            Stored::Grouped { codes, .. } => scan.pick(codes, rows, distances),
            Stored::Words(codes) => scan.pick(codes, rows, distances),
            Stored::Longs(codes) => scan.pick(codes, rows, distances),
        }
    }

    /// The exact distances of successive rows.
    pub(crate) fn run(&self, scan: &Scan<'_>, rows: Range<usize>, distances: &mut [f32]) {
        let codes = rows.start * self.m..rows.end * self.m;
        match &self.stored {
            Stored::Nibbles(plane) => plane.run(scan, rows, distances),
            Stored::Columns(columns) => columns.run(scan, rows, distances),
            Stored::Grouped { codes: all, .. } => scan.run(&all[codes], distances),
            Stored::Words(all) => scan.run(&all[codes], distances),
            Stored::Longs(all) => scan.run(&all[codes], distances),
        }
    }

    /// The codes of some rows, shape `(rows, m)`.
    pub(crate) fn codes(&self, rows: &[u32], ks: usize) -> Result<Codes<'static>> {
        fn some<T: Code>(codes: &[T], m: usize, rows: &[u32]) -> Result<Vec<T>> {
            let mut out = with_capacity(rows.len() * m, "the codes")?;
            rows.iter().for_each(|&row| out.extend_from_slice(&codes[row as usize * m..][..m]));
            Ok(out)
        }
        match &self.stored {
            Stored::Nibbles(_) | Stored::Columns(_) => Codes::new(self.unpack(rows)?, self.m, ks),
            Stored::Grouped { codes, .. } => Codes::new(some(codes, self.m, rows)?, self.m, ks),
            Stored::Words(codes) => Codes::new(some(codes, self.m, rows)?, self.m, ks),
            Stored::Longs(codes) => Codes::new(some(codes, self.m, rows)?, self.m, ks),
        }
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        let codes = match &self.stored {
            Stored::Nibbles(plane) => plane.bytes(),
            Stored::Columns(columns) => columns.bytes(),
            Stored::Grouped { codes, plane } => codes.len() + plane.bytes(),
            Stored::Words(codes) => codes.capacity() * size_of::<u16>(),
            Stored::Longs(codes) => codes.capacity() * size_of::<u32>(),
        };
        let ids = match &self.ids {
            Ids::From(_) => 0,
            Ids::Each(ids) => ids.capacity() * size_of::<i64>(),
        };
        codes + ids + size_of::<Self>()
    }

    /// Rows of codes that are not stored as rows, shape `(rows, m)`.
    fn unpack(&self, rows: &[u32]) -> Result<Vec<u8>> {
        let mut codes = with_capacity(rows.len() * self.m, "the unpacked codes")?;
        for &row in rows {
            match &self.stored {
                Stored::Nibbles(plane) => plane.row(row as usize, &mut codes),
                Stored::Columns(columns) => columns.row(row as usize, &mut codes),
                Stored::Grouped { .. } | Stored::Words(_) | Stored::Longs(_) => {}
            }
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
