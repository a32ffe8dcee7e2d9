//! Memory for codes, in large pages where the system has them.
//!
//! A scan reads codes from end to end and rows here and there. A processor that finds an address for
//! each 4 KiB waits for many of those; a page of 2 MiB needs one.

use std::ops::{Deref, DerefMut};

use crate::error::{Result, filled};

/// Bytes that stay where they are.
pub(crate) enum Memory {
    Plain(Vec<u8>),
    #[cfg(target_os = "linux")]
    Pages {
        map: memmap2::MmapMut,
        bytes: std::ops::Range<usize>,
    },
}

impl Memory {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize, what: &'static str) -> Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(pages) = Self::pages(len) {
            return Ok(pages);
        }
        Ok(Self::Plain(filled(len, 0, what)?))
    }

    /// `None` where a page would not be filled, or the system has no room.
    #[cfg(target_os = "linux")]
    fn pages(len: usize) -> Option<Self> {
        const PAGE: usize = 1 << 21;
        if len < PAGE {
            return None;
        }
        // Pages lie at multiples of their length. Room before and behind is never touched.
        let map = memmap2::MmapMut::map_anon(len.checked_add(PAGE)?).ok()?;
        let first = map.as_ptr().align_offset(PAGE);
        let bytes = first..first.checked_add(len).filter(|&end| end <= map.len())?;
        // Where there are no large pages, small ones serve.
        let _ = map.advise_range(memmap2::Advice::HugePage, first, len / PAGE * PAGE);
        Some(Self::Pages { map, bytes })
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            #[cfg(target_os = "linux")]
            Self::Pages { map, bytes } => &map[bytes.clone()],
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Plain(bytes) => bytes,
            #[cfg(target_os = "linux")]
            Self::Pages { map, bytes } => &mut map[bytes.clone()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn memory_is_zero_and_keeps_what_is_written() {
        for len in [0, 1, 4096, (1 << 21) - 1, 1 << 21, (5 << 20) + 3] {
            let mut memory = Memory::zeroed(len, "a test").unwrap();
            assert!(memory.len() == len && memory.iter().all(|&byte| byte == 0), "{len}");
            memory.iter_mut().zip(0..).for_each(|(byte, at)| *byte = (at % 251) as u8);
            assert!(memory.iter().zip(0..).all(|(&byte, at)| byte == (at % 251) as u8), "{len}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        let len = isize::MAX as usize - 8;
        let refused = Memory::zeroed(len, "a test").err();
        assert_eq!(refused, Some(Error::OutOfMemory { bytes: len, what: "a test" }));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn large_memory_begins_with_a_page() {
        let memory = Memory::zeroed(3 << 20, "a test").unwrap();
        assert!(
            matches!(memory, Memory::Pages { .. })
                && memory.as_ptr().addr().is_multiple_of(1 << 21)
        );
    }
}
