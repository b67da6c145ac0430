//! One worker's part in the permits of a queue: what it has read, what it has, and what it says next.

mod reading;

use std::collections::{BTreeMap, VecDeque};

use everpulse_protocol::Position;
use everpulse_protocol::permit::{Account, Alone, Joins, Notice, SessionId, Silent, Terms};

use super::Standing;

/// How often a member says at least that it is here.
pub const ROUND_MS: u64 = 2_000;
/// A member that has not been heard while another one was heard so often, in rounds of its own, is silent; where permits rest,
/// also not for as long as that takes.
pub const ROUNDS: u32 = 6;
/// So many are called silent in one notice; the next one has others.
const SILENT_MAX: usize = 1_000;

/// What became known by a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Perhaps permits, which [`Member::free`] has.
    News,
    /// The session is over, by what others said or because notices are missing. What it had is not its own any more; it
    /// begins another one with [`Member::begin_anew`].
    Over,
}

/// A member of those who share permits.
#[derive(Debug)]
pub struct Member {
    session: SessionId,
    terms: Terms,
    /// Its worker has said them, to somebody who knew what held. What holds may be what others said since.
    has_said_terms: bool,
    /// That of the last notice that it wrote.
    number: u64,
    standing: Option<Standing>,
    /// Behind what it began to read; none: the topic's beginning.
    began: Option<Position>,
    /// The last notice that it read.
    last: Option<Position>,
    /// The last one of somebody who knew what held.
    informed: Option<Position>,
    /// The last one that began everything anew, perhaps.
    perhaps: Option<Position>,
    /// An account is of use if it is of here or later: what came behind it was kept.
    unread_from: Option<Position>,
    /// What was read before it was known what holds.
    unread: VecDeque<(Position, Notice)>,
    /// How often it said that it takes part, and heard that, since it has last heard somebody who knew what held.
    unanswered: u32,
    /// How many rounds of its own it has heard since the last notice of each of the others.
    rounds: BTreeMap<SessionId, u32>,
    /// The last notice that ended a round.
    round: u64,
    /// Permits in use.
    used: u32,
    /// To be given back with the next notice.
    returning: u32,
    /// Given back, and asked for, in notices that were written and not read yet, by their numbers.
    written: BTreeMap<u64, (u32, u32)>,
    /// Somebody came who is to be told what holds.
    is_asked: bool,
    /// Another one has said what holds since this one did.
    is_told: bool,
    /// The last notice of its own that it has read.
    own: u64,
}

impl Member {
    /// A member that reads from behind a position on, none for the topic's beginning.
    #[must_use]
    pub fn new(session: SessionId, terms: Terms, began: Option<Position>) -> Self {
        Self {
            session,
            terms,
            has_said_terms: false,
            number: 0,
            standing: None,
            began,
            last: began,
            informed: None,
            perhaps: None,
            unread_from: began,
            unread: VecDeque::new(),
            unanswered: 0,
            rounds: BTreeMap::new(),
            round: 0,
            used: 0,
            returning: 0,
            written: BTreeMap::new(),
            is_asked: false,
            is_told: false,
            own: 0,
        }
    }

    /// In the place of another member of the same worker: what that one has said of how many permits there are is not said again.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        Self { has_said_terms: before.has_said_terms, ..self }
    }

    /// Begins another session in the place of one that is over. What was in use is forgotten.
    pub fn begin_anew(&mut self, session: SessionId) {
        let Self { terms, began, last, informed, perhaps, .. } = *self;
        // What was read up to here is known no more, but that somebody knew is.
        *self = Self { began, informed, perhaps, ..Self::new(session, terms, last).in_place_of(self) };
    }

    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether it knows what holds.
    #[must_use]
    pub fn is_informed(&self) -> bool {
        self.standing.is_some()
    }

    /// How many permits there are, and how long they rest: as the one says that joined last, of those that were heard.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.standing.as_ref().map_or(self.terms, |standing| standing.terms)
    }

    /// How many there are, and how long they rest, as its own worker says.
    #[must_use]
    pub fn own_terms(&self) -> Terms {
        self.terms
    }

    /// What somebody else said who joined later, where that is other than what this one has said.
    #[must_use]
    pub fn differing(&self) -> Option<Terms> {
        Some(self.standing.as_ref()?.terms).filter(|terms| self.has_said_terms && *terms != self.terms)
    }

    /// So many rounds of its own without a word of another one make that one silent: by then what it had has rested.
    #[must_use]
    pub fn rounds_max(&self) -> u32 {
        let rests = self.terms.rest_ms.max(self.terms().rest_ms).div_ceil(ROUND_MS);
        ROUNDS.saturating_add(u32::try_from(rests).unwrap_or(u32::MAX))
    }

    /// What holds at the last notice that it read, if it knows.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        Some(self.standing.as_ref()?.account(self.last?))
    }

    /// Whether a notice shows that others before it were not read, for one that has not heard itself for so long that they may
    /// have been trimmed: it is of somebody who is not known to have come. Of those who are known their numbers show it.
    #[must_use]
    pub fn has_missed(&self, notice: &Notice) -> bool {
        self.standing.as_ref().is_some_and(|standing| !standing.knows(notice))
    }

    /// Permits that it holds, and neither uses nor gives back.
    #[must_use]
    pub fn free(&self) -> u32 {
        let given_back: u32 = self.written.values().map(|(returns, _)| *returns).sum();
        self.holds().saturating_sub(self.used.saturating_add(self.returning).saturating_add(given_back))
    }

    /// Permits that it holds at the last notice that it read.
    #[must_use]
    pub fn holds(&self) -> u32 {
        self.part().map_or(0, |part| part.holds)
    }

    /// Permits in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Permits that it waits for, read or not.
    #[must_use]
    pub fn waits(&self) -> u32 {
        let asked: u32 = self.written.values().map(|(_, asks)| *asks).sum();
        self.part().map_or(0, |part| part.waits).saturating_add(asked)
    }

    /// Whether others wait.
    #[must_use]
    pub fn others_wait(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.line.iter().any(|waiting| *waiting != self.session))
    }

    fn part(&self) -> Option<&super::Part> {
        self.standing.as_ref()?.members.get(&self.session)
    }

    /// More are held than there are, since their number was made smaller: until enough came back nothing begins.
    fn are_too_many(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.held() > standing.limit())
    }

    /// Begins to use a permit; false: it has none, or too many are held.
    pub fn take(&mut self) -> bool {
        let has = self.free() > 0 && !self.are_too_many();
        self.used += u32::from(has);
        has
    }

    /// A permit is used no more. Where others wait it is theirs, and where there are too many it is nobody's.
    pub fn put(&mut self) {
        self.used = self.used.saturating_sub(1);
        if self.others_wait() || self.are_too_many() {
            self.returning += 1;
        }
    }

    /// What it says next, if there is anything to say, for so many that wait here. With `round` it says at least that it is here;
    /// if it does not know what holds, that it takes part, and when nobody has told it for long, that it is alone.
    pub fn next(&mut self, waiting: u32, round: bool) -> Option<Notice> {
        let (free, waits, rounds_max) = (self.free(), self.waits(), self.rounds_max());
        // What cannot be used is asked for again, behind those who have waited.
        let usable = if self.are_too_many() { 0 } else { free };
        let Some(standing) = self.standing.as_ref().filter(|_| self.number > 0) else {
            return (round || self.number == 0).then(|| self.join(self.unanswered >= rounds_max));
        };
        let asks = waiting.saturating_sub(usable.saturating_add(waits));
        let returns = self.returning.saturating_add(free.saturating_sub(waiting.min(usable)));
        // One answers, and others in their rounds if nobody did.
        let answers = self.is_asked && (round || self.is_eldest(standing));
        if asks == 0 && returns == 0 && !answers && !round {
            return None;
        }
        let silent = self.rounds.iter().filter(|(_, rounds)| **rounds >= rounds_max).filter_map(|(session, _)| {
            standing.members.get(session).map(|part| Silent { session: *session, number: part.number })
        });
        let silent = silent.take(SILENT_MAX).collect();
        // Once in a round is enough, whoever does it.
        let tells = answers || (round && !self.is_told);
        let account = self.last.filter(|_| tells).map(|at| Box::new(standing.account(at)));
        self.returning = 0;
        self.is_asked &= !tells;
        self.is_told &= !round;
        let notice = Notice { asks, returns, silent, account, ..self.blank() };
        if round {
            self.round = notice.number;
        }
        self.written.insert(notice.number, (returns, asks));
        Some(notice)
    }

    /// What it says to take part; `alone`: nobody has told it for long what holds, or there is nobody.
    pub fn join(&mut self, alone: bool) -> Notice {
        let terms = (alone || !self.has_said_terms).then_some(self.terms);
        let alone = alone.then_some(Alone { after: self.last });
        if alone.is_some() {
            self.unanswered = 0;
        }
        Notice { joins: Some(Joins { terms, alone }), ..self.blank() }
    }

    /// What it says last: all that it has is given back.
    pub fn leave(&mut self) -> Notice {
        Notice { leaves: true, ..self.blank() }
    }

    /// Whether it takes part for longer than all others that are heard: ids grow with time.
    fn is_eldest(&self, standing: &Standing) -> bool {
        let is_heard = |session: &&SessionId| self.rounds.get(*session).is_none_or(|rounds| *rounds < 2);
        standing.members.keys().find(is_heard) == Some(&self.session)
    }

    fn blank(&mut self) -> Notice {
        self.number += 1;
        Notice {
            session: self.session,
            number: self.number,
            joins: None,
            asks: 0,
            returns: 0,
            silent: Vec::new(),
            leaves: false,
            account: None,
        }
    }
}
