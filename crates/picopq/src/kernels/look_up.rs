//! Sums of table entries for many 8-bit codes, where registers hold the 256 entries of a sub-space
//! (AVX-512 VBMI): the four bytes of the entries apart, so that a shuffle looks up 64 of them.
//! Elsewhere, and for what is left over, the caller's loop has the same sums in the same order.

use super::{BYTE, InstructionSet, Kernels};
use crate::error::{Result, with_capacity};

/// Bytes of an entry.
const PLANES: usize = size_of::<f32>();

/// A table (m, 256), the bytes of its entries apart: (m, 4, 256).
pub(crate) struct Planes(Vec<[[u8; BYTE]; PLANES]>);

impl Planes {
    /// `None` where [`Kernels::look_up`] would do nothing with them.
    pub(crate) fn new(kernels: Kernels, table: &[[f32; BYTE]]) -> Result<Option<Self>> {
        if !kernels.looks_up_in_registers() {
            return Ok(None);
        }
        let mut planes = with_capacity(table.len(), "the table's bytes")?;
        for row in table {
            let mut apart = [[0; BYTE]; PLANES];
            for (byte, plane) in apart.iter_mut().enumerate() {
                for (byte_of, entry) in plane.iter_mut().zip(row) {
                    *byte_of = (entry.to_bits() >> (8 * byte)) as u8;
                }
            }
            planes.push(apart);
        }
        Ok(Some(Self(planes)))
    }
}

impl Kernels {
    fn looks_up_in_registers(self) -> bool {
        self.0 == InstructionSet::Avx512Vbmi
    }

    /// Writes the sum of the entries of each of the first codes (n, m), added in the order of the
    /// sub-spaces, and returns how many codes it took: all but less than 100.
    pub(crate) fn look_up(self, planes: &Planes, codes: &[u8], distances: &mut [f32]) -> usize {
        assert_eq!(codes.len(), planes.0.len() * distances.len());
        #[cfg(target_arch = "x86_64")]
        if self.looks_up_in_registers() {
            return super::look_up_vbmi::look_up(self, &planes.0, codes, distances);
        }
        0
    }
}
