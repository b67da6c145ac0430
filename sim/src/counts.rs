//! How often what is to be tested was reached.

use std::collections::BTreeMap;

use crate::faults::Fault;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened in one seed, or in many.
        #[derive(Debug, Clone, Default)]
        pub struct Counts {
            pub faults: BTreeMap<Fault, u64>,
            $($(#[$doc])* pub $name: u64,)*
            /// From peace until everything was settled, at most.
            pub settled_after_ms: u64,
        }

        impl Counts {
            pub fn add(&mut self, other: &Self) {
                for (fault, count) in &other.faults {
                    *self.faults.entry(*fault).or_default() += count;
                }
                $(self.$name += other.$name;)*
                self.settled_after_ms = self.settled_after_ms.max(other.settled_after_ms);
            }
        }
    };
}

counts! {
    /// Appends whose receipt did not come, or did not say where.
    open_appends,
    /// Inputs that were published before their worker subscribed.
    suspects,
    /// Shards refused by workers that were misled about the application.
    refusals,
    /// Tasks that came to a worker that knew them.
    tasks_known,
    retries,
    /// Wake-ups that were sent on.
    wakes,
    asked_again,
    starts_again,
    not_found,
    /// Updates that were answered; that were refused; and answers that a run cannot be asked yet.
    updates,
    updates_refused,
    updates_again,
    updates_not_yet,
    /// Times that a run showed how far it was.
    looks,
    /// Trims that shards asked for.
    trims,
    /// What was let go: messages of all topics, and segments of the disk.
    trimmed,
    segments_gone,
    /// Shards of which a part of the history was gone when a worker loaded them.
    loads_trimmed,
    /// Records that were carried forward, and windows that say what may go.
    carried,
    windows,
    /// Dead letters of inputs that were refused for their age, clients that were told so while they waited, and ends that
    /// nobody knew any more.
    expired,
    refused,
    forgotten,
    /// Runs that were cancelled or terminated.
    stops,
    /// Workers that code took down.
    aborts,
    /// Tasks that were not begun with, for it was too late.
    too_late,
    /// Attempts that came as late as the error of the one before had asked for.
    waited,
    /// Lanes that workers came to know, and tasks that were sent into any but the queue itself.
    lanes,
    tasks_in_lanes,
    /// Attempts that owners keep, and what they were told of these.
    kept,
    tellings,
    /// Of these, those that a worker gave up when it left, and those of which nothing was heard in time.
    interrupted,
    silences,
    /// Attempts that went on where one was of which its owner heard no more, and tasks that owners gave back for that.
    resumed,
    returned,
    /// Inputs that stand as taken in for another try.
    trials,
    /// Frames that call others sent, which was looked at.
    marks,
    /// Acks and frames after which an open run had to be covered.
    covered,
    /// Acks of inputs whose run had local work under way.
    acks_with_work,
    /// Tasks and answers whose cause was looked for when they were stored.
    causes,
    /// Inputs that were delivered a second time.
    redelivered,
    /// Times that a tail was asked for.
    tails,

    runs,
    /// Records that stand.
    events,
    replayed,
    void,
    /// Shards that more than one worker wrote.
    shared_shards,
    local_effects,
    local_repeats,
    parked,
    diverged,
    /// Runs for which others went on, and signals that went along.
    continued,
    handed_on,
    /// Signals to all runs with a tag, in each that took one.
    tagged,
    /// Runs that others ended at once, and were told so.
    ended_by_others,
    /// Runs that recorded an edit of the code, and runs that went on without it when all workers had it.
    edits,
    unedited,
    letters,
    effects,
    /// Steps of the simulation.
    steps,
}

/// A rule, what was done to put it to the test, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    pub rule: u32,
    pub what: &'static str,
    pub count: fn(&Counts) -> u64,
}

const fn reached(rule: u32, what: &'static str, count: fn(&Counts) -> u64) -> Reached {
    Reached { rule, what, count }
}

/// By what one sees that seeds have put each rule to the test.
pub const RULES: [Reached; 48] = [
    reached(1, "runs whose code came to the same commands again", |c| c.replayed),
    reached(1, "runs that recorded an edit of the code", |c| c.edits),
    reached(1, "runs that went on without it where all workers had it", |c| c.unedited),
    reached(2, "void frames", |c| c.void),
    reached(2, "frames whose fate was open", |c| c.open_appends),
    reached(3, "tasks and answers whose cause stood when they left", |c| c.causes),
    reached(3, "tails that were asked for", |c| c.tails),
    reached(4, "inputs that came again", |c| c.redelivered),
    reached(4, "frames whose marks were looked at", |c| c.marks),
    reached(4, "tasks that came to a worker that knew them", |c| c.tasks_known),
    reached(4, "runs for which others went on", |c| c.continued),
    reached(4, "signals that went along with them", |c| c.handed_on),
    reached(4, "signals to all with a tag that runs took", |c| c.tagged),
    reached(4, "runs that others ended at once, which were told so", |c| c.ended_by_others),
    reached(4, "updates that were answered", |c| c.updates),
    reached(4, "updates that were refused, and are never taken", |c| c.updates_refused),
    reached(4, "lanes that workers came to know", |c| c.lanes),
    reached(4, "tasks in lanes of their own", |c| c.tasks_in_lanes),
    reached(4, "attempts that their owners keep", |c| c.kept),
    reached(4, "times that these were told of", |c| c.tellings),
    reached(4, "of these, given up by a worker that left", |c| c.interrupted),
    reached(4, "tasks that owners gave back, with what they were told", |c| c.returned),
    reached(4, "attempts that went on where the one before was", |c| c.resumed),
    reached(5, "shards that several workers wrote", |c| c.shared_shards),
    reached(5, "looks at runs, of which none showed less than one before", |c| c.looks),
    reached(5, "holds that ended while local work went on", |c| c.acks_with_work),
    reached(6, "effects of local work", |c| c.local_effects),
    reached(6, "of these, done again after a fault", |c| c.local_repeats),
    reached(7, "wake-ups that were sent on", |c| c.wakes),
    reached(7, "tasks that were not begun with, for it was too late", |c| c.too_late),
    reached(7, "attempts that were asked to come later, where all is calm", |c| c.waited),
    reached(7, "attempts that were silent for too long", |c| c.silences),
    reached(7, "acks and frames with open runs, which were covered", |c| c.covered),
    reached(8, "runs that were carried, in pieces", |c| c.carried),
    reached(8, "windows, behind which history may go", |c| c.windows),
    reached(8, "trims that were asked for", |c| c.trims),
    reached(8, "messages that were let go", |c| c.trimmed),
    reached(8, "segments of the disk that are gone", |c| c.segments_gone),
    reached(8, "histories that were loaded from their middle", |c| c.loads_trimmed),
    reached(8, "inputs that were put away for their age", |c| c.expired),
    reached(8, "ends that nobody knew any more", |c| c.forgotten),
    reached(8, "questions that were asked again, and starts", |c| c.asked_again + c.starts_again),
    reached(9, "parkings", |c| c.parked),
    reached(9, "of these, for code that came to other commands", |c| c.diverged),
    reached(9, "inputs that were there before their worker subscribed", |c| c.suspects),
    reached(9, "inputs that stand as taken in for another try", |c| c.trials),
    reached(9, "workers that code took down", |c| c.aborts),
    reached(10, "shards refused to the misled", |c| c.refusals),
];
