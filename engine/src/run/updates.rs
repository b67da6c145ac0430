//! The updates that a run has taken: what became of each, and who waits for its answer.

use std::collections::BTreeMap;

use everpulse_protocol::event::{EventBody, Outcome, ReplyTo};
use everpulse_protocol::history::{CommandKind, CommandMark, Record};

use super::Run;

/// So many may wait for the answers of one run. Others ask again.
const WATCHERS_MAX: usize = 256;

/// Who waits for the answer to an update, by its id.
pub(crate) type Watcher = (Box<str>, ReplyTo);

/// The updates of one run.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    known: BTreeMap<Box<str>, Known>,
    /// How many were taken. It is counted as the run's code does, by itself: where history has an id twice, as it may from an
    /// earlier release, the numbers go on all the same.
    taken: u32,
    /// They are not in history: whoever is forgotten asks again.
    watchers: Vec<Watcher>,
}

/// An update that was taken.
#[derive(Debug, Clone)]
struct Known {
    name: Box<str>,
    /// Its number among the run's.
    no: u32,
    /// The record that answered it.
    answered: Option<u32>,
}

impl Run {
    /// An update was taken.
    pub(super) fn take_update(&mut self, id: &str, name: &str) {
        let updates = self.updates.get_or_insert_default();
        let no = updates.taken;
        updates.taken = no.saturating_add(1);
        updates.known.entry(id.into()).or_insert_with(|| Known { name: name.into(), no, answered: None });
    }

    /// An update was answered.
    pub(super) fn note_answer(&mut self, mark: &CommandMark, seq: u32) {
        let known = self.updates.as_mut().and_then(|updates| updates.known.get_mut(mark.name.as_str()));
        if let Some(known) = known.filter(|known| known.no == mark.no) {
            known.answered.get_or_insert(seq);
        }
    }

    /// The name of an update that was taken here, or that goes along and will be.
    pub fn update(&self, id: &str) -> Option<String> {
        let known = self.updates.as_ref().and_then(|updates| updates.known.get(id));
        known.map(|known| known.name.to_string()).or_else(|| {
            // Only of runs that go on for others, and only until they have begun.
            let mut along = self.received.iter().filter_map(|received| match received.event.body() {
                Ok(EventBody::UpdateAccepted { id, name, .. }) => Some((id, name)),
                _ => None,
            });
            along.find(|(of, _)| of == id).map(|(_, name)| name)
        })
    }

    /// The ids of all that were taken.
    pub fn updates_taken(&self) -> impl Iterator<Item = &str> {
        self.updates.iter().flat_map(|updates| updates.known.keys()).map(|id| &**id)
    }

    /// What an update was answered.
    pub fn answer(&self, id: &str) -> Option<Outcome> {
        let known = self.updates.as_ref()?.known.get(id)?;
        let (records, _) = self.records.piece(self.records.offset(known.answered?)?, 1);
        records.first().and_then(|record| answer_in(record, id, Some(known.no)))
    }

    /// Remembers who waits for an answer. Of very many the first are forgotten.
    pub fn watch_update(&mut self, id: &str, reply_to: ReplyTo) {
        let watchers = &mut self.updates.get_or_insert_default().watchers;
        if watchers.iter().any(|(of, who)| &**of == id && *who == reply_to) {
            return;
        }
        if watchers.len() >= WATCHERS_MAX {
            watchers.remove(0);
        }
        watchers.push((id.into(), reply_to));
    }

    /// Who waits for the answer to an update. They wait no more.
    pub fn update_watchers(&mut self, id: &str) -> Vec<ReplyTo> {
        let Some(updates) = &mut self.updates else { return Vec::new() };
        let of_it = |(of, _): &mut Watcher| &**of == id;
        updates.watchers.extract_if(.., of_it).map(|(_, reply_to)| reply_to).collect()
    }

    /// All who wait for answers.
    pub fn all_update_watchers(&self) -> Vec<Watcher> {
        self.updates.as_ref().map(|updates| updates.watchers.clone()).unwrap_or_default()
    }
}

/// What a record answers to an update; `no`: its number, where that is known.
pub(crate) fn answer_in(record: &Record, id: &str, no: Option<u32>) -> Option<Outcome> {
    let mut answers = record.commands.iter().filter(|mark| mark.kind == CommandKind::Answer && mark.name == id);
    answers.find(|mark| no.is_none_or(|no| mark.no == no))?.answer.as_deref().cloned()
}
