//! A TCP proxy in front of a broker that can cut, refuse and swallow. It replaces the broker's address in lookup
//! answers by its own, so that all connections go through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Forward,
    /// Connections are accepted and closed at once; those that exist are closed.
    AcceptThenClose,
    /// Connections stay, and nothing passes.
    Swallow,
}

pub struct Proxy {
    pub url: String,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicU64>,
}

impl Proxy {
    /// In front of `pulsar://127.0.0.1:PORT`.
    pub async fn start(broker_url: &str) -> Proxy {
        let broker = broker_url.trim_start_matches("pulsar://").to_owned();
        // Of the same length, so that one can stand for the other inside a frame.
        let listener = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            if listener.local_addr().expect("bound").to_string().len() == broker.len() {
                break listener;
            }
        };
        let own = listener.local_addr().expect("bound").to_string();
        let (mode, modes) = watch::channel(Mode::Forward);
        let accepted = Arc::new(AtomicU64::new(0));
        tokio::spawn(accept(listener, broker, own.clone(), modes, accepted.clone()));
        Proxy { url: format!("pulsar://{own}"), mode, accepted }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Cuts what exists; new connections are forwarded.
    pub async fn cut(&self) {
        self.set(Mode::AcceptThenClose);
        tokio::task::yield_now().await;
        self.set(Mode::Forward);
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    broker: String,
    own: String,
    modes: watch::Receiver<Mode>,
    accepted: Arc<AtomicU64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::SeqCst);
        if *modes.borrow() == Mode::AcceptThenClose {
            continue;
        }
        let Ok(server) = TcpStream::connect(&broker).await else { continue };
        // The crate under test does not; the proxy must not add to its delays.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::spawn(forward(client_read, server_write, modes.clone(), None));
        tokio::spawn(forward(server_read, client_write, modes.clone(), Some((broker.clone(), own.clone()))));
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    replace: Option<(String, String)>,
) {
    loop {
        tokio::select! {
            frame = frame(&mut from) => {
                let Some(mut frame) = frame else { return };
                if let Some((old, new)) = &replace {
                    substitute(&mut frame, old.as_bytes(), new.as_bytes());
                }
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
            changed = modes.changed() => {
                let mode = *modes.borrow_and_update();
                if changed.is_err() || mode == Mode::AcceptThenClose {
                    return;
                }
                if mode == Mode::Swallow {
                    // Both sockets stay open until the mode changes, and then it is too late for them.
                    let _ = modes.changed().await;
                    return;
                }
            }
        }
    }
}

async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let size = from.read_u32().await.ok()?;
    let mut frame = size.to_be_bytes().to_vec();
    frame.resize(4 + size as usize, 0);
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

fn substitute(frame: &mut [u8], old: &[u8], new: &[u8]) {
    // Only in small frames: lookup answers are, and payloads carry a checksum.
    if frame.len() > 512 {
        return;
    }
    let found = frame.windows(old.len()).position(|window| window == old);
    if let Some(at) = found {
        frame[at..at + new.len()].copy_from_slice(new);
    }
}
