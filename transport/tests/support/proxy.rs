//! A TCP proxy in front of a broker that can cut, refuse and swallow. It replaces the broker's address in lookup
//! answers by its own, so that all connections go through it.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Forward,
    /// They are accepted and closed at once.
    Refuse,
    /// They are accepted, and nothing passes.
    Swallow,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// For new connections.
    new: Mode,
    /// For those made before the last change.
    old: Mode,
    /// Counts the changes.
    change: u64,
}

pub struct Proxy {
    pub url: String,
    state: watch::Sender<State>,
    accepted: watch::Receiver<u64>,
    /// What has to live as long as the proxy: the embedded broker behind it.
    kept: Mutex<Vec<Box<dyn Send>>>,
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
        let (state, states) = watch::channel(State { new: Mode::Forward, old: Mode::Forward, change: 0 });
        let (count, accepted) = watch::channel(0);
        tokio::spawn(accept(listener, broker, own.clone(), states, count));
        Proxy { url: format!("pulsar://{own}"), state, accepted, kept: Mutex::default() }
    }

    /// Cuts all connections; new ones are good.
    pub fn cut(&self) {
        self.change(Mode::Refuse, Mode::Forward);
    }

    /// Cuts all connections; new ones are accepted and closed.
    pub fn accept_and_close(&self) {
        self.change(Mode::Refuse, Mode::Refuse);
    }

    /// Connections stay, and nothing passes any more; not on new ones either.
    pub fn swallow(&self) {
        self.change(Mode::Swallow, Mode::Swallow);
    }

    /// Connections stay, and nothing passes any more; new ones are good.
    pub fn swallow_existing(&self) {
        self.change(Mode::Swallow, Mode::Forward);
    }

    /// New connections are good again; others are cut.
    pub fn heal(&self) {
        self.cut();
    }

    fn change(&self, old: Mode, new: Mode) {
        self.state.send_modify(|state| *state = State { new, old, change: state.change + 1 });
    }

    /// Waits until this many more connections were made.
    pub async fn accepts(&self, more: u64) {
        let mut accepted = self.accepted.clone();
        let enough = *accepted.borrow() + more;
        accepted.wait_for(|count| *count >= enough).await.expect("it accepts as long as it lives");
    }

    pub fn accepted(&self) -> u64 {
        *self.accepted.borrow()
    }

    pub fn keep(&self, what: impl Send + 'static) {
        self.kept.lock().expect("no holder panics").push(Box::new(what));
    }
}

async fn accept(
    listener: TcpListener,
    broker: String,
    own: String,
    states: watch::Receiver<State>,
    accepted: watch::Sender<u64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.send_modify(|count| *count += 1);
        let state = *states.borrow();
        if state.new == Mode::Refuse {
            continue;
        }
        let Ok(server) = TcpStream::connect(&broker).await else { continue };
        // The crate under test does not; the proxy must not add to its delays.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::spawn(forward(client_read, server_write, states.clone(), state, None));
        let replace = Some((broker.clone(), own.clone()));
        tokio::spawn(forward(server_read, client_write, states.clone(), state, replace));
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    mut state: State,
    replace: Option<(String, String)>,
) {
    let mut mode = state.new;
    loop {
        tokio::select! {
            biased;
            changed = async { states.wait_for(|now| now.change != state.change).await.map(|now| *now) } => {
                let Ok(now) = changed else { return };
                if mode == Mode::Swallow || now.old == Mode::Refuse {
                    // What was swallowed does not come back to life.
                    return;
                }
                mode = now.old;
                state = now;
            }
            frame = frame(&mut from), if mode == Mode::Forward => {
                let Some(mut frame) = frame else { return };
                if let Some((old, new)) = &replace {
                    substitute(&mut frame, old.as_bytes(), new.as_bytes());
                }
                if to.write_all(&frame).await.is_err() {
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
