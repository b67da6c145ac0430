//! Permits of a queue for all of its workers together: so many attempts at a time, or so many in a second. Pure; who reads and
//! publishes is elsewhere.
//!
//! ```text
//!   notices in one order ──► account: who holds how many, who waits ──► the same for every reader
//!        ▲                                                                 │
//!        └── asks, returns, "I am here", "that one is silent" ◄── member ◄─┘
//! ```
//! There is no leader and no lock: the log is the lock, as for histories. A permit is had when the notice is *read* that gives
//! it, and somebody else gets it after the notice is read that returns it.
//!
//! **Invariant.** At each position of the log no more permits are held than there are (than there were, where their number was made
//! smaller), and no member uses one that it does not hold at the last position that it has read; except one that was called silent while
//! it worked: it was not heard for so many rounds of somebody who was heard ([`ROUNDS`], and more where permits rest).
//!
//! Time does not come into it: a member is silent when another one has spoken so many times, at its own pace, and was heard, and it has
//! not. A broker that is away silences nobody.

mod member;

use std::collections::{BTreeMap, VecDeque};

use everpulse_protocol::Position;
use everpulse_protocol::permit::{Account, Member as Listed, Notice, SessionId, Terms};

pub use member::{Heard, Member, ROUND_MS, ROUNDS};

/// What holds at a position: a function of the notices up to there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Standing {
    terms: Terms,
    members: BTreeMap<SessionId, Part>,
    /// Members that wait, each once. Whoever gets one goes to the end.
    line: VecDeque<SessionId>,
    /// Those that ended last: what they say, or said and is stored once more, is nothing to anybody.
    over: VecDeque<SessionId>,
}

/// So many that ended are known. What they said is on its way for no longer than they need to find out.
const OVER_MAX: usize = 64;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    number: u64,
    holds: u32,
    waits: u32,
}

/// What a notice was to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Counts,
    /// It came before, or is of a session that is over.
    Void,
    /// Notices before it are missing: what holds is not known any more.
    Gap,
}

impl Standing {
    /// That of somebody who is alone.
    fn alone(session: SessionId, number: u64, terms: Terms) -> Self {
        let members = BTreeMap::from([(session, Part { number, ..Part::default() })]);
        Self { terms, members, ..Self::default() }
    }

    fn of(account: &Account) -> Self {
        let part = |of: &Listed| (of.session, Part { number: of.number, holds: of.holds, waits: of.waits });
        Self {
            terms: account.terms,
            members: account.members.iter().map(part).collect(),
            line: account.line.iter().copied().collect(),
            over: account.over.iter().copied().collect(),
        }
    }

    fn account(&self, at: Position) -> Account {
        let listed = |(session, part): (&SessionId, &Part)| Listed {
            session: *session,
            number: part.number,
            holds: part.holds,
            waits: part.waits,
        };
        Account {
            at,
            terms: self.terms,
            members: self.members.iter().map(listed).collect(),
            line: self.line.iter().copied().collect(),
            over: self.over.iter().copied().collect(),
        }
    }

    /// Whether a notice can come from where this one has read all. That of somebody whose beginning it has not read cannot.
    fn knows(&self, notice: &Notice) -> bool {
        let session = &notice.session;
        notice.joins.is_some() || self.members.contains_key(session) || self.over.contains(session)
    }

    /// Takes in one notice. The same for every reader.
    fn read(&mut self, notice: &Notice) -> Reading {
        match (self.members.get_mut(&notice.session), &notice.joins) {
            // It may be stored twice, and once behind the session's end.
            (None, Some(_)) if !self.over.contains(&notice.session) => {
                self.members.insert(notice.session, Part { number: notice.number, ..Part::default() });
            }
            (None, _) => return Reading::Void,
            (Some(part), _) if notice.number <= part.number => return Reading::Void,
            (Some(part), _) if Some(notice.number) != part.number.checked_add(1) => return Reading::Gap,
            (Some(part), _) => part.number = notice.number,
        }
        if let Some(terms) = notice.joins.as_ref().and_then(|joins| joins.terms) {
            self.terms = terms;
        }
        for silent in &notice.silent {
            let is_over = |part: &Part| part.number == silent.number && silent.session != notice.session;
            if self.members.get(&silent.session).is_some_and(is_over) {
                self.remove(silent.session);
            }
        }
        if let Some(part) = self.members.get_mut(&notice.session) {
            part.holds = part.holds.saturating_sub(notice.returns);
            part.waits = part.waits.saturating_add(notice.asks);
            if part.waits > 0 && !self.line.contains(&notice.session) {
                self.line.push_back(notice.session);
            }
        }
        if notice.leaves {
            self.remove(notice.session);
        }
        self.grant();
        Reading::Counts
    }

    fn remove(&mut self, session: SessionId) {
        self.members.remove(&session);
        self.line.retain(|waiting| *waiting != session);
        if self.over.len() >= OVER_MAX {
            self.over.pop_front();
        }
        self.over.push_back(session);
    }

    /// How many permits there are.
    fn limit(&self) -> u64 {
        u64::from(self.terms.limit.max(1))
    }

    /// How many permits are held.
    fn held(&self) -> u64 {
        self.members.values().map(|part| u64::from(part.holds)).sum()
    }

    /// Gives what is free to those who wait, one to each in turn; where there is enough for many turns, those at once.
    fn grant(&mut self) {
        let mut free = self.limit().saturating_sub(self.held());
        while free > 0 && !self.line.is_empty() {
            let share = free.checked_div(self.line.len() as u64).unwrap_or_default().max(1);
            for _ in 0..self.line.len() {
                let Some(next) = self.line.pop_front() else { break };
                let Some(part) = self.members.get_mut(&next) else { continue };
                let given = u32::try_from(share.min(free)).unwrap_or(u32::MAX).min(part.waits);
                (part.holds, part.waits) = (part.holds.saturating_add(given), part.waits - given);
                free -= u64::from(given);
                if part.waits > 0 {
                    self.line.push_back(next);
                }
                if free == 0 {
                    return;
                }
            }
        }
    }
}
