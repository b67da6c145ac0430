//! Which frames of a partition stand, by the one rule that makes history a lock.
//!
//! A frame stands if its predecessor stands and it is the first in the partition to name it; numbers are dense
//! from 0, `previous` is the SHA-256 of the predecessor's bytes, and the first frame names zeros. What the
//! frames say of runs is not looked at here.
//!
//! Where the first frame was trimmed away, a frame that a later one calls verified is the anchor: the chain is
//! validated backwards from it by hashes, and forwards by the rule.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::format::{self, Frame, Hash, Id, Position};
use crate::report::{Kind, Place, Violation};

/// One entry of a partition.
pub struct Entry {
    pub position: Position,
    pub hash: Hash,
    pub frame: Result<Frame, String>,
}

impl Entry {
    pub fn new(position: Position, bytes: &[u8]) -> Self {
        Self { position, hash: Sha256::digest(bytes).into(), frame: format::frame(bytes) }
    }
}

/// What the rule says of a partition.
pub struct Judged {
    /// Indices of the entries that stand, in the order of their numbers.
    pub standing: Vec<usize>,
    pub void: Vec<VoidFrame>,
    /// The chain's beginning is gone.
    pub trimmed: bool,
}

/// A frame that is not on the chain, for any reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VoidFrame {
    pub number: u64,
    #[serde(serialize_with = "crate::report::as_text")]
    pub position: Position,
    #[serde(serialize_with = "crate::report::as_text")]
    pub writer: Id,
    pub why: Void,
    /// How many records are lost with it, as far as this frame goes.
    pub records: usize,
}

/// Why a frame is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Void {
    /// Another frame was the first to name its predecessor.
    Rival,
    /// The same bytes stand already.
    Duplicate,
    /// Its predecessor is void.
    BehindVoid,
    /// Its predecessor is not in the partition (before it).
    Orphan,
    /// It names a predecessor of another number than its own calls for.
    Misnumbered,
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rival => "another was the first to name its predecessor",
            Self::Duplicate => "the same bytes stand already",
            Self::BehindVoid => "its predecessor is void",
            Self::Orphan => "its predecessor is not in the partition before it",
            Self::Misnumbered => "its number does not follow on its predecessor's",
        })
    }
}

const ZEROS: Hash = [0; 32];

/// Decides which entries stand, and checks what writers took for verified.
pub fn judge(shard: u32, entries: &[Entry], violations: &mut Vec<Violation>) -> Judged {
    let frames: Vec<(usize, &Frame)> =
        entries.iter().enumerate().filter_map(|(at, entry)| Some((at, entry.frame.as_ref().ok()?))).collect();
    let anchored = backwards_from_anchor(entries, &frames);
    let whole = is_whole(entries, &frames, &anchored);
    let mut standing = if whole { Vec::new() } else { anchored };
    let mut stands = vec![false; entries.len()];
    for &at in &standing {
        stands[at] = true;
    }
    // Where nothing is known of the beginning, nothing can be decided forwards either.
    let forwards_from = if whole { Some(0) } else { standing.last().copied() };
    let number_of = |at: usize| entries[at].frame.as_ref().map_or(0, |frame| frame.number);

    let mut tail = standing.last().copied();
    let mut seen: HashMap<Hash, usize> = HashMap::new();
    let mut void = Vec::new();
    for &(at, frame) in &frames {
        let (number, previous) = tail.map_or((0, ZEROS), |at| (number_of(at).saturating_add(1), entries[at].hash));
        let decides = forwards_from.is_some_and(|from| at >= from);
        if decides && !stands[at] && frame.number == number && frame.previous == previous {
            standing.push(at);
            stands[at] = true;
            tail = Some(at);
        }
        if !stands[at] {
            let named = seen.get(&frame.previous).copied();
            let why = match named {
                _ if seen.contains_key(&entries[at].hash) => Void::Duplicate,
                None if frame.previous == ZEROS && frame.number == 0 => Void::Rival,
                None if frame.previous == ZEROS => Void::Misnumbered,
                None => Void::Orphan,
                Some(before) if number_of(before).checked_add(1) != Some(frame.number) => Void::Misnumbered,
                Some(before) if stands[before] => Void::Rival,
                Some(_) => Void::BehindVoid,
            };
            let position = entries[at].position;
            if why == Void::Misnumbered {
                let message = match named {
                    Some(before) => format!(
                        "the frame names frame {} at {} as its predecessor, but is not numbered after it",
                        number_of(before),
                        entries[before].position,
                    ),
                    None => "the frame names no predecessor, but is not numbered 0".to_owned(),
                };
                violations.push(Place::frame(shard, frame.number, position).fault(Kind::Number, message));
            }
            let (number, writer, records) = (frame.number, frame.writer, frame.records.len());
            void.push(VoidFrame { number, position, writer, why, records });
        }
        seen.entry(entries[at].hash).or_insert(at);
    }
    let judged = Judged { standing, void, trimmed: !whole && !frames.is_empty() };
    check_verified(shard, entries, &frames, &judged, violations);
    judged
}

/// Whether the chain's first frame is there. Who has stood still since nothing was written may write a frame of that number
/// at any time: it is void, and says nothing of what was trimmed before it.
fn is_whole(entries: &[Entry], frames: &[(usize, &Frame)], anchored: &[usize]) -> bool {
    let verified: HashSet<Position> = frames.iter().filter_map(|(_, frame)| Some(frame.verified?.position)).collect();
    frames
        .iter()
        .filter(|(_, frame)| frame.number == 0 && frame.previous == ZEROS)
        .any(|(at, _)| anchored.first().is_none_or(|first| first == at) || verified.contains(&entries[*at].position))
}

/// The frames that stand up to the first one that a later one calls verified; empty where there is none.
fn backwards_from_anchor(entries: &[Entry], frames: &[(usize, &Frame)]) -> Vec<usize> {
    let by_position: HashMap<Position, usize> = frames.iter().map(|&(at, _)| (entries[at].position, at)).collect();
    let by_hash: HashMap<Hash, usize> = frames.iter().rev().map(|&(at, _)| (entries[at].hash, at)).collect();
    let frame = |at: usize| entries[at].frame.as_ref().ok();
    let anchor = frames
        .iter()
        .filter_map(|&(later, named_by)| {
            let verified = named_by.verified?;
            let at = *by_position.get(&verified.position)?;
            (at < later && frame(at)?.number == verified.number).then_some(at)
        })
        .min();
    let mut standing: Vec<usize> = Vec::new();
    let mut next = anchor;
    while let Some(at) = next {
        standing.push(at);
        next = frame(at).and_then(|after| {
            let before = *by_hash.get(&after.previous)?;
            (before < at && frame(before)?.number.checked_add(1) == Some(after.number)).then_some(before)
        });
    }
    standing.reverse();
    standing
}

/// A mark `verified` is what its writer acted upon: it must name a frame that stands, at its position. Anything
/// else means that two writers took two chains for the truth.
fn check_verified(
    shard: u32,
    entries: &[Entry],
    frames: &[(usize, &Frame)],
    judged: &Judged,
    violations: &mut Vec<Violation>,
) {
    let standing: HashMap<Position, u64> = judged
        .standing
        .iter()
        .filter_map(|&at| Some((entries[at].position, entries[at].frame.as_ref().ok()?.number)))
        .collect();
    let void: HashMap<Position, &VoidFrame> = judged.void.iter().map(|void| (void.position, void)).collect();
    let earliest = entries.first().map(|entry| entry.position).unwrap_or_default();
    for &(at, frame) in frames {
        let Some(verified) = frame.verified else { continue };
        let trimmed_away = judged.trimmed && verified.position < earliest;
        let fault = match (standing.get(&verified.position), void.get(&verified.position)) {
            (Some(&number), _) if number == verified.number && number < frame.number => continue,
            (None, None) if trimmed_away => continue,
            (Some(&number), _) if number == verified.number => {
                format!("the frame calls frame {number} verified, which is not before it")
            }
            (Some(number), _) => format!(
                "the frame calls frame {} at {} verified, but what stands there is frame {number}",
                verified.number, verified.position
            ),
            (None, Some(void)) => format!(
                "a fork: the frame calls frame {} at {} verified, which is void ({}; written by {})",
                verified.number, verified.position, void.why, void.writer
            ),
            (None, None) => format!(
                "a fork: the frame calls frame {} at {} verified, but there is no frame at that position",
                verified.number, verified.position
            ),
        };
        violations.push(Place::frame(shard, frame.number, entries[at].position).fault(Kind::Fork, fault));
    }
}
