//! The workflows and activities of the suites.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use everpulse::prelude::*;
use everpulse::{Never, activity as activity_context, info};
use serde::{Deserialize, Serialize};

use crate::ledger;

/// An error of an author's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    Flaky { attempt: u32 },
    Final,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flaky { attempt } => write!(f, "flaky at attempt {attempt}"),
            Self::Final => f.write_str("final"),
        }
    }
}

impl std::error::Error for Trouble {}

/// One execution, in the ledger.
pub(crate) fn note(step: &str) {
    let context = activity_context::context();
    let workflow_id = context.workflow_id().to_string();
    ledger::note(context.idempotency_key(), &workflow_id, step, context.attempt()).expect("the ledger can be written");
}

#[activity]
pub async fn greet(name: String) -> String {
    note("greet");
    format!("hello {name}")
}

#[workflow(version = 1)]
pub async fn hello(name: String) -> Result<String, Failure<Never>> {
    greet(name).await
}

#[activity]
pub async fn count(n: u64) -> u64 {
    note(&format!("count {n}"));
    n
}

#[activity]
pub async fn stamp(document: String) -> String {
    note("stamp");
    document + "stamped,"
}

#[activity]
pub async fn file_away(document: String) -> String {
    note("file_away");
    document + "filed,"
}

/// A document that goes through an activity, a step, a child and another activity.
#[workflow(version = 1)]
pub async fn paperwork(document: String) -> Result<String, Failure<Never>> {
    let stamped = stamp(document).await?;
    let signed = step("sign", move || async move { Ok::<_, Never>(stamped + "signed,") }).await?;
    let copied = copies(signed).await?;
    file_away(copied).await
}

#[workflow(version = 1)]
pub async fn copies(document: String) -> String {
    document + "copied,"
}

/// Ten activities, one after another.
#[workflow(version = 1)]
pub async fn sequence() -> Result<Vec<u64>, Failure<Never>> {
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(count(n).await?);
    }
    Ok(all)
}

/// Many activities at once.
#[workflow(version = 1)]
pub async fn fan_out(n: u64) -> Result<u64, Failure<Never>> {
    let results = join_all((0..n).map(count)).await;
    results.into_iter().sum()
}

#[activity]
pub async fn undo(n: u64) -> u64 {
    note(&format!("undo {n}"));
    n
}

/// Does parts and then what fails for good, or sleeps until it is cancelled; in both cases the parts are undone.
#[workflow(version = 1)]
pub async fn trip(parts: u64, sleeps: bool) -> Result<(), everpulse::Error> {
    saga(async |saga| {
        for n in 0..parts {
            count(n).await?;
            saga.compensate(undo(n));
        }
        if sleeps {
            sleep(Duration::from_secs(3_600)).await;
        }
        timeout(Duration::from_secs(3_600), flaky(0)).await??;
        Ok(())
    })
    .await
}

/// Ten local steps, one after another.
#[workflow(version = 1)]
pub async fn ten_steps(id: String) -> Result<Vec<u64>, Failure<Never>> {
    let mut all = Vec::new();
    for n in 0..10u64 {
        let id = id.clone();
        let note = move || {
            let id = id.clone();
            async move {
                ledger::note(&format!("{id}/{n}"), &id, &format!("step {n}"), 1).expect("the ledger can be written");
                Ok::<u64, Never>(n)
            }
        };
        all.push(step("note", note).await?);
    }
    Ok(all)
}

/// Fails until the attempt that is told.
#[activity(retry(initial = "20ms", max = "100ms", max_attempts = 5, never = Trouble::Final))]
pub async fn flaky(good_attempt: u32) -> Result<u32, Trouble> {
    note("flaky");
    let attempt = activity_context::context().attempt();
    if good_attempt == 0 {
        return Err(Trouble::Final);
    }
    if attempt < good_attempt { Err(Trouble::Flaky { attempt }) } else { Ok(attempt) }
}

/// What became of a flaky activity, in words.
#[workflow(version = 1)]
pub async fn persists(good_attempt: u32) -> String {
    match flaky(good_attempt).await {
        Ok(attempt) => format!("ok at {attempt}"),
        Err(Failure::Failed(error)) => format!("failed: {error}"),
        Err(Failure::Exhausted { attempts, .. }) => format!("exhausted after {attempts}"),
        Err(other) => format!("other: {other}"),
    }
}

/// Fails while the switch is off, and waits for an operator.
#[activity(retry(initial = "10ms", max_attempts = 2), exhausted = "park")]
pub async fn guarded() -> Result<String, Trouble> {
    note("guarded");
    if SWITCH.load(Ordering::SeqCst) == 0 {
        return Err(Trouble::Flaky { attempt: activity_context::context().attempt() });
    }
    Ok(activity_context::context().idempotency_key().to_string())
}

/// What `guarded` looks at.
pub static SWITCH: AtomicU32 = AtomicU32::new(0);

#[workflow(version = 1)]
pub async fn waits_for_operator() -> Result<String, Failure<Trouble>> {
    guarded().await
}

/// Sleeps, and says for how long by the recorded clock.
#[workflow(version = 1)]
pub async fn naps(ms: u64) -> u64 {
    let before = now();
    sleep(Duration::from_millis(ms)).await;
    now().duration_since(before).unwrap_or_default().as_millis() as u64
}

#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Word {
    pub text: String,
}

/// How often a word was gathered.
#[query(reply = usize)]
#[derive(Debug, Serialize, Deserialize)]
pub struct HowOften {
    pub text: String,
}

/// Gathers so many words, and can be asked for them.
#[workflow(version = 1)]
pub async fn gathers(words: usize) -> Vec<String> {
    let all = Rc::new(RefCell::new(Vec::new()));
    let gathered = Rc::clone(&all);
    on_query(move |HowOften { text }: HowOften| {
        assert!(text != "panic", "it was asked to");
        gathered.borrow().iter().filter(|word| **word == text).count()
    });
    while all.borrow().len() < words {
        let word = signal::<Word>().recv().await;
        all.borrow_mut().push(word.text);
    }
    all.take()
}

/// Runs until it is cancelled; then the activity hears of it.
#[activity(timeout = "60s")]
pub async fn endless() -> bool {
    note("endless");
    let context = activity_context::context();
    context.cancelled().await;
    note("endless cancelled");
    true
}

#[workflow(version = 1)]
pub async fn endless_run() -> Result<bool, Failure<Never>> {
    endless().await
}

/// A step of the race that loses is cancelled.
#[workflow(version = 1)]
pub async fn races() -> String {
    select! {
        _ = endless() => "activity".to_owned(),
        () = sleep(Duration::from_millis(100)) => "timer".to_owned(),
    }
}

#[workflow(version = 1)]
pub async fn panics() -> u64 {
    panic!("on purpose")
}

/// Waits for something that is not durable.
#[workflow(version = 1)]
pub async fn waits_for_a_channel() -> u64 {
    std::future::pending::<()>().await;
    0
}

#[workflow(version = 1)]
pub async fn counts_up(n: u64) -> Result<u64, Trouble> {
    if n == 13 {
        return Err(Trouble::Final);
    }
    Ok(count(n).await.unwrap_or(0) + n)
}

/// Children one after the other and at once, one that fails, and one that is told when to stop.
#[workflow(version = 1)]
pub async fn family(name: String) -> Result<u64, everpulse::Error> {
    let first = counts_up(1).await?;
    let rest: u64 = try_join_all((2..5).map(counts_up)).await?.into_iter().sum();
    let failed = counts_up(13).await;
    let listener = listens().id(format!("{name}-listens")).start().await?;
    listener.signal(Heard { n: 7 }).await?;
    let heard = listener.await?;
    let asked = listens().id(format!("{name}-asked")).start().await?;
    asked.cancel().await?;
    let cancelled = matches!(asked.await, Err(Failure::Cancelled));
    Ok(first
        + rest
        + heard
        + u64::from(failed == Err(Failure::Failed(Trouble::Final))) * 100
        + u64::from(cancelled) * 1_000)
}

/// A row of a table, as it was inserted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inserted {
    pub row: u64,
    /// How many rows went in with it.
    pub with: usize,
    pub attempt: u32,
}

/// The row that no table takes.
pub const NO_ROW: u64 = 1_000_000;

/// One row in five is inserted the second time.
#[activity(batch(max = 20, wait = "50ms"), timeout = "10s", retry(initial = "20ms", never = Trouble::Final))]
pub async fn insert(rows: Vec<u64>) -> Vec<Result<Inserted, Trouble>> {
    let with = rows.len();
    let contexts = activity_context::contexts();
    let insert = |(row, context): (u64, activity_context::ActivityContext)| {
        let (key, attempt) = (context.idempotency_key(), context.attempt());
        ledger::note(key, context.workflow_id().as_str(), "insert", attempt).expect("the ledger can be written");
        match row {
            NO_ROW => Err(Trouble::Final),
            _ if row % 5 == 0 && attempt == 1 => Err(Trouble::Flaky { attempt }),
            _ => Ok(Inserted { row, with, attempt }),
        }
    };
    rows.into_iter().zip(contexts).map(insert).collect()
}

#[workflow(version = 1)]
pub async fn inserts(row: u64) -> Result<Inserted, Failure<Trouble>> {
    insert(row).await
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// How many pieces were up when the last attempt began.
    pub from: u64,
    pub pieces: u64,
}

/// Takes a while for each piece, and says how many are up.
#[activity(timeout = "1m", heartbeat = "3s", retry(initial = "20ms"))]
pub async fn upload(pieces: u64) -> Uploaded {
    note("upload");
    let context = activity_context::context();
    let from = context.last_heartbeat().unwrap_or(0);
    for piece in from..pieces {
        context.heartbeat(piece + 1);
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    }
    Uploaded { from, pieces }
}

#[workflow(version = 1)]
pub async fn uploads(pieces: u64) -> Result<Uploaded, Failure<Never>> {
    upload(pieces).await
}

/// The same, but its first attempt breaks off before the last piece.
#[activity(timeout = "1m", heartbeat = "3s", retry(initial = "20ms"))]
pub async fn upload_by_and_by(pieces: u64) -> Result<Uploaded, everpulse::Error> {
    note("upload by and by");
    let context = activity_context::context();
    let from = context.last_heartbeat().unwrap_or(0);
    for piece in from..pieces {
        if context.attempt() == 1 && piece + 1 == pieces {
            return Err(everpulse::Error::msg("the line broke off"));
        }
        context.heartbeat(piece + 1);
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    }
    Ok(Uploaded { from, pieces })
}

#[workflow(version = 1)]
pub async fn uploads_by_and_by(pieces: u64) -> Result<Uploaded, Failure<everpulse::Error>> {
    upload_by_and_by(pieces).await
}

/// What the headers of its run say of its trace.
#[activity]
pub async fn overhears() -> String {
    note("overhears");
    activity_context::context().header("trace").unwrap_or_default().to_owned()
}

/// The same, as a child.
#[workflow(version = 1)]
pub async fn inherits() -> Result<String, Failure<Never>> {
    overhears().await
}

/// Its own trace, that of its activities and that of its child, one after another.
#[workflow(version = 1)]
pub async fn traced() -> Result<Vec<String>, everpulse::Error> {
    let own = info().headers.get("trace").unwrap_or_default().to_owned();
    let first = overhears().await?;
    let child = inherits().await?;
    Ok(vec![own, first, child, overhears().await?])
}

#[signal]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Heard {
    pub n: u64,
}

#[workflow(version = 1)]
pub async fn listens() -> u64 {
    signal::<Heard>().recv().await.n
}

/// Adds up so many signals.
#[workflow(version = 1)]
pub async fn adds_up(n: u64) -> u64 {
    let mut sum = 0;
    for _ in 0..n {
        sum += signal::<Heard>().recv().await.n;
    }
    sum
}

#[update(reply = u64, error = Trouble)]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Put {
    pub n: u64,
}

/// Nobody takes it.
#[update(reply = u64, error = Trouble)]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Take {
    pub n: u64,
}

/// Takes so many even numbers, and answers with their sum so far. Of a thousand it does not know what to make.
#[workflow(version = 1)]
pub async fn puts(n: u64) -> Result<u64, Failure<Never>> {
    let puts = update::<Put>().validate(|put| if put.n.is_multiple_of(2) { Ok(()) } else { Err(Trouble::Final) });
    let mut sum = 0;
    for _ in 0..n {
        let put = puts.recv().await;
        if put.n == 1_000 {
            put.reply(Err(Trouble::Final));
            continue;
        }
        sum += count(put.n).await?;
        put.reply(Ok(sum));
    }
    Ok(sum)
}

/// Each run takes what it is asked for and answers one of it; the rest goes along. The last one ends with the sum.
#[workflow(version = 1)]
pub async fn puts_on(n: u64, sum: u64) -> Result<u64, Failure<Never>> {
    let put = update::<Put>().recv().await;
    let sum = sum + count(put.n).await?;
    put.reply(Ok(sum));
    if n > 1 {
        return continue_as_new(puts_on(n - 1, sum)).await;
    }
    Ok(sum)
}

/// Ends before its children, as soon as it is told to.
#[workflow(version = 1)]
pub async fn leaves(name: String) -> Result<u64, everpulse::Error> {
    let child = |what: &str| listens().id(format!("{name}-{what}"));
    child("detached").detach();
    let _ended = child("ended").parent_close(ParentClose::Terminate).start().await?;
    let _asked = child("asked").start().await?;
    let _left = child("left").parent_close(ParentClose::Abandon).start().await?;
    Ok(signal::<Heard>().recv().await.n)
}

/// Tells a run that is there and one that is not, and asks for an id that is taken.
#[workflow(version = 1)]
pub async fn meddles(id: String) -> Result<(bool, bool), everpulse::Error> {
    let taken = matches!(listens().id(id.clone()).await, Err(Failure::Taken { .. }));
    let nobody = matches!(external(format!("{id}-nobody")).cancel().await, Err(Failure::NotFound { .. }));
    external(id).signal(Heard { n: 5 }).await?;
    Ok((taken, nobody))
}

/// Does not heed that it is to cancel.
#[workflow(version = 1)]
pub async fn persists_in_waiting() -> u64 {
    shielded(async { signal::<Heard>().recv().await.n }).await
}

/// Ends a run at once, and says whether it was there, and how it is found then.
#[workflow(version = 1)]
pub async fn puts_down(id: String) -> Result<(bool, bool), everpulse::Error> {
    let told = external(id.clone()).terminate("enough of it").await;
    let again = external(id).terminate("again").await;
    Ok((told.is_ok(), matches!(again, Err(Failure::NotFound { .. }))))
}

/// Begins a run that does not heed a request to cancel, and has another one end it. Its result says how all three came out of that.
#[workflow(version = 1)]
pub async fn has_it_put_down(id: String) -> Result<(bool, bool), everpulse::Error> {
    let stays = persists_in_waiting().id(id.clone()).parent_close(ParentClose::Abandon).start().await?;
    stays.cancel().await?;
    let (told, nobody_left) = puts_down(id).await?;
    Ok((told && nobody_left, stays.await == Err(Failure::Terminated)))
}

/// Takes a word with each run, and ends with all of them.
#[workflow(version = 1)]
pub async fn series(left: u64, said: Vec<u64>) -> Vec<u64> {
    let mut said = said;
    said.push(signal::<Heard>().recv().await.n);
    if left <= 1 {
        return said;
    }
    continue_as_new(series(left - 1, said)).await
}

/// A month of a subscription in each run: an activity, a step and a timer, with another activity under way when it ends.
#[workflow(version = 1)]
pub async fn bills(month: u64, months: u64, paid: u64) -> Result<u64, everpulse::Error> {
    let charged = count(month).await.unwrap_or(0);
    let stepped = step("book", move || async move { Ok::<u64, everpulse::Error>(charged) }).await?;
    sleep(Duration::from_millis(20)).await;
    let paid = paid + stepped;
    if month + 1 == months {
        return Ok(paid);
    }
    let _under_way = endless().start();
    continue_as_new(bills(month + 1, months, paid)).await
}

/// Never ends by itself.
#[workflow(version = 1)]
pub async fn rounds(n: u64) -> Result<u64, everpulse::Error> {
    publish(&n);
    let word = select! {
        word = signal::<Heard>().recv() => Some(word.n),
        () = sleep(Duration::from_millis(50)) => None,
    };
    match word {
        Some(word) => Ok(n * 1_000 + word),
        None => continue_as_new(rounds(n + 1)).await,
    }
}

/// A parent of runs that go on: one that is told when to stop, and one that is cancelled.
#[workflow(version = 1)]
pub async fn raises(name: String) -> Result<(Vec<u64>, bool), everpulse::Error> {
    let child = series(3, Vec::new()).id(format!("{name}-series")).start().await?;
    let round = rounds(0).id(format!("{name}-round")).start().await?;
    for n in 0..3 {
        child.signal(Heard { n }).await?;
    }
    let heard = child.await?;
    sleep(Duration::from_millis(200)).await;
    round.cancel().await?;
    Ok((heard, matches!(round.await, Err(Failure::Cancelled))))
}

/// Sits down for a while, where there are not many seats.
#[activity(queue = "seats", timeout = "20s")]
pub async fn takes_a_seat(ms: u64) {
    let process = std::process::id();
    note(&format!("in {process}"));
    tokio::time::sleep(Duration::from_millis(ms)).await;
    note(&format!("out {process}"));
}

#[workflow(version = 1)]
pub async fn takes_seats(ms: u64) -> Result<(), Failure<Never>> {
    takes_a_seat(ms).await
}

/// Activities of several priorities and keys, also one that is tried again, as the run says and as the calls do.
#[workflow(version = 1)]
pub async fn hurries(n: u64) -> Result<Vec<u64>, everpulse::Error> {
    let mut done = vec![count(n).priority(1).await?];
    for (key, level) in [("acme", 2), ("globex", 5)] {
        done.push(flaky(2).priority(level).fairness_key(key).fairness_weight(2.0).await?.into());
    }
    let child = counts_once(n + 1).priority(4).await?;
    done.extend([child, count(n + 2).await?]);
    Ok(done)
}

/// A child whose activity says nothing of its priority.
#[workflow(version = 1)]
pub async fn counts_once(n: u64) -> Result<u64, Failure<Never>> {
    count(n).await
}

/// All of them.
#[must_use]
pub fn serve_all(worker: Worker) -> Worker {
    serve_activities(serve_workflows(worker))
}

/// The workflows alone.
#[must_use]
pub fn serve_workflows(worker: Worker) -> Worker {
    worker
        .workflow(hello)
        .workflow(sequence)
        .workflow(fan_out)
        .workflow(trip)
        .workflow(ten_steps)
        .workflow(paperwork)
        .workflow(copies)
        .workflow(persists)
        .workflow(waits_for_operator)
        .workflow(naps)
        .workflow(adds_up)
        .workflow(puts)
        .workflow(puts_on)
        .workflow(gathers)
        .workflow(endless_run)
        .workflow(races)
        .workflow(panics)
        .workflow(waits_for_a_channel)
        .workflow(family)
        .workflow(counts_up)
        .workflow(listens)
        .workflow(leaves)
        .workflow(meddles)
        .workflow(persists_in_waiting)
        .workflow(puts_down)
        .workflow(has_it_put_down)
        .workflow(traced)
        .workflow(inserts)
        .workflow(uploads)
        .workflow(uploads_by_and_by)
        .workflow(inherits)
        .workflow(series)
        .workflow(bills)
        .workflow(rounds)
        .workflow(raises)
        .workflow(hurries)
        .workflow(takes_seats)
        .workflow(counts_once)
}

/// The activities alone.
#[must_use]
pub fn serve_activities(worker: Worker) -> Worker {
    worker
        .activity(greet)
        .activity(stamp)
        .activity(file_away)
        .activity(overhears)
        .activity(takes_a_seat)
        .activity(insert)
        .activity(upload)
        .activity(upload_by_and_by)
        .activity(count)
        .activity(undo)
        .activity(flaky)
        .activity(guarded)
        .activity(endless)
}
