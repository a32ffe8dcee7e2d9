//! Lower bounds of distances in bytes: what the screens add up.
//!
//! With t(m, c) the key of codeword c in sub-space m, l(m) the least of them, b = sum l(m) and a
//! limit T, a code whose key is at most T has
//!
//! ```text
//! sum over m of floor((t(m, c) - l(m)) * 254 / room) <= 254,    room = T - b + rounding
//! ```
//!
//! so that a larger sum, or one that saturates, excludes it. `rounding` covers the f32 sum of the
//! exact scan: its error is at most m 2^-24 times the sum of the magnitudes added, of which each,
//! for such a code, is at most |l(m)| + |T - b|.

use crate::error::{Result, collected};
use crate::kernels::byte;

/// What the limit stands for when the table is made.
const FULL: f64 = 254.0;
/// The table is made anew when the limit has fallen so far that the bytes get coarse.
const COARSE: f64 = 128.0;
/// Rooms outside it do not divide in f32: a smaller one is taken as the least, a larger is not screened.
const ROOM: std::ops::Range<f64> = 1e-30..1e37;
/// Rounds down more than the three f32 operations of an entry can round up.
const DOWN: f64 = 1.0 - 1.0 / (1 << 20) as f64;

/// The bytes of one query's table (m, width), made for a limit and used while it falls.
pub(crate) struct Bound {
    least: Vec<f32>, // (m,)
    base: f64,
    magnitude: f64,
    /// What [`FULL`] stands for; 0 before the first table.
    room: f64,
}

/// What a limit asks of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aim {
    /// The table serves, with this bound.
    Keep(u8),
    /// The table is to be made anew, see [`Bound::fit`].
    Renew,
    /// Bytes do not help.
    Blind,
}

impl Bound {
    /// `keys` has the shape `(m, width)`.
    pub(crate) fn new(keys: &[f32], width: usize) -> Result<Self> {
        let rows = keys.chunks_exact(width);
        let of_row = |row: &[f32]| row.iter().copied().fold(f32::INFINITY, f32::min);
        let least = collected(rows.map(of_row), keys.len() / width, "the least entries")?;
        let base = least.iter().map(|&least: &f32| f64::from(least)).sum();
        let magnitude = least.iter().map(|&least| f64::from(least).abs()).sum();
        Ok(Self { least, base, magnitude, room: 0.0 })
    }

    /// How the table that there is serves a limit.
    pub(crate) fn aim(&self, limit: f32) -> Aim {
        let Some(room) = self.room_for(limit) else { return Aim::Blind };
        let bound = FULL * room / self.room;
        if room <= self.room && (bound >= COARSE || self.room == ROOM.start) {
            Aim::Keep(rounded_up(bound))
        } else {
            Aim::Renew
        }
    }

    /// From here on the table is that of [`Bound::entries`], made for this limit; returns its bound.
    pub(crate) fn fit(&mut self, limit: f32) -> u8 {
        self.room = self.room_for(limit).unwrap_or(ROOM.end);
        FULL as u8
    }

    /// The bound of a limit in the bytes of the table that there is. It is 255, which every sum passes,
    /// where the limit is far enough above what the table was made for.
    pub(crate) fn of(&self, limit: f32) -> u8 {
        self.room_for(limit).map_or(u8::MAX, |room| rounded_up(FULL * room / self.room))
    }

    /// What the bytes of codes within the limit share; `None` where they cannot.
    fn room_for(&self, limit: f32) -> Option<f64> {
        let above = f64::from(limit) - self.base;
        let m = self.least.len() as f64;
        let rounding = 1.1 * m * f64::from(f32::EPSILON) * (self.magnitude + m * above.abs());
        let room = (above.max(0.0) + rounding).max(ROOM.start);
        ROOM.contains(&room).then_some(room)
    }

    /// The least key of each sub-space.
    pub(crate) fn least(&self) -> &[f32] {
        &self.least
    }

    /// What makes a key above the least a [`byte`].
    pub(crate) fn scale(&self) -> f32 {
        (FULL / self.room * DOWN) as f32
    }

    /// The bytes of the keys (m, width), in order.
    pub(crate) fn entries(&self, keys: &[f32], width: usize) -> impl Iterator<Item = u8> {
        let scale = self.scale();
        keys.chunks_exact(width)
            .zip(&self.least)
            .flat_map(move |(row, &least)| row.iter().map(move |&key| byte(key, least, scale)))
    }
}

/// Up by more than f64 can have rounded it down.
fn rounded_up(bound: f64) -> u8 {
    (bound * (1.0 + 1e-9)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    /// Whatever the table and the limit, no code at or below the limit is excluded.
    #[test]
    fn no_answer_is_excluded() {
        let mut random = LegacyRandom::new(11);
        for m in [1, 2, 7, 40, 300] {
            for scale in [1e-36, 1e-3, 1.0, 1e6, 1e30] {
                for spread in [0.0, 1e-6, 1.0] {
                    let offset = random.normal();
                    let keys: Vec<f32> = (0..m * 16)
                        .map(|_| (scale * (offset + spread * random.normal())) as f32)
                        .collect();
                    let mut bound = Bound::new(&keys, 16).unwrap();
                    let mut sums: Vec<(f32, Vec<usize>)> = (0..200)
                        .map(|_| {
                            let code: Vec<usize> =
                                (0..m).map(|_| random.up_to(15) as usize).collect();
                            let entries = code.iter().enumerate().map(|(m, c)| keys[m * 16 + c]);
                            (entries.fold(0.0, |sum, entry| sum + entry), code)
                        })
                        .collect();
                    sums.sort_by(|a, b| b.0.total_cmp(&a.0));
                    let mut bytes = Vec::new();
                    for at in 0..sums.len() {
                        let limit = sums[at].0;
                        let most = match bound.aim(limit) {
                            Aim::Keep(most) => most,
                            Aim::Renew => {
                                let most = bound.fit(limit);
                                bytes = bound.entries(&keys, 16).collect();
                                most
                            }
                            Aim::Blind => continue,
                        };
                        for (_, code) in &sums[at..] {
                            let sum = code
                                .iter()
                                .enumerate()
                                .fold(0_u8, |sum, (m, c)| sum.saturating_add(bytes[m * 16 + c]));
                            assert!(sum <= most, "m {m} scale {scale} spread {spread}");
                        }
                    }
                }
            }
        }
    }

    /// An entry rounded up could exclude a code that is at the limit.
    #[test]
    fn no_entry_is_rounded_up() {
        let mut random = LegacyRandom::new(13);
        for scale in [1e-20, 1.0, 1e20] {
            let key = |_| (scale * random.normal().abs()) as f32;
            let keys: Vec<f32> = (0..1 << 20).map(key).collect();
            let mut bound = Bound::new(&keys, keys.len()).unwrap();
            assert_eq!(bound.fit((2.0 * scale) as f32), 254);
            let least = f64::from(bound.least[0]);
            for (entry, key) in bound.entries(&keys, keys.len()).zip(&keys) {
                let exact = FULL / bound.room * (f64::from(*key) - least);
                assert!(f64::from(entry) <= exact, "{entry} for {exact}");
            }
        }
    }

    /// The f32 sum of these keys is further below their sum than the bytes are.
    #[test]
    fn a_sum_that_is_rounded_down_is_not_excluded() {
        // The last half of a step between floats from 128 on, almost: each addition there loses it.
        let key = 1.0 + 1.0 / (1 << 17) as f32 - f32::EPSILON;
        let m = 190;
        let sum = (0..m).fold(0.0_f32, |sum, _| sum + key);
        assert!(f64::from(sum) < f64::from(key) * f64::from(m) - 4e-4);
        // At some of these limits the bytes are hardly above 1 before they are rounded.
        for at in 0..2000 {
            let limit = 254.1 - at as f32 / 1e4;
            let keys = [0.0, key].repeat(m as usize);
            let mut bound = Bound::new(&keys, 2).unwrap();
            assert_eq!(bound.fit(limit), 254);
            let bytes: u32 = bound.entries(&keys, 2).map(u32::from).sum();
            assert!(bytes <= bound.of(sum).into(), "limit {limit}");
        }
    }

    /// Making the bytes takes as long as adding up those of thousands of rows.
    #[test]
    fn a_limit_that_stays_keeps_the_table() {
        let mut random = LegacyRandom::new(17);
        for _ in 0..1000 {
            let keys = [0.0; 6].map(|least: f32| least + random.uniform() as f32);
            let limit = 6.0 * random.uniform() as f32;
            let mut bound = Bound::new(&keys, 2).unwrap();
            assert_eq!(bound.aim(limit), Aim::Renew, "{keys:?} {limit}");
            assert_eq!(bound.fit(limit), 254);
            assert_eq!(bound.aim(limit), Aim::Keep(254), "{keys:?} {limit}");
        }
    }

    #[test]
    fn a_limit_that_halves_renews_the_table() {
        let keys = [0.0, 10.0, 0.0, 10.0];
        let mut bound = Bound::new(&keys, 2).unwrap();
        let bytes = |bound: &Bound| bound.entries(&keys, 2).collect::<Vec<_>>();
        assert_eq!(bound.aim(f32::INFINITY), Aim::Blind);
        assert_eq!((bound.aim(16.0), bound.fit(16.0)), (Aim::Renew, 254));
        assert_eq!((bound.aim(16.0), bound.of(16.0)), (Aim::Keep(254), 254));
        assert_eq!(bytes(&bound), [0, 158, 0, 158]);
        assert!(matches!(bound.aim(12.0), Aim::Keep(190 | 191)));
        assert!(matches!([bound.of(12.0), bound.of(7.0)], [190 | 191, 111 | 112]));
        assert_eq!((bound.aim(7.0), bound.fit(7.0)), (Aim::Renew, 254));
        assert_eq!(bytes(&bound), [0, 255, 0, 255]);
    }
}
