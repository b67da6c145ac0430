//! What goes wrong: each kind of fault by its name, whether it happens in a seed, and how often it did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::dice::Dice;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            pub const ALL: &'static [Self] = &[$(Self::$fault,)*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)*
                }
            }
        }
    };
}

faults! {
    /// A worker is killed, and started again.
    WorkerCrash "worker-crash",
    ClientCrash "client-crash",
    /// What is not synced is lost.
    BrokerCrash "broker-crash",
    /// A connection ends; both sides hear of it.
    Cut "cut",
    /// A connection ends; the broker holds it for alive for a while.
    HalfOpen "half-open",
    /// A worker stands still and goes on: a zombie.
    Pause "pause",
    /// A clock is set forward or back.
    ClockJump "clock-jump",
    /// Clocks disagree from the beginning.
    Skew "skew",
    SlowDisk "slow-disk",
    FullDisk "full-disk",
    /// One more worker comes.
    Join "join",
    /// A worker leaves in good order.
    Leave "leave",
    /// A worker comes that takes the application for another.
    Misled "misled",
    /// A worker comes whose code was changed without a new version.
    Mistaken "mistaken",
    /// A subscription is built again, and nobody is told.
    Resubscribe "resubscribe",
    /// What was handled long ago is delivered again, to anybody.
    StaleReplay "stale-replay",
    Delay "delay",
    /// A delivery comes twice.
    Duplicate "duplicate",
    /// A message is stored twice.
    StoredTwice "stored-twice",
    /// A message of one worker comes to another, too: both take the shard for their own.
    TwoOwners "two-owners",
    /// Deliveries of a key pass each other.
    Reorder "reorder",
    LostReceipt "lost-receipt",
    /// A receipt names no position, or one where the message is not.
    OtherReceipt "other-receipt",
    TimerEarly "timer-early",
    TimerLate "timer-late",
    TimerAgain "timer-again",
    /// A janitor's cursor is moved late, or once more.
    LateTrim "late-trim",
    /// A topic takes messages late, and the others do not.
    SlowTopic "slow-topic",
    /// A topic moves to another ledger; its clients come anew.
    Unload "unload",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().copied().find(|fault| fault.name() == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|fault| fault.name()).collect();
            anyhow::anyhow!("there is no fault `{name}`; there are {}", names.join(", "))
        })
    }
}

impl Fault {
    /// How long to wait for the next of those that come by themselves, in milliseconds; none for what befalls messages.
    fn every(self) -> Option<(u64, u64)> {
        match self {
            Self::WorkerCrash => Some((800, 6_000)),
            Self::ClientCrash => Some((2_000, 10_000)),
            Self::BrokerCrash => Some((3_000, 12_000)),
            Self::Cut | Self::HalfOpen => Some((700, 5_000)),
            Self::Pause => Some((1_500, 8_000)),
            Self::ClockJump => Some((2_000, 9_000)),
            Self::SlowDisk | Self::FullDisk => Some((3_000, 12_000)),
            Self::Join | Self::Leave => Some((2_000, 9_000)),
            Self::Misled | Self::Mistaken => Some((4_000, 12_000)),
            Self::Resubscribe => Some((800, 6_000)),
            Self::StaleReplay => Some((300, 3_000)),
            Self::SlowTopic | Self::Unload => Some((2_000, 8_000)),
            _ => None,
        }
    }

    /// The chance of a message to meet it, of a thousand.
    fn permille(self) -> u64 {
        match self {
            Self::Delay => 10,
            Self::Duplicate | Self::Reorder => 40,
            Self::StoredTwice | Self::TwoOwners => 30,
            Self::LostReceipt => 5,
            Self::OtherReceipt => 40,
            Self::LateTrim => 400,
            Self::TimerEarly | Self::TimerLate | Self::TimerAgain => 200,
            _ => 0,
        }
    }
}

/// The faults of one seed.
#[derive(Debug)]
pub struct Faults {
    on: BTreeSet<Fault>,
    dice: BTreeMap<Fault, Dice>,
    pub reached: BTreeMap<Fault, u64>,
    over: bool,
}

/// The stream of the choice of faults; each fault has the one of its own number behind it.
const STREAM: u64 = 1_000;
/// In a seed each kind of fault happens with this chance.
const CHANCE: u64 = 35;

impl Faults {
    pub fn new(seed: u64, without: &BTreeSet<Fault>) -> Self {
        let mut choice = Dice::new(seed, STREAM);
        let chosen: Vec<Fault> = Fault::ALL.iter().copied().filter(|_| choice.percent(CHANCE)).collect();
        let streams = Fault::ALL.iter().zip(STREAM + 1..);
        Self {
            on: chosen.into_iter().filter(|fault| !without.contains(fault)).collect(),
            dice: streams.map(|(fault, stream)| (*fault, Dice::new(seed, stream))).collect(),
            reached: BTreeMap::new(),
            over: false,
        }
    }

    /// No faults happen any more.
    pub fn end(&mut self) {
        self.over = true;
    }

    pub fn is_on(&self, fault: Fault) -> bool {
        !self.over && self.on.contains(&fault)
    }

    /// When the next one of a kind comes by itself.
    pub fn next(&mut self, fault: Fault) -> Option<u64> {
        let (low, high) = fault.every().filter(|_| self.is_on(fault))?;
        Some(self.dice(fault).within(low, high))
    }

    /// Whether a message meets a fault.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        if !self.is_on(fault) {
            return false;
        }
        let struck = self.dice(fault).permille(fault.permille());
        if struck {
            self.count(fault);
        }
        struck
    }

    pub fn count(&mut self, fault: Fault) {
        *self.reached.entry(fault).or_default() += 1;
    }

    /// The chance of one kind of fault.
    pub fn dice(&mut self, fault: Fault) -> &mut Dice {
        self.dice.get_mut(&fault).expect("every fault has its stream")
    }
}
