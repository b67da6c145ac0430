//! `traced`: a trace that begins at a client and goes through a run, its child and their activities; and a door that lets in
//! only those whose start had a token.
//!
//! ```text
//! cargo run --bin traced
//! ```

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::activity::ActivityContext;
use everpulse::client::intercept::{Answered, Call, CallKind, Interceptor as AroundCalls, Next as RestOfCall};
use everpulse::intercept::{AttemptError, Attempted, Happened, Interceptor, Next, RunEvent};
use everpulse::prelude::*;

/// The header of W3C Trace Context: which trace this belongs to, and which span of it was the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TraceParent {
    trace: u128,
    span: u64,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

impl FromStr for TraceParent {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split('-').skip(1);
        let (Some(trace), Some(span)) = (parts.next(), parts.next()) else {
            anyhow::bail!("{text:?} is no traceparent")
        };
        Ok(Self { trace: u128::from_str_radix(trace, 16)?, span: u64::from_str_radix(span, 16)? })
    }
}

tokio::task_local! {
    /// Where this task is in its trace. A tracing library has such a thing; here it is made by hand.
    static TRACE: TraceParent;
}

/// In the client: each start and signal says in which trace it is made, and who makes it.
struct Says {
    token: String,
}

impl AroundCalls for Says {
    async fn call(&self, mut call: Call, next: RestOfCall<'_>) -> Result<Answered, everpulse::client::Error> {
        if matches!(call.kind, CallKind::Start | CallKind::Signal) {
            call.headers.insert("authorization", &self.token);
            if let Ok(trace) = TRACE.try_with(|trace| *trace) {
                call.headers.insert("traceparent", trace.to_string());
            }
        }
        next.run(call).await
    }
}

/// In the worker, outside: nobody gets in without the token. A real one asks whoever gives tokens out.
struct Door;

impl Interceptor for Door {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        match context.header("authorization") {
            Some("let-me-in") => next.run().await,
            _ => {
                let refused =
                    AttemptError::refused(format!("whoever started {} may not do this", context.workflow_id()));
                Err(refused.not_retryable())
            }
        }
    }
}

/// In the worker, inside: the author's code runs in the trace that the client began.
struct Traces;

impl Interceptor for Traces {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        let Some(Ok(parent)) = context.header("traceparent").map(str::parse::<TraceParent>) else {
            return next.run().await;
        };
        // A tracing library would draw the span's id, and report it with its parent.
        let own = TraceParent { span: parent.span + u64::from(context.step()) + 1, ..parent };
        TRACE.scope(own, next.run()).await
    }

    fn observe(&self, event: &RunEvent) {
        if let (Happened::Ended { status }, Some(trace)) = (&event.what, event.headers.get("traceparent")) {
            println!("{} ended as {status:?}, in trace {trace}", event.workflow);
        }
    }
}

/// What another service is told of the trace.
#[activity]
async fn asks_a_service() -> String {
    TRACE.try_with(ToString::to_string).unwrap_or_else(|_| "no trace".to_owned())
}

#[workflow(version = 1)]
async fn inner() -> Result<String, everpulse::Error> {
    Ok(asks_a_service().await?)
}

#[workflow(version = 1)]
async fn outer() -> Result<Vec<String>, everpulse::Error> {
    Ok(vec![asks_a_service().await?, inner().await?])
}

/// Follows a trace through a run.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-traced-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    let worker = Worker::connect(url).await.context("cannot start a worker")?.intercept(Door).intercept(Traces);
    let worker = worker.workflow(outer).workflow(inner).activity(asks_a_service).spawn().await?;
    let client = Client::connect(url).await.context("cannot reach the application")?;

    let known = client.clone().intercept(Says { token: "let-me-in".to_owned() });
    let trace = TraceParent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: 0x00f0_67aa_0ba9_02b7 };
    let heard = TRACE.scope(trace, async { known.start(outer()).await?.result().await.map_err(anyhow::Error::from) });
    for heard in heard.await? {
        println!("a service was asked in trace {heard}");
        ensure!(heard.parse::<TraceParent>()?.trace == trace.trace, "it is the trace of the client");
    }

    let stranger = client.start(outer()).await?;
    let refused = stranger.result().await.err().context("there is no token")?;
    println!("without a token: {refused}");
    ensure!(refused.to_string().contains("may not do this"), "it is refused");
    worker.stop().await;
    Ok(())
}
