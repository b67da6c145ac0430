//! Scopes and names: what they say in the notes of a turn, and that they change nothing else.

use everpulse::replay::{Input, Turn};
use everpulse::{Error, activity, join, promise, scope, sleep, workflow};
use everpulse_protocol::Payload;
use everpulse_protocol::history::CommandMark;
use everpulse_protocol::note::{Note, NoteKind};
use std::time::Duration;

use crate::harness::{Run, done, run, show, value};

#[activity]
async fn charge(n: u32) -> u32 {
    n
}

async fn paid(n: u32) -> Result<u32, Error> {
    Ok(charge(n).await?)
}

/// A note in a line: what it says of which number, in which scope, before which command.
fn line(note: &Note) -> String {
    let what = match note.kind {
        NoteKind::Command => "command".to_owned(),
        NoteKind::ScopeBegan => format!("began {}", note.name),
        NoteKind::ScopeDone => format!("done {:?}", note.value.as_ref().map(|value| value.decode::<u32>().unwrap())),
        NoteKind::ScopeFailed => format!("failed {}", note.failure.as_ref().unwrap().message),
        NoteKind::ScopeDropped => "dropped".to_owned(),
        other => panic!("{other:?} is never noted"),
    };
    let place = note.before.map_or_else(String::new, |before| format!(" before {before}"));
    let around = note.scope.map_or_else(String::new, |scope| format!(" in {scope}"));
    let name =
        if note.kind == NoteKind::Command && !note.name.is_empty() { format!(" {}", note.name) } else { String::new() };
    format!("{} {what}{name}{around}{place}", note.no)
}

fn lines(turn: &Turn) -> Vec<String> {
    turn.notes.iter().map(line).collect()
}

#[workflow]
async fn nested(n: u32) -> Result<u32, Error> {
    let outer = scope("outer", async {
        let first = paid(n).await?;
        scope("inner", paid(first + 1)).await
    });
    let paid = outer.await?;
    charge(paid).await?;
    Ok(paid)
}

#[test]
fn a_scope_says_what_stands_in_it_and_what_it_came_to() {
    let mut run = run(nested(1));
    let turn = run.turn(Input::Start);
    assert_eq!(lines(&turn), ["0 began outer before 0", "0 command in 0"]);
    let turn = run.turn(done(0, 1));
    assert_eq!(lines(&turn), ["1 began inner in 0 before 1", "1 command in 1"]);
    let turn = run.turn(done(1, 2));
    assert_eq!(lines(&turn), ["1 done Some(2) before 2", "0 done Some(2) before 2"], "what comes after stands in none");
    assert_eq!(show(&turn), ["2 activity charge", "waiting"]);
}

#[workflow]
async fn branches(n: u32) -> u32 {
    let (left, right) = join!(scope("left", paid(n)), scope("right", paid(n)));
    left.unwrap_or_default() + right.unwrap_or_default()
}

#[test]
fn branches_stand_in_scopes_of_their_own() {
    let mut run = run(branches(1));
    let turn = run.turn(Input::Start);
    let begun = ["0 began left before 0", "0 command in 0", "1 began right before 1", "1 command in 1"];
    assert_eq!(lines(&turn), begun);
    assert_eq!(lines(&run.turn(done(1, 5))), ["1 done Some(5) before 2"]);
}

#[workflow]
async fn fails_and_drops(n: u32) -> u32 {
    let refused = scope("refused", async { Err::<u32, _>(Error::msg("no")) }).await;
    let mut dropped = scope("dropped", paid(n));
    assert!(futures::poll!(&mut dropped).is_pending());
    drop(dropped);
    u32::from(refused.is_err())
}

#[test]
fn errors_and_what_is_dropped_are_told() {
    let turn = run(fails_and_drops(1)).turn(Input::Start);
    let told = [
        "0 began refused before 0",
        "0 failed no before 0",
        "1 began dropped before 0",
        "0 command in 1",
        "1 dropped before 1",
    ];
    assert_eq!(lines(&turn), told);
    assert_eq!(show(&turn)[..2], ["0 activity charge", "cancel 0"]);
}

#[workflow]
async fn names(n: u32) -> bool {
    let approval = promise::<bool>().named("approval");
    sleep(Duration::from_secs(u64::from(n))).named("cool down").await;
    approval.await.is_ok()
}

#[test]
fn promises_and_timers_have_names() {
    let turn = run(names(1)).turn(Input::Start);
    assert_eq!(lines(&turn), ["0 command approval", "1 command cool down"]);
}

#[test]
fn a_replay_notes_nothing_and_counts_on() {
    let mut live = run(nested(1));
    let marks = |turn: &Turn| -> Vec<CommandMark> { turn.commands.iter().map(|command| command.mark()).collect() };
    let recorded = marks(&live.turn(Input::Start));
    let mut again: Run = run(nested(1));
    again.replaying = Some(recorded);
    let replayed = again.turn(Input::Start);
    assert_eq!(lines(&replayed), Vec::<String>::new());
    assert_eq!(show(&replayed), ["0 activity charge", "waiting"]);
    again.replaying = None;
    assert_eq!(lines(&again.turn(done(0, 1))), lines(&live.turn(done(0, 1))), "from then on both say the same");
}

#[workflow]
async fn large(bytes: u32) -> u32 {
    let much = |bytes: u32| async move { Ok::<_, Error>("x".repeat(bytes as usize)) };
    for _ in 0..2 {
        scope("large", much(bytes)).await.unwrap();
    }
    bytes
}

#[test]
fn what_is_too_large_is_left_out() {
    let turn = run(large(3 * 1024)).turn(Input::Start);
    let kept: Vec<Option<usize>> = turn.notes.iter().map(|note| note.value.as_ref().map(Payload::len)).collect();
    assert_eq!(kept.len(), 4, "both begin and end");
    assert!(kept[1].is_some() && kept[3].is_some(), "{kept:?}");
    let turn = run(large(5 * 1024)).turn(Input::Start);
    assert_eq!(turn.notes.len(), 4, "both begin and end");
    assert!(turn.notes.iter().all(|note| note.value.is_none()));
}

/// Many scopes with a command and a value each.
#[workflow]
async fn many(scopes: u32) -> u32 {
    let much = |n: u32| async move {
        drop(charge(n).into_future());
        Ok::<_, Error>("x".repeat(3 * 1024))
    };
    for n in 0..scopes {
        scope("part", much(n)).await.unwrap();
    }
    scopes
}

#[test]
fn values_take_no_room_from_what_says_where_scopes_stand() {
    let turn = run(many(100)).turn(Input::Start);
    let of = |kind: NoteKind| turn.notes.iter().filter(move |note| note.kind == kind);
    assert_eq!((of(NoteKind::ScopeBegan).count(), of(NoteKind::ScopeDone).count()), (100, 100));
    let kept = of(NoteKind::ScopeDone).filter(|note| note.value.is_some()).count();
    assert!((20..=21).contains(&kept), "as many as 64 KiB hold: {kept}");
}

#[test]
fn what_has_begun_is_ended_where_there_is_no_room_for_more() {
    let turn = run(many(20_000)).turn(Input::Start);
    let bytes: usize = turn.notes.iter().map(Note::bytes).sum();
    assert!((256 * 1024..=(512 + 64) * 1024).contains(&bytes), "{bytes}");
    let of = |kind: NoteKind| turn.notes.iter().filter(move |note| note.kind == kind).map(|note| note.no);
    let ended: Vec<u32> = of(NoteKind::ScopeDone).collect();
    assert!(of(NoteKind::ScopeBegan).all(|begun| ended.contains(&begun)));
}

#[workflow]
async fn long_names(bytes: u32) -> u32 {
    let name = "\u{e9}".repeat(bytes as usize / 2);
    let mut inside = scope(name.clone(), async {
        drop(promise::<bool>().named(name.clone()));
        Ok::<_, Error>(())
    });
    assert!(futures::poll!(&mut inside).is_ready());
    drop(promise::<bool>().named(format!("x{name}")));
    bytes
}

#[test]
fn long_names_are_cut_inside_a_scope_and_outside() {
    let turn = run(long_names(10_000)).turn(Input::Start);
    let names: Vec<usize> = turn.notes.iter().map(|note| note.name.len()).filter(|bytes| *bytes > 0).collect();
    assert_eq!(names, [256, 256, 255], "where a letter ends");
}

/// It cannot be written.
struct Explosive;

impl serde::Serialize for Explosive {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("it went off")
    }
}

#[workflow]
async fn holds_what_explodes(n: u32) -> u32 {
    let held = scope("held", async { Ok::<_, Error>(Explosive) }).await;
    n + u32::from(held.is_ok())
}

#[test]
fn a_value_that_panics_when_it_is_written_is_left_out_and_the_run_goes_on() {
    let turn = run(holds_what_explodes(1)).turn(Input::Start);
    assert_eq!(lines(&turn), ["0 began held before 0", "0 done None before 0"]);
    assert_eq!(value::<u32>(&turn), 2);
}
