//! At most 262,144 stored rows: codes in their layout, ids. A segment never changes; the
//! index replaces it.

use std::borrow::Cow;
use std::ops::Range;

use super::bands::{self, Columns, Plane};
use super::layout::Layout;
use super::memory::Memory;
use crate::codes::{Code, CodeData, Codes};
use crate::error::{Result, filled, size, with_capacity};
use crate::kernels::{BLOCK, COLUMNS, COLUMNS_MASKS, PLANE, PLANE_MASKS, TILE};
use crate::table::Scan;

/// A part of a segment begins with a multiple of so many blocks of 32 rows: no screen reads more at
/// once.
pub(crate) const WIDEST: usize =
    if COLUMNS_MASKS > PLANE_MASKS { COLUMNS_MASKS } else { PLANE_MASKS };

/// Rows of a full segment. Fewer in tests, so that small indexes have several.
pub(crate) const SEGMENT_ROWS: usize = if cfg!(test) { 1 << 11 } else { 1 << 18 };

/// Rows of whole blocks for any screen, and of whole tiles for an encoder.
pub(crate) const ROOM_ROWS: usize = 768;
const _: () = assert!(
    ROOM_ROWS.is_multiple_of(TILE)
        && ROOM_ROWS.is_multiple_of(2 * PLANE)
        && ROOM_ROWS.is_multiple_of(COLUMNS)
);

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

    /// `len` ids of `next`, which has them.
    pub(crate) fn collect(len: usize, mut next: impl FnMut() -> Option<i64>) -> Result<Self> {
        let mut ids = Self::From(0);
        for (row, id) in (0..len).map_while(|_| next()).enumerate() {
            match &mut ids {
                // So that the id behind the last is a number, too.
                Self::From(first) if row == 0 && id.checked_add(len as i64).is_some() => {
                    *first = id;
                }
                Self::From(first) if row > 0 && *first + row as i64 == id => {}
                Self::From(first) => {
                    let mut each = with_capacity(len, "the ids")?;
                    each.extend(*first..*first + row as i64);
                    each.push(id);
                    ids = Self::Each(each);
                }
                Self::Each(each) => each.push(id),
            }
        }
        Ok(ids)
    }
}

/// Room for the codes of rows that follow each other in a segment.
pub(crate) enum Room<'a> {
    Nibbles(bands::Room<'a, PLANE>),
    Grouped(&'a mut [u8], bands::Room<'a, PLANE>),
    Columns(bands::Room<'a, COLUMNS>),
    Words(&'a mut [u16]),
    Longs(&'a mut [u32]),
}

impl Room<'_> {
    /// Writes codes `(rows, m)`, each below the codebook's `ks`, in its narrowest integer.
    pub(crate) fn write<T: Code>(self, codes: &[T], layout: &Layout) {
        match (self, T::wrap(Cow::Borrowed(codes)), layout) {
            (Self::Nibbles(room), CodeData::U8(codes), _) => room.nibbles(&codes, |_, code| code),
            (Self::Grouped(rows, plane), CodeData::U8(codes), Layout::Grouped(groups)) => {
                rows.copy_from_slice(&codes);
                plane.nibbles(&codes, |m, code| groups.of(m, code));
            }
            (Self::Columns(room), CodeData::U8(codes), _) => room.bytes(&codes),
            (Self::Words(rows), CodeData::U16(codes), _) => rows.copy_from_slice(&codes),
            (Self::Longs(rows), CodeData::U32(codes), _) => rows.copy_from_slice(&codes),
            _ => unreachable!("an index has one layout and one width"),
        }
    }
}

impl Segment {
    /// Room for `len` rows of `m` codes below `ks`, numbered from 0.
    pub(crate) fn empty(len: usize, m: usize, ks: usize, layout: &Layout) -> Result<Self> {
        let what = "the codes";
        let codes = size(&[len, m], what)?;
        let stored = match layout {
            Layout::Nibbles => Stored::Nibbles(Plane::of(len, m, layout.band(m))?),
            Layout::Grouped(_) => Stored::Grouped {
                codes: Memory::zeroed(codes, what)?,
                plane: Plane::of(len, m, layout.band(m))?,
            },
            Layout::Columns => Stored::Columns(Columns::of(len, m)?),
            Layout::Rows if ks <= u16::MAX_KS => Stored::Words(filled(codes, 0, what)?),
            Layout::Rows => Stored::Longs(filled(codes, 0, what)?),
        };
        Ok(Self { stored, ids: Ids::From(0), m, len })
    }

    /// All room, for `rows` rows each: whole blocks, but for the last.
    pub(crate) fn rooms(&mut self, rows: usize) -> impl Iterator<Item = Room<'_>> {
        let (codes, blocks) = (rows * self.m, rows / (2 * PLANE));
        let rooms: Box<dyn Iterator<Item = Room<'_>>> = match &mut self.stored {
            Stored::Nibbles(plane) => Box::new(plane.rooms(blocks).map(Room::Nibbles)),
            Stored::Grouped { codes: all, plane } => {
                let rooms = all.chunks_mut(codes).zip(plane.rooms(blocks));
                Box::new(rooms.map(|(rows, plane)| Room::Grouped(rows, plane)))
            }
            Stored::Columns(columns) => Box::new(columns.rooms(rows / COLUMNS).map(Room::Columns)),
            Stored::Words(all) => Box::new(all.chunks_mut(codes).map(Room::Words)),
            Stored::Longs(all) => Box::new(all.chunks_mut(codes).map(Room::Longs)),
        };
        rooms
    }

    /// Gives the rows their ids.
    pub(crate) fn name(&mut self, ids: Ids) {
        self.ids = ids;
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
