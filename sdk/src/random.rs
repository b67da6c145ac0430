//! Random values that are the same in every replay.
//!
//! The algorithm is fixed, as old histories depend on it: ChaCha with 8 rounds (`rand_chacha` 0.9,
//! `ChaCha8Rng`), seeded with the 16 bytes of the run id twice. Integers of up to 64 bits and floats
//! take one 64-bit word, 128-bit integers two (the low half first); ranges are drawn by Lemire's
//! multiplication with rejection (<https://arxiv.org/abs/1805.10941>), so they may take more. Test
//! vectors stand at the end of this file.

use std::ops::{Range, RangeInclusive};

use everpulse_protocol::RunId;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use uuid::Uuid;

use crate::replay::core::Core;

const INSTEAD: &str = "in an activity or elsewhere use the crate `rand` or `uuid`";

pub(crate) fn seeded(run: RunId) -> ChaCha8Rng {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(run.0.as_bytes());
    seed[16..].copy_from_slice(run.0.as_bytes());
    ChaCha8Rng::from_seed(seed)
}

/// A random value: any integer or `bool`, or a float from 0 up to but without 1.
///
/// # Determinism
/// A function of the run id and of what was drawn before.
///
/// # Panics
/// Outside a workflow.
#[must_use]
pub fn random<T: Random>() -> T {
    Core::current("`random` was called", INSTEAD).with_random(T::draw)
}

/// A random value of a range, all of which are equally likely.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::workflow(crate = everpulse)]
/// # async fn dice() -> u8 {
/// everpulse::random_range(1..=6)
/// # }
/// ```
///
/// # Determinism
/// A function of the run id and of what was drawn before.
///
/// # Panics
/// When the range is empty, and outside a workflow.
#[must_use]
pub fn random_range<T>(range: impl RandomRange<T>) -> T {
    Core::current("`random_range` was called", INSTEAD).with_random(|rng| range.draw(rng))
}

/// A random UUID (version 4).
///
/// # Determinism
/// A function of the run id and of what was drawn before.
///
/// # Panics
/// Outside a workflow.
#[must_use]
pub fn uuid() -> Uuid {
    Core::current("`uuid` was called", INSTEAD).with_random(draw_uuid)
}

fn draw_uuid(rng: &mut ChaCha8Rng) -> Uuid {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

mod sealed {
    pub trait Sealed {}
}

/// A type of which [`random`] gives values.
pub trait Random: sealed::Sealed {
    #[doc(hidden)]
    fn draw(rng: &mut ChaCha8Rng) -> Self;
}

/// A range of which [`random_range`] gives values.
pub trait RandomRange<T>: sealed::Sealed {
    #[doc(hidden)]
    fn draw(self, rng: &mut ChaCha8Rng) -> T;
}

/// A value below `span`; a span of 0 stands for 2^64.
fn below(span: u64, rng: &mut ChaCha8Rng) -> u64 {
    if span == 0 {
        return rng.next_u64();
    }
    let rejected = span.wrapping_neg() % span;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(span);
        let (high, low) = ((product >> 64) as u64, product as u64);
        if low >= rejected {
            return high;
        }
    }
}

macro_rules! integers {
    ($($type:ident as $unsigned:ident),*) => { $(
        impl sealed::Sealed for $type {}
        impl sealed::Sealed for Range<$type> {}
        impl sealed::Sealed for RangeInclusive<$type> {}

        impl Random for $type {
            fn draw(rng: &mut ChaCha8Rng) -> Self {
                rng.next_u64() as $type
            }
        }

        impl RandomRange<$type> for Range<$type> {
            fn draw(self, rng: &mut ChaCha8Rng) -> $type {
                assert!(self.start < self.end, "`random_range` was called with the empty range {self:?}");
                let span = self.end.wrapping_sub(self.start) as $unsigned as u64;
                self.start.wrapping_add(below(span, rng) as $type)
            }
        }

        impl RandomRange<$type> for RangeInclusive<$type> {
            fn draw(self, rng: &mut ChaCha8Rng) -> $type {
                assert!(!self.is_empty(), "`random_range` was called with the empty range {self:?}");
                let (start, end) = self.into_inner();
                let span = (end.wrapping_sub(start) as $unsigned as u64).wrapping_add(1);
                start.wrapping_add(below(span, rng) as $type)
            }
        }
    )* };
}

integers!(
    u8 as u8,
    u16 as u16,
    u32 as u32,
    u64 as u64,
    usize as usize,
    i8 as u8,
    i16 as u16,
    i32 as u32,
    i64 as u64,
    isize as usize
);

impl sealed::Sealed for bool {}
impl sealed::Sealed for u128 {}
impl sealed::Sealed for i128 {}
impl sealed::Sealed for f32 {}
impl sealed::Sealed for f64 {}
impl sealed::Sealed for Range<f64> {}

impl Random for bool {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        rng.next_u64() >> 63 == 1
    }
}

impl Random for u128 {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let low = u128::from(rng.next_u64());
        low | u128::from(rng.next_u64()) << 64
    }
}

impl Random for i128 {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        u128::draw(rng) as i128
    }
}

impl Random for f32 {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        (rng.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }
}

impl Random for f64 {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl RandomRange<f64> for Range<f64> {
    fn draw(self, rng: &mut ChaCha8Rng) -> f64 {
        assert!(self.start < self.end, "`random_range` was called with the empty range {self:?}");
        let value = self.start + (self.end - self.start) * f64::draw(rng);
        // Rounding can reach the end, which is not in the range.
        value.min(self.end.next_down())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rng() -> ChaCha8Rng {
        seeded(RunId(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)))
    }

    #[test]
    fn the_algorithm_has_test_vectors() {
        let mut rng = rng();
        // Computed by an implementation of ChaCha of its own, in another language.
        assert_eq!([u64::draw(&mut rng), u64::draw(&mut rng)], [11_162_022_798_745_813_360, 5_105_614_804_898_924_483]);
        assert_eq!(draw_uuid(&mut rng).to_string(), "61350f6b-383d-4fdf-9203-108154f6c5e7");
        assert_eq!((1..=6_u8).draw(&mut rng), 5);
        assert_eq!(f64::draw(&mut rng).to_bits(), 4_599_788_122_662_002_522);
        assert_eq!(u128::draw(&mut rng), 154_044_180_204_285_359_365_027_286_517_167_062);
    }

    #[test]
    fn ranges_reach_both_ends_and_no_further() {
        let mut rng = rng();
        let drawn: std::collections::BTreeSet<i8> = (0..500).map(|_| (-3..=3_i8).draw(&mut rng)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [-3, -2, -1, 0, 1, 2, 3]);
        let drawn: std::collections::BTreeSet<i64> =
            (0..500).map(|_| (i64::MIN..i64::MIN + 2).draw(&mut rng)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [i64::MIN, i64::MIN + 1]);
        for _ in 0..100 {
            let _ = (u64::MIN..=u64::MAX).draw(&mut rng);
            assert!((0.5..0.6).contains(&(0.5..0.6).draw(&mut rng)));
        }
    }

    #[test]
    #[should_panic(expected = "`random_range` was called with the empty range 5..5")]
    fn an_empty_range_is_refused() {
        let _ = (5..5_u32).draw(&mut rng());
    }
}
