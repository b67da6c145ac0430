//! A TCP proxy in front of the broker that cuts, refuses, delays and holds what passes, each direction for itself.
//!
//! It replaces the broker's address in lookup answers by its own, so that all connections go through it. What is held is
//! not lost: like the packets of a network that comes back it arrives late, unless the connection is cut before.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What happens to what comes from one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    Hold,
    Delay(Duration),
}

#[derive(Debug, Clone, Copy)]
struct State {
    to_broker: Flow,
    to_client: Flow,
    refuses: bool,
    /// Connections that were made before the last cut end.
    cuts: u64,
}

/// Frames that wait in the proxy, per direction and connection.
const QUEUE: usize = 64;
/// Lookup answers are smaller; payloads, which carry a checksum, are left alone.
const REWRITTEN_BYTES_MAX: usize = 512;
/// No frame of Pulsar's protocol is larger.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A proxy that lives as long as this.
#[derive(Debug)]
pub struct Proxy {
    pub url: String,
    state: watch::Sender<State>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// In front of `pulsar://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub async fn start(broker_url: &str) -> Result<Self> {
        let broker = broker_url.trim_start_matches("pulsar://").to_owned();
        // Of the same length, so that one can stand for the other inside a frame.
        let listener = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.context("listening as a proxy")?;
            if listener.local_addr()?.to_string().len() == broker.len() {
                break listener;
            }
        };
        let own = listener.local_addr()?.to_string();
        let state = watch::Sender::new(State { to_broker: Flow::Pass, to_client: Flow::Pass, refuses: false, cuts: 0 });
        let accepting = tokio::spawn(accept(listener, broker, own.clone(), state.subscribe()));
        Ok(Self { url: format!("pulsar://{own}"), state, accepting })
    }

    /// Cuts all connections; new ones are good.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Cuts all connections and takes no new ones.
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.refuses = true;
        });
    }

    /// What happens to what passes, also on connections that are there.
    pub fn flow(&self, to_broker: Flow, to_client: Flow) {
        self.state.send_modify(|state| (state.to_broker, state.to_client) = (to_broker, to_client));
    }

    /// Everything passes again, also what was held.
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            *state = State { to_broker: Flow::Pass, to_client: Flow::Pass, refuses: false, cuts: state.cuts };
        });
    }
}

async fn accept(listener: TcpListener, broker: String, own: String, state: watch::Receiver<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let State { refuses, cuts, .. } = *state.borrow();
        if refuses {
            continue;
        }
        let Ok(server) = TcpStream::connect(&broker).await else { continue };
        // The proxy must not add to the delays.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let way = |toward: fn(&State) -> Flow| Way { state: state.clone(), cuts, toward };
        tokio::spawn(pass(client_read, server_write, way(|state| state.to_broker), None));
        let names = Some((broker.clone(), own.clone()));
        tokio::spawn(pass(server_read, client_write, way(|state| state.to_client), names));
    }
}

/// One direction of one connection.
#[derive(Clone)]
struct Way {
    state: watch::Receiver<State>,
    cuts: u64,
    toward: fn(&State) -> Flow,
}

impl Way {
    /// Waits until the connection is cut, or the proxy is gone.
    async fn cut(&mut self) {
        let cuts = self.cuts;
        let _ = self.state.wait_for(|state| state.cuts != cuts).await;
    }

    /// Waits until something may pass; says for how long it is delayed, none when the connection is cut.
    async fn open(&mut self) -> Option<Duration> {
        let (cuts, toward) = (self.cuts, self.toward);
        let state = self.state.wait_for(|state| state.cuts != cuts || toward(state) != Flow::Hold).await.ok()?;
        match toward(&state) {
            _ if state.cuts != cuts => None,
            Flow::Delay(delay) => Some(delay),
            Flow::Pass | Flow::Hold => Some(Duration::ZERO),
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: Way, names: Option<(String, String)>) {
    let (sender, mut frames) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let mut reading_way = way.clone();
    // Apart, since a frame that is half read cannot be given up for a change of the flow.
    let reading = tokio::spawn(async move {
        let read_all = async {
            while let Some(mut frame) = frame(&mut from).await {
                if let Some((broker, own)) = &names {
                    substitute(&mut frame, broker.as_bytes(), own.as_bytes());
                }
                if sender.send((Instant::now(), frame)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = reading_way.cut() => {}
            () = read_all => {}
        }
    });
    let mut ending = way.clone();
    let writing = async {
        while let Some((came, frame)) = frames.recv().await {
            let Some(delay) = way.open().await else { return };
            sleep_until(came + delay).await;
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = ending.cut() => {}
        () = writing => {}
    }
    reading.abort();
}

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let size = from.read_u32().await.ok()?;
    let length = usize::try_from(size).ok().filter(|length| *length <= FRAME_BYTES_MAX)?;
    let mut frame = size.to_be_bytes().to_vec();
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

fn substitute(frame: &mut [u8], old: &[u8], new: &[u8]) {
    if frame.len() > REWRITTEN_BYTES_MAX {
        return;
    }
    if let Some(at) = frame.windows(old.len()).position(|window| window == old) {
        frame[at..at + new.len()].copy_from_slice(new);
    }
}
