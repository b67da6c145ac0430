//! A partition of history whose frames say anything, read by those who read history: the engine, the judge, and a
//! client's opening. Most frames are chained again after the damage, so that what they say stands and is believed.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use everpulse_checker::Rules;
use everpulse_engine::{Delivery, DeliveryToken, Effect, NoEager, Options, Shard};
use everpulse_protocol::chain::{Opened, Opening};
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::history::{Frame, Hash, Verified};
use everpulse_protocol::shard::Config;
use everpulse_protocol::view::Fold;
use everpulse_protocol::{Position, Timestamp, WriterId, decode, encode};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{Failure, Never, activity, workflow};
use uuid::Uuid;

use crate::damage;
use crate::dice::Dice;
use crate::valid;

/// A shard that wants more than this for what was put into it turns in a circle.
const EFFECTS_MAX: usize = 20_000;

#[activity(crate = everpulse_sdk)]
async fn double(n: u64) -> u64 {
    n * 2
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn twice(n: u64) -> Result<u64, Failure<Never>> {
    let once = double(n).await?;
    double(once).await
}

static REGISTRY: LazyLock<Arc<Registry>> = LazyLock::new(|| {
    let mut registry = Registry::new();
    registry.workflow_fn(twice).expect("there is one of the name");
    registry.activity_fn(double).expect("there is one of the name");
    Arc::new(registry)
});

/// Damages some frames, and chains most partitions again.
pub fn damaged(dice: &mut Dice) -> Vec<Bytes> {
    let mut frames = valid::frames();
    if dice.one_in(30) {
        frames[1].records = vec![valid::nested(dice.below(1_000))];
    }
    let mut frames: Vec<Bytes> = frames.iter().map(encode).collect();
    for _ in 0..=dice.below(3) {
        let (at, other) = (dice.below(frames.len()), dice.below(frames.len()));
        frames[at] = damage::bytes(&frames[at], &frames[other], dice).into();
        if dice.one_in(8) {
            frames.swap(at, other);
        }
    }
    if dice.one_in(6) {
        return frames;
    }
    let (mut previous, mut next) = (Hash::GENESIS, 0);
    let trust_all = !dice.one_in(4);
    for (frame, position) in frames.iter_mut().zip(0..) {
        let Ok(mut read) = decode::<Frame>(frame) else { continue };
        (read.previous, read.number) = (previous, next);
        if trust_all {
            read.verified = next.checked_sub(1).map(|number| Verified { number, position: valid::at(position - 1) });
            read.shard = 0;
        }
        *frame = encode(&read);
        (previous, next) = (Hash::of(frame), next + 1);
    }
    frames
}

/// One entry of a script: its length, then the entry. A fuzzer's input is one text of bytes.
pub fn script(frames: &[Bytes]) -> Vec<u8> {
    let entry = |frame: &Bytes| [&u32::try_from(frame.len()).unwrap_or(0).to_be_bytes()[..], frame].concat();
    frames.iter().flat_map(entry).collect()
}

fn entries(mut script: &[u8]) -> Vec<(Position, Bytes)> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = script.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
        let number = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        entries.push((valid::at(number), Bytes::copy_from_slice(&rest[..length])));
        script = &rest[length..];
    }
    entries
}

/// The judge calls it what it is.
pub fn judge(script: &[u8]) {
    let entries = entries(script).into_iter().map(|(position, bytes)| (position_of(position), bytes.to_vec()));
    let report = everpulse_checker::check_partitions(&[entries.collect()], &Rules::default());
    // As `checker --json` and its table spell it.
    for violation in &report.violations {
        assert!(!violation.to_string().is_empty());
    }
}

fn position_of(position: Position) -> everpulse_checker::Position {
    everpulse_checker::Position { ledger: position.ledger, entry: position.entry }
}

/// A client, or `history`, reads runs from it.
pub fn open(script: &[u8]) {
    let mut opening = Opening::new();
    let mut fold = Fold::default();
    let mut fold_all = |opened: Opened| match opened {
        Opened::Standing(frames) => {
            frames.iter().flat_map(|stood| &stood.frame.records).for_each(|record| fold.apply(record));
        }
        Opened::Hole { .. } | Opened::Unknown(_) => {}
    };
    for (position, payload) in entries(script) {
        fold_all(opening.offer(position, payload));
    }
    fold_all(opening.end());
    let _ = fold.view();
    let chain = opening.into_chain();
    let _ = (chain.next_number(), chain.next_previous(), chain.verified());
}

/// An owner takes the shard over and is sent all kinds of events.
pub fn own(script: &[u8]) {
    let mut log = entries(script);
    let mut shard = Shard::new(
        0,
        WriterId(Uuid::from_u128(900)),
        Config::new(1, 1),
        REGISTRY.clone(),
        Rc::new(NoEager),
        Options::default(),
    );
    let now = Timestamp(100_000);
    for (token, bytes) in (0..).zip(valid::inbox()) {
        let Ok(frame) = decode::<InboxFrame>(&bytes) else { continue };
        shard.handle_delivery(Delivery { token: DeliveryToken(token), frame, suspect: token % 2 == 0 }, now);
        serve(&mut shard, &mut log, now);
        if let Some(next) = shard.poll_deadline() {
            let next = next.max(now);
            shard.handle_tick(next);
            serve(&mut shard, &mut log, next);
        }
    }
    shard.handle_drain(now);
    serve(&mut shard, &mut log, now);
}

fn serve(shard: &mut Shard, log: &mut Vec<(Position, Bytes)>, now: Timestamp) {
    let mut sent = 0;
    for _ in 0..EFFECTS_MAX {
        let Some(effect) = shard.poll_effect() else { return };
        match effect {
            Effect::AskTail { id } => shard.handle_tail(id, log.last().map(|(position, _)| *position), now),
            Effect::Read { id, after, to } => {
                let wanted = |position: Position| after.is_none_or(|after| position > after) && position <= to;
                let found = log.iter().filter(|(position, _)| wanted(*position)).cloned().collect();
                shard.handle_entries(id, found, true, now);
            }
            Effect::Append { id, payload } => {
                let position = valid::at(u64::try_from(log.len()).unwrap_or(u64::MAX));
                log.push((position, payload));
                shard.handle_receipt(id, Ok::<_, ()>(Some(position)), now);
            }
            Effect::FindTasks { id, .. } => shard.handle_found(id, &[], now),
            Effect::Fetch { id, position } => {
                let found = log.iter().find(|(at, _)| *at == position).map(|(_, payload)| payload);
                shard.handle_fetched(id, found);
            }
            Effect::Send { id, .. } => {
                sent += 1;
                shard.handle_sent(id, Some(Position { ledger: 2, entry: sent }), now);
            }
            // A shard that cannot be read is served by nobody until a person has looked.
            Effect::Refuse { .. } => return,
            _ => {}
        }
    }
    panic!("{EFFECTS_MAX} effects, and it wants more: {:?}", shard.status());
}
