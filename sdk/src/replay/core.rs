//! The state of a run that its code reaches through the ambient context.
//!
//! It numbers commands, keeps what was settled until the code takes it, buffers signals, and tells the
//! time of the event that is being applied. It polls nothing: that is [`Instance`](super::Instance)'s.
//!
//! No value of the author's is dropped, and no waker woken, while the state is borrowed: both may come
//! back here.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use everpulse_protocol::family::Target;
use everpulse_protocol::history::{CommandKind, CommandMark};
use everpulse_protocol::payload::Format;
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{Payload, Timestamp};
use rand_chacha::ChaCha8Rng;

use self::continuing::Continuing;
use self::handlers::Handlers;
use self::notes::Notes;
use self::updates::Updates;
use super::{Command, RunInfo, Settlement, Wait};
use crate::cancellation::CancelWait;

pub(crate) mod children;
mod continuing;
pub(crate) mod handlers;
pub(crate) mod notes;
pub(crate) mod updates;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Makes a run's core the ambient one, until it is dropped.
pub(crate) struct Entered {
    before: Option<Rc<Core>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.replace(self.before.take());
    }
}

/// What the ambient context leads to.
pub(crate) struct Core {
    pub id: u64,
    pub info: RunInfo,
    /// In which its values are written.
    pub format: Format,
    state: RefCell<State>,
}

struct State {
    now: Timestamp,
    next_no: u32,
    /// Boxed: a node of the map has room for eleven, and most runs wait for one.
    slots: BTreeMap<u32, Box<Slot>>,
    /// Slots whose waiter is known, so that a wait can be told from a standstill.
    commands: Vec<Command>,
    /// Children whose calls were dropped in this turn.
    dropped: Vec<u32>,
    last_command: Option<String>,
    published: Vec<(String, Payload)>,
    signals: HashMap<String, Inbox>,
    next_waiter: u64,
    cancelled: bool,
    /// Who waits to be told that the run is asked to cancel.
    cancel_waiters: BTreeMap<u64, (CancelWait, Waker)>,
    /// The run is cancelled and at rest: in this poll, and how many took notice of it.
    telling: Option<u32>,
    /// How many sagas have parts that are to be undone, if nothing else becomes of them.
    debts: u32,
    /// Something was neither done nor undone.
    uncompensated: bool,
    /// How many shields the poll that is going on is inside of.
    shield_depth: u32,
    /// How many shields were begun and have not ended.
    shields: u32,
    fatal: Option<String>,
    random: ChaCha8Rng,
    /// Which way the run goes at the edits of its code that it has come to.
    patches: BTreeMap<String, bool>,
    /// While a record is replayed: the patches in it.
    recorded: Option<Vec<CommandMark>>,
    /// The run is to end with this turn and go on as another one.
    continuing: Option<Continuing>,
    /// With the event that is being applied, but for its bytes.
    history: HistorySize,
    /// Boxed: most runs have none.
    handlers: Option<Box<Handlers>>,
    /// What came with the start, opened; boxed, as most runs have none.
    headers: Option<Box<Payload>>,
    notes: Notes,
    updates: Option<Box<Updates>>,
}

/// A command that has not been taken up by the code.
struct Slot {
    kind: CommandKind,
    shielded: bool,
    /// Of a child: it is in its history.
    has_begun: bool,
    /// Of a child: it tells when it is.
    hears_begin: bool,
    /// Who waits for that.
    begin_waker: Option<Waker>,
    target: Option<Box<Target>>,
    state: SlotState,
}

impl Slot {
    /// Whether the code was polled for it and waits.
    fn is_awaited(&self) -> bool {
        match &self.state {
            SlotState::Waiting(waker) => waker.is_some() || self.begin_waker.is_some(),
            SlotState::Settled(_) => false,
        }
    }
}

enum SlotState {
    Waiting(Option<Waker>),
    Settled(Settlement),
}

/// The signals of one name.
#[derive(Default)]
struct Inbox {
    /// Numbered as they came, so in ascending order.
    values: VecDeque<(u64, Payload)>,
    came: u64,
    waiters: VecDeque<Waiter>,
}

/// Who stands in line for a signal.
struct Waiter {
    id: u64,
    /// It takes only what it likes, from anywhere in the queue; the others take what comes first, one after another.
    choosy: bool,
    waker: Waker,
}

impl Inbox {
    /// The first in line of those that take what comes first.
    fn first(&self) -> Option<&Waiter> {
        self.waiters.iter().find(|waiter| !waiter.choosy)
    }
}

impl State {
    /// Whether nothing of this kind is begun any more.
    fn refuses(&self, kind: CommandKind) -> bool {
        self.cancelled && self.shield_depth == 0 && kind != CommandKind::Timer
    }

    fn schedule(&mut self, kind: CommandKind, command: impl FnOnce(u32) -> Command) -> u32 {
        let no = self.next_no;
        self.next_no += 1;
        let command = command(no);
        self.notes.command(no);
        self.last_command = Some(command.to_string());
        let (target, hears_begin) = match &command {
            Command::Child { target, spawn, .. } => (Some(Box::new(target.clone())), spawn.hears_begin),
            _ => (None, false),
        };
        self.commands.push(command);
        let shielded = self.shield_depth > 0;
        let state = SlotState::Waiting(None);
        let slot = Slot { kind, shielded, has_begun: false, hears_begin, begin_waker: None, target, state };
        self.slots.insert(no, Box::new(slot));
        no
    }
}

impl Core {
    pub(crate) fn new(info: RunInfo, format: Format) -> Rc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = State {
            now: info.started_at,
            next_no: 0,
            slots: BTreeMap::new(),
            commands: Vec::new(),
            dropped: Vec::new(),
            last_command: None,
            published: Vec::new(),
            signals: HashMap::new(),
            next_waiter: 0,
            cancelled: false,
            cancel_waiters: BTreeMap::new(),
            telling: None,
            debts: 0,
            uncompensated: false,
            shield_depth: 0,
            shields: 0,
            fatal: None,
            random: crate::random::seeded(info.run_id),
            patches: BTreeMap::new(),
            recorded: None,
            continuing: None,
            history: HistorySize::default(),
            handlers: None,
            headers: None,
            notes: Notes::default(),
            updates: None,
        };
        Rc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), info, format, state: RefCell::new(state) })
    }

    /// The core of the run that is being polled on this thread.
    ///
    /// # Panics
    /// Outside of any: with a message that says what to do instead.
    pub(crate) fn current(what: &str, instead: &str) -> Rc<Self> {
        Self::find().unwrap_or_else(|| {
            panic!("{what} outside a workflow: it works only while a function with `#[workflow]` runs; {instead}")
        })
    }

    pub(crate) fn find() -> Option<Rc<Self>> {
        // None as well while the thread is torn down.
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(crate) fn find_id(id: u64) -> Option<Rc<Self>> {
        Self::find().filter(|core| core.id == id)
    }

    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered { before: CURRENT.replace(Some(Rc::clone(self))) }
    }

    // What the instance does between polls.

    pub(crate) fn set_now(&self, now: Timestamp) {
        self.state.borrow_mut().now = now;
    }

    pub(crate) fn set_history(&self, history: HistorySize) {
        self.state.borrow_mut().history = history;
    }

    /// The commands of the record that is replayed now; none: the event is new.
    pub(crate) fn set_recorded(&self, recorded: Option<&[CommandMark]>) {
        let is_patch = |mark: &&CommandMark| matches!(mark.kind, CommandKind::Patch | CommandKind::DeprecatedPatch);
        let recorded: Option<Vec<CommandMark>> = recorded.map(|marks| marks.iter().filter(is_patch).cloned().collect());
        let mut state = self.state.borrow_mut();
        state.notes.begin_turn(recorded.is_none());
        state.recorded = recorded;
    }

    /// Takes an outcome in. One for a step that is unknown, cancelled or settled already changes nothing.
    pub(crate) fn settle(&self, no: u32, settlement: Settlement) {
        let wakers = {
            let mut state = self.state.borrow_mut();
            let Some(slot) = state.slots.get_mut(&no) else { return };
            let SlotState::Waiting(waker) = &mut slot.state else { return };
            if (slot.kind == CommandKind::Timer) != matches!(settlement, Settlement::Fired) {
                return;
            }
            let wakers = [waker.take(), slot.begin_waker.take()];
            slot.state = SlotState::Settled(settlement);
            wakers
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(crate) fn signal(&self, name: String, value: Payload) {
        let wakers: Vec<Waker> = {
            let mut state = self.state.borrow_mut();
            let inbox = state.signals.entry(name).or_default();
            inbox.values.push_back((inbox.came, value));
            inbox.came += 1;
            let choosy = inbox.waiters.iter().filter(|waiter| waiter.choosy);
            choosy.chain(inbox.first()).map(|waiter| waiter.waker.clone()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// From now on every activity, step and child outside a shield ends as cancelled, those that wait at once. What was asked
    /// of other runs is on its way, and cannot be taken back.
    pub(crate) fn cancel(&self) {
        let mut wakers = Vec::new();
        {
            let state = &mut *self.state.borrow_mut();
            if std::mem::replace(&mut state.cancelled, true) {
                return;
            }
            for (&no, slot) in &mut state.slots {
                let SlotState::Waiting(waker) = &mut slot.state else { continue };
                let goes_on =
                    slot.kind == CommandKind::Timer || slot.kind.is_of_another_run() && slot.kind != CommandKind::Child;
                if slot.shielded || goes_on {
                    continue;
                }
                wakers.extend(waker.take());
                wakers.extend(slot.begin_waker.take());
                slot.state = SlotState::Settled(Settlement::Cancelled);
                state.commands.push(Command::Cancel { no });
            }
            wakers.extend(state.cancel_waiters.values().map(|(_, waker)| waker.clone()));
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.borrow().cancelled
    }

    pub(crate) fn has_shields(&self) -> bool {
        self.state.borrow().shields > 0
    }

    /// Whether an event can come that wakes the code: something is scheduled or awaited, and polled for.
    pub(crate) fn has_waits(&self) -> bool {
        let state = self.state.borrow();
        state.slots.values().any(|slot| slot.is_awaited())
            || state.signals.values().any(|inbox| !inbox.waiters.is_empty())
            || Self::awaited_updates(&state).next().is_some()
            || state.cancel_waiters.values().any(|(kind, _)| *kind == CancelWait::Request)
    }

    /// The same, each by itself.
    pub(crate) fn waits(&self) -> Vec<Wait> {
        let state = self.state.borrow();
        let commands = state.slots.iter().filter(|(_, slot)| slot.is_awaited()).map(|(no, _)| Wait::Command(*no));
        let mut signals: Vec<&String> =
            state.signals.iter().filter(|(_, inbox)| !inbox.waiters.is_empty()).map(|(name, _)| name).collect();
        signals.sort_unstable();
        let signals = signals.into_iter().cloned().map(Wait::Signal);
        let updates = Self::awaited_updates(&state).cloned().map(Wait::Update);
        let asked = state.cancel_waiters.values().any(|(kind, _)| *kind == CancelWait::Request);
        commands.chain(signals).chain(updates).chain(asked.then_some(Wait::CancelRequest)).collect()
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        let mut state = self.state.borrow_mut();
        state.dropped.clear();
        Self::take_dropped_answers(&mut state);
        std::mem::take(&mut state.commands)
    }

    /// The same at the run's end. What the code held then is dropped when it returns, and that is no word about children, of
    /// which it was agreed what becomes, nor about updates, of which it is told that the run has ended.
    pub(crate) fn take_last_commands(&self) -> Vec<Command> {
        let mut state = self.state.borrow_mut();
        let dropped = std::mem::take(&mut state.dropped);
        let unanswered = Self::take_dropped_answers(&mut state);
        let mut commands = std::mem::take(&mut state.commands);
        commands.retain(|command| match command {
            Command::Cancel { no } => !dropped.contains(no),
            Command::Answer { no, .. } => !unanswered.contains(no),
            _ => true,
        });
        commands
    }

    pub(crate) fn take_published(&self) -> Vec<(String, Payload)> {
        std::mem::take(&mut self.state.borrow_mut().published)
    }

    pub(crate) fn take_fatal(&self) -> Option<String> {
        self.state.borrow_mut().fatal.take()
    }

    pub(crate) fn last_command(&self) -> Option<String> {
        self.state.borrow().last_command.clone()
    }

    pub(crate) fn set_headers(&self, headers: Option<Payload>) {
        self.state.borrow_mut().headers = headers.map(Box::new);
    }

    // What the run's code does.

    /// What came with the start, for whatever the run asks for.
    pub(crate) fn headers(&self) -> Option<Payload> {
        self.state.borrow().headers.as_deref().cloned()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state.borrow().now
    }

    pub(crate) fn history(&self) -> HistorySize {
        self.state.borrow().history
    }

    pub(crate) fn with_random<T>(&self, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        self.act("draw a random value");
        draw(&mut self.state.borrow_mut().random)
    }

    /// Whether the run goes the new way at an edit. What it did at first, it does to its end.
    pub(crate) fn patch(&self, id: &str, deprecated: bool) -> bool {
        self.act("take a patch");
        let state = &mut *self.state.borrow_mut();
        if let Some(taken) = state.patches.get(id) {
            return *taken;
        }
        let mark = match &state.recorded {
            None => Some(deprecated),
            Some(marks) => {
                let mark = marks.iter().find(|mark| mark.name == id);
                mark.map(|mark| mark.kind == CommandKind::DeprecatedPatch)
            }
        };
        if let Some(deprecated) = mark {
            state.commands.push(Command::Patch { no: state.next_no, id: id.to_owned(), deprecated });
        }
        let taken = mark.is_some() || deprecated;
        state.patches.insert(id.to_owned(), taken);
        taken
    }

    pub(crate) fn publish(&self, name: String, value: Payload) {
        self.act("publish a state");
        self.state.borrow_mut().published.push((name, value));
    }

    /// Numbers and emits a command. None: the run is cancelled, and this is not in a shield.
    pub(crate) fn schedule(&self, kind: CommandKind, command: impl FnOnce(u32) -> Command) -> Option<u32> {
        self.act("start an activity, a step or a timer");
        let state = &mut *self.state.borrow_mut();
        (!state.refuses(kind)).then(|| state.schedule(kind, command))
    }

    /// Numbers and emits a command whose number is needed in any case. False: it is cancelled at once, since the run is
    /// cancelled and this is not in a shield.
    pub(crate) fn schedule_known(&self, kind: CommandKind, command: impl FnOnce(u32) -> Command) -> (u32, bool) {
        self.act("make a promise");
        let state = &mut *self.state.borrow_mut();
        let refuses = state.refuses(kind);
        let no = state.schedule(kind, command);
        if refuses {
            state.slots.remove(&no);
            state.commands.push(Command::Cancel { no });
        }
        (no, !refuses)
    }

    /// Takes what a command came to, or leaves a waker.
    pub(crate) fn take_settlement(&self, no: u32, waker: &Waker) -> Option<Settlement> {
        self.act("await what is under way");
        let state = &mut *self.state.borrow_mut();
        match state.slots.get_mut(&no).map(|slot| &mut **slot) {
            Some(Slot { state: SlotState::Waiting(slot), .. }) => {
                match slot {
                    Some(slot) => slot.clone_from(waker),
                    None => *slot = Some(waker.clone()),
                }
                None
            }
            Some(_) => match state.slots.remove(&no).map(|slot| *slot) {
                Some(Slot { state: SlotState::Settled(settlement), .. }) => Some(settlement),
                _ => None,
            },
            None => None,
        }
    }

    /// Nobody wants what was scheduled; if `cancel`, it is said to whoever does it, and if not, a child goes on by itself.
    pub(crate) fn abandon(&self, no: u32, cancel: bool) {
        self.note_act("drop a call that is under way");
        let slot = {
            let state = &mut *self.state.borrow_mut();
            let slot = state.slots.remove(&no);
            match slot.as_deref() {
                Some(Slot { state: SlotState::Waiting(_), kind, .. }) if cancel => {
                    if *kind == CommandKind::Child {
                        state.dropped.push(no);
                    }
                    state.commands.push(Command::Cancel { no });
                }
                Some(Slot { kind: CommandKind::Child, state: SlotState::Waiting(_), .. }) => {
                    state.commands.push(Command::Detach { no });
                }
                _ => {}
            }
            slot
        };
        drop(slot);
    }

    /// Stands in line for a signal.
    pub(crate) fn line_up(&self, name: &str, choosy: bool, waker: &Waker) -> u64 {
        self.act("receive a signal");
        let state = &mut *self.state.borrow_mut();
        let id = state.next_waiter;
        state.next_waiter += 1;
        let waiter = Waiter { id, choosy, waker: waker.clone() };
        state.signals.entry(name.to_owned()).or_default().waiters.push_back(waiter);
        id
    }

    /// The first signal from a number on that this waiter may look at now, with its number. It stays where it is.
    pub(crate) fn peek_signal(&self, name: &str, waiter: u64, from: u64, waker: &Waker) -> Option<(u64, Payload)> {
        self.act("await a signal");
        let forgotten;
        {
            let state = &mut *self.state.borrow_mut();
            let inbox = state.signals.get_mut(name)?;
            let first = inbox.first().map(|first| first.id);
            let place = inbox.waiters.iter_mut().find(|other| other.id == waiter)?;
            if (place.choosy || first == Some(waiter))
                && let Some(found) = inbox.values.get(inbox.values.partition_point(|(number, _)| *number < from))
            {
                return Some(found.clone());
            }
            forgotten = std::mem::replace(&mut place.waker, waker.clone());
        }
        drop(forgotten);
        None
    }

    /// Leaves the line, with the signal of that number if it was handed out.
    pub(crate) fn leave_line(&self, name: &str, waiter: u64, taken: Option<u64>) {
        self.note_act("drop what waits for a signal");
        let next = {
            let state = &mut *self.state.borrow_mut();
            let Some(inbox) = state.signals.get_mut(name) else { return };
            if let Some(taken) = taken
                && let Ok(index) = inbox.values.binary_search_by_key(&taken, |(number, _)| *number)
            {
                inbox.values.remove(index);
            }
            inbox.waiters.retain(|other| other.id != waiter);
            // What is left is for the next in line, who may have been looked at before us.
            inbox.first().filter(|_| !inbox.values.is_empty()).map(|first| first.waker.clone())
        };
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Stops the run with a message for a person, after this poll.
    pub(crate) fn fail(&self, message: String) {
        self.state.borrow_mut().fatal.get_or_insert(message);
    }

    pub(crate) fn shield_begun(&self) {
        self.act("begin a shield");
        self.state.borrow_mut().shields += 1;
    }

    pub(crate) fn shield_ended(&self) {
        self.note_act("end a shield");
        self.state.borrow_mut().shields -= 1;
    }

    pub(crate) fn shields(&self) -> u32 {
        self.state.borrow().shields
    }

    /// None: it is so. Else the number under which the waker is kept.
    pub(crate) fn wait_for_cancel(&self, kind: CancelWait, waiter: Option<u64>, waker: &Waker) -> Option<u64> {
        self.act("wait for the cancel request");
        let (waiter, forgotten) = {
            let state = &mut *self.state.borrow_mut();
            let is_so = match (kind, &mut state.telling) {
                (CancelWait::Request, _) => state.cancelled,
                (CancelWait::AtRest, Some(told)) if state.shield_depth == 0 => {
                    *told += 1;
                    true
                }
                (CancelWait::AtRest, _) => false,
            };
            if is_so {
                (None, waiter.and_then(|waiter| state.cancel_waiters.remove(&waiter)))
            } else {
                let waiter = waiter.unwrap_or_else(|| {
                    state.next_waiter += 1;
                    state.next_waiter - 1
                });
                (Some(waiter), state.cancel_waiters.insert(waiter, (kind, waker.clone())))
            }
        };
        drop(forgotten);
        waiter
    }

    /// The run is at rest. If it is cancelled and somebody waits to hear that, they are woken, and can take notice in the
    /// next poll; true then.
    pub(crate) fn begin_telling(&self) -> bool {
        let wakers: Vec<Waker> = {
            let state = &mut *self.state.borrow_mut();
            let at_rest = state.cancel_waiters.values().filter(|(kind, _)| *kind == CancelWait::AtRest);
            at_rest.filter(|_| state.cancelled).map(|(_, waker)| waker.clone()).collect()
        };
        if wakers.is_empty() {
            return false;
        }
        self.state.borrow_mut().telling = Some(0);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Whether anybody took notice.
    pub(crate) fn end_telling(&self) -> bool {
        self.state.borrow_mut().telling.take().is_some_and(|told| told > 0)
    }

    pub(crate) fn debt_taken(&self) {
        self.act("begin a saga");
        self.state.borrow_mut().debts += 1;
    }

    pub(crate) fn debt_paid(&self) {
        self.note_act("end a saga");
        self.state.borrow_mut().debts -= 1;
    }

    pub(crate) fn has_debts(&self) -> bool {
        self.state.borrow().debts > 0
    }

    pub(crate) fn set_uncompensated(&self) {
        self.state.borrow_mut().uncompensated = true;
    }

    pub(crate) fn is_uncompensated(&self) -> bool {
        self.state.borrow().uncompensated
    }

    pub(crate) fn forget_cancel_waiter(&self, waiter: u64) {
        self.note_act("drop what waits for the cancel request");
        let forgotten = self.state.borrow_mut().cancel_waiters.remove(&waiter);
        drop(forgotten);
    }

    pub(crate) fn shield_entered(&self) {
        self.state.borrow_mut().shield_depth += 1;
    }

    pub(crate) fn shield_left(&self) {
        self.state.borrow_mut().shield_depth -= 1;
    }
}
