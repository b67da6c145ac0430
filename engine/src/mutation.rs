//! Test-only switches, each of which breaks a rule subtly: the simulation has to notice, or the rule has no test.
//!
//! They exist only with the feature `mutations`, which nothing that is shipped asks for; without it [`is`] is `false`
//! for the compiler, and what it guards is gone.

macro_rules! mutations {
    ($($(#[$doc:meta])* $rule:literal $mutation:ident $name:literal,)*) => {
        /// A rule that is broken.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutation {
            /// None is; never active.
            Nothing = 0,
            $($(#[$doc])* $mutation,)*
        }

        impl Mutation {
            pub const ALL: &'static [Self] = &[$(Self::$mutation,)*];

            /// The rule of the design that it breaks, and its name.
            #[must_use]
            pub fn name(self) -> (u32, &'static str) {
                match self {
                    Self::Nothing => (0, "nothing"),
                    $(Self::$mutation => ($rule, $name),)*
                }
            }
        }
    };
}

mutations! {
    // A run is a pure function of its history.
    /// A run's clock tells how many records came before it in its frame.
    1 BordersShow "borders-show",
    /// Who replays a run that ends with a signal does not see that.
    1 ReplayDropsSignal "replay-drops-signal",
    /// Chance follows from the frame in which a run began.
    1 ChanceByFrame "chance-by-frame",
    /// Tasks that are sent again lack what came with the start of their run.
    1 ForgetsHeaders "forgets-headers",
    // The log is the lock.
    /// A receipt is a proof, wherever the frame lies.
    2 AnyReceiptProves "any-receipt-proves",
    /// A frame without a receipt stands.
    2 NoReceiptProves "no-receipt-proves",
    /// What others wrote changes nothing.
    2 ForeignIsNothing "foreign-is-nothing",
    // Nothing leaves before its cause stands.
    /// Commands leave with their frame.
    3 SendsEarly "sends-early",
    /// Local work starts with its frame.
    3 StartsEarly "starts-early",
    /// Answers leave with their frame.
    3 AnswersEarly "answers-early",
    /// Answers need no look at the tail.
    3 AnswersUnchecked "answers-unchecked",
    // Acks come last.
    /// An input is acked when its round is in flight.
    4 AcksEarly "acks-early",
    /// A client's input counts as often as it comes.
    4 ForgetsInputs "forgets-inputs",
    /// Frames are marked as sent whose commands are on their way.
    4 MarksUnsent "marks-unsent",
    /// An input is let go when it was taken in on trial, and not when it is applied.
    4 TrialsUnheld "trials-unheld",
    /// What a frame on its way begins is not waited for.
    4 JudgesInFlight "judges-in-flight",
    /// Whoever wrote what is loaded is taken for dead.
    4 TakesForDead "takes-for-dead",
    /// An update is taken as often as it comes.
    4 UpdatesCountTwice "updates-count-twice",
    /// That an update was refused is not remembered.
    4 ForgetsRefusals "forgets-refusals",
    /// A signal by tag is given to each run as often as it comes.
    4 TaggedTakeTwice "tagged-take-twice",
    /// A signal by tag is given to no more runs than one frame has room for.
    4 OneFrameOfTagged "one-frame-of-tagged",
    /// That all runs with a tag have their signal is not remembered.
    4 ForgetsTagged "forgets-tagged",
    /// Of a start with a signal the start counts.
    4 StartForgetsSignal "start-forgets-signal",
    /// Who takes over does not tell parents again how their children ended.
    4 ForgetsOutcomes "forgets-outcomes",
    /// Tasks are looked for in the queue itself, whatever their lanes.
    4 LooksInTheQueue "looks-in-the-queue",
    /// Who tries again forgets how urgent it is.
    4 ForgetsLane "forgets-lane",
    /// Of an attempt that is kept only what was told first is known.
    4 ForgetsBeats "forgets-beats",
    /// Who takes over does not send again what goes back to its queue.
    4 ForgetsReturned "forgets-returned",
    /// A run that ends leaves its children as they are, whatever was agreed.
    4 LeavesOrphans "leaves-orphans",
    /// What a run did not receive does not go along when another one goes on for it.
    4 LeavesSignals "leaves-signals",
    /// Updates that were taken and not received do not go along.
    4 LeavesUpdates "leaves-updates",
    /// Whoever names a run that went on does not mean the last one.
    4 NamesTheEnded "names-the-ended",
    /// A run that another one ends is said to have ended, and goes on.
    4 SparesOthers "spares-others",
    // Key_Shared gives affinity, not safety.
    /// A result that the book does not expect is dropped without a look at the tail.
    5 DropsUnexpected "drops-unexpected",
    /// A hold ends for a wake-up that is on its way.
    5 CoversUnconfirmed "covers-unconfirmed",
    /// A void frame's inputs are not applied again.
    5 VoidLosesInputs "void-loses-inputs",
    // Results of local work.
    /// Local work that nobody does is nobody's.
    6 IgnoresUnseen "ignores-unseen",
    /// What a timer begins is covered by no wake-up.
    6 BeginsUncovered "begins-uncovered",
    /// A void frame's local results are lost.
    6 VoidLosesResults "void-loses-results",
    /// What is done here is given to its queue as well.
    6 EagerIsQueued "eager-is-queued",
    // Time.
    /// A wake-up that was served has no successor.
    7 NoSuccessor "no-successor",
    7 TimersEarly "timers-early",
    /// Recorded time is this worker's clock.
    7 TimeGoesBack "time-goes-back",
    /// An error that says when it may go better is tried again as any.
    7 AgainTooSoon "again-too-soon",
    /// Later words of an attempt that is kept put its end off no more.
    7 DeafToBeats "deaf-to-beats",
    /// Nobody watches attempts that are kept.
    7 KeptUnwatched "kept-unwatched",
    // Retention.
    /// A trim takes the first frame that is needed, too.
    8 TrimsOneTooFar "trims-one-too-far",
    /// History is trimmed when a carrying begins.
    8 TrimsBeforeCarried "trims-before-carried",
    /// Parked runs are not carried.
    8 CarriesNoParked "carries-no-parked",
    /// Who loads does not take in the ids that were carried.
    8 ForgetsCarriedIds "forgets-carried-ids",
    /// Inputs that are older than the memory of ids are taken.
    8 TakesTheExpired "takes-the-expired",
    // A mismatch stops a run, never a worker.
    /// Further tries of an input that takes workers down are not counted.
    9 TriesUncounted "tries-uncounted",
    /// What comes for a parked run is acked and not taken in.
    9 DropsForParked "drops-for-parked",
    /// A run whose code is missing fails.
    9 NoCodeFails "no-code-fails",
    // Set up before the first publish.
    /// Who takes the application for another may work on it.
    10 MismatchAccepted "mismatch-accepted",
    /// What the application fixed is trimmed away.
    10 ConfigNotCarried "config-not-carried",
    /// The first frame does not say what the application fixed.
    10 ConfigUnsaid "config-unsaid",
}

#[cfg(feature = "mutations")]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Breaks a rule in this process from now on, or none.
#[cfg(feature = "mutations")]
pub fn activate(mutation: Option<Mutation>) {
    let number = mutation.unwrap_or(Mutation::Nothing) as u8;
    ACTIVE.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether a rule is broken.
#[cfg(feature = "mutations")]
pub(crate) fn is(mutation: Mutation) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == mutation as u8
}

/// No rule is broken.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn is(_: Mutation) -> bool {
    false
}
