//! Plays one run from its start to its end as its caller, and compares what it hears with what the model says.

use std::fmt::Debug;
use std::future::IntoFuture as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use everpulse::client::{ErrorKind, ResultError, Start, Untyped};
use everpulse::{Client, Definition, Failure, IdPolicy, Run};
use futures::future::join_all;

use super::clients::Clients;
use super::dice::Dice;
use super::mix::{Kind, Play};
use super::now_ms;
use super::workflows::{asks_permission, paces, toils};
use crate::workflows::{Word, endless_run, fan_out, gathers, hello, naps, persists, races, sequence};

/// What the players share.
#[derive(Debug)]
pub struct Stage {
    pub quick: Clients,
    pub patient: Clients,
    pub heard: Heard,
    /// For how long ends are kept.
    pub retention_ms: u64,
}

/// What callers were told, counted.
#[derive(Debug, Default)]
pub struct Heard {
    /// Calls that were dropped before they were answered.
    pub calls_dropped: AtomicU64,
    /// Answers that a caller meets by asking again.
    pub timeouts: AtomicU64,
    pub unreachable: AtomicU64,
    pub expired: AtomicU64,
    /// Ends that were no longer kept when they were asked for.
    pub ends_gone: AtomicU64,
    /// Ends that were asked for a second time, and were the same.
    pub asked_again: AtomicU64,
    pub signals: AtomicU64,
}

impl Heard {
    fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long one question for a result lasts before it is put anew.
const RESULT: Duration = Duration::from_secs(30);
/// Of a hundred calls so many are dropped while they are under way.
const DROPPED_PERCENT: u64 = 2;
/// Of a hundred ends so many are asked for once more.
const AGAIN_PERCENT: u64 = 5;
/// Of a hundred starts so many are only stored, and not waited for.
const ENQUEUED_PERCENT: u64 = 20;

type Wrong = String;

/// A run's end: its value or its failure.
type End<D> = Result<<D as Definition>::Output, Failure<<D as Definition>::Error>>;

/// Plays a run; the error says what was not as it must be.
///
/// # Errors
/// What contradicts the model, in words.
///
/// # Cancel safety
/// When it is dropped the run goes on by itself, except for what a caller would have told it.
pub async fn play(stage: &Stage, seed: u64, play: Play) -> Result<(), Wrong> {
    let part = Part { stage, play, id: play.id(), dice: Dice::new(seed ^ 0x70_6c_61_79, u64::from(play.number)) };
    part.play().await.map_err(|wrong| format!("run {}: {wrong}", play.id()))
}

struct Part<'a> {
    stage: &'a Stage,
    play: Play,
    id: String,
    dice: Dice,
}

impl Part<'_> {
    async fn play(mut self) -> Result<(), Wrong> {
        let Play { many, ms, .. } = self.play;
        let id = self.id.clone();
        let greeting = |name: &str| format!("hello {name}");
        match self.play.kind {
            Kind::Hello | Kind::Later => {
                let at = SystemTime::now() + Duration::from_millis(ms);
                let start = |client: &Client| {
                    let start = client.start(hello(id.clone())).id(&id);
                    if ms > 0 { start.start_at(at) } else { start }
                };
                let run = self.started(&start).await?;
                self.ends(
                    &run,
                    |client| client.run(hello, &id),
                    |end| matches!(end, Ok(text) if *text == greeting(&id)),
                )
                .await?;
                if ms > 0 && SystemTime::now() < at {
                    return Err("it ended before the time that it was to be started at".to_owned());
                }
                Ok(())
            }
            Kind::Toil => {
                let run = self.started(&|client| client.start(toils(many, ms)).id(&id)).await?;
                let sum = (0..many).sum::<u64>();
                self.ends(&run, |client| client.run(toils, &id), |end| matches!(end, Ok(got) if *got == sum)).await
            }
            Kind::Sequence => {
                let run = self.started(&|client| client.start(sequence()).id(&id)).await?;
                let all: Vec<u64> = (0..10).collect();
                self.ends(&run, |client| client.run(sequence, &id), |end| matches!(end, Ok(got) if *got == all)).await
            }
            Kind::FanOut => {
                let run = self.started(&|client| client.start(fan_out(many)).id(&id)).await?;
                let sum = (0..many).sum::<u64>();
                self.ends(&run, |client| client.run(fan_out, &id), |end| matches!(end, Ok(got) if *got == sum)).await
            }
            Kind::Paces => {
                let run = self.started(&|client| client.start(paces(many)).id(&id)).await?;
                let all: Vec<u64> = (0..many).collect();
                self.ends(&run, |client| client.run(paces, &id), |end| matches!(end, Ok(got) if *got == all)).await
            }
            Kind::Nap => {
                let run = self.started(&|client| client.start(naps(ms)).id(&id)).await?;
                self.ends(&run, |client| client.run(naps, &id), |end| matches!(end, Ok(slept) if *slept >= ms)).await
            }
            Kind::Retried => self.persisting(many, &format!("ok at {many}")).await,
            Kind::Declined => self.persisting(0, "failed: final").await,
            Kind::Exhausted => self.persisting(99, "exhausted after 5").await,
            Kind::Permitted => {
                let run = self.started(&|client| client.start(asks_permission()).id(&id)).await?;
                let right = |end: &Result<String, _>| matches!(end, Ok(got) if *got == id);
                self.ends(&run, |client| client.run(asks_permission, &id), right).await
            }
            Kind::Words => self.words(many).await,
            Kind::Twins => self.twins(many).await,
            Kind::Refused => self.refused().await,
            Kind::Again => self.again().await,
            Kind::Cancelled => {
                let run = self.started(&|client| client.start(endless_run()).id(&id)).await?;
                self.patiently(&id).cancel("the chaos").await.map_err(|error| format!("cancelling: {error}"))?;
                let right = |end: &Result<bool, _>| matches!(end, Err(Failure::Cancelled));
                self.ends(&run, |client| client.run(endless_run, &id), right).await
            }
            Kind::Terminated => {
                let run = self.started(&|client| client.start(naps(600_000)).id(&id)).await?;
                self.patiently(&id).terminate("the chaos").await.map_err(|error| format!("terminating: {error}"))?;
                let right = |end: &Result<u64, _>| matches!(end, Err(Failure::Terminated));
                self.ends(&run, |client| client.run(naps, &id), right).await
            }
            Kind::TimedOut => {
                let limit = Duration::from_millis(ms);
                let run = self.started(&|client| client.start(naps(600_000)).id(&id).timeout(limit)).await?;
                let right = |end: &Result<u64, _>| matches!(end, Err(Failure::TimedOut));
                self.ends(&run, |client| client.run(naps, &id), right).await
            }
            Kind::Race => {
                let run = self.started(&|client| client.start(races()).id(&id)).await?;
                self.ends(&run, |client| client.run(races, &id), |end| matches!(end, Ok(got) if got == "timer")).await
            }
        }
    }

    async fn persisting(&mut self, good_attempt: u64, words: &str) -> Result<(), Wrong> {
        let id = self.id.clone();
        let good_attempt = u32::try_from(good_attempt).unwrap_or(u32::MAX);
        let run = self.started(&|client| client.start(persists(good_attempt)).id(&id)).await?;
        self.ends(&run, |client| client.run(persists, &id), |end| matches!(end, Ok(got) if got == words)).await
    }

    /// Each word counts once, in the order in which the caller said them.
    async fn words(&mut self, many: u64) -> Result<(), Wrong> {
        let id = self.id.clone();
        let count = usize::try_from(many).unwrap_or(usize::MAX);
        let run = self.begun(&|client| client.start(gathers(count)).id(&id)).await?;
        let all: Vec<String> = (0..many).map(|n| format!("word {n}")).collect();
        for text in &all {
            let told = self.patiently(&id).signal(Word { text: text.clone() }).await;
            told.map_err(|error| format!("the signal {text:?}: {error}"))?;
            Heard::one(&self.stage.heard.signals);
        }
        self.ends(&run, |client| client.run(gathers, &id), |end| matches!(end, Ok(got) if *got == all)).await
    }

    /// Several callers start one id: it is one run.
    async fn twins(&mut self, many: u64) -> Result<(), Wrong> {
        let id = self.id.clone();
        let start = |client: &Client| client.start(hello(id.clone())).id(&id);
        let mut parts: Vec<Part<'_>> =
            (0..many).map(|_| Part { id: id.clone(), dice: self.dice.clone(), ..*self }).collect();
        let runs = join_all(parts.iter_mut().map(|part| part.begun(&start))).await;
        let runs = runs.into_iter().collect::<Result<Vec<_>, _>>()?;
        let ids: std::collections::BTreeSet<_> = runs.iter().map(|run| run.run_id().map(|id| id.to_string())).collect();
        if ids.len() != 1 {
            return Err(format!("{many} starts of one id began {ids:?}"));
        }
        for run in &runs {
            let right = |end: &Result<String, _>| matches!(end, Ok(text) if *text == format!("hello {id}"));
            self.ends(run, |client| client.run(hello, &id), right).await?;
        }
        Ok(())
    }

    /// An id that is taken is refused to those who ask for that.
    async fn refused(&mut self) -> Result<(), Wrong> {
        let id = self.id.clone();
        let first = self.started(&|client| client.start(hello(id.clone())).id(&id)).await?;
        let right = |end: &Result<String, _>| matches!(end, Ok(text) if *text == format!("hello {id}"));
        self.ends(&first, |client| client.run(hello, &id), right).await?;
        let client = self.stage.patient.any();
        match client.start(hello(String::new())).id(&id).policy(IdPolicy::Reject).await {
            Err(error) if error.kind() == ErrorKind::Taken => Ok(()),
            Err(error) => Err(format!("a start that had to be refused: {error}")),
            Ok(run) => Err(format!("a start that had to be refused began {:?}", run.run_id())),
        }
    }

    /// An id whose run has ended is run again for those who ask for that, once per question.
    async fn again(&mut self) -> Result<(), Wrong> {
        let id = self.id.clone();
        let first = self.begun(&|client| client.start(hello(id.clone())).id(&id)).await?;
        let right = |end: &Result<String, _>| matches!(end, Ok(text) if *text == format!("hello {id}"));
        self.ends(&first, |client| client.run(hello, &id), right).await?;
        let client = self.stage.patient.any();
        let start = client.start(hello("again".to_owned())).id(&id).policy(IdPolicy::RestartWhenClosed);
        let second = match start.await {
            Ok(second) => second,
            Err(error) if error.kind() == ErrorKind::Expired => return self.gone(&first).await,
            Err(error) => return Err(format!("starting it again: {error}")),
        };
        if second.run_id() == first.run_id() {
            return Err(format!("started again, it is run {:?} as before", second.run_id()));
        }
        let right = |end: &Result<String, _>| matches!(end, Ok(text) if text == "hello again");
        self.ends(&second, |client| client.run(hello, &id), right).await
    }

    /// A handle for what must not be asked under a second id.
    fn patiently(&self, id: &str) -> Run<Untyped> {
        self.stage.patient.any().run_named(id)
    }

    /// Starts until it is stored, or known to be taken.
    async fn started<D: Definition>(&mut self, start: &impl Fn(&Client) -> Start<D>) -> Result<Run<D>, Wrong> {
        if self.dice.below(100) >= ENQUEUED_PERCENT {
            return self.begun(start).await;
        }
        loop {
            match start(&self.stage.quick.any()).enqueue().await {
                Ok(run) => return Ok(run),
                Err(error) => self.passing("storing the start", &error)?,
            }
        }
    }

    /// Starts until a worker has said that it stands in history.
    async fn begun<D: Definition>(&mut self, start: &impl Fn(&Client) -> Start<D>) -> Result<Run<D>, Wrong> {
        loop {
            let client = self.stage.quick.any();
            let call = start(&client).into_future();
            if self.dice.below(100) < DROPPED_PERCENT {
                let patience = self.dice.millis(0, 30);
                if tokio::time::timeout(patience, call).await.is_err() {
                    Heard::one(&self.stage.heard.calls_dropped);
                }
                // The same id again, whatever became of it.
                continue;
            }
            match call.await {
                Ok(run) => return Ok(run),
                Err(error) => self.passing("starting", &error)?,
            }
        }
    }

    /// Waits for the end, and compares it; now and then it is asked for once more, from another client.
    async fn ends<D: Definition>(
        &mut self,
        run: &Run<D>,
        find: impl Fn(&Client) -> Run<D>,
        right: impl Fn(&End<D>) -> bool,
    ) -> Result<(), Wrong>
    where
        D::Output: Debug,
        D::Error: Debug,
    {
        let pinned = run.run_id();
        let mut asked = run.clone();
        let mut again = self.dice.below(100) < AGAIN_PERCENT;
        loop {
            let limit = if self.dice.below(100) < DROPPED_PERCENT { self.dice.millis(0, 50) } else { RESULT };
            let end = match asked.result_timeout(limit).await {
                Ok(value) => Ok(value),
                Err(ResultError::Failed(failure)) => Err(failure),
                Err(other) => match other.into_failure() {
                    Ok(failure) => Err(failure),
                    Err(error) if error.kind() == ErrorKind::Expired => return self.gone(&asked).await,
                    Err(error) => {
                        self.passing("asking for the result", &error)?;
                        // Whoever asks next is another caller, if the id alone says which run is meant.
                        if self.play.runs() == 1 {
                            asked = find(&self.stage.quick.any());
                        }
                        continue;
                    }
                },
            };
            if !right(&end) {
                return Err(format!("run {pinned:?} ended as {end:?}, which the model does not say"));
            }
            if !again || self.play.runs() != 1 {
                return Ok(());
            }
            again = false;
            Heard::one(&self.stage.heard.asked_again);
            asked = find(&self.stage.quick.any());
        }
    }

    /// Its end is said to be no longer kept: that is right for one that is older than the retention. The archive has it, and the
    /// judgement at the end.
    async fn gone<D: Definition>(&self, run: &Run<D>) -> Result<(), Wrong> {
        loop {
            match run.describe().await {
                Ok(view) => {
                    let kept = self.stage.retention_ms;
                    let old = view.closed_at.is_some_and(|at| at.0.saturating_add(kept) <= now_ms());
                    Heard::one(&self.stage.heard.ends_gone);
                    return if old { Ok(()) } else { Err(format!("{} is said to be gone: {view:?}", run.id())) };
                }
                Err(error) => self.passing("describing what is gone", &error)?,
            }
        }
    }

    /// Whether an answer only says that it has to be asked again.
    fn passing(&self, what: &str, error: &everpulse::client::Error) -> Result<(), Wrong> {
        let heard = &self.stage.heard;
        match error.kind() {
            ErrorKind::Timeout => Heard::one(&heard.timeouts),
            ErrorKind::Unreachable => Heard::one(&heard.unreachable),
            ErrorKind::Expired => Heard::one(&heard.expired),
            kind => return Err(format!("{what}: {kind:?}: {error}")),
        }
        Ok(())
    }
}
