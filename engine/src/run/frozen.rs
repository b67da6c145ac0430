//! A run as bytes: its records, and the little that they do not say. There is no second form of what a run knows: it is
//! folded from its records again, as after a takeover.

use everpulse_protocol::event::ReplyTo;
use everpulse_protocol::history::Record;
use everpulse_protocol::{RunId, WorkflowId};
use serde::{Deserialize, Serialize};

use super::Run;
use super::records::Records;

#[derive(Serialize, Deserialize)]
struct Frozen<'a> {
    workflow_id: WorkflowId,
    last_frame: u64,
    /// The frames that asked for the commands that are open.
    commands: Vec<(u32, u64)>,
    /// Those in which stands what this release does not know.
    unknown: Vec<u64>,
    watchers: Vec<ReplyTo>,
    update_watchers: Vec<(Box<str>, ReplyTo)>,
    #[serde(borrow, with = "serde_bytes")]
    records: &'a [u8],
}

impl Run {
    /// Whether all that there is to know of it stands in its records, and nothing is to be done for it now.
    ///
    /// `sent_below`: the commands of all frames below this are marked as sent.
    pub fn only_waits(&self, sent_below: u64) -> bool {
        self.started.is_some()
            && self.parked.is_none()
            && self.unknown.is_none()
            && self.received.is_empty()
            && self.last_frame < sent_below
            && !self.pending.values().any(|pending| pending.is_local())
    }

    /// The commands that may not have come to their end, with the frames that asked for them.
    pub fn open_commands(&self) -> Vec<(u32, u64)> {
        let known = self.pending.iter().map(|(no, pending)| (*no, pending.frame));
        let unknown = self.unknown.iter().flat_map(|unknown| &unknown.commands).map(|(no, frame)| (*no, *frame));
        known.chain(unknown).collect()
    }

    pub fn freeze(&self) -> Vec<u8> {
        let frozen = Frozen {
            workflow_id: self.workflow_id.clone(),
            last_frame: self.last_frame,
            commands: self.open_commands(),
            unknown: self.unknown.iter().flat_map(|unknown| unknown.frames()).collect(),
            watchers: self.watchers.clone(),
            update_watchers: self.all_update_watchers(),
            records: self.records.as_bytes(),
        };
        rmp_serde::to_vec(&frozen).expect("there is nothing in it that MessagePack cannot write")
    }

    /// The run again; none if the bytes are another's, or none at all.
    pub fn thaw(bytes: &[u8], run_id: RunId, base: u64) -> Option<Self> {
        let Frozen { workflow_id, last_frame, commands, unknown, watchers, update_watchers, records } =
            rmp_serde::from_slice(bytes).ok()?;
        let mut run = Self::new(workflow_id, run_id);
        let mut rest = records;
        let mut count = 0;
        while !rest.is_empty() {
            let record = Record::unpack(&mut rest).ok()?;
            if record.run_id != run_id || record.seq != count {
                return None;
            }
            run.fold(&record, record.body().ok().as_ref(), last_frame);
            count += 1;
        }
        run.records = Records::of(records.to_vec(), count);
        if let Some(known) = &mut run.unknown {
            known.place_all(unknown);
        }
        for (no, frame) in commands {
            match (run.pending.get_mut(&no), &mut run.unknown) {
                (Some(pending), _) => pending.frame = frame,
                (None, Some(unknown)) => unknown.place(no, frame),
                (None, None) => return None,
            }
        }
        run.watchers = watchers;
        update_watchers.into_iter().for_each(|(id, reply_to)| run.watch_update(&id, reply_to));
        run.base = base;
        Some(run)
    }
}
