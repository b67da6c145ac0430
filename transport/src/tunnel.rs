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
//!   before; `tunnel/door.rs` has who is listened to, and for how long. The secret ends here: the broker gets our method
//!   and our token instead, at CONNECT and whenever it asks again. That it may ask again is said for the crate, which
//!   answers and does not say so; a broker that thinks we cannot would close when a token expires.
//! - **How long it lives**: as long as a client of the crate that knows its address, because the crate's authentication
//!   holds it. So nobody else can listen at that address and be taken for it.
//! - **Nothing goes past it in plain**: every lookup's answer is rewritten, so that the crate dials this address again and
//!   names the broker in its CONNECT, as it does with Pulsar's proxy; a broker without an address for TLS cannot be
//!   reached. A command that is not of the kind that it says (`tunnel/frames.rs`), or that cannot be read, ends the
//!   connection.
//! - **Which name is checked**: that of the broker which is dialled. Behind a proxy of Pulsar's that is the proxy, and the
//!   broker's name travels on in CONNECT.
//! - **What breaks, breaks whole**: when either side ends, or takes nothing for [`STUCK`], the other is closed; the crate
//!   connects anew, and each connection is a TLS handshake of its own, with the files as they are then.
//!
//! Payloads pass without being looked at or held as a whole. What it does not do: hide what passes from those who may
//! read this process's memory or capture loopback; they are root.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use pulsar::proto::{AuthData, BaseCommand, CommandConnect, CommandLookupTopicResponse, base_command};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::io::{BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use url::Url;

use crate::access::Access;
use crate::handshake::frame;
use crate::{Error, ErrorKind};

mod door;
mod frames;

/// What the crate calls its authentication towards the tunnel.
pub(crate) const METHOD: &str = "everpulse-tunnel";

const SECURE: &str = "pulsar+ssl://";
/// How long a broker may take for TCP and TLS.
const DIAL: Duration = Duration::from_secs(5);
/// How long a side may take nothing of what is written to it.
const STUCK: Duration = Duration::from_secs(30);
/// A greeting is small.
const GREETING_BYTES_MAX: usize = 64 * 1024;
/// As large as a message may be, with its payload, by Pulsar's default.
const COMMAND_BYTES_MAX: usize = 5 * 1024 * 1024;

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
        let shared = Arc::new(Shared { service, access, secret: secret.clone(), routes: Mutex::default() });
        let accepting = tokio::spawn(door::accept(listener, shared)).abort_handle();
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
    routes: Mutex<Routes>,
}

/// What lookups have said.
#[derive(Default)]
struct Routes {
    /// The brokers that are only reached through the service itself, because that is a proxy.
    behind: HashSet<String>,
    /// Those without an address for TLS of which a person has been told.
    plain: HashSet<String>,
}

impl Shared {
    /// A connection of somebody who is let in when `displaced` does not come before the first frame.
    async fn connection(&self, client: TcpStream, displaced: door::Displaced) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let mut from_client = BufReader::new(from_client);
        let connect = displaced.or(self.greeting(&mut from_client)).await?;
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
        let greeting = frame(&self.as_ourselves(connect).await?);
        within(to_broker.write_all(&greeting)).await?;
        within(to_broker.flush()).await?;
        tokio::select! {
            ended = self.forward(from_client, to_broker, Direction::ToBroker) => ended,
            ended = self.forward(BufReader::new(from_broker), to_client, Direction::ToClient) => ended,
        }
    }

    /// The first frame, if it is one that this process has sent.
    async fn greeting(&self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<CommandConnect> {
        let total = from.read_u32().await? as usize;
        let size = from.read_u32().await? as usize;
        if size > GREETING_BYTES_MAX || total != size + 4 {
            return Err(no("a stranger's first frame has no good size"));
        }
        let mut bytes = vec![0; size];
        from.read_exact(&mut bytes).await?;
        let connect = frames::decode(&bytes)?.connect.ok_or_else(|| no("a stranger does not connect"))?;
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
            Some(broker) if self.routes().behind.contains(&broker) => {
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
        connect.feature_flags.get_or_insert_default().supports_auth_refresh = Some(true);
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
        let mut command = Vec::new();
        loop {
            // Between frames an end is a good one.
            if from.fill_buf().await?.is_empty() {
                return within(to.shutdown()).await;
            }
            let (total, size) = (from.read_u32().await? as usize, from.read_u32().await? as usize);
            if total < 4 || size > total - 4 || size > COMMAND_BYTES_MAX {
                return Err(no("a frame has no good size"));
            }
            command.resize(size, 0);
            from.read_exact(&mut command).await?;
            let kind = frames::kind(&command).ok_or_else(|| no("a command is not of the kind that it says"))?;
            let payload = total - 4 - size;
            if kind == direction.rewritten() as u64 {
                if payload > 0 {
                    return Err(no("a command has a payload that it cannot have"));
                }
                let rewritten = self.rewrite(frames::decode(&command)?).await?;
                within(to.write_all(&rewritten)).await?;
            } else {
                within(to.write_all(&frames::head(total, size))).await?;
                within(to.write_all(&command)).await?;
                pass(&mut from, &mut to, payload).await?;
            }
            // What came together goes on together.
            if !frames::is_whole(from.buffer()) {
                within(to.flush()).await?;
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
        let (plain, secure) = (answer.broker_service_url.take(), answer.broker_service_url_tls.take());
        let behind = answer.proxy_through_service_url == Some(true);
        let is_secure = |url: &&String| url.starts_with(SECURE);
        // Whoever is behind a proxy is not dialled: the proxy is, by TLS, and how it goes on from there is its own
        // business. Pulsar's names the broker as it dials it, in both fields. An address that a broker does not have
        // it gives as an empty one.
        let named = secure.iter().find(is_secure).or_else(|| plain.iter().chain(&secure).find(|_| behind));
        let Some(broker) = named.and_then(|url| Place::parse(url)) else {
            self.tell_of(plain.or(secure).unwrap_or_default());
            return answer;
        };
        let mut routes = self.routes();
        match behind {
            true => routes.behind.insert(broker.named()),
            false => routes.behind.remove(&broker.named()),
        };
        answer.broker_service_url = Some(format!("pulsar://{}", broker.named()));
        answer.proxy_through_service_url = Some(true);
        answer
    }

    /// The crate only says that there is no broker, and not why.
    fn tell_of(&self, plain: String) {
        if !plain.is_empty() && self.routes().plain.insert(plain.clone()) {
            let service = self.service.named();
            tracing::warn!(
                service,
                broker = plain,
                "a topic's broker has no address for TLS and is not used; does it have brokerServicePortTls, and do its \
                 advertised listeners name it?"
            );
        }
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        // Nothing in here can be left half done.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Passes so many bytes on as they come.
async fn pass(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut (impl AsyncWrite + Unpin),
    mut left: usize,
) -> io::Result<()> {
    while left > 0 {
        let here = from.fill_buf().await?;
        let count = here.len().min(left);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        within(to.write_all(&here[..count])).await?;
        from.consume(count);
        left -= count;
    }
    Ok(())
}

async fn within(writing: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(STUCK, writing).await?
}

fn no(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
