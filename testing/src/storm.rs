//! Faults and chance, by seed.
//!
//! Whether a fault strikes is drawn for each opportunity by itself, from the seed, the kind of fault and its number. So one
//! fault can be left out and the others stay, which makes a list of faults short; what is done when, is drawn from dice.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An owner dies before an effect.
    CrashBefore,
    /// An owner dies after an effect, of which it never hears.
    CrashAfter,
    /// An owner is stopped, taken for dead, and goes on later.
    Stall,
    /// A frame is stored, and its receipt is lost.
    LostReceipt,
    /// A message is delivered once more.
    Duplicate,
    /// An activity's worker dies when the work is done.
    LostResult,
    /// An attempt fails that has others after it.
    FailedAttempt,
    /// Time passes while there is something to do.
    Late,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Stall,
        Self::LostReceipt,
        Self::Duplicate,
        Self::LostResult,
        Self::FailedAttempt,
        Self::Late,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CrashBefore | Self::CrashAfter => "crash",
            Self::Stall => "stall",
            Self::LostReceipt => "lost receipt",
            Self::Duplicate => "duplicate",
            Self::LostResult => "lost result",
            Self::FailedAttempt => "failed attempt",
            Self::Late => "late",
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is below a usize")
    }
}

/// A fault that struck: its kind, which opportunity it was, and what it hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Struck {
    pub fault: Fault,
    pub opportunity: u64,
    what: String,
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.fault.name(), self.what)
    }
}

/// The faults and the chance of one play.
#[derive(Debug)]
pub(crate) struct Storm {
    seed: u64,
    pub dice: Dice,
    /// These alone strike.
    only: Option<BTreeSet<(Fault, u64)>>,
    opportunities: BTreeMap<Fault, u64>,
    /// Of how many opportunities one is a fault; none: this kind does not strike.
    one_in: BTreeMap<Fault, u64>,
    /// So many strike at most.
    most: usize,
    pub struck: Vec<Struck>,
    eager_percent: usize,
    live_runs_max: usize,
}

impl Storm {
    pub fn new(seed: u64, only: Option<BTreeSet<(Fault, u64)>>) -> Self {
        let mut weather = Dice::new(mixed(&[seed, 1]));
        let mut one_in = BTreeMap::new();
        for fault in Fault::ALL {
            if weather.below(3) > 0 {
                one_in.insert(fault, [3, 8, 20, 50][weather.below(4)]);
            }
        }
        Self {
            seed,
            dice: Dice::new(mixed(&[seed, 2])),
            only,
            opportunities: BTreeMap::new(),
            one_in,
            most: 1 + weather.below(12),
            struck: Vec::new(),
            eager_percent: [0, 50, 100][weather.below(3)],
            // 0: every run is replayed for each event.
            live_runs_max: [0, 1, 64][weather.below(3)],
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether the next owner runs activities itself.
    pub fn is_eager(&mut self) -> bool {
        self.dice.below(100) < self.eager_percent
    }

    pub fn live_runs_max(&self) -> usize {
        self.live_runs_max
    }

    /// Whether a fault strikes at this opportunity.
    pub fn strikes(&mut self, fault: Fault, what: impl FnOnce() -> String) -> bool {
        let count = self.opportunities.entry(fault).or_default();
        let opportunity = *count;
        *count += 1;
        let strikes = match (&self.only, self.one_in.get(&fault)) {
            (Some(only), _) => only.contains(&(fault, opportunity)),
            (None, Some(one_in)) => {
                mixed(&[self.seed, 3, fault as u64, opportunity]).is_multiple_of(*one_in)
                    && self.struck.len() < self.most
            }
            (None, None) => false,
        };
        if strikes {
            self.struck.push(Struck { fault, opportunity, what: what() });
        }
        strikes
    }
}

fn mixed(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |mixed, part| Dice::new(mixed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93)).next())
}

/// What a panic said, as far as it said it in words.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(only: Option<BTreeSet<(Fault, u64)>>) -> Vec<Struck> {
        let mut storm = Storm::new(17, only);
        storm.one_in = Fault::ALL.map(|fault| (fault, 10)).into();
        storm.most = usize::MAX;
        for place in 0..100 {
            for fault in Fault::ALL {
                storm.strikes(fault, || format!("{place}"));
            }
        }
        storm.struck
    }

    #[test]
    fn a_fault_that_is_left_out_changes_no_other() {
        let all = play(None);
        assert!(all.len() > 40, "{}", all.len());
        let others: Vec<Struck> =
            all.iter().enumerate().filter(|(at, _)| *at != 3).map(|(_, one)| one.clone()).collect();
        let only = others.iter().map(|struck| (struck.fault, struck.opportunity)).collect();
        assert_eq!(play(Some(only)), others);
        assert_eq!(play(Some(BTreeSet::new())), []);
    }
}
