//! Answers "what is the last position of this topic, now?" fast: the question needs a consumer at the broker, and
//! one is kept per topic for as long as it is asked often. Its messages are thrown away. Where it is asked once, it is
//! asked by a consumer that is gone afterwards: what is published then comes to this process once and not twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_protocol::Position;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::feed::{Feed, Start};
use crate::link::Link;
use crate::{Error, ErrorKind, reader};

/// How long a consumer is kept after the last question.
const IDLE: Duration = Duration::from_secs(10);
/// Few, since nobody reads them; enough that a question seldom waits behind them.
const QUEUE: u32 = 100;

type Answer = Result<Option<Position>, Error>;

struct Question {
    until: Instant,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
pub(crate) struct Tails {
    link: Arc<Link>,
    topics: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Question>>>>,
}

impl Tails {
    pub fn new(link: Arc<Link>) -> Self {
        Tails { link, topics: Arc::default() }
    }

    /// The last position of a topic, asked after this was called.
    pub async fn last(&self, topic: String, limit: Duration) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.ask(topic, Question { until: Instant::now() + limit, answer });
        answered.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime is shutting down")))
    }

    fn ask(&self, topic: String, question: Question) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let question = match topics.get(&topic) {
            None => question,
            Some(task) => match task.send(question) {
                Ok(()) => return,
                // It has just ended, idle.
                Err(mpsc::error::SendError(question)) => question,
            },
        };
        let (ask, questions) = mpsc::unbounded_channel();
        let feed = reader::feed(self.link.clone(), topic.clone(), Start::Latest, QUEUE);
        tokio::spawn(serve(feed, questions));
        // Nobody has dropped the other end.
        let _ = ask.send(question);
        topics.insert(topic, ask);
    }
}

/// The last position of a topic, asked after this was called, by a consumer that has left when there is an answer.
pub(crate) async fn once(link: Arc<Link>, topic: String, limit: Duration) -> Answer {
    let mut feed = reader::feed(link, topic, Start::Latest, QUEUE);
    let answer = feed.last(Instant::now() + limit).await;
    feed.close().await;
    answer
}

async fn serve(mut feed: Feed, mut questions: mpsc::UnboundedReceiver<Question>) {
    let mut asked = Vec::new();
    let mut asked_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            count = questions.recv_many(&mut asked, 1024) => {
                if count == 0 {
                    break;
                }
                // All of them asked before this question goes out, so one answer is fresh enough for all.
                let until = asked.iter().map(|question| question.until).max().unwrap_or(asked_at);
                let answer = feed.last(until).await;
                for question in asked.drain(..) {
                    // Whoever asked may have gone.
                    let _ = question.answer.send(answer.clone());
                }
                asked_at = Instant::now();
            }
            // Once it is idle, and only then.
            () = sleep_until(asked_at + IDLE) => break,
            _ = feed.next() => {}
        }
    }
    // From here on a new question starts a new task; one that came just now is still answered.
    questions.close();
    while let Some(question) = questions.recv().await {
        let answer = feed.last(question.until).await;
        // Whoever asked may have gone.
        let _ = question.answer.send(answer);
    }
    feed.close().await;
}
