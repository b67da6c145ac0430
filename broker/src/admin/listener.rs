//! HTTP connections: no more at a time than are allowed, and none that is kept for nothing.
//!
//! Further ones wait in the system's queue, as with Apache Pulsar's `maxHttpServerConnections`; so that they do not wait for
//! ever, a connection on which nothing moves ends. Not while the broker is at work on its request, however long: the client
//! would not hear what became of a change that is made.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{FromRequest, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

#[derive(Debug)]
pub struct Limited {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle: Duration,
}

impl Limited {
    pub fn new(listener: TcpListener, connections: usize, idle: Duration) -> Limited {
        Limited { listener, room: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))), idle }
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (ends, work) = (Box::pin(sleep(self.idle)), Work::default());
        (Connection { stream, idle: self.idle, ends, work, done: 0, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Listener::local_addr(&self.listener)
    }
}

/// How many requests of a connection were read to their end, and how many of these have their answer.
#[derive(Debug, Clone, Default)]
pub struct Work(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    read: AtomicU64,
    answered: AtomicU64,
}

impl Connected<IncomingStream<'_, Limited>> for Work {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Work {
        stream.io().work.clone()
    }
}

/// A request is answered, or its client is gone.
struct Answered(Work);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.0.answered.fetch_add(1, Ordering::AcqRel);
    }
}

/// Reads the whole request, and then tells its connection that it waits for the broker instead of the client.
pub async fn note_work(request: Request, next: Next) -> Response {
    let Some(ConnectInfo(work)) = request.extensions().get::<ConnectInfo<Work>>().cloned() else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    work.0.read.fetch_add(1, Ordering::AcqRel);
    let _answered = Answered(work);
    next.run(Request::from_parts(parts, body.into())).await
}

/// Has its place until it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    idle: Duration,
    ends: Pin<Box<Sleep>>,
    work: Work,
    /// Requests that were answered when bytes were last waited for.
    done: u64,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// What became of an attempt to move bytes; if none moved, perhaps because it is time to end.
    fn moved<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            let ends = Instant::now() + self.idle;
            self.ends.as_mut().reset(ends);
            return outcome;
        }
        let answered = self.work.0.answered.load(Ordering::Acquire);
        let at_work = answered < self.work.0.read.load(Ordering::Acquire);
        if at_work || answered > self.done {
            // The timer goes on: when the answer is out, nothing else may wake the connection to look at it again.
            self.done = answered;
            let ends = Instant::now() + self.idle;
            self.ends.as_mut().reset(ends);
        }
        self.ends.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, into);
        self.moved(context, outcome)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.moved(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const IDLE: Duration = Duration::from_millis(50);

    /// What comes back until the connection ends, if this is sent. What is asked for takes several times as long as a
    /// connection may be idle.
    async fn answer(sent: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        client.write_all(sent.as_bytes()).await.expect("written");
        let work = async |body: String| {
            sleep(IDLE * 5).await;
            format!("made of {body}")
        };
        let router = Router::new().route("/work", post(work)).layer(axum::middleware::from_fn(note_work));
        let service = router.into_make_service_with_connect_info::<Work>();
        let server = tokio::spawn(async move { axum::serve(Limited::new(listener, 1, IDLE), service).await });
        let mut answer = Vec::new();
        // Ended in whatever way.
        let _ = timeout(Duration::from_secs(60), client.read_to_end(&mut answer)).await.expect("the connection ends");
        server.abort();
        String::from_utf8(answer).expect("text")
    }

    #[tokio::test]
    async fn long_work_is_answered_and_the_silence_after_it_ends_the_connection() {
        let answer = answer("POST /work HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\nall").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("made of all"), "{answer:?}");
    }

    #[tokio::test]
    async fn two_requests_at_once_are_both_answered() {
        let one = "POST /work HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\nall";
        assert_eq!(answer(&one.repeat(2)).await.matches("made of all").count(), 2);
    }

    #[tokio::test]
    async fn half_a_request_is_not_waited_for() {
        let answer = answer("POST /work HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\na").await;
        assert!(!answer.contains("made of"), "{answer:?}");
    }
}
