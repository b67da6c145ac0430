//! The updates that a run has taken: what became of each, and who waits for its answer.

use std::collections::BTreeMap;

use everpulse_protocol::event::{Outcome, ReplyTo};
use everpulse_protocol::history::{CommandKind, CommandMark, Record};

use super::Run;

/// So many may wait for the answers of one run. Others ask again.
const WATCHERS_MAX: usize = 256;

/// The updates of one run.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    known: BTreeMap<Box<str>, Known>,
    /// By the update's number. They are not in history: whoever is forgotten asks again.
    watchers: Vec<(u32, ReplyTo)>,
}

/// An update that was taken.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its number among the run's.
    no: u32,
    /// The record that answered it.
    answered: Option<u32>,
}

impl Run {
    /// An update was taken.
    pub(super) fn take_update(&mut self, id: &str) {
        let updates = self.updates.get_or_insert_default();
        let no = u32::try_from(updates.known.len()).unwrap_or(u32::MAX);
        updates.known.entry(id.into()).or_insert(Known { no, answered: None });
    }

    /// An update was answered.
    pub(super) fn note_answer(&mut self, mark: &CommandMark, seq: u32) {
        let known = self.updates.as_mut().and_then(|updates| updates.known.get_mut(mark.name.as_str()));
        if let Some(known) = known {
            known.answered.get_or_insert(seq);
        }
    }

    /// The number of an update that was taken.
    pub fn update(&self, id: &str) -> Option<u32> {
        Some(self.updates.as_ref()?.known.get(id)?.no)
    }

    /// What an update was answered.
    pub fn answer(&self, id: &str) -> Option<Outcome> {
        let known = self.updates.as_ref()?.known.get(id)?;
        let (records, _) = self.records.piece(self.records.offset(known.answered?)?, 1);
        records.first().and_then(|record| answer_in(record, known.no))
    }

    /// Remembers who waits for an answer. Of very many the first are forgotten.
    pub fn watch_update(&mut self, no: u32, reply_to: ReplyTo) {
        let watchers = &mut self.updates.get_or_insert_default().watchers;
        if watchers.contains(&(no, reply_to.clone())) {
            return;
        }
        if watchers.len() >= WATCHERS_MAX {
            watchers.remove(0);
        }
        watchers.push((no, reply_to));
    }

    /// Who waits for the answer to an update. They wait no more.
    pub fn update_watchers(&mut self, no: u32) -> Vec<ReplyTo> {
        let Some(updates) = &mut self.updates else { return Vec::new() };
        let of_it = |(of, _): &mut (u32, ReplyTo)| *of == no;
        updates.watchers.extract_if(.., of_it).map(|(_, reply_to)| reply_to).collect()
    }

    /// All who wait for answers, with the updates' numbers.
    pub fn all_update_watchers(&self) -> Vec<(u32, ReplyTo)> {
        self.updates.as_ref().map(|updates| updates.watchers.clone()).unwrap_or_default()
    }
}

/// What a record answers to the update of a number.
pub(crate) fn answer_in(record: &Record, no: u32) -> Option<Outcome> {
    let mut answers = record.commands.iter().filter(|mark| mark.kind == CommandKind::Answer);
    answers.find(|mark| mark.no == no)?.answer.as_deref().cloned()
}
