//! PQ codes: `(n, m)` unsigned integers, each below `ks` by construction.

use std::borrow::Cow;

use crate::error::{Error, Result};

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
}

/// An integer that holds one sub-space's code: `u8` for ks <= 2^8, `u16` for ks <= 2^16, else `u32`.
pub trait Code: Copy + Default + Ord + Send + Sync + 'static + sealed::Sealed {
    /// The largest `ks` whose codes fit.
    const MAX_KS: usize;
    /// Narrows an index that is below `MAX_KS`.
    fn from_index(index: u32) -> Self;
    /// Widens to an index.
    fn index(self) -> usize;
    /// The codes, where they are bytes.
    #[doc(hidden)]
    fn as_bytes(codes: &[Self]) -> Option<&[u8]>;
    /// The integers, where they are of this type.
    #[doc(hidden)]
    fn of<'a>(data: &'a CodeData<'_>) -> Option<&'a [Self]>;
    #[doc(hidden)]
    fn wrap(codes: Cow<'_, [Self]>) -> CodeData<'_>;
}

macro_rules! code {
    ($type:ty, $variant:ident, $max:expr, $as_bytes:expr) => {
        impl Code for $type {
            const MAX_KS: usize = $max;
            fn from_index(index: u32) -> Self {
                index as Self
            }
            fn index(self) -> usize {
                self as usize
            }
            fn as_bytes(codes: &[Self]) -> Option<&[u8]> {
                $as_bytes(codes)
            }
            fn of<'a>(data: &'a CodeData<'_>) -> Option<&'a [Self]> {
                match data {
                    CodeData::$variant(codes) => Some(codes),
                    _ => None,
                }
            }
            fn wrap(codes: Cow<'_, [Self]>) -> CodeData<'_> {
                CodeData::$variant(codes)
            }
        }
    };
}
code!(u8, U8, 1 << 8, Some);
code!(u16, U16, 1 << 16, |_| None);
code!(u32, U32, (u32::MAX as usize).saturating_add(1), |_| None);

/// The integers of [`Codes`], by width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeData<'a> {
    /// For ks <= 2^8.
    U8(Cow<'a, [u8]>),
    /// For ks <= 2^16.
    U16(Cow<'a, [u16]>),
    /// For ks <= 2^32.
    U32(Cow<'a, [u32]>),
}

/// Codes, shape `(n, m)`, borrowed or owned; every one is below `ks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes<'a> {
    data: CodeData<'a>, // (n, m)
    m: usize,
    ks: usize,
}

/// Runs a body with the integers as one typed slice.
macro_rules! with_codes {
    ($codes:expr, |$slice:ident| $body:expr) => {
        match $codes.data() {
            $crate::codes::CodeData::U8($slice) => $body,
            $crate::codes::CodeData::U16($slice) => $body,
            $crate::codes::CodeData::U32($slice) => $body,
        }
    };
}
pub(crate) use with_codes;

/// Runs a body with the narrowest code type for `ks` codewords.
macro_rules! with_width {
    ($ks:expr, $type:ident, $body:expr) => {{
        let ks = $ks;
        if ks <= <u8 as $crate::codes::Code>::MAX_KS {
            type $type = u8;
            $body
        } else if ks <= <u16 as $crate::codes::Code>::MAX_KS {
            type $type = u16;
            $body
        } else {
            type $type = u32;
            $body
        }
    }};
}
pub(crate) use with_width;

impl<'a> Codes<'a> {
    /// Views or takes `codes` as rows of `m`, for codebooks of `ks` codewords.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `m` is 0 or the integer is too narrow or `ks` is 0,
    /// [`Error::LengthMismatch`] for an unfinished row, [`Error::CodeOutOfRange`] with the first
    /// code that is not below `ks`.
    ///
    /// ```
    /// let codes = picopq::Codes::new(&[0_u8, 3, 2, 1][..], 2, 4)?;
    /// assert_eq!((codes.len(), codes.m()), (2, 2));
    /// # Ok::<(), picopq::Error>(())
    /// ```
    pub fn new<T: Code>(codes: impl Into<Cow<'a, [T]>>, m: usize, ks: usize) -> Result<Self> {
        let codes = codes.into();
        check_shape::<T>(codes.len(), m, ks)?;
        let codes = Self { data: T::wrap(codes), m, ks: T::MAX_KS };
        codes.check_below(ks)?;
        Ok(Self { ks, ..codes })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        with_codes!(self, |codes| codes.len()) / self.m
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Codes in a row, one for each sub-space.
    #[must_use]
    pub fn m(&self) -> usize {
        self.m
    }

    /// Every code is below this.
    #[must_use]
    pub fn ks(&self) -> usize {
        self.ks
    }

    /// Checks that the codes, made perhaps for a larger codebook, are below `ks`.
    pub(crate) fn check_below(&self, ks: usize) -> Result<()> {
        if self.ks <= ks {
            return Ok(());
        }
        with_codes!(self, |codes| {
            // A fold by value vectorises; a search, or a maximum of references, does not.
            if codes.iter().copied().fold(Code::from_index(0), Ord::max).index() < ks {
                return Ok(());
            }
            let first = codes.iter().position(|code| code.index() >= ks).unwrap_or(0);
            Err(Error::CodeOutOfRange {
                code: codes[first].index() as u64,
                row: first / self.m,
                sub_space: first % self.m,
                ks,
            })
        })
    }

    /// The integers, taken out.
    #[must_use]
    pub fn into_data(self) -> CodeData<'a> {
        self.data
    }

    /// The integers, shape `(n, m)`.
    #[must_use]
    pub fn data(&self) -> &CodeData<'a> {
        &self.data
    }
}

/// Checks that `len` integers of type `T` are whole rows of `m` codes below some `ks`.
pub(crate) fn check_shape<T: Code>(len: usize, m: usize, ks: usize) -> Result<()> {
    if m == 0 {
        return Err(Error::OutOfRange { argument: "m", got: 0, wanted: "at least 1" });
    }
    if ks == 0 || ks > T::MAX_KS {
        let wanted = "1 to the number of values of the code's integer type";
        return Err(Error::OutOfRange { argument: "ks", got: ks as u64, wanted });
    }
    if !len.is_multiple_of(m) {
        let expected = (len / m + 1).saturating_mul(m);
        return Err(Error::LengthMismatch { argument: "codes", expected, got: len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_out_of_range_is_named() {
        let error = Codes::new(&[0_u16, 1, 299, 300, 301, 0][..], 2, 300).unwrap_err();
        let wanted = Error::CodeOutOfRange { code: 300, row: 1, sub_space: 1, ks: 300 };
        assert_eq!(error, wanted);
        assert!(Codes::new(&[255_u8][..], 1, 256).is_ok());
    }

    #[test]
    fn shapes_and_widths_are_checked() {
        assert!(matches!(Codes::new(&[0_u8; 3][..], 2, 4), Err(Error::LengthMismatch { .. })));
        assert!(matches!(Codes::new(&[0_u8; 2][..], 0, 4), Err(Error::OutOfRange { .. })));
        assert!(matches!(Codes::new(&[0_u8; 2][..], 1, 257), Err(Error::OutOfRange { .. })));
        assert!(matches!(Codes::new(&[0_u8; 2][..], 1, 0), Err(Error::OutOfRange { .. })));
    }
}
