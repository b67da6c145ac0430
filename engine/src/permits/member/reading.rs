//! What a member makes of what it reads: who is there, what holds, and whether it is still believed to be there itself.

use everpulse_protocol::Position;
use everpulse_protocol::permit::Notice;

use super::{Heard, Member};
use crate::permits::{Reading, Standing};

/// So many notices are kept by one that does not know what holds. An account is said once in a round, so the next one is within them.
const UNREAD_MAX: usize = 4_096;

/// What a notice that says that its writer is alone is to somebody who reads it.
enum Beginning {
    /// All others are over.
    Anew,
    /// Somebody who knows better has spoken, or it says nothing of the kind.
    None,
    /// What would tell came before this reader began.
    Unknown,
}

impl Member {
    /// The next notice of the topic. One that it has read already is passed over.
    pub fn read(&mut self, at: Position, notice: Notice) -> Heard {
        if self.last.is_some_and(|last| at <= last) {
            return Heard::News;
        }
        let knew = self.standing.is_some();
        let beginning = self.beginning(&notice);
        let begins_anew = matches!(beginning, Beginning::Anew);
        match (beginning, &notice.joins, &mut self.standing) {
            (Beginning::Anew, Some(joins), _) => {
                // They are always said here.
                let terms = joins.terms.unwrap_or_default();
                self.standing = Some(Standing::alone(notice.session, notice.number, terms));
                self.unread.clear();
            }
            (Beginning::Unknown, ..) => {
                self.perhaps = Some(at);
                self.forget(at);
            }
            (_, _, Some(standing)) => match standing.read(&notice) {
                Reading::Counts => self.heard(&notice),
                Reading::Void => {}
                Reading::Gap => self.standing = None,
            },
            (_, _, None) => {
                if self.unread.len() >= UNREAD_MAX
                    && let Some((dropped, _)) = self.unread.pop_front()
                {
                    self.unread_from = Some(dropped);
                }
                self.unread.push_back((at, notice.clone()));
                self.learn(&notice);
            }
        }
        // Who joins does not know better than others.
        if notice.joins.is_none() || begins_anew {
            (self.informed, self.unanswered) = (Some(at), 0);
        }
        self.last = Some(at);
        if notice.session == self.session && notice.number > self.own {
            self.own = notice.number;
            // So long was heard what others could say, and they said nothing.
            self.unanswered = self.unanswered.saturating_add(u32::from(self.standing.is_none()));
        }
        self.has_said_terms |= self.part().is_some();
        let is_over = if self.standing.is_some() { self.own > 0 && self.part().is_none() } else { knew };
        if is_over { Heard::Over } else { Heard::News }
    }

    /// The next notice of the topic, which this release cannot read, and others may: what holds behind it only they can tell.
    pub fn unreadable(&mut self, at: Position) -> Heard {
        if self.last.is_some_and(|last| at <= last) {
            return Heard::News;
        }
        let knew = self.standing.is_some();
        self.forget(at);
        // Whoever wrote it may know.
        (self.last, self.informed, self.unanswered) = (Some(at), Some(at), 0);
        if knew { Heard::Over } else { Heard::News }
    }

    /// What holds is not known any more: only who has read the notice that stands there, and knows, can tell.
    fn forget(&mut self, at: Position) {
        (self.standing, self.unread_from) = (None, Some(at));
        self.unread.clear();
    }

    /// Takes note of who is there.
    fn heard(&mut self, notice: &Notice) {
        if notice.session != self.session {
            self.rounds.insert(notice.session, 0);
            self.is_asked |= notice.joins.is_some();
            // Whoever came before it can read it there.
            if notice.account.is_some() {
                (self.is_asked, self.is_told) = (false, true);
            }
            return;
        }
        self.written.retain(|number, _| *number > notice.number);
        if notice.number == self.round {
            let Some(standing) = &self.standing else { return };
            self.rounds.retain(|session, _| standing.members.contains_key(session));
            for session in standing.members.keys().filter(|session| **session != self.session) {
                *self.rounds.entry(*session).or_default() += 1;
            }
        }
    }

    /// Whether a notice begins everything anew. It does if nobody who knew has spoken since the one that it names.
    fn beginning(&self, notice: &Notice) -> Beginning {
        let Some(alone) = notice.joins.as_ref().and_then(|joins| joins.alone.as_ref()) else { return Beginning::None };
        if self.informed > alone.after {
            return Beginning::None;
        }
        // Of what came before it began to read it knows nothing.
        let is_known = alone.after >= self.began && self.perhaps <= alone.after;
        if is_known { Beginning::Anew } else { Beginning::Unknown }
    }

    /// Looks for what holds in a notice of somebody who knows.
    fn learn(&mut self, notice: &Notice) {
        let Some(account) = notice.account.as_ref().filter(|account| Some(account.at) >= self.unread_from) else {
            return;
        };
        let mut standing = Standing::of(account);
        for (_, later) in self.unread.iter().filter(|(at, _)| *at > account.at) {
            if standing.read(later) == Reading::Gap {
                return;
            }
        }
        self.standing = Some(standing);
        self.unread.clear();
    }
}
