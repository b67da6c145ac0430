//! What may happen next, and what comes of it.

use stateright::{Model as Checked, Property};

use crate::broker::{Broker, Frame, FrameId};
use crate::owner::{Book, Offered, Owner};
use crate::{Inputs, Model, SIGNAL, START, State, Weakening, promises, truth};

/// One step. The number is the owner's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A client publishes an input.
    Publish(Inputs),
    Load(usize),
    /// The process dies; what it sent may still arrive.
    Crash(usize),
    /// An input is delivered; any owner may get it, at any time, until it is acked.
    Take(usize, Inputs),
    /// Appends the inputs that it has in hand, and serves the current wake-up if it has that in hand.
    Append(usize),
    /// Appends a frame that carries the state forward.
    Carry(usize),
    /// The outcome of a frame stays open: a rival of its number decides it.
    Rival(usize),
    /// A frame under way is stored; its writer gets the receipt, or does not.
    Store(FrameId, bool),
    Lose(FrameId),
    Read(usize),
    /// Asks for the last position, which is the last one read.
    CheckTail(usize),
    /// A command is put into its topic; its writer gets the receipt, or does not.
    Send(usize, Inputs, bool),
    /// The current wake-up is put into its topic, and confirmed.
    SendWake(usize),
    Ack(usize, Inputs),
    Refuse(usize, Inputs),
    /// A wake-up is delivered.
    TakeWake(usize, FrameId),
    AckWake(usize, FrameId),
    DecideTrim(usize),
    DropTrim(usize),
    /// Trims up to there at most: whole ledgers go, so that some of what may go stays.
    Trim(usize, usize),
}

const EACH: [Inputs; 2] = [START, SIGNAL];

fn bit(wake: FrameId) -> u8 {
    1 << wake
}

impl Checked for Model {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            broker: Broker::default(),
            owners: Default::default(),
            crashes: self.crashes,
            losses: self.losses,
            carries: self.carries,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let broker = &state.broker;
        if broker.published & START == 0 {
            steps.push(Step::Publish(START));
        } else if self.signal && broker.published & SIGNAL == 0 && truth::applied(broker).0 & START != 0 {
            steps.push(Step::Publish(SIGNAL));
        }
        for frame in &broker.under_way {
            steps.extend([Step::Store(frame.id, true), Step::Store(frame.id, false)]);
            if state.losses > 0 {
                steps.push(Step::Lose(frame.id));
            }
        }
        for (number, owner) in state.owners.iter().enumerate() {
            self.steps_of(state, number, owner, steps);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        self.take(&mut state, step)?;
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::properties(self)
    }
}

impl Model {
    fn steps_of(&self, state: &State, number: usize, owner: &Owner, steps: &mut Vec<Step>) {
        let broker = &state.broker;
        let Some(book) = &owner.book else {
            steps.push(Step::Load(number));
            return;
        };
        if state.crashes > 0 {
            steps.push(Step::Crash(number));
        }
        for input in EACH {
            if broker.published & !broker.acked & !owner.held & input != 0 {
                steps.push(Step::Take(number, input));
            }
        }
        if owner.read < broker.log.len() {
            steps.push(Step::Read(number));
        }
        self.steps_of_history(state, number, owner, book, steps);
        if !self.effects || owner.doubt {
            return;
        }
        self.steps_of_inputs(state, number, owner, book, steps);
        if !self.wakes {
            return;
        }
        for wake in 1..=broker.made {
            if broker.wakes & !owner.wakes & bit(wake) != 0 {
                steps.push(Step::TakeWake(number, wake));
            }
            if owner.wakes & bit(wake) != 0 && self.may_ack_wake(owner, book, wake) {
                steps.push(Step::AckWake(number, wake));
            }
        }
        if book.wake != 0 && !book.wake_confirmed {
            steps.push(Step::SendWake(number));
        }
    }

    fn steps_of_history(&self, state: &State, number: usize, owner: &Owner, book: &Book, steps: &mut Vec<Step>) {
        let broker = &state.broker;
        let room = broker.made < self.frames;
        if owner.pending.is_empty() {
            if room && (self.new_inputs(owner, book) != 0 || owner.wakes & bit(book.wake) & !1 != 0) {
                steps.push(Step::Append(number));
            }
            if room && state.carries > 0 && book.applied != 0 {
                steps.push(Step::Carry(number));
            }
        } else if room && owner.pending.len() < 2 && owner.read == broker.log.len() {
            steps.push(Step::Rival(number));
        }
        let unchecked = owner.held & !owner.checked != 0 || owner.wakes & !owner.wakes_checked != 0;
        let asks = owner.doubt || self.effects && unchecked && owner.pending.is_empty();
        if asks && owner.read == broker.log.len() {
            steps.push(Step::CheckTail(number));
        }
        match owner.trim {
            Some(border) if border > broker.start => {
                steps.extend((broker.start + 1..=border).map(|to| Step::Trim(number, to)));
            }
            // A cursor only moves forward: it comes too late.
            Some(_) => steps.push(Step::DropTrim(number)),
            None if !owner.doubt && self.trim_border(broker, owner, book).is_some() => {
                steps.push(Step::DecideTrim(number))
            }
            None => {}
        }
    }

    fn steps_of_inputs(&self, state: &State, number: usize, owner: &Owner, book: &Book, steps: &mut Vec<Step>) {
        let pending = pending_inputs(&state.broker, owner);
        for input in EACH {
            let early = self.is(Weakening::CommandsBeforeTheFrameStands) && pending & input != 0;
            if book.open() & input != 0 || early {
                steps.extend([Step::Send(number, input, true), Step::Send(number, input, false)]);
            }
            if owner.held & input == 0 {
                continue;
            }
            let stands = book.applied & input != 0;
            let sent = book.sent & input != 0;
            let cover = book.wake_confirmed || self.is(Weakening::CoverByAnUnconfirmedWakeUp);
            let covered = book.wake != 0 && cover;
            if stands && (sent || covered || self.is(Weakening::AckBeforeTheCommands))
                || pending & input != 0 && self.is(Weakening::AckBeforeTheFrameStands)
            {
                steps.push(Step::Ack(number, input));
            }
            let asked = owner.checked & input != 0 || self.is(Weakening::RefusalWithoutTailCheck);
            if input == SIGNAL && book.applied & START == 0 && owner.pending.is_empty() && asked {
                steps.push(Step::Refuse(number, input));
            }
        }
    }

    /// What the next frame would have.
    fn new_inputs(&self, owner: &Owner, book: &Book) -> Inputs {
        let known = if self.is(Weakening::KnownInputsAreApplied) { 0 } else { book.applied };
        let new = owner.held & !known;
        if (book.applied | new) & START == 0 { new & !SIGNAL } else { new }
    }

    /// The current wake-up goes when the frame that names its successor, or none, stands and the successor is
    /// confirmed; any other one after a look at the tail, when the current one is confirmed.
    fn may_ack_wake(&self, owner: &Owner, book: &Book, wake: FrameId) -> bool {
        if book.wake == wake {
            return self.is(Weakening::WakeUpServedWithoutAFrame)
                && owner.wakes_checked & bit(wake) != 0
                && book.open() == 0;
        }
        let successor = book.wake == 0 || book.wake_confirmed || self.is(Weakening::WakeUpAckedBeforeItsSuccessor);
        owner.wakes_checked & bit(wake) != 0 && successor
    }

    /// Up to where an owner may trim by what it knows: the last frame on its chain that carries everything, if that,
    /// or one after it, is called verified by a later one on its chain.
    fn trim_border(&self, broker: &Broker, owner: &Owner, book: &Book) -> Option<usize> {
        let mut chain = Vec::new();
        let mut next = book.head;
        while let Some((place, frame)) = broker.find(next) {
            chain.push((place, frame));
            next = frame.previous;
        }
        let carried = if self.is(Weakening::TrimToCarriedThatDoNotStand) {
            broker.visible().find(|(place, frame)| *place < owner.read && frame.carried.is_some())?.0
        } else {
            chain.iter().find(|(_, frame)| frame.carried.is_some())?.0
        };
        let called = |id: FrameId| chain.iter().any(|(_, later)| later.verified == id);
        let safe = chain.iter().any(|(place, frame)| *place >= carried && called(frame.id));
        (carried > broker.start && (safe || self.is(Weakening::TrimPastTheVerified))).then_some(carried)
    }

    fn take(&self, state: &mut State, step: Step) -> Option<()> {
        let State { broker, owners, .. } = state;
        match step {
            Step::Publish(input) => broker.published |= input,
            Step::Store(id, receipt) => self.store(broker, owners, id, receipt)?,
            Step::Lose(id) => {
                broker.under_way.retain(|frame| frame.id != id);
                state.losses -= 1;
            }
            Step::Crash(number) => {
                owners[number] = Owner::default();
                state.crashes -= 1;
            }
            Step::Load(number) => {
                owners[number].load(broker, self).then_some(())?;
            }
            Step::Take(number, input) => {
                owners[number].held |= input;
                owners[number].checked &= !input;
            }
            Step::Append(number) => {
                let inputs = self.new_inputs(&owners[number], owners[number].book.as_ref()?);
                append(broker, &mut owners[number], inputs, false)?;
            }
            Step::Carry(number) => {
                append(broker, &mut owners[number], 0, true)?;
                state.carries -= 1;
            }
            Step::Rival(number) => {
                let inputs = self.new_inputs(&owners[number], owners[number].book.as_ref()?);
                append(broker, &mut owners[number], inputs, false)?;
            }
            Step::Read(number) => {
                read(broker, &mut owners[number]);
                owners[number].doubt &= !self.is(Weakening::ReadsAreBelievedAtOnce);
            }
            Step::CheckTail(number) => {
                owners[number].checked = owners[number].held;
                owners[number].wakes_checked = owners[number].wakes;
                owners[number].doubt = false;
            }
            Step::Send(number, command, receipt) => {
                broker.sent |= command;
                broker.premature |= command & !truth::applied(broker).0;
                if let (Some(book), true) = (&mut owners[number].book, receipt) {
                    book.sent |= command;
                }
            }
            Step::SendWake(number) => {
                let book = owners[number].book.as_mut()?;
                broker.wakes |= bit(book.wake);
                book.wake_confirmed = true;
            }
            Step::Ack(number, input) => {
                broker.acked |= input;
                owners[number].held &= !input;
            }
            Step::Refuse(number, input) => {
                broker.acked |= input;
                broker.refused |= input;
                owners[number].held &= !input;
            }
            Step::TakeWake(number, wake) => {
                owners[number].wakes |= bit(wake);
                owners[number].wakes_checked &= !bit(wake);
            }
            Step::AckWake(number, wake) => {
                broker.wakes &= !bit(wake);
                owners[number].wakes &= !bit(wake);
                owners[number].wakes_checked &= !bit(wake);
            }
            Step::DecideTrim(number) => {
                owners[number].trim = self.trim_border(broker, &owners[number], owners[number].book.as_ref()?);
            }
            Step::DropTrim(number) => owners[number].trim = None,
            Step::Trim(number, to) => {
                broker.start = to;
                owners[number].trim = None;
            }
        }
        Some(())
    }

    fn store(&self, broker: &mut Broker, owners: &mut [Owner; 2], id: FrameId, receipt: bool) -> Option<()> {
        let index = broker.under_way.iter().position(|frame| frame.id == id)?;
        let frame = broker.under_way.remove(index);
        let place = broker.log.len();
        broker.log.push(frame.clone());
        let writer = owners.iter_mut().find(|owner| owner.pending.contains(&id));
        let Some(writer) = writer else { return Some(()) };
        let Some(book) = &mut writer.book else { return Some(()) };
        let next = place == writer.read && frame.previous == book.head;
        let proven = if receipt {
            next || self.is(Weakening::ReceiptProvesAnywhere)
        } else {
            self.is(Weakening::MissingReceiptProves)
        };
        if proven {
            book.absorb(&frame);
            writer.read = place + 1;
            writer.pending.clear();
            // Everything up to here was read.
            writer.doubt = false;
        }
        Some(())
    }
}

fn pending_inputs(broker: &Broker, owner: &Owner) -> Inputs {
    let made = broker.log.iter().chain(&broker.under_way);
    made.filter(|frame| owner.pending.contains(&frame.id)).fold(0, |inputs, frame| inputs | frame.inputs)
}

fn append(broker: &mut Broker, owner: &mut Owner, inputs: Inputs, carry: bool) -> Option<()> {
    let book = owner.book.as_ref()?;
    broker.made += 1;
    let id = broker.made;
    // Open runs need a wake-up; the current one, once it was delivered, needs a successor.
    let served = book.wake != 0 && owner.wakes & bit(book.wake) != 0;
    let open = book.open() | inputs != 0;
    let wake = match book.wake {
        0 if open => id,
        _ if served && open => id,
        _ if served => 0,
        current => current,
    };
    let carried = carry.then_some(book.applied);
    let frame = Frame {
        id,
        previous: book.head,
        number: book.number + 1,
        verified: book.head,
        inputs,
        carried,
        sent: book.sent,
        wake,
    };
    owner.pending.push(id);
    broker.under_way.push(frame);
    // Which of them was made first makes no difference to what may happen.
    broker.under_way.sort_by_key(|frame| frame.id);
    Some(())
}

fn read(broker: &Broker, owner: &mut Owner) {
    // What was trimmed is skipped in silence.
    let place = owner.read.max(broker.start);
    let Some(frame) = broker.log.get(place) else { return };
    // A frame names the number of the one that its writer had verified: the one before its own.
    let verified_number = frame.number - 1;
    match owner.offer(frame, place, verified_number) {
        Offered::Stands => owner.doubt = true,
        Offered::Void => {}
        Offered::Hole => owner.reload(),
    }
}
