//! The way to a broker that asks for a certificate of ours: the `pulsar` crate cannot show one, so it speaks plainly to a
//! listener on loopback, and the listener speaks TLS to the broker.
//!
//! ```text
//!  the crate ── plain, 127.0.0.1 ──► Tunnel ── TLS, our certificate ──► the broker that was asked for
//!     CONNECT: the tunnel's secret     │  CONNECT: our own method and token
//!     lookup:  "by this address"  ◄────┘  lookup: "pulsar+ssl://another-broker:6651"
//! ```
//!
//! What holds:
//!
//! - **Who may use it**: whoever says the secret in its first frame, which only this process knows. Nothing is dialled
//!   before. Who says something else, too much, or nothing for [`GREETING`] is closed; at most [`STRANGERS_MAX`] at once are
//!   listened to, so that another user of this machine can use up none of our files. The secret ends here: the broker
//!   gets our method and our token instead, at CONNECT and whenever it asks again.
//! - **How long it lives**: as long as a client of the crate that knows its address, because the crate's authentication
//!   holds it. So nobody else can listen at that address and be taken for it.
//! - **Nothing goes past it in plain**: every lookup's answer is rewritten, so that the crate dials this address again and
//!   names the broker in its CONNECT, as it does with Pulsar's proxy; a broker without an address for TLS cannot be
//!   reached. A frame whose kind cannot be told, or an answer that cannot be read, ends the connection.
//! - **Which name is checked**: that of the broker which is dialled. Behind a proxy of Pulsar's that is the proxy, and the
//!   broker's name travels on in CONNECT.
//! - **What breaks, breaks whole**: when either side ends, the other is closed; the crate connects anew, and each
//!   connection is a TLS handshake of its own, with the files as they are then.
//!
//! Payloads pass without being looked at or held as a whole. What it does not do: hide what passes from those who may
//! read this process's memory or capture loopback; they are root.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use prost::Message as _;
use pulsar::proto::{AuthData, BaseCommand, CommandConnect, CommandLookupTopicResponse, base_command};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

use crate::access::Access;
use crate::handshake::frame;
use crate::{Error, ErrorKind};

/// What the crate calls its authentication towards the tunnel.
pub(crate) const METHOD: &str = "everpulse-tunnel";

/// How long somebody may take for the first frame.
const GREETING: Duration = Duration::from_secs(3);
const STRANGERS_MAX: usize = 64;
/// How long a broker may take for TCP and TLS.
const DIAL: Duration = Duration::from_secs(5);
/// A command that is read here is small: a greeting, a lookup's answer.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// A listener on loopback that leads to one service, see above.
#[derive(Debug)]
pub(crate) struct Tunnel {
    url: String,
    secret: Secret,
    accepting: AbortHandle,
}

impl Tunnel {
    /// Opens one to the service at `service_url`, a `pulsar+ssl://`.
    pub async fn open(service_url: &str, access: Access) -> Result<Arc<Self>, Error> {
        let cannot = |error: io::Error| {
            let message = format!("cannot listen on loopback for the connection to {service_url}: {error}");
            Error::with_source(ErrorKind::Unreachable, message, error)
        };
        let service = Place::parse(service_url)
            .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{service_url} names no host")))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
        let url = format!("pulsar://{}", listener.local_addr().map_err(cannot)?);
        let secret = Secret::new();
        let shared = Arc::new(Shared { service, access, secret: secret.clone(), behind: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, shared)).abort_handle();
        Ok(Arc::new(Tunnel { url, secret, accepting }))
    }

    /// What the crate connects to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the crate says in its first frame, and when the broker asks again.
    pub fn secret(&self) -> Vec<u8> {
        self.secret.0.to_vec()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What lets somebody in. Never printed.
#[derive(Clone)]
struct Secret([u8; 32]);

impl Secret {
    fn new() -> Self {
        let mut secret = [0; 32];
        for half in secret.chunks_exact_mut(16) {
            half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        Secret(secret)
    }

    /// Takes as long for a good beginning as for a bad one.
    fn is(&self, said: &[u8]) -> bool {
        said.len() == self.0.len()
            && self.0.iter().zip(said).fold(0, |differs, (own, said)| differs | (own ^ said)) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    host: String,
    port: u16,
}

impl Place {
    fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        Some(Place { host: url.host_str()?.to_owned(), port: url.port().unwrap_or(6651) })
    }

    /// As the crate names a broker in its CONNECT.
    fn named(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

struct Shared {
    service: Place,
    access: Access,
    secret: Secret,
    /// The brokers that are only reached through the service itself, because that is a proxy.
    behind: Mutex<HashSet<String>>,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    // Ends with this: dropped, it ends all of its tasks.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match (accepted, strangers.clone().try_acquire_owned()) {
                (Ok((client, _)), Ok(place)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = shared.connection(client, place).await {
                            tracing::debug!(%error, "a connection through the tunnel has ended");
                        }
                    });
                }
                (Ok(_), Err(_)) => tracing::debug!("too many strangers at the tunnel; one is turned away"),
                // No file is free, for example: it will be.
                (Err(error), _) => {
                    tracing::warn!(%error, "cannot accept a connection on loopback");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

impl Shared {
    async fn connection(&self, client: TcpStream, place: tokio::sync::OwnedSemaphorePermit) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let mut from_client = BufReader::new(from_client);
        let connect = tokio::time::timeout(GREETING, self.greeting(&mut from_client)).await??;
        drop(place);
        let (broker, connect) = self.dialled(connect)?;
        let dialled = tokio::time::timeout(DIAL, self.access.tls.dial(&broker.host, broker.port)).await;
        let broker = match dialled {
            Ok(Ok(broker)) => broker,
            Ok(Err(error)) => {
                // Nobody else hears of it: the crate keeps no reason.
                if !error.is_passing() {
                    tracing::warn!(%error, "the broker cannot be reached");
                }
                return Err(io::Error::other(error));
            }
            Err(late) => return Err(late.into()),
        };
        let (from_broker, to_broker) = tokio::io::split(broker);
        let (mut to_broker, to_client) = (BufWriter::new(to_broker), BufWriter::new(to_client));
        to_broker.write_all(&frame(&self.as_ourselves(connect).await?)).await?;
        to_broker.flush().await?;
        tokio::select! {
            ended = self.forward(from_client, to_broker, Direction::ToBroker) => ended,
            ended = self.forward(BufReader::new(from_broker), to_client, Direction::ToClient) => ended,
        }
    }

    /// The first frame, if it is one that this process has sent.
    async fn greeting(&self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<CommandConnect> {
        let total = from.read_u32().await? as usize;
        let size = from.read_u32().await? as usize;
        if size > COMMAND_BYTES_MAX || total != size + 4 {
            return Err(no("a stranger's first frame has no good size"));
        }
        let connect = command(from, size, &[]).await?.connect.ok_or_else(|| no("a stranger does not connect"))?;
        let known = connect.auth_method_name.as_deref() == Some(METHOD);
        if !(known && connect.auth_data.as_deref().is_some_and(|said| self.secret.is(said))) {
            return Err(no("a stranger does not know the secret"));
        }
        Ok(connect)
    }

    /// Where a connection leads, and what it says there of another broker.
    fn dialled(&self, mut connect: CommandConnect) -> io::Result<(Place, CommandConnect)> {
        match connect.proxy_to_broker_url.take() {
            None => Ok((self.service.clone(), connect)),
            Some(broker) if self.behind().contains(&broker) => {
                connect.proxy_to_broker_url = Some(broker);
                Ok((self.service.clone(), connect))
            }
            Some(broker) => match Place::parse(&format!("pulsar://{broker}")) {
                Some(place) => Ok((place, connect)),
                None => Err(no("the crate asks for a broker without a host")),
            },
        }
    }

    async fn as_ourselves(&self, mut connect: CommandConnect) -> io::Result<BaseCommand> {
        let (method, data) = self.shown().await?;
        connect.auth_method_name = method;
        connect.auth_data = data;
        Ok(BaseCommand { r#type: base_command::Type::Connect as i32, connect: Some(connect), ..BaseCommand::default() })
    }

    async fn shown(&self) -> io::Result<(Option<String>, Option<Vec<u8>>)> {
        let shown = self.access.shown().await.map_err(io::Error::other)?;
        Ok(shown.map(|shown| (shown.method.to_owned(), shown.data)).unzip())
    }

    /// Passes frames on until one side ends, or breaks the protocol.
    async fn forward(
        &self,
        mut from: BufReader<impl AsyncRead + Unpin>,
        mut to: impl AsyncWrite + Unpin,
        direction: Direction,
    ) -> io::Result<()> {
        loop {
            // Between frames an end is a good one.
            if from.fill_buf().await?.is_empty() {
                return to.shutdown().await;
            }
            let (total, size) = (from.read_u32().await?, from.read_u32().await?);
            let mut kind = [0; 2];
            from.read_exact(&mut kind).await?;
            // Whoever writes protobuf writes the fields in the order of their numbers, and the kind is the first.
            if kind[0] != 0x08 || kind[1] >= 0x80 || size < 2 || total < 4 || size > total - 4 {
                return Err(no("a frame's kind cannot be told"));
            }
            if i32::from(kind[1]) == direction.rewritten() as i32 {
                if total - 4 != size {
                    return Err(no("a command has a payload that it cannot have"));
                }
                let command = command(&mut from, size as usize, &kind).await?;
                to.write_all(&self.rewrite(command).await?).await?;
            } else {
                to.write_u32(total).await?;
                to.write_u32(size).await?;
                to.write_all(&kind).await?;
                let rest = u64::from(total) - 6;
                if tokio::io::copy_buf(&mut (&mut from).take(rest), &mut to).await? < rest {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            // What came together goes on together.
            if !begins_with_a_frame(from.buffer()) {
                to.flush().await?;
            }
        }
    }

    async fn rewrite(&self, mut command: BaseCommand) -> io::Result<BytesMut> {
        if let Some(answer) = command.lookup_topic_response.take() {
            command.lookup_topic_response = Some(self.by_this_way(answer));
        }
        if let Some(mut response) = command.auth_response.take() {
            let ours = response.response.as_ref().and_then(|said| said.auth_data.as_deref());
            if !ours.is_some_and(|said| self.secret.is(said)) {
                return Err(no("somebody else answers the broker"));
            }
            let (auth_method_name, auth_data) = self.shown().await?;
            response.response = Some(AuthData { auth_method_name, auth_data });
            command.auth_response = Some(response);
        }
        Ok(frame(&command))
    }

    /// A lookup's answer as the crate shall read it: the broker is reached through the address that it uses already.
    fn by_this_way(&self, mut answer: CommandLookupTopicResponse) -> CommandLookupTopicResponse {
        answer.broker_service_url = None;
        let Some(secure) = answer.broker_service_url_tls.as_deref() else {
            return answer;
        };
        // A broker that has no address for TLS gives an empty one.
        let Some(broker) = Place::parse(secure).filter(|_| secure.starts_with("pulsar+ssl://")) else {
            answer.broker_service_url_tls = None;
            return answer;
        };
        match answer.proxy_through_service_url {
            Some(true) => self.behind().insert(broker.named()),
            _ => self.behind().remove(&broker.named()),
        };
        answer.broker_service_url = Some(format!("pulsar://{}", broker.named()));
        answer.proxy_through_service_url = Some(true);
        answer
    }

    fn behind(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // Nothing in here can be left half done.
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    ToBroker,
    ToClient,
}

impl Direction {
    /// The kind of command that does not pass as it is.
    fn rewritten(self) -> base_command::Type {
        match self {
            Direction::ToBroker => base_command::Type::AuthResponse,
            Direction::ToClient => base_command::Type::LookupResponse,
        }
    }
}

/// A command of `size` bytes of which the first were read already.
async fn command(from: &mut (impl AsyncRead + Unpin), size: usize, first: &[u8]) -> io::Result<BaseCommand> {
    if size > COMMAND_BYTES_MAX {
        return Err(no("a command is too large"));
    }
    let mut bytes = vec![0; size];
    bytes[..first.len()].copy_from_slice(first);
    from.read_exact(&mut bytes[first.len()..]).await?;
    BaseCommand::decode(&bytes[..]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether the next frame is here as a whole; if not, it may be long in coming.
fn begins_with_a_frame(mut buffer: &[u8]) -> bool {
    buffer.len() >= 4 && buffer.get_u32() as usize <= buffer.len()
}

fn no(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
