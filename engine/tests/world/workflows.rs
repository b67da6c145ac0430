//! The workflows that the worlds run. Their results do not hang on timing, unless it is said.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use everpulse_protocol::Payload;
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{
    Error, Failure, Never, ParentClose, activity, continue_as_new, external, info, join, join_all, promise, select,
    shielded, signal, sleep, step, timeout, update, workflow,
};
use serde::{Deserialize, Serialize};

use super::payload;

thread_local! {
    /// Whether [`fussy`] was mended.
    pub static MENDED: Cell<bool> = const { Cell::new(false) };
}

#[activity(crate = everpulse_sdk)]
pub async fn double(n: u64) -> u64 {
    n * 2
}

/// The tests leave its attempts to be completed later.
#[activity(timeout = "60s", retry(initial = "1s"), crate = everpulse_sdk)]
pub async fn signs(n: u64) -> Result<u64, Error> {
    Ok(n)
}

/// Its result is what the activity is completed with.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn waits_for_signature(n: u64) -> Result<u64, Failure<Error>> {
    let signed = signs(n).await?;
    Ok(signed + double(n).await.unwrap_or(0))
}

/// Gives up an activity after ten seconds.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn hurries(n: u64) -> u64 {
    let late = slow(n).schedule_to_close(Duration::from_secs(10)).await;
    assert_eq!(late, Err(Failure::TimedOut));
    double(n).schedule_to_close(Duration::from_secs(10)).await.unwrap_or(0)
}

/// The tests do not answer it before it is cancelled.
#[activity(crate = everpulse_sdk)]
pub async fn slow(n: u64) -> u64 {
    n * 2
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn twice(n: u64) -> Result<u64, Failure<Never>> {
    let once = double(n).await?;
    double(once).await
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn naps(n: u64) -> u64 {
    sleep(Duration::from_millis(n)).await;
    sleep(Duration::from_millis(n)).await;
    n
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn steps(n: u64) -> Result<u64, Failure<Never>> {
    let mut sum = 0;
    for each in 0..n {
        sum += step("add", move || async move { Ok::<u64, Never>(each) }).await?;
    }
    Ok(sum)
}

/// A step behind a timer: no input of the run asks for it.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn rests(n: u64) -> Result<u64, Failure<Never>> {
    sleep(Duration::from_millis(n)).await;
    step("add", move || async move { Ok::<u64, Never>(n) }).await
}

/// The same, while an activity goes on.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn rests_beside(n: u64) -> Result<u64, Failure<Never>> {
    let rested = async {
        sleep(Duration::from_millis(n)).await;
        step("add", move || async move { Ok::<u64, Never>(n) }).await
    };
    let (doubled, rested) = join!(double(n), rested);
    Ok(doubled? + rested?)
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn fans_out(n: u64) -> u64 {
    join_all((0..n).map(double)).await.into_iter().map(|each| each.unwrap_or(0)).sum()
}

#[signal(crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
pub struct Word {
    pub text: String,
}

/// Its result is the order of the signals.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn listens(n: u64) -> String {
    let mut said = String::new();
    for _ in 0..n {
        said += &signal::<Word>().recv().await.text;
    }
    said
}

/// A branch that loses is cancelled: a timer in the turn that began it, an activity later.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn chooses(n: u64) -> Result<u64, Failure<Never>> {
    let at_once = select! {
        _ = sleep(Duration::from_secs(5)) => 0,
        value = std::future::ready(n) => value,
    };
    let late = select! {
        value = slow(n) => value?,
        _ = sleep(Duration::from_secs(2)) => at_once + 1,
    };
    let both = select! {
        _ = sleep(Duration::from_secs(3)) => late,
        _ = sleep(Duration::from_secs(3)) => 0,
    };
    double(both).await
}

/// Steps, activities, timers and a signal, one after the other and at once.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn mixed(n: u64) -> Result<u64, Failure<Never>> {
    let local = step("local", move || async move { Ok::<u64, Never>(n) }).await?;
    let word = signal::<Word>().recv().await.text.len() as u64;
    let fanned: u64 = join_all((0..3).map(double)).await.into_iter().map(|each| each.unwrap_or(0)).sum();
    sleep(Duration::from_secs(1)).await;
    let last = step("last", move || async move { Ok::<u64, Never>(fanned) }).await?;
    double(local + word + last).await
}

/// Its code is another one after it was mended.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn wavers(n: u64) -> Result<u64, Failure<Never>> {
    if MENDED.get() {
        sleep(Duration::from_millis(n)).await;
    }
    let word = signal::<Word>().recv().await;
    double(n + word.text.len() as u64).await
}

/// Panics after its first signal until it is mended.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn fussy(n: u64) -> Result<u64, Failure<Never>> {
    let first = signal::<Word>().recv().await;
    assert!(MENDED.get(), "{} was not to my taste", first.text);
    let second = signal::<Word>().recv().await;
    double(n + second.text.len() as u64).await
}

/// Two promises that are kept, and one that is dropped. Its result is what the first two are completed with.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn trusts(n: u64) -> Result<u64, Failure<Error>> {
    let (first, second) = (promise::<u64>(), promise::<u64>());
    let waited = timeout(Duration::from_secs(5), promise::<u64>()).await;
    assert!(waited.is_err(), "nobody completes it in time");
    let first = first.await?;
    let doubled = double(first).await.unwrap_or(0);
    Ok(n + doubled + second.await?)
}

/// A child that is awaited, and one that fails.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn begets(n: u64) -> Result<u64, Error> {
    let (first, second) = join!(twice(n), fails(n).id("grim"));
    assert_eq!(second.map_err(|failure| failure.to_string()), Err(format!("{n} is too many")));
    Ok(first?)
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn fails(n: u64) -> Result<u64, Error> {
    let n = double(n).await.unwrap_or(0) / 2;
    Err(Error::msg(format!("{n} is too many")))
}

/// A child that is started, told something, and awaited. Its result is what the child was told.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn raises(n: u64) -> Result<String, Failure<Never>> {
    let child = listens(n).id("pupil").start().await?;
    for _ in 0..n {
        child.signal(Word { text: "a".to_owned() }).await?;
    }
    child.await
}

/// Drops one child after it has begun, maybe, and one in the turn that asked for it; asks a third to cancel, and waits.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn drops(n: u64) -> u64 {
    select! {
        _ = listens(n).id("dropped") => 1,
        () = sleep(Duration::from_millis(n)) => 0,
    };
    select! {
        _ = listens(n).id("never") => 1,
        () = std::future::ready(()) => 0,
    };
    let child = naps(3_600_000).id("napper").start().await;
    let Ok(child) = child else { return 0 };
    let asked = child.cancel().await.is_ok();
    let ended = child.await;
    u64::from(asked && ended == Err(Failure::Cancelled)) + n
}

/// Ends before its children, of which one goes on, one is asked to cancel, and one is ended.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn leaves(n: u64) -> u64 {
    twice(n).id("left-alone").detach();
    let _asked = listens(n).id("left-asked").start();
    let _ended = tidies(n).id("left-ended").parent_close(ParentClose::Terminate).start();
    let _goes_on = naps(5_000).id("left-unsaid").parent_close(ParentClose::Abandon).start().await;
    sleep(Duration::from_millis(n)).await;
    let _too_late = listens(n).id("left-at-the-door").start();
    n
}

/// Asks for a child with so many tags of eight bytes.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn labels(n: u64) -> u64 {
    let child = (0..n).fold(naps(1).id("labelled"), |child, tag| child.tag(format!("tag-{tag:04}")));
    child.await.unwrap_or(0)
}

/// Does not end when it is asked to.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn tidies(n: u64) -> u64 {
    shielded(async { signal::<Word>().recv().await }).await.text.len() as u64 + n
}

/// Asks for ids that are taken, and tells runs that are there and that are not.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn meddles(n: u64) -> String {
    let taken = matches!(twice(n).id("ear").await, Err(Failure::Taken { .. }));
    let not_begun = matches!(twice(n).id("ear").start().await, Err(Failure::Taken { .. }));
    let told = external("ear").signal(Word { text: "x".to_owned() }).await.is_ok();
    let nobody = matches!(external("nobody").cancel().await, Err(Failure::NotFound { .. }));
    let asked = external("sleeper").cancel().await.is_ok();
    let nothing = matches!(external("nobody").terminate("").await, Err(Failure::NotFound { .. }));
    let ended = external("stubborn").terminate("enough").await.is_ok();
    format!("{taken} {not_begun} {told} {nobody} {asked} {nothing} {ended}")
}

/// Asks for the end of a run that does not heed to be cancelled, and of a series: two of these at the same time, of which one is told that it
/// did so.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn puts_down(n: u64) -> String {
    let told = join!(external("stubborn").terminate("enough"), external("series").terminate(""));
    let told = [told.0, told.1].map(|told| match told {
        Ok(()) => "did",
        Err(Failure::NotFound { .. }) => "nobody",
        Err(_) => "wrong",
    });
    format!("{} {n}", told.join(" "))
}

/// Goes on as one that does not end when it is asked to.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn goes_on_tidying(n: u64) -> u64 {
    sleep(Duration::from_millis(n)).await;
    continue_as_new(tidies(n)).await
}

/// Ends itself. What would come after that does not.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn puts_itself_down(n: u64) -> u64 {
    let _child = listens(n).id("left-behind").start().await;
    let own = info().workflow_id.to_string();
    let _ = external(own).terminate("it is over").await;
    double(n).await.unwrap_or(0)
}

/// Receives a word with each run, and ends with all of them. What is under way when a run ends goes with it.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn passes_on(n: u64, said: String) -> String {
    let said = said + &signal::<Word>().recv().await.text;
    if n <= 1 {
        return said;
    }
    let stepped = step("add", move || async move { Ok::<u64, Never>(n) }).await.unwrap_or(0);
    let _under_way = (slow(n).start(), sleep(Duration::from_secs(stepped)));
    continue_as_new(passes_on(n - 1, said)).await
}

#[update(reply = u64, error = String, crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
pub struct Put {
    pub n: u64,
}

/// Each run takes all that it is asked for and answers one of it: the rest goes along.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn answers_one(n: u64, sum: u64) -> u64 {
    let puts = update::<Put>().validate(|put| if put.n == 0 { Err("nothing".to_owned()) } else { Ok(()) });
    sleep(Duration::from_millis(50)).await;
    let put = puts.recv().await;
    let sum = sum + put.n;
    put.reply(Ok(sum));
    if n <= 1 {
        return sum;
    }
    continue_as_new(answers_one(n - 1, sum)).await
}

/// Goes on with its very first turn, and then with a timer. Its result is how many runs it took, and by what it knows of itself.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn counts_down(n: u64) -> u64 {
    match n {
        0 => u64::from(info().run_number),
        n if n % 2 == 0 => continue_as_new(counts_down(n - 1)).await,
        n => {
            sleep(Duration::from_millis(n)).await;
            continue_as_new(counts_down(n - 1)).await
        }
    }
}

/// A parent of runs that follow each other, which it knows by the first one.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn begets_many(n: u64) -> Result<String, Failure<Never>> {
    let child = passes_on(n, String::new()).id("series").start().await?;
    for at in 0..n {
        child.signal(Word { text: at.to_string() }).await?;
    }
    child.await
}

/// Never ends by itself.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn circles(n: u64) -> Result<u64, Error> {
    let rest = sleep(Duration::from_millis(700));
    select! {
        Word { text } = signal::<Word>().recv() => return Ok(text.len() as u64),
        () = rest => {}
    }
    continue_as_new(circles(n + 1)).await
}

/// Asks for children that go round and round, and ends them in three ways.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn stops(n: u64) -> String {
    let asked = circles(0).id("asked").start().await;
    let told = circles(0).id("told").start().await;
    let _dropped = circles(0).id("left").parent_close(ParentClose::Terminate).start().await;
    sleep(Duration::from_millis(n)).await;
    let (Ok(asked), Ok(told)) = (asked, told) else { return "none".to_owned() };
    let delivered = (asked.cancel().await.is_ok(), told.signal(Word { text: "stop".to_owned() }).await.is_ok());
    format!("{delivered:?} {:?} {:?}", asked.await.is_err_and(|error| error == Failure::Cancelled), told.await.ok())
}

/// Goes on while its children are under way.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn moves(n: u64) -> u64 {
    if n == 0 {
        return 7;
    }
    let _asked = naps(3_600_000).id("moved-asked").start().await;
    let _ended = tidies(n).id("moved-ended").parent_close(ParentClose::Terminate).start().await;
    twice(n).id("moved-alone").detach();
    continue_as_new(moves(0)).await
}

pub fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.workflow_fn(passes_on).expect("new");
    registry.workflow_fn(answers_one).expect("new");
    registry.workflow_fn(counts_down).expect("new");
    registry.workflow_fn(begets_many).expect("new");
    registry.workflow_fn(circles).expect("new");
    registry.workflow_fn(stops).expect("new");
    registry.workflow_fn(moves).expect("new");
    registry.workflow_fn(begets).expect("new");
    registry.workflow_fn(fails).expect("new");
    registry.workflow_fn(raises).expect("new");
    registry.workflow_fn(drops).expect("new");
    registry.workflow_fn(labels).expect("new");
    registry.workflow_fn(leaves).expect("new");
    registry.workflow_fn(tidies).expect("new");
    registry.workflow_fn(meddles).expect("new");
    registry.workflow_fn(puts_down).expect("new");
    registry.workflow_fn(goes_on_tidying).expect("new");
    registry.workflow_fn(puts_itself_down).expect("new");
    registry.workflow_fn(waits_for_signature).expect("new");
    registry.workflow_fn(hurries).expect("new");
    registry.workflow_fn(trusts).expect("new");
    registry.workflow_fn(twice).expect("new");
    registry.workflow_fn(naps).expect("new");
    registry.workflow_fn(steps).expect("new");
    registry.workflow_fn(rests).expect("new");
    registry.workflow_fn(rests_beside).expect("new");
    registry.workflow_fn(fans_out).expect("new");
    registry.workflow_fn(listens).expect("new");
    registry.workflow_fn(chooses).expect("new");
    registry.workflow_fn(mixed).expect("new");
    registry.workflow_fn(wavers).expect("new");
    registry.workflow_fn(fussy).expect("new");
    registry
}

/// The arguments of all of them.
pub fn number(n: u64) -> Payload {
    payload(&BTreeMap::from([("n", n)]))
}
