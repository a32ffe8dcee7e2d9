//! numpy's legacy random stream (MT19937), so that a seed picks the rows that nanopq picks.
//!
//! Matsumoto and Nishimura 1998; the derived draws follow `numpy.random.RandomState`, whose stream
//! is frozen. Deterministic on every machine.

use crate::error::{Result, with_capacity};
use crate::threads::Task;

/// Draws between two looks at whether the task is cancelled: about a millisecond's.
const CHECK_DRAWS: usize = 1 << 16;

/// The generator behind `numpy.random.seed(seed)`.
pub(crate) struct LegacyRandom {
    state: [u32; N],
    next: usize,
    spare_normal: Option<f64>,
}

const N: usize = 624;
const M: usize = 397;

impl LegacyRandom {
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [seed; N];
        for i in 1..N {
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = previous.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: N, spare_normal: None }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (joined >> 1) ^ twist;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in [0, 1) with 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// Uniform in `0..=most` by masked rejection; draws nothing when `most` is 0.
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        if most == 0 {
            return 0;
        }
        let mask = u64::MAX >> most.leading_zeros();
        loop {
            let draw = if most <= u64::from(u32::MAX) {
                u64::from(self.next_u32())
            } else {
                let high = u64::from(self.next_u32());
                (high << 32) | u64::from(self.next_u32())
            };
            if draw & mask <= most {
                return draw & mask;
            }
        }
    }

    /// The first `count` entries of a random permutation of `0..n` (the whole is drawn).
    pub(crate) fn choose(&mut self, n: usize, count: usize, task: &Task) -> Result<Vec<usize>> {
        let mut order = with_capacity(n, "the order of the rows")?;
        order.extend(0..n);
        for i in (1..n).rev() {
            if i.is_multiple_of(CHECK_DRAWS) {
                task.check()?;
            }
            order.swap(i, self.up_to(i as u64) as usize);
        }
        order.truncate(count);
        Ok(order)
    }

    /// Standard normal deviates.
    pub(crate) fn normals(&mut self, count: usize, task: &Task) -> Result<Vec<f64>> {
        let mut normals = with_capacity(count, "the random numbers")?;
        while normals.len() < count {
            task.check()?;
            let more = CHECK_DRAWS.min(count - normals.len());
            normals.extend((0..more).map(|_| self.normal()));
        }
        Ok(normals)
    }

    /// A standard normal deviate (polar method; the second of each pair is kept for the next call).
    pub(crate) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let r2 = x * x + y * y;
            if r2 < 1.0 && r2 != 0.0 {
                let scale = (-2.0 * r2.ln() / r2).sqrt();
                self.spare_normal = Some(scale * x);
                return scale * y;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected values were printed by numpy.random.RandomState(123).

    #[test]
    fn uniform_matches_numpy() {
        let mut random = LegacyRandom::new(123);
        let draws = [random.uniform(), random.uniform(), random.uniform()];
        assert_eq!(draws, UNIFORM);
    }

    #[test]
    fn permutation_matches_numpy() {
        assert_eq!(LegacyRandom::new(123).choose(20, 8, &Task::new()).unwrap(), PERMUTATION);
    }

    #[test]
    fn integers_match_numpy() {
        let mut random = LegacyRandom::new(123);
        let draws: Vec<u64> = (0..4).map(|_| random.up_to(99_999)).collect();
        assert_eq!(draws, INTEGERS);
        assert_eq!(random.up_to(0), 0);
    }

    #[test]
    fn normals_match_numpy() {
        let mut random = LegacyRandom::new(123);
        for wanted in NORMALS {
            let got = random.normal();
            assert!((got - wanted).abs() < 1e-15, "{got} against {wanted}");
        }
    }

    const UNIFORM: [f64; 3] = [0.6964691855978616, 0.28613933495037946, 0.2268514535642031];
    const PERMUTATION: [usize; 8] = [14, 5, 4, 17, 8, 7, 19, 12];
    const INTEGERS: [u64; 4] = [15725, 28030, 17730, 61404];
    const NORMALS: [f64; 5] = [
        -1.0856306033005612,
        0.9973454465835858,
        0.28297849805199204,
        -1.506294713918092,
        -0.5786002519685364,
    ];
}
