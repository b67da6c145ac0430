//! The workflows and activities that a simulated application has, and the sequential model of what they come to.

mod edits;
mod ends;
mod limits;
mod schedules;
mod uploads;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::event::Outcome;
use everpulse_protocol::payload::Format;
use everpulse_protocol::{Payload, WorkflowId};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::intercept::{Headers, Interceptor};
use everpulse_sdk::{
    Error, Failure, Never, ParentClose, Retry, activity, continue_as_new, info, join_all, now, promise, random_range,
    select, signal, sleep, step, update, workflow,
};
use serde::{Deserialize, Serialize};

pub use self::edits::{EDITED, Heard, NEWER, OLDER, TAKEN};
pub use self::limits::{BUSY_MS, LIMITS};
pub use self::uploads::UPLOAD;

/// The queue of all activities.
pub const QUEUE: &str = "default";

/// The workflow that takes its worker down, and the one that is deployed late.
pub const POISON: &str = "poison";
pub const LATE: &str = "late";

thread_local! {
    /// Whether [`fussy`] and [`poison`] were mended.
    static MENDED: Cell<bool> = const { Cell::new(false) };
    /// Code took its process down just now: the argument of its run.
    static ABORTED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Whether code took its process down since this was last asked: the argument of its run.
pub fn aborted() -> Option<u64> {
    ABORTED.take()
}

/// Deploys the mended code, or the code before it, to all workers of this thread.
pub fn mend(mended: bool) {
    MENDED.set(mended);
}

#[activity(timeout = "900ms", crate = everpulse_sdk)]
pub async fn double(n: u64) -> u64 {
    n * 2
}

/// Travels alone.
#[activity(timeout = "20s", crate = everpulse_sdk)]
pub async fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// Its first two attempts fail, the second one by a panic.
#[activity(timeout = "5s", retry(initial = "300ms"), crate = everpulse_sdk)]
pub async fn flaky(n: u64) -> Result<u64, Error> {
    match activity::context().attempt() {
        1 => Err(Error::msg("not yet")),
        2 => panic!("not yet either"),
        _ => Ok(n + 1),
    }
}

#[activity(timeout = "5s", retry(initial = "100ms", max_attempts = 2), crate = everpulse_sdk)]
pub async fn doomed(n: u64) -> Result<u64, Error> {
    Err(Error::msg(format!("{n} is never right")))
}

#[signal(crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
pub struct Word {
    pub n: u64,
}

/// Sells so much. What is not forced has to fit how often that was done before.
#[update(reply = u64, error = String, crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
pub struct Sell {
    pub n: u64,
    pub force: bool,
}

/// Its result is the sum of what was let pass; answers are the sums so far, some of them after an activity.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn sells(n: u64) -> Result<u64, Failure<Never>> {
    let sold = Rc::new(Cell::new(0_u64));
    let seen = Rc::clone(&sold);
    let sells = update::<Sell>().validate(move |sell| match sell.force || sell.n % 2 == seen.get() % 2 {
        true => Ok(()),
        false => Err(format!("{} of them were sold", seen.get())),
    });
    let mut sum = 0;
    for _ in 0..n {
        let sell = sells.recv().await;
        sum += if sell.n % 3 == 0 { double(sell.n).await? / 2 } else { sell.n };
        sold.set(sold.get() + 1);
        sell.reply(Ok(sum));
    }
    Ok(sum)
}

/// Activities one after the other.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn chain(n: u64) -> Result<u64, Failure<Never>> {
    let mut sum = 0;
    for each in 0..n {
        sum = add(sum, double(each).await?).await?;
    }
    Ok(sum)
}

/// Activities at once, and a failing one among them.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn fans(n: u64) -> Result<u64, Failure<Error>> {
    let doubled: u64 = join_all((0..n).map(double)).await.into_iter().map(|each| each.unwrap_or(0)).sum();
    flaky(doubled).await
}

/// Timers of different lengths; recorded time has to have passed them.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn naps(n: u64) -> u64 {
    let mut early = 0;
    for each in 1..=n {
        let before = now();
        let length = Duration::from_millis(each * 170);
        sleep(length).await;
        early += u64::from(now().duration_since(before).unwrap_or_default() < length);
    }
    n + early * 1_000
}

/// Its result is the sum of its signals, which come in any order.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn listens(n: u64) -> u64 {
    let mut sum = 0;
    for _ in 0..n {
        sum += signal::<Word>().recv().await.n;
    }
    sum
}

/// Promises, which are completed in any order; one more is dropped.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn trusts(n: u64) -> Result<u64, Failure<Error>> {
    let promises: Vec<_> = (0..n).map(|_| promise::<u64>()).collect();
    drop(promise::<u64>());
    let mut sum = 0;
    for promise in promises {
        sum += promise.await?;
        sum += double(sum).await.map_or(0, |double| double - 2 * sum);
    }
    Ok(sum)
}

/// Its first attempt is completed from outside, if somebody does so in time.
#[activity(timeout = "8s", retry(initial = "300ms"), crate = everpulse_sdk)]
pub async fn sign(n: u64) -> u64 {
    let context = activity::context();
    if context.attempt() == 1 { context.complete_later().await } else { n }
}

/// What it comes to is what was signed for, twice.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn signs(n: u64) -> Result<u64, Failure<Never>> {
    double(sign(n).await?).await
}

/// Local steps, of which some fail at first.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn steps(n: u64) -> Result<u64, Failure<Error>> {
    let mut sum = 0;
    for each in 0..n {
        let tried = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let body = move || {
            let tried = tried.clone();
            async move {
                let before = tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if each % 3 == 2 && before == 0 { Err(Error::msg("not at first")) } else { Ok(each) }
            }
        };
        sum += step("add", body).retry(Retry::new().initial(Duration::from_millis(80)).max_attempts(3)).await?;
    }
    Ok(sum)
}

/// A word, then local work, again and again; no timer wakes its shard.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn works(n: u64) -> Result<u64, Failure<Error>> {
    let mut sum = 0;
    for _ in 0..n {
        let word = signal::<Word>().recv().await.n;
        sum += step("work", move || async move { Ok::<u64, Error>(word) }).await?;
    }
    Ok(sum)
}

/// Whichever comes first; each branch that loses is cancelled.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn chooses(n: u64) -> Result<u64, Failure<Never>> {
    let first = select! {
        word = signal::<Word>().recv() => word.n,
        _ = sleep(Duration::from_millis(400)) => 0,
    };
    let second = select! {
        value = double(n) => value?,
        _ = sleep(Duration::from_secs(600)) => 1_000_000,
    };
    Ok(second + first.min(1))
}

/// Gives up on an activity that always fails.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn despairs(n: u64) -> Result<u64, Failure<Error>> {
    match doomed(n).await {
        Ok(value) => Ok(value),
        Err(_) => Ok(double(n).await.unwrap_or(0) + 7),
    }
}

/// Panics after its first signal until it is mended.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn fussy(n: u64) -> Result<u64, Failure<Never>> {
    let first = signal::<Word>().recv().await;
    assert!(MENDED.get(), "{} was not to my taste", first.n);
    double(n + first.n).await
}

/// Takes its worker down after its first signal until it is mended.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn poison(n: u64) -> Result<u64, Failure<Never>> {
    let first = signal::<Word>().recv().await;
    if !MENDED.get() {
        ABORTED.set(Some(n));
        // Nothing of what is done now leaves the process.
        std::future::pending::<()>().await;
    }
    double(n + first.n).await
}

/// Workers know it only when it is deployed.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn late(n: u64) -> Result<u64, Failure<Never>> {
    let first = signal::<Word>().recv().await;
    sleep(Duration::from_millis(120)).await;
    double(n + first.n).await
}

/// Its code is changed by mistake on some workers; see [`registry_mistaken`].
#[workflow(version = 1, name = "fickle", crate = everpulse_sdk)]
pub async fn fickle(n: u64) -> Result<u64, Failure<Never>> {
    let first = signal::<Word>().recv().await;
    // Long enough for others to come.
    sleep(Duration::from_millis(4_000)).await;
    double(n + first.n).await
}

/// The changed code, under the old version.
#[workflow(version = 1, name = "fickle", crate = everpulse_sdk)]
pub async fn fickle_changed(n: u64) -> Result<u64, Failure<Never>> {
    sleep(Duration::from_millis(50)).await;
    let first = signal::<Word>().recv().await;
    double(n + first.n + 1).await
}

#[workflow(version = 2, name = "fickle", crate = everpulse_sdk)]
pub async fn fickle_two(n: u64) -> Result<u64, Failure<Never>> {
    let first = signal::<Word>().recv().await;
    sleep(Duration::from_millis(50)).await;
    double(n + first.n).await
}

/// Many events of all kinds, and chance that follows from the run alone.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn long(n: u64) -> Result<u64, Failure<Error>> {
    let mut sum = 0;
    for each in 0..n {
        let chance = random_range(0_u64..3);
        match chance {
            0 => sum += double(each).await.map_or(0, |double| double - each),
            1 => sum += step("same", move || async move { Ok::<u64, Error>(each) }).await?,
            _ => {
                sleep(Duration::from_millis(30)).await;
                sum += each;
            }
        }
        if each % 4 == 3 {
            let both = join_all([double(each), double(each)]).await;
            sum += both.into_iter().map(|value| value.unwrap_or(0)).sum::<u64>();
        }
    }
    Ok(sum)
}

/// Children at once, each in a shard of its own. One that was asked for too long ago is asked for again.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn begets(n: u64) -> u64 {
    let child = |each| async move {
        loop {
            match chain(each).await {
                Ok(sum) => break sum,
                Err(Failure::TimedOut) => {}
                Err(_) => break 1_000_000,
            }
        }
    };
    join_all((2..n).map(child)).await.into_iter().sum()
}

/// A child that hears its parent's words, in any order, and those that are said again once.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn hears(n: u64) -> u64 {
    let mut heard = BTreeSet::new();
    while (heard.len() as u64) < n {
        heard.insert(signal::<Word>().recv().await.n);
    }
    heard.into_iter().sum()
}

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn tells(n: u64) -> u64 {
    let child = loop {
        match hears(n).start().await {
            Ok(child) => break child,
            Err(Failure::TimedOut) => {}
            Err(_) => return 0,
        }
    };
    for each in 1..=n {
        while let Err(Failure::TimedOut) = child.signal(Word { n: each }).await {}
    }
    child.await.unwrap_or(0)
}

/// Drops a child that may have begun, and one that has; leaves others behind, as it was agreed.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn forsakes(n: u64) -> u64 {
    select! {
        _ = hears(n) => {}
        _ = sleep(Duration::from_millis(n * 10)) => {}
    }
    if let Ok(child) = hears(n).start().await {
        let asked = if n.is_multiple_of(2) { child.cancel().await } else { child.terminate("forsaken").await };
        if asked.is_ok() {
            let _ = child.await;
        }
    }
    chain(n).detach();
    let _ended = hears(n).parent_close(ParentClose::Terminate).start();
    let _asked = naps(n).start().await;
    sleep(Duration::from_millis(n * 10)).await;
    n
}

/// What came with the start of its run, as its clients gave it: under this name its workflow id.
pub const HEADER: &str = "id";

/// What the headers of its run say.
#[activity(timeout = "900ms", crate = everpulse_sdk)]
pub async fn overhears() -> String {
    activity::context().header(HEADER).unwrap_or_default().to_owned()
}

/// A child that is asked what its own headers and those of its activity are.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn inherits() -> Result<String, Failure<Never>> {
    let own = info().headers.get(HEADER).unwrap_or_default().to_owned();
    let heard = overhears().await?;
    Ok(if own == heard { own } else { String::new() })
}

/// Its activities and its children have its headers, whoever sends them, and when. It counts those that have not.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn traced(n: u64) -> Result<u64, Failure<Never>> {
    let info = info();
    let own = info.workflow_id.to_string();
    let mut wrong = u64::from(info.headers.get(HEADER) != Some(&own));
    for _ in 0..n {
        wrong += u64::from(overhears().await? != own);
        let inherited = loop {
            match inherits().await {
                // It was asked for too long ago.
                Err(Failure::TimedOut) => {}
                ended => break ended,
            }
        };
        wrong += u64::from(inherited.ok().as_ref() != Some(&own));
    }
    Ok(n + wrong * 1_000)
}

/// Looks on at all runs; the world sees that nothing is told twice.
struct Onlooker;

impl Interceptor for Onlooker {}

/// Goes on as runs that take one word each.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn relays(n: u64) -> Result<u64, Failure<Never>> {
    continue_as_new(relay(n, 0)).await
}

/// Goes on as runs that answer one update each.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn auctions(n: u64) -> Result<u64, Failure<Never>> {
    continue_as_new(auction(n, 0)).await
}

/// Answers one of what it is asked for, and leaves the rest to the next one.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn auction(left: u64, sum: u64) -> Result<u64, Failure<Never>> {
    let sell = update::<Sell>().recv().await;
    let more = match left % 3 {
        0 => double(sell.n).await? - sell.n,
        1 => {
            sleep(Duration::from_millis(sell.n)).await;
            sell.n
        }
        _ => sell.n,
    };
    sell.reply(Ok(sum + more));
    if left == 1 {
        return Ok(sum + more);
    }
    continue_as_new(auction(left - 1, sum + more)).await
}

/// Takes a word and does something, and goes on while others wait; what is under way then goes with it.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn relay(left: u64, sum: u64) -> Result<u64, Failure<Never>> {
    let word = signal::<Word>().recv().await.n;
    let more = match left % 3 {
        0 => step("same", move || async move { Ok::<u64, Never>(word) }).await?,
        1 => double(word).await? - word,
        _ => {
            sleep(Duration::from_millis(word)).await;
            word
        }
    };
    if left == 1 {
        return Ok(sum + more);
    }
    let _under_way = add(left, sum).start();
    continue_as_new(relay(left - 1, sum + more)).await
}

/// A parent of such runs, which it knows by the first one. What was told long ago may have been taken or not: it is told again,
/// and the result says how often.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn heads(n: u64) -> u64 {
    let child = loop {
        match relays(n).start().await {
            Ok(child) => break child,
            Err(Failure::TimedOut) => {}
            Err(_) => return 0,
        }
    };
    let mut again = 0;
    for each in 1..=n {
        while let Err(Failure::TimedOut) = child.signal(Word { n: each }).await {
            again += 1;
        }
    }
    child.await.map_or(0, |sum| sum + TOLD_AGAIN * again)
}

/// More than all words of one series.
const TOLD_AGAIN: u64 = 1_000;

/// What `heads` may come to: each word once; or, of words that were told again, some twice in the place of the last ones.
fn heard_by_heads(n: u64) -> Vec<u64> {
    let once = n * (n + 1) / 2;
    let often = (1..10).flat_map(|again| (n..=once).map(move |sum| sum + TOLD_AGAIN * again));
    std::iter::once(once).chain(often).collect()
}

/// What a worker serves.
pub fn registry() -> Registry {
    let mut registry = registry_of_before();
    registry.workflow_fn(late).expect("once");
    registry.workflow_fn(fickle_two).expect("once");
    registry.workflow_fn(edits::edited).expect("once");
    registry
}

/// The same before the last deployment.
pub fn registry_before() -> Registry {
    let mut registry = registry_of_before();
    registry.workflow_fn(edits::edited_before).expect("once");
    registry
}

/// The new code, with a mistake: what open runs of `fickle` did was changed without a new version.
pub fn registry_mistaken() -> Registry {
    let mut registry = registry_of_all_times();
    registry.workflow_fn(late).expect("once");
    registry.workflow_fn(edits::edited).expect("once");
    registry.workflow_fn(fickle_changed).expect("once");
    registry.workflow_fn(fickle_two).expect("once");
    registry
}

fn registry_of_before() -> Registry {
    let mut registry = registry_of_all_times();
    registry.workflow_fn(fickle).expect("once");
    registry
}

fn registry_of_all_times() -> Registry {
    let mut registry = Registry::new();
    registry.intercept(Onlooker);
    registry.workflow_fn(traced).expect("once");
    registry.workflow_fn(inherits).expect("once");
    registry.activity_fn(overhears).expect("once");
    registry.workflow_fn(poison).expect("once");
    registry.workflow_fn(begets).expect("once");
    registry.workflow_fn(hears).expect("once");
    registry.workflow_fn(tells).expect("once");
    registry.workflow_fn(forsakes).expect("once");
    registry.workflow_fn(ends::stays).expect("once");
    registry.workflow_fn(ends::deaf).expect("once");
    registry.workflow_fn(ends::ends).expect("once");
    registry.workflow_fn(ends::duels).expect("once");
    registry.workflow_fn(schedules::keeps).expect("once");
    registry.workflow_fn(everpulse_schedule::schedule).expect("once");
    registry.workflow_fn(everpulse_schedule::scheduled_run).expect("once");
    registry.workflow_fn(limits::limits).expect("once");
    registry.activity_fn(limits::moody).expect("once");
    registry.activity_fn(limits::endless).expect("once");
    registry.workflow_fn(uploads::uploads).expect("once");
    registry.activity_fn(uploads::upload).expect("once");
    registry.workflow_fn(relays).expect("once");
    registry.workflow_fn(auctions).expect("once");
    registry.workflow_fn(auction).expect("once");
    registry.workflow_fn(relay).expect("once");
    registry.workflow_fn(heads).expect("once");
    registry.workflow_fn(sells).expect("once");
    registry.workflow_fn(trusts).expect("once");
    registry.workflow_fn(signs).expect("once");
    registry.activity_fn(sign).expect("once");
    registry.workflow_fn(chain).expect("once");
    registry.workflow_fn(fans).expect("once");
    registry.workflow_fn(naps).expect("once");
    registry.workflow_fn(listens).expect("once");
    registry.workflow_fn(steps).expect("once");
    registry.workflow_fn(works).expect("once");
    registry.workflow_fn(chooses).expect("once");
    registry.workflow_fn(despairs).expect("once");
    registry.workflow_fn(fussy).expect("once");
    registry.workflow_fn(long).expect("once");
    registry.activity_fn(double).expect("once");
    registry.activity_fn(add).expect("once");
    registry.activity_fn(flaky).expect("once");
    registry.activity_fn(doomed).expect("once");
    registry
}

/// To what clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Signals,
    /// Each completes one.
    Promises,
    /// The first one at the first activity.
    Attempt,
    /// Each has to be let pass, and is answered.
    Updates,
}

/// A workflow, and how it is used.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// The least and the greatest argument.
    pub args: (u64, u64),
    /// How many signals a run is sent.
    pub signals: fn(u64) -> u64,
    /// To what they go.
    pub to: To,
    /// It stands still until its code is mended.
    pub is_mended: bool,
    /// What it comes to, of the argument and the sum of its signals.
    result: fn(u64, u64) -> Vec<u64>,
}

/// Many events.
const LONG: Kind = Kind {
    name: "long",
    args: (40, 90),
    result: |n, _| vec![(0..n).map(|each| if each % 4 == 3 { each * 5 } else { each }).sum()],
    ..PLAIN
};

/// One whose code is good, and that waits for no signals.
pub const PLAIN: Kind = Kind {
    name: "chain",
    args: (4, 10),
    signals: |_| 0,
    to: To::Signals,
    is_mended: false,
    result: |n, _| vec![n * (n - 1)],
};

/// Without timers: a shard with nothing else is left alone until its hourly wake-up, unless somebody sees to it.
pub const QUIET: [Kind; 5] = [PLAIN, LISTENS, WORKS, STEPS, BEGETS];

/// Runs that go on as new, with words on the way.
const RELAYS: Kind = Kind { name: "relays", args: (2, 7), signals: |n| n, result: |_, sum| vec![sum], ..PLAIN };

/// The same with updates.
const AUCTIONS: Kind = Kind { name: "auctions", to: To::Updates, ..RELAYS };

const BEGETS: Kind =
    Kind { name: "begets", args: (3, 6), result: |n, _| vec![(2..n).map(|each| each * (each - 1)).sum()], ..PLAIN };

const LISTENS: Kind = Kind { name: "listens", args: (4, 12), signals: |n| n, result: |_, sum| vec![sum], ..PLAIN };
const WORKS: Kind = Kind { name: "works", args: (4, 12), signals: |n| n, result: |_, sum| vec![sum], ..PLAIN };
const STEPS: Kind = Kind { name: "steps", args: (6, 16), result: |n, _| vec![n * (n - 1) / 2], ..PLAIN };

/// Its code takes workers down until it is mended.
const TAKES_DOWN: Kind = Kind {
    name: POISON,
    args: (1, 1_000_000),
    signals: |_| 1,
    is_mended: true,
    result: |n, sum| vec![(n + sum) * 2],
    ..PLAIN
};

/// All of them.
pub const KINDS: [Kind; 30] = [
    PLAIN,
    Kind { name: "sells", args: (3, 9), signals: |n| n, to: To::Updates, result: |_, sum| vec![sum], ..PLAIN },
    Kind { name: "fans", args: (5, 16), result: |n, _| vec![n * (n - 1) + 1], ..PLAIN },
    Kind { name: "naps", args: (4, 10), result: |n, _| vec![n], ..PLAIN },
    LISTENS,
    Kind { name: "trusts", args: (2, 8), signals: |n| n, to: To::Promises, result: |_, sum| vec![sum], ..PLAIN },
    Kind {
        name: "signs",
        args: (1, 9),
        signals: |_| 1,
        to: To::Attempt,
        result: |n, sum| vec![n * 2, sum * 2],
        ..PLAIN
    },
    WORKS,
    STEPS,
    Kind { name: EDITED, ..LISTENS },
    Kind {
        name: "chooses",
        args: (1, 9),
        signals: |n| n % 2,
        result: |n, sum| vec![n * 2, n * 2 + sum.min(1)],
        ..PLAIN
    },
    Kind { name: LIMITS, args: (1, 9), result: |n, _| limits::limited(n), ..PLAIN },
    Kind { name: "uploads", args: (4, 14), result: |n, _| uploads::uploaded(n), ..PLAIN },
    Kind { name: "despairs", args: (1, 9), result: |n, _| vec![n * 2 + 7], ..PLAIN },
    Kind {
        name: "fussy",
        args: (1, 9),
        signals: |_| 1,
        is_mended: true,
        result: |n, sum| vec![(n + sum) * 2],
        ..PLAIN
    },
    TAKES_DOWN,
    Kind { name: "fickle", args: (1, 9), signals: |_| 1, result: |n, sum| vec![(n + sum) * 2], ..PLAIN },
    Kind { name: LATE, args: (1, 9), signals: |_| 1, result: |n, sum| vec![(n + sum) * 2], ..PLAIN },
    BEGETS,
    Kind { name: "tells", args: (1, 4), result: |n, _| vec![n * (n + 1) / 2], ..PLAIN },
    Kind { name: "traced", args: (1, 5), result: |n, _| vec![n], ..PLAIN },
    Kind { name: "keeps", args: (3, 8), result: |n, _| (0..=n).collect(), ..PLAIN },
    Kind { name: "duels", args: (1, 4), result: |n, _| vec![n], ..PLAIN },
    Kind { name: "forsakes", args: (2, 6), result: |n, _| vec![n], ..PLAIN },
    RELAYS,
    RELAYS,
    AUCTIONS,
    Kind { name: "heads", args: (2, 5), result: |n, _| heard_by_heads(n), ..PLAIN },
    LONG,
    LONG,
];

impl Kind {
    /// Whether its runs go on as other ones.
    pub fn goes_on(&self) -> bool {
        self.name == RELAYS.name || self.name == AUCTIONS.name
    }

    /// Whether the sequential model could have come to this, too.
    pub fn allows(&self, n: u64, sum: u64, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Done(value) => value.decode::<u64>().is_ok_and(|value| (self.result)(n, sum).contains(&value)),
            Outcome::Failed(_) => false,
        }
    }

    /// What a client says beside the arguments.
    pub fn headers(workflow_id: &WorkflowId) -> Option<Payload> {
        let headers: Headers = [(HEADER, workflow_id.as_str())].into_iter().collect();
        headers.to_payload(Format::MessagePack).expect("texts can be written")
    }

    pub fn arguments(n: u64) -> Payload {
        Payload::encode(&BTreeMap::from([("n", n)])).expect("numbers can be written")
    }
}
