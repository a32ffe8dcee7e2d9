//! Numbers out of the bytes of a target.

/// The input's bytes, zeros at its end.
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    pub fn next(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.next(), self.next()])) % end
    }

    /// Small and large, of either sign; few values, so that distances tie.
    pub fn float(&mut self) -> f32 {
        let byte = self.next();
        f32::from(byte as i8) * 2_f32.powi(i32::from(byte % 7) * 8 - 24)
    }

    pub fn random(&mut self) -> Random {
        Random(u64::from_le_bytes([0; 8].map(|_: u8| self.next())) | 1)
    }
}

/// Xorshift: as many numbers as it takes, of eight bytes.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end
    }
}
