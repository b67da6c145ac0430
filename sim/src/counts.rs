//! How often what is to be tested was reached.

use std::collections::BTreeMap;

use crate::faults::Fault;

/// What happened in one seed, or in many.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub faults: BTreeMap<Fault, u64>,
    /// Appends whose receipt did not come, or did not say where.
    pub open_appends: u64,
    /// Inputs that were published before their worker subscribed.
    pub suspects: u64,
    /// Shards refused by workers that were misled about the application.
    pub refusals: u64,
    /// Tasks that came to a worker that knew them.
    pub tasks_known: u64,
    pub retries: u64,
    /// Wake-ups that were sent on.
    pub wakes: u64,
    pub asked_again: u64,
    pub starts_again: u64,
    pub not_found: u64,
    /// Trims that shards asked for.
    pub trims: u64,
    /// Inputs that were delivered a second time.
    pub redelivered: u64,

    pub runs: u64,
    /// Records that stand.
    pub events: u64,
    pub replayed: u64,
    pub void: u64,
    /// Shards that more than one worker wrote.
    pub shared_shards: u64,
    pub local_effects: u64,
    pub local_repeats: u64,
    pub parked: u64,
    pub letters: u64,
    pub effects: u64,
    /// From peace until everything was settled.
    pub settled_after_ms: u64,
    /// Steps of the simulation.
    pub steps: u64,
}

/// The rules, and by what one sees that a seed has put them to the test.
pub const RULES: [&str; 10] = [
    "a run is a function of its history: runs replayed from it",
    "the log is the lock: void frames",
    "nothing leaves before its cause stands: frames whose fate was open",
    "acks come last: inputs that came again",
    "Key_Shared gives affinity: shards that several workers wrote",
    "results of local work: local effects",
    "time: wake-ups sent on",
    "retention: questions asked again, starts sent again, signals for nobody",
    "a mismatch stops a run: parkings and inputs on trial",
    "set up before the first publish: shards refused to the misled",
];

impl Counts {
    /// How often each rule was put to the test.
    pub fn rules(&self) -> [u64; 10] {
        [
            self.replayed,
            self.void,
            self.open_appends,
            self.redelivered,
            self.shared_shards,
            self.local_effects,
            self.wakes,
            self.asked_again + self.starts_again + self.not_found + self.trims,
            self.parked + self.suspects,
            self.refusals,
        ]
    }

    pub fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        let Self {
            faults: _,
            open_appends,
            suspects,
            refusals,
            tasks_known,
            retries,
            wakes,
            asked_again,
            starts_again,
            not_found,
            trims,
            redelivered,
            runs,
            events,
            replayed,
            void,
            shared_shards,
            local_effects,
            local_repeats,
            parked,
            letters,
            effects,
            settled_after_ms,
            steps,
        } = other;
        self.open_appends += open_appends;
        self.suspects += suspects;
        self.refusals += refusals;
        self.tasks_known += tasks_known;
        self.retries += retries;
        self.wakes += wakes;
        self.asked_again += asked_again;
        self.starts_again += starts_again;
        self.not_found += not_found;
        self.trims += trims;
        self.redelivered += redelivered;
        self.runs += runs;
        self.events += events;
        self.replayed += replayed;
        self.void += void;
        self.shared_shards += shared_shards;
        self.local_effects += local_effects;
        self.local_repeats += local_repeats;
        self.parked += parked;
        self.letters += letters;
        self.effects += effects;
        self.settled_after_ms = self.settled_after_ms.max(*settled_after_ms);
        self.steps += steps;
    }
}
