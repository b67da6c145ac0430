//! What runs have to tell each other by what stands: the start of a child, and how it ended.
//!
//! Written from what is promised, not from how it is done: that a child is not wanted, or that its parent has ended, takes the
//! place of a start that was not sent.

use std::collections::BTreeMap;

use everpulse_protocol::EventId;
use everpulse_protocol::event::EventBody;
use everpulse_protocol::family::{ParentClose, child_run};
use everpulse_protocol::history::{CommandKind, Record, RecordBody};

use super::shard::Shard;

/// Takes a record that stands.
pub(super) fn note(
    shard: &mut Shard,
    untold: &mut BTreeMap<EventId, (usize, u64)>,
    number: usize,
    record: &Record,
    frame: u64,
) {
    let run = record.run_id;
    match record.body() {
        Ok(RecordBody::Carried { .. } | RecordBody::Remembered { .. } | RecordBody::TagReached { .. }) => return,
        Ok(RecordBody::Spawned { parent, .. } | RecordBody::NeverBegan { parent, .. }) => {
            shard.parents.insert(run, parent.step);
        }
        Ok(RecordBody::Continued { parent: Some(parent), .. }) => {
            shard.parents.insert(run, parent.step);
        }
        Ok(RecordBody::Received { event, .. }) => {
            if let Ok(EventBody::Spawn { parent, .. } | EventBody::ContinueAsNew { parent: Some(parent), .. }) =
                event.body()
            {
                shard.parents.insert(run, parent.step);
            }
        }
        _ => {}
    }
    for mark in &record.commands {
        match mark.kind {
            CommandKind::Child => {
                let on_close = mark.target.as_ref().and_then(|target| target.on_close).unwrap_or_default();
                shard.children.insert((run, mark.no), on_close);
                untold.insert(EventId(child_run(run, mark.no).0), (number, frame));
            }
            CommandKind::Detach => {
                shard.children.insert((run, mark.no), ParentClose::Abandon);
            }
            CommandKind::Cancel if shard.children.remove(&(run, mark.no)).is_some() => {
                untold.remove(&EventId(child_run(run, mark.no).0));
            }
            _ => {}
        }
    }
    if record.close.is_none() {
        return;
    }
    // Of a run for which another one goes on nobody is told.
    if let Some(step) = shard.parents.get(&run).filter(|_| record.continued_as().is_none()) {
        untold.insert(EventId::derived(run, *step, "child closed"), (number, frame));
    }
    for ((_, no), on_close) in shard.children.range((run, 0)..=(run, u32::MAX)) {
        if *on_close != ParentClose::Abandon {
            untold.remove(&EventId(child_run(run, *no).0));
        }
    }
}
