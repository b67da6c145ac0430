//! Which messages of a batch are acknowledged (PIP-54).

/// The messages of a batch that are not acknowledged: a bit each, 64 to a word, the first message's bit lowest,
/// as `ack_set` travels in commands. Words that are missing at the end are zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Unacked(Vec<u64>);

/// A larger batch is acknowledged as a whole: its bits would take more memory than what they save.
const MESSAGES_MAX: u32 = 1 << 20;

impl Unacked {
    /// Bits beyond the batch's size are dropped.
    pub fn new(mut words: Vec<u64>, batch: u32) -> Unacked {
        let batch = batch.max(1) as usize;
        words.truncate(batch.div_ceil(64));
        if let Some(last) = words.get_mut(batch / 64) {
            *last &= (1 << (batch % 64)) - 1;
        }
        let mut unacked = Unacked(words);
        unacked.trim();
        unacked
    }

    /// All from this index on; `None` if the batch is too large for that.
    pub fn since(index: u32, batch: u32) -> Option<Unacked> {
        if batch > MESSAGES_MAX {
            return None;
        }
        let mut words = vec![u64::MAX; (batch as usize).div_ceil(64)];
        let (word, bit) = ((index / 64) as usize, index % 64);
        words.iter_mut().take(word).for_each(|word| *word = 0);
        if let Some(word) = words.get_mut(word) {
            *word &= u64::MAX << bit;
        }
        Some(Unacked::new(words, batch))
    }

    /// What is unacknowledged in both.
    pub fn intersect(&mut self, other: &Unacked) {
        self.0.truncate(other.0.len());
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub fn words(&self) -> &[u64] {
        &self.0
    }
}

/// The first message that an `ack_set` leaves unacknowledged.
pub fn first_index(words: &[u64]) -> Option<u32> {
    let word = words.iter().position(|word| *word != 0)?;
    Some(word as u32 * 64 + words[word].trailing_zeros())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn members(unacked: &Unacked) -> BTreeSet<u32> {
        (0..256).filter(|at| unacked.words().get(*at as usize / 64).is_some_and(|w| w >> (at % 64) & 1 == 1)).collect()
    }

    proptest! {
        #[test]
        fn it_agrees_with_plain_sets(
            first in proptest::collection::vec(any::<u64>(), 0..4),
            second in proptest::collection::vec(any::<u64>(), 0..4),
            batch in 1u32..200,
            index in 0u32..200,
        ) {
            let (mut one, two) = (Unacked::new(first, batch), Unacked::new(second, batch));
            let (plain, other) = (members(&one), members(&two));
            prop_assert!(plain.iter().all(|at| *at < batch));
            one.intersect(&two);
            let both: BTreeSet<u32> = plain.intersection(&other).copied().collect();
            prop_assert_eq!(members(&one), both.clone());
            prop_assert_eq!((one.count() as usize, one.is_empty()), (both.len(), both.is_empty()));
            prop_assert_eq!(first_index(one.words()), both.first().copied());
            let since = Unacked::since(index, batch).expect("small");
            prop_assert_eq!(members(&since), (index.min(batch)..batch).collect::<BTreeSet<u32>>());
        }
    }
}
