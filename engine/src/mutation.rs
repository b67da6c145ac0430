//! Test-only switches, each of which breaks a rule subtly: the simulation has to notice, or the rule has no test.
//!
//! They exist only with the feature `mutations`, which nothing that is shipped asks for; without it [`is`] is `false`
//! for the compiler, and what it guards is gone.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    // 2: the log is the lock.
    /// A receipt is a proof, wherever the frame lies.
    AnyReceiptProves = 1,
    /// A frame without a receipt stands.
    NoReceiptProves,
    /// What others wrote changes nothing.
    ForeignIsNothing,
    // 3: nothing leaves before its cause stands.
    /// Commands leave with their frame.
    SendsEarly,
    /// Local work starts with its frame.
    StartsEarly,
    /// Answers need no look at the tail.
    AnswersUnchecked,
    // 4: acks come last.
    /// An input is acked when its round is in flight.
    AcksEarly,
    /// A client's input counts as often as it comes.
    ForgetsInputs,
    /// Frames are marked as sent whose commands are on their way.
    MarksUnsent,
    // 5: Key_Shared gives affinity, not safety.
    /// A result that the book does not expect is dropped without a look at the tail.
    DropsUnexpected,
    /// A hold ends for a wake-up that is on its way.
    CoversUnconfirmed,
    /// A void frame's inputs are not applied again.
    VoidLosesInputs,
    // 6: results of local work.
    /// Local work that nobody does is nobody's.
    IgnoresUnseen,
    /// A void frame's local results are lost.
    VoidLosesResults,
    // 7: time.
    /// A wake-up that was served has no successor.
    NoSuccessor,
    TimersEarly,
    /// Recorded time is this worker's clock.
    TimeGoesBack,
}

impl Mutation {
    pub const ALL: [Self; 17] = [
        Self::AnyReceiptProves,
        Self::NoReceiptProves,
        Self::ForeignIsNothing,
        Self::SendsEarly,
        Self::StartsEarly,
        Self::AnswersUnchecked,
        Self::AcksEarly,
        Self::ForgetsInputs,
        Self::MarksUnsent,
        Self::DropsUnexpected,
        Self::CoversUnconfirmed,
        Self::VoidLosesInputs,
        Self::IgnoresUnseen,
        Self::VoidLosesResults,
        Self::NoSuccessor,
        Self::TimersEarly,
        Self::TimeGoesBack,
    ];

    /// The rule of the design that it breaks, and its name.
    #[must_use]
    pub fn name(self) -> (u32, &'static str) {
        match self {
            Self::AnyReceiptProves => (2, "any-receipt-proves"),
            Self::NoReceiptProves => (2, "no-receipt-proves"),
            Self::ForeignIsNothing => (2, "foreign-is-nothing"),
            Self::SendsEarly => (3, "sends-early"),
            Self::StartsEarly => (3, "starts-early"),
            Self::AnswersUnchecked => (3, "answers-unchecked"),
            Self::AcksEarly => (4, "acks-early"),
            Self::ForgetsInputs => (4, "forgets-inputs"),
            Self::MarksUnsent => (4, "marks-unsent"),
            Self::DropsUnexpected => (5, "drops-unexpected"),
            Self::CoversUnconfirmed => (5, "covers-unconfirmed"),
            Self::VoidLosesInputs => (5, "void-loses-inputs"),
            Self::IgnoresUnseen => (6, "ignores-unseen"),
            Self::VoidLosesResults => (6, "void-loses-results"),
            Self::NoSuccessor => (7, "no-successor"),
            Self::TimersEarly => (7, "timers-early"),
            Self::TimeGoesBack => (7, "time-goes-back"),
        }
    }
}

#[cfg(feature = "mutations")]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Breaks a rule in this process from now on, or none.
#[cfg(feature = "mutations")]
pub fn activate(mutation: Option<Mutation>) {
    let number = mutation.map_or(0, |mutation| mutation as u8);
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
