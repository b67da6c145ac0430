//! The run between a schedule and one of its runs: it begins that, awaits its end, and tells the schedule.
//!
//! ```text
//!   schedule, run 1 ──child──► runner ──child──► the run of a time
//!          │ ── report ──────────►│
//!          │◄───────── I will ────┤                        a child's end is told to the run that began it,
//!          ╎ continues as new     │◄── ended ──────        and to none that goes on for that one
//!   schedule, run 2 ◄─── ended ───┘
//! ```
//! It is changed as the schedule itself is: `docs/decisions/schedules-are-runs.md`.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use everpulse_protocol as protocol;
use everpulse_protocol::FailureKind;
use everpulse_sdk as everpulse;
use everpulse_sdk::{
    Delivery, Error, Failure, NamedChild, ParentClose, Request, Sleep, external, shielded, signal, sleep,
};
use futures::Stream as _;
use serde::{Deserialize, Serialize};

use crate::control::End;
use crate::plan::Action;

/// The name of the workflow between a schedule and a run.
pub const RUNNER: &str = "everpulse.schedule.run";

const AGAIN: Duration = Duration::from_secs(1);

/// What is to be begun, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The workflow id of the schedule.
    pub(crate) schedule: String,
    /// Which of its runs it is.
    pub(crate) no: u64,
    pub(crate) workflow_id: String,
    /// The run's tags are those of the action.
    pub(crate) action: Action,
}

/// What a schedule asks of a runner.
#[everpulse::signal(name = "everpulse.schedule.ask", crate = everpulse)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Say that you tell the end by a signal, and do so: who asks goes on as another run, which no child is known to.
    Report,
    /// Have the run cancelled.
    Cancel,
    /// Have it ended at once.
    Terminate,
}

/// What a runner tells its schedule, in whichever of its runs.
#[everpulse::signal(name = "everpulse.schedule.told", crate = everpulse)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub no: u64,
    /// None: it will be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// Begins a run, and gives how it ended.
#[everpulse::workflow(name = "everpulse.schedule.run", version = 1, crate = everpulse)]
pub async fn scheduled_run(scheduled: Scheduled) -> Result<End, Error> {
    let Scheduled { schedule, no, workflow_id, action } = scheduled;
    let mut asks = signal::<Ask>().stream();
    let mut reports = false;
    let mut ending = Ending::default();
    let end = match NamedChild::start(request(workflow_id, action), ParentClose::Abandon) {
        Err(failure) => ended(failure),
        Ok(mut child) => loop {
            // What was asked before the end is answered before it.
            let asked = poll_fn(|cx| match Pin::new(&mut asks).poll_next(cx) {
                Poll::Ready(Some(ask)) => Poll::Ready(Ok(ask)),
                Poll::Ready(None) | Poll::Pending => {
                    let _ = ending.poll(&child, cx);
                    Pin::new(&mut child).poll(cx).map(Err)
                }
            });
            match asked.await {
                Ok(Ask::Report) => {
                    reports = true;
                    shielded(tell(&schedule, Told { no, end: None })).await;
                }
                Ok(ask @ (Ask::Cancel | Ask::Terminate)) => {
                    ending = Ending::ask(&child, ask == Ask::Terminate);
                    // It is on its way before anything else that was asked is done.
                    poll_fn(|cx| {
                        let _ = ending.poll(&child, cx);
                        Poll::Ready(())
                    })
                    .await;
                }
                Err(result) => break result.map_or_else(ended, |_| End::Completed),
            }
        },
    };
    if reports {
        // Also if somebody had this run cancelled: the schedule waits for it.
        shielded(tell(&schedule, Told { no, end: Some(end.clone()) })).await;
    }
    Ok(end)
}

/// A run that is to come to an end. What is asked of it may arrive before its start does, and find nobody: it is asked again then.
#[derive(Default)]
enum Ending {
    #[default]
    Unasked,
    Asked {
        at_once: bool,
        delivery: Delivery,
    },
    Again {
        at_once: bool,
        after: Sleep,
    },
}

impl Ending {
    fn ask(child: &NamedChild, at_once: bool) -> Self {
        let delivery = match at_once {
            true => child.terminate("its schedule begins the next run"),
            false => child.cancel(),
        };
        delivery.map_or(Self::Unasked, |delivery| Self::Asked { at_once, delivery })
    }

    fn poll(&mut self, child: &NamedChild, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match self {
                Self::Unasked => return Poll::Ready(()),
                Self::Asked { at_once, delivery } => match ready!(Pin::new(delivery).poll(cx)) {
                    // If it is because the run has ended, the word of that is on its way.
                    Err(Failure::NotFound { .. }) => Self::Again { at_once: *at_once, after: sleep(AGAIN) },
                    Ok(()) | Err(_) => Self::Unasked,
                },
                Self::Again { at_once, after } => {
                    ready!(Pin::new(after).poll(cx));
                    Self::ask(child, *at_once)
                }
            };
        }
    }
}

/// Until it is taken, or there is no such schedule any more.
async fn tell(schedule: &str, told: Told) {
    loop {
        match external(schedule).signal(told.clone()).await {
            Ok(()) | Err(Failure::NotFound { .. } | Failure::Cancelled) => return,
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// Sends what is asked of another run, and does not wait: it is on its way then, and is not taken back.
pub(crate) async fn send(deliveries: impl IntoIterator<Item = Delivery>) {
    let mut deliveries: Vec<Delivery> = deliveries.into_iter().collect();
    poll_fn(|cx| {
        for delivery in &mut deliveries {
            let _ = Pin::new(delivery).poll(cx);
        }
        Poll::Ready(())
    })
    .await;
}

fn request(workflow_id: String, action: Action) -> Request {
    let Action { workflow, version, args, tags, timeout_ms, priority } = action;
    let timeout = timeout_ms.map(Duration::from_millis);
    Request { workflow, version, args, id: Some(workflow_id), tags, timeout, priority }
}

/// How a run ended that has no result.
pub(crate) fn ended(failure: protocol::Failure) -> End {
    match failure.kind {
        FailureKind::Taken => End::Known,
        FailureKind::Cancelled | FailureKind::Terminated => End::Cancelled,
        _ => End::Failed { message: failure.message },
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::event::Outcome;
    use everpulse_protocol::history::CommandKind::{Cancel, CancelRun, Child, TerminateRun, Timer};
    use everpulse_protocol::history::{CloseStatus, CommandKind};
    use everpulse_protocol::{Coding, Payload, RunId, Timestamp, WorkflowId};
    use everpulse_sdk::Signal as _;
    use everpulse_sdk::definition::WorkflowDefinition as _;
    use everpulse_sdk::replay::{Input, Instance, RunInfo, Turn, TurnState};

    use super::*;

    struct Runner(Instance);

    impl Runner {
        /// One that has asked for its run.
        fn begun() -> Self {
            let action = Action {
                workflow: "report".to_owned(),
                version: None,
                args: Payload::encode(&()).expect("encoded"),
                tags: Vec::new(),
                timeout_ms: None,
                priority: Default::default(),
            };
            let schedule = "schedule/nightly".to_owned();
            let scheduled = Scheduled { schedule, no: 7, workflow_id: "nightly-7".to_owned(), action };
            let args = std::collections::BTreeMap::from([("scheduled", scheduled)]);
            let info = RunInfo {
                workflow_id: WorkflowId::new("runner").expect("a good id"),
                run_id: RunId(Default::default()),
                workflow: RUNNER.to_owned(),
                version: 1,
                started_at: Timestamp(1_000),
                tags: Vec::new(),
                build: None,
                headers: None,
                continues: None,
                priority: Default::default(),
            };
            let args = Payload::encode(&args).expect("encoded");
            let mut runner = Self(Instance::new(&scheduled_run::entry(), info, args, &Coding::default()));
            assert_eq!(runner.apply(Input::Start), [(0, Child)]);
            runner
        }

        fn turn(&mut self, input: Input) -> Turn {
            self.0.apply(input, Timestamp(1_000))
        }

        fn apply(&mut self, input: Input) -> Vec<(u32, CommandKind)> {
            let marks = self.turn(input).commands.into_iter().map(|command| command.mark());
            marks.map(|mark| (mark.no, mark.kind)).collect()
        }

        fn asked(&mut self, ask: Ask) -> Vec<(u32, CommandKind)> {
            let value = Payload::encode(&ask).expect("encoded");
            self.apply(Input::Signal { name: Ask::NAME.to_owned(), value })
        }
    }

    fn failed(step: u32, kind: FailureKind) -> Input {
        Input::Settled { step, outcome: Outcome::Failed(protocol::Failure::new(kind, "so it is")) }
    }

    fn done(step: u32) -> Input {
        Input::Settled { step, outcome: Outcome::Done(Payload::encode(&()).expect("encoded")) }
    }

    #[test]
    fn a_run_that_is_not_found_is_ended_again_while_it_has_not_ended() {
        let mut runner = Runner::begun();
        assert_eq!(runner.asked(Ask::Terminate), [(1, TerminateRun)]);
        // Its start is still on its way.
        assert_eq!(runner.apply(failed(1, FailureKind::NotFound)), [(2, Timer)]);
        assert_eq!(runner.apply(Input::TimerFired { step: 2 }), [(3, TerminateRun)]);
        assert_eq!(runner.apply(done(3)), []);
        let turn = runner.turn(failed(0, FailureKind::Terminated));
        let TurnState::Closed(close) = turn.state else { panic!("{:?}", turn.state) };
        assert_eq!(close.status, CloseStatus::Completed);
        let Outcome::Done(end) = close.outcome else { panic!("{:?}", close.outcome) };
        assert_eq!(end.decode::<End>().expect("it is one"), End::Cancelled);
    }

    #[test]
    fn a_run_that_is_not_found_as_it_has_ended_is_let_be() {
        let mut runner = Runner::begun();
        assert_eq!(runner.asked(Ask::Cancel), [(1, CancelRun)]);
        assert_eq!(runner.apply(failed(1, FailureKind::NotFound)), [(2, Timer)]);
        let turn = runner.turn(done(0));
        assert!(matches!(turn.state, TurnState::Closed(_)), "{:?}", turn.state);
    }

    #[test]
    fn who_does_not_heed_a_request_is_ended_and_is_not_asked_again_meanwhile() {
        let mut runner = Runner::begun();
        assert_eq!(runner.asked(Ask::Cancel), [(1, CancelRun)]);
        assert_eq!(runner.apply(failed(1, FailureKind::NotFound)), [(2, Timer)]);
        assert_eq!(runner.asked(Ask::Terminate), [(2, Cancel), (3, TerminateRun)]);
    }
}
