//! Answers to clients, in frames on their non-persistent reply topics. They may be lost: a client asks again.

use serde::{Deserialize, Serialize};

use crate::codec::Stored;
use crate::event::Outcome;
use crate::history::Close;
use crate::view::RunView;
use crate::{Failure, Payload, RequestId, RunId};

/// One message of a reply topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyFrame {
    pub replies: Vec<Reply>,
}

impl Stored for ReplyFrame {
    const KIND: &'static str = "replies";
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub request: RequestId,
    pub body: ReplyBody,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// The run is in history: begun by this start, or attached to.
    Started {
        run_id: RunId,
        attached: bool,
    },
    /// The start was refused: the id is taken.
    Taken {
        run_id: RunId,
        open: bool,
    },
    /// The run is open; its end will follow on the same request.
    Open {
        run_id: RunId,
    },
    /// The run has ended.
    Closed {
        run_id: RunId,
        /// Boxed: most answers are small, and very many may wait to be sent.
        close: Box<Close>,
    },
    Description(Box<RunView>),
    /// What the run published last under the name that was asked for.
    Published {
        value: Option<Payload>,
    },
    /// What the run's handler answered to a query, or why it did not.
    Answered {
        outcome: Outcome,
    },
    /// What became of an update, and of which run.
    Update {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run_id: Option<RunId>,
        state: UpdateState,
    },
    /// The signal, completion, cancellation, termination or resumption is in history.
    Accepted,
    /// The signal is in the history of all runs of the shard that it is meant for: so many.
    Reached {
        runs: u32,
    },
    /// The run has ended before.
    AlreadyClosed {
        run_id: RunId,
    },
    /// Somebody else has completed it before.
    AlreadyCompleted,
    NotFound,
    /// What was asked for, or whether the input was taken before, is older than what is kept; or nobody waits any more
    /// for what was to be completed.
    Expired {
        message: String,
    },
    /// The input can never be taken.
    Invalid {
        message: String,
    },
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// The run cannot be asked yet, and this is why. Nothing was decided: it may be sent again.
    NotYet(Failure),
    /// It was refused, with the error of the code that looked at it or the reason why none did. It never takes effect.
    Refused(Failure),
    /// It is in history. Its answer will follow on the same request.
    Accepted,
    /// The code has answered it.
    Answered(Outcome),
    /// The run has ended, and the code had not answered it.
    Unanswered,
    /// The run has not taken it.
    Unknown,
    /// It was taken by the run that is named, which has ended, or by an earlier one of the workflow id. Its answer, if there is
    /// one, stands in the history of that run.
    TakenBefore,
}
