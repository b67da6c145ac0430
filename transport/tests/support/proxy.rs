//! A TCP proxy in front of a broker that can cut, refuse, swallow and withhold answers. It replaces the broker's address in lookup
//! answers by its own, so that all connections go through it.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The type of the answer `CommandSuccess` in `PulsarApi.proto`.
const SUCCESS: u8 = 13;
/// That of `CommandError`.
const ERROR: u8 = 14;

/// What happens to connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Forward,
    /// They are accepted and closed at once.
    Refuse,
    /// They are accepted, and nothing passes.
    Swallow,
    /// Their handshake is answered as by a broker that is starting.
    NotReady,
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

/// What happens to the broker's plain "success", the answer to a subscription.
#[derive(Clone, Copy, Debug, Default)]
struct Withheld {
    on: bool,
    count: u64,
}

pub struct Proxy {
    pub url: String,
    state: watch::Sender<State>,
    accepted: watch::Receiver<u64>,
    withholding: watch::Sender<Withheld>,
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
        let withholding = watch::Sender::new(Withheld::default());
        tokio::spawn(accept(listener, broker, own.clone(), states, count, withholding.clone()));
        Proxy { url: format!("pulsar://{own}"), state, accepted, withholding, kept: Mutex::default() }
    }

    /// Cuts all connections; new ones are good.
    pub fn cut(&self) {
        self.change(Mode::Refuse, Mode::Forward);
    }

    /// Cuts all connections; new ones are accepted and closed.
    pub fn accept_and_close(&self) {
        self.change(Mode::Refuse, Mode::Refuse);
    }

    /// Cuts all connections; who comes is told that the service is not ready, and cut.
    pub fn not_ready(&self) {
        self.change(Mode::Refuse, Mode::NotReady);
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

    /// From now on nobody hears that a subscription succeeded; all else passes.
    pub fn withhold_success(&self) {
        self.withholding.send_modify(|withheld| withheld.on = true);
    }

    /// Answers pass again; those that were withheld stay lost.
    pub fn pass_success(&self) {
        self.withholding.send_modify(|withheld| withheld.on = false);
    }

    /// Waits until so many answers were withheld.
    pub async fn withheld(&self, count: u64) {
        let mut withheld = self.withholding.subscribe();
        withheld.wait_for(|withheld| withheld.count >= count).await.expect("it lives as long as this");
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
    withholding: watch::Sender<Withheld>,
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.send_modify(|count| *count += 1);
        let state = *states.borrow();
        if state.new == Mode::Refuse {
            continue;
        }
        if state.new == Mode::NotReady {
            tokio::spawn(turn_away(client));
            continue;
        }
        let Ok(server) = TcpStream::connect(&broker).await else { continue };
        // The crate under test does not; the proxy must not add to its delays.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::spawn(forward(client_read, server_write, states.clone(), state, None));
        let answers = Answers { broker: broker.clone(), own: own.clone(), withholding: withholding.clone() };
        tokio::spawn(forward(server_read, client_write, states.clone(), state, Some(answers)));
    }
}

async fn turn_away(client: TcpStream) {
    let (mut from, mut to) = client.into_split();
    if frame(&mut from).await.is_none() {
        return;
    }
    let message = b"Failed due to pulsar service is not ready";
    // `CommandError` of `PulsarApi.proto`: no request is meant, `ServiceNotReady`, and the words.
    let mut error = vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x10, 6, 0x1a];
    error.push(u8::try_from(message.len()).expect("it is short"));
    error.extend(message);
    // `BaseCommand`: its type, and field 14.
    let mut answer = vec![0x08, ERROR, 0x72, u8::try_from(error.len()).expect("it is short")];
    answer.extend(error);
    let size = u32::try_from(answer.len()).expect("it is small");
    let frame = [&(size + 4).to_be_bytes()[..], &size.to_be_bytes(), &answer].concat();
    // Whoever asked may have gone.
    let _ = to.write_all(&frame).await;
}

/// What is changed on the way to the client.
struct Answers {
    broker: String,
    own: String,
    withholding: watch::Sender<Withheld>,
}

impl Answers {
    /// False if it is withheld.
    fn pass(&self, frame: &mut [u8]) -> bool {
        substitute(frame, self.broker.as_bytes(), self.own.as_bytes());
        // Length, length of the command, then the command's type as its first field.
        let is_success = frame.get(8..10) == Some(&[0x08, SUCCESS]);
        let withhold = is_success && self.withholding.borrow().on;
        if withhold {
            self.withholding.send_modify(|withheld| withheld.count += 1);
        }
        !withhold
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    mut state: State,
    answers: Option<Answers>,
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
                if answers.as_ref().is_some_and(|answers| !answers.pass(&mut frame)) {
                    continue;
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
