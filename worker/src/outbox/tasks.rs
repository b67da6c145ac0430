//! The way of tasks into one lane of a queue. Short tasks share frames: while no frame is in flight a task leaves at once,
//! what comes meanwhile leaves a few to a frame. Long ones travel alone, as many at a time as the publisher takes.
//!
//! One task of the runtime per lane does this; a task that is sent costs none.

use std::collections::VecDeque;
use std::time::Duration;

use everpulse_protocol::priority::Lane;
use everpulse_protocol::task::{TASKS_PER_FRAME_MAX, Task, TaskFrame};
use everpulse_protocol::{encode, topic};
use everpulse_transport::{Error, ErrorKind, Message, Publisher, Transport};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

use super::Confirmed;
use crate::lanes::Directory;

/// A set-up that failed is tried again after this.
const SET_UP_AGAIN: Duration = Duration::from_secs(1);
/// A short task that is larger than this travels alone too.
const SHARED_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Queue {
    commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
struct Command {
    task: Task,
    confirmed: oneshot::Sender<Confirmed>,
}

impl Queue {
    pub(super) fn open(transport: Transport, lanes: Directory, lane: Lane) -> Self {
        let (commands, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(transport, lanes, lane, queue));
        Self { commands }
    }

    pub(super) fn send(&self, task: Task) -> impl Future<Output = Confirmed> + Send + use<> {
        let (confirmed, confirmation) = oneshot::channel();
        // The other end goes only when the runtime is shut down.
        let _ = self.commands.send(Command { task, confirmed });
        async move {
            match confirmation.await {
                Ok(confirmed) => confirmed,
                // There is nothing to say to anybody any more.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

/// Makes a lane's topics, however long that takes.
pub(super) async fn set_up(transport: &Transport, lane: &Lane) -> Result<(), Error> {
    loop {
        match transport.set_up_lane(lane).await {
            Err(error) if error.kind() != ErrorKind::Invalid => {
                tracing::warn!(%lane, %error, "cannot set the queue up, next try in {SET_UP_AGAIN:?}");
                tokio::time::sleep(SET_UP_AGAIN).await;
            }
            result => return result,
        }
    }
}

/// Makes a lane ready to be sent into, however long that takes.
async fn open(transport: &Transport, lanes: &Directory, lane: &Lane) -> Result<(), Error> {
    set_up(transport, lane).await?;
    // Before the first task goes there: workers find lanes by their names.
    loop {
        match lanes.announce(lane).await {
            Err(error) if !matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Closed) => {
                tracing::warn!(%lane, %error, "cannot say that a lane is in use, next try in {SET_UP_AGAIN:?}");
                tokio::time::sleep(SET_UP_AGAIN).await;
            }
            result => return result,
        }
    }
}

async fn run(transport: Transport, lanes: Directory, lane: Lane, mut commands: mpsc::UnboundedReceiver<Command>) {
    if let Err(error) = open(&transport, &lanes, &lane).await {
        while let Some(command) = commands.recv().await {
            // Whoever sent it may have gone.
            let _ = command.confirmed.send(Err(error.clone()));
        }
        return;
    }
    let publisher = transport.publisher(&topic::activity(&lane.to_string()), Default::default());
    let mut arrived = Vec::new();
    let mut short = VecDeque::new();
    let mut in_flight: FuturesUnordered<BoxFuture<'static, Kind>> = FuturesUnordered::new();
    let mut shared_in_flight = 0;
    loop {
        tokio::select! {
            biased;
            count = commands.recv_many(&mut arrived, 1_024) => {
                if count == 0 {
                    break;
                }
            }
            Some(kind) = in_flight.next(), if !in_flight.is_empty() => {
                shared_in_flight -= usize::from(kind == Kind::Shared);
            }
        }
        for command in arrived.drain(..) {
            if command.task.is_short() && command.task.args.len() <= SHARED_BYTES_MAX {
                short.push_back(command);
            } else {
                in_flight.push(publish(&publisher, vec![command], Kind::Alone));
            }
        }
        while short.len() >= TASKS_PER_FRAME_MAX || (shared_in_flight == 0 && !short.is_empty()) {
            let count = short.len().min(TASKS_PER_FRAME_MAX);
            in_flight.push(publish(&publisher, short.drain(..count).collect(), Kind::Shared));
            shared_in_flight += 1;
        }
    }
    // No more will come; what is here still leaves.
    if !short.is_empty() {
        in_flight.push(publish(&publisher, short.drain(..).collect(), Kind::Shared));
    }
    while in_flight.next().await.is_some() {}
}

/// How a frame travels.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alone,
    Shared,
}

fn publish(publisher: &Publisher, commands: Vec<Command>, kind: Kind) -> BoxFuture<'static, Kind> {
    let (tasks, senders): (Vec<_>, Vec<_>) =
        commands.into_iter().map(|command| (command.task, command.confirmed)).unzip();
    let sending = publisher.publish_until_confirmed(Message::new(None, encode(&TaskFrame { tasks })));
    async move {
        let confirmed = sending.await;
        for sender in senders {
            // Whoever sent it may have gone.
            let _ = sender.send(confirmed.clone());
        }
        kind
    }
    .boxed()
}
