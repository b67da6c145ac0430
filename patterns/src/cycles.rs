//! Again, and at an end.

use std::pin::Pin;

use everpulse::Never;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{perform, perform_for_ever};

/// Where a case with jumps is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    Draft,
    Review,
    Sign,
}

/// 10, Arbitrary Cycles: ways that lead back to several places, and are entered at several.
#[workflow(version = 1)]
pub async fn arbitrary_cycles(mut at: At, mut objections: u32) -> Result<Vec<String>, Failure<Never>> {
    let mut done = Vec::new();
    loop {
        done.push(perform(format!("{at:?}")).await?);
        at = match at {
            At::Draft => At::Review,
            At::Review if objections > 1 => At::Draft,
            At::Review => At::Sign,
            At::Sign if objections > 0 => At::Review,
            At::Sign => return Ok(done),
        };
        objections = objections.saturating_sub(1);
    }
}

/// 21, Structured Loop: as long as a condition holds, asked before or after.
#[workflow(version = 1)]
pub async fn structured_loop(photographs: u32) -> Result<u32, Failure<Never>> {
    let mut printed = 0;
    while printed < photographs {
        perform(format!("print {printed}")).await?;
        printed += 1;
    }
    Ok(printed)
}

/// 22, Recursion: a part that does itself in parts.
#[workflow(version = 1)]
pub async fn recursion(metres: u32) -> Result<u32, Failure<Never>> {
    survey(metres).await
}

fn survey(metres: u32) -> Pin<Box<dyn Future<Output = Result<u32, Failure<Never>>>>> {
    Box::pin(async move {
        if metres <= 10 {
            perform(format!("measure {metres} m")).await?;
            return Ok(1);
        }
        let (left, right) = try_join!(survey(metres / 2), survey(metres - metres / 2))?;
        Ok(left + right)
    })
}

/// 11, Implicit Termination: it has ended when nothing is left to do.
#[workflow(version = 1)]
pub async fn implicit_termination() -> Result<(String, String), Failure<Never>> {
    try_join!(perform("sweep".to_owned()), async {
        perform("mop".to_owned()).await?;
        perform("dry".to_owned()).await
    })
}

/// 43, Explicit Termination: it has ended when one place is reached, whatever else is under way.
#[workflow(version = 1)]
pub async fn explicit_termination() -> Result<String, Failure<Never>> {
    select! {
        failed = patrol() => failed,
        caught = perform("catch the thief".to_owned()) => caught,
    }
}

async fn patrol() -> Result<String, Failure<Never>> {
    loop {
        perform_for_ever("patrol".to_owned()).await?;
    }
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker
        .workflow(arbitrary_cycles)
        .workflow(structured_loop)
        .workflow(recursion)
        .workflow(implicit_termination)
        .workflow(explicit_termination)
}
