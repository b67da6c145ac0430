//! The tunnel between a client that speaks frames by hand and brokers that do, with TLS: what holds of it, attacked.

use pulsar::proto::{
    CommandAuthChallenge, CommandAuthResponse, CommandConnected, CommandPing, command_lookup_topic_response::LookupType,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::access::Token;
use crate::tls::{Identity, Tls};

/// An authority, files of ours that it signed, and brokers' certificates.
struct World {
    dir: TempDir,
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl World {
    fn new() -> World {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("signed").pem();
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("ca.pem"), &ca).expect("written");
        let world = World { dir, ca, issuer: Issuer::new(params, key) };
        world.renew("client-1");
        world
    }

    /// Another certificate of ours, under another name.
    fn renew(&self, name: &str) {
        let (certificate, key) = self.sign(name, false);
        std::fs::write(self.dir.path().join("client.pem"), certificate).expect("written");
        std::fs::write(self.dir.path().join("client.key"), key).expect("written");
    }

    fn sign(&self, name: &str, expired: bool) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.distinguished_name.push(DnType::CommonName, name);
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    fn tls(&self) -> Tls {
        let file = |name: &str| self.dir.path().join(name);
        let identity = Identity { certificate: file("client.pem"), key: file("client.key") };
        Tls { ca: Some(file("ca.pem")), identity: Some(identity) }
    }

    async fn tunnel(&self, broker: &Broker) -> Arc<Tunnel> {
        self.tunnel_with(broker, Token::None).await
    }

    async fn tunnel_with(&self, broker: &Broker, token: Token) -> Arc<Tunnel> {
        let access = Access::new(token, self.tls());
        Tunnel::open(&broker.url(), access).await.expect("loopback has a port")
    }

    async fn broker(&self) -> Broker {
        self.broker_with(self.sign("broker", false)).await
    }

    /// A broker that asks for a certificate.
    async fn broker_with(&self, (certificate, key): (String, String)) -> Broker {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("in PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("both versions")
            .with_client_cert_verifier(verifier.build().expect("there is an authority"))
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("in PEM")],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("in PEM"),
            )
            .expect("they fit");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Broker { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

struct Broker {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Broker {
    fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    fn url(&self) -> String {
        format!("pulsar+ssl://127.0.0.1:{}", self.port())
    }

    async fn accept(&self) -> Side<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        Side(BufReader::new(self.acceptor.accept(stream).await.expect("a handshake")))
    }

    /// The connection, and its first frame.
    async fn greeted(&self) -> (Side<TlsStream<TcpStream>>, CommandConnect) {
        let mut side = self.accept().await;
        let connect = side.receive().await.expect("a frame").connect.expect("a greeting");
        (side, connect)
    }

    /// Nobody has knocked. What has been sent to loopback by now is here by now.
    async fn is_untouched(&self) -> bool {
        futures::poll!(std::pin::pin!(self.listener.accept())).is_pending()
    }
}

/// One end of a connection that speaks frames.
struct Side<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    async fn send(&mut self, command: BaseCommand) {
        self.write(&frame(&command)).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
        self.0.flush().await.expect("written");
    }

    /// The next command; none when the other side has closed.
    async fn receive(&mut self) -> Option<BaseCommand> {
        let total = self.0.read_u32().await.ok()? as usize;
        let size = self.0.read_u32().await.ok()? as usize;
        assert_eq!(total, size + 4);
        Some(command(&mut self.0, size, &[]).await.expect("a command"))
    }

    /// Bytes until the other side closes, whichever way.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.0.read_to_end(&mut rest).await;
        rest
    }
}

async fn client(tunnel: &Tunnel) -> Side<TcpStream> {
    let address = tunnel.url().trim_start_matches("pulsar://");
    Side(BufReader::new(TcpStream::connect(address).await.expect("it listens")))
}

async fn known_client(tunnel: &Tunnel, broker: Option<String>) -> Side<TcpStream> {
    let mut client = client(tunnel).await;
    client.send(connecting(METHOD, &tunnel.secret(), broker)).await;
    client
}

fn of(kind: base_command::Type) -> BaseCommand {
    BaseCommand { r#type: kind as i32, ..BaseCommand::default() }
}

fn connecting(method: &str, data: &[u8], broker: Option<String>) -> BaseCommand {
    let connect = CommandConnect {
        client_version: "a test".to_owned(),
        auth_method_name: Some(method.to_owned()),
        auth_data: Some(data.to_vec()),
        proxy_to_broker_url: broker,
        ..CommandConnect::default()
    };
    BaseCommand { connect: Some(connect), ..of(base_command::Type::Connect) }
}

fn pinging() -> BaseCommand {
    BaseCommand { ping: Some(CommandPing {}), ..of(base_command::Type::Ping) }
}

fn found(secure: Option<String>, plain: Option<&str>, proxy: bool) -> BaseCommand {
    let answer = CommandLookupTopicResponse {
        broker_service_url: plain.map(str::to_owned),
        broker_service_url_tls: secure,
        response: Some(LookupType::Connect as i32),
        request_id: 7,
        authoritative: Some(true),
        proxy_through_service_url: Some(proxy),
        ..CommandLookupTopicResponse::default()
    };
    BaseCommand { lookup_topic_response: Some(answer), ..of(base_command::Type::LookupResponse) }
}

#[tokio::test]
async fn the_broker_hears_who_we_are_and_not_the_secret() {
    let world = World::new();
    let broker = world.broker().await;
    let tunnel = world.tunnel(&broker).await;
    let _client = known_client(&tunnel, None).await;
    let (_, connect) = broker.greeted().await;
    assert_eq!((connect.auth_method_name.as_deref(), connect.auth_data), (Some("tls"), Some(Vec::new())));
    assert_eq!(connect.client_version, "a test");

    let tunnel = world.tunnel_with(&broker, Token::Value("a token".to_owned())).await;
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, connect) = broker.greeted().await;
    let token = Some(b"a token".to_vec());
    assert_eq!((connect.auth_method_name.as_deref(), &connect.auth_data), (Some("token"), &token));

    // The broker asks again, as it does when a token expires.
    let challenge = CommandAuthChallenge::default();
    broker.send(BaseCommand { auth_challenge: Some(challenge), ..of(base_command::Type::AuthChallenge) }).await;
    assert!(client.receive().await.expect("a frame").auth_challenge.is_some());
    let said = AuthData { auth_method_name: Some(METHOD.to_owned()), auth_data: Some(tunnel.secret()) };
    let response = CommandAuthResponse { response: Some(said), ..CommandAuthResponse::default() };
    client.send(BaseCommand { auth_response: Some(response), ..of(base_command::Type::AuthResponse) }).await;
    let response = broker.receive().await.expect("a frame").auth_response.expect("an answer").response;
    assert_eq!(response, Some(AuthData { auth_method_name: Some("token".to_owned()), auth_data: token }));
}

#[tokio::test]
async fn a_stranger_is_closed_before_anything_is_dialled() {
    let world = World::new();
    let broker = world.broker().await;
    let tunnel = world.tunnel(&broker).await;
    let mut almost = tunnel.secret();
    almost[31] ^= 1;
    let strange = [
        frame(&connecting(METHOD, &almost, None)).to_vec(),
        frame(&connecting(METHOD, &tunnel.secret()[..31], None)).to_vec(),
        frame(&connecting(METHOD, b"", None)).to_vec(),
        frame(&connecting("token", &tunnel.secret(), None)).to_vec(),
        frame(&connecting("none", b"", Some("127.0.0.1:1".to_owned()))).to_vec(),
        frame(&pinging()).to_vec(),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(),
        [0; 64].to_vec(),
        [255; 64].to_vec(),
    ];
    for said in strange {
        let mut client = client(&tunnel).await;
        client.write(&said).await;
        assert_eq!(client.rest().await, b"", "{said:?} is answered");
    }
    assert!(broker.is_untouched().await);
    // And after all of them the tunnel does what it is for.
    let _client = known_client(&tunnel, None).await;
    broker.greeted().await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_goes_on_slowly_is_closed() {
    let world = World::new();
    let broker = world.broker().await;
    let tunnel = world.tunnel(&broker).await;
    let mut silent = client(&tunnel).await;
    let mut slow = client(&tunnel).await;
    slow.write(&frame(&connecting(METHOD, &tunnel.secret(), None))[..10]).await;
    assert_eq!(silent.rest().await, b"");
    assert_eq!(slow.rest().await, b"");
    assert!(broker.is_untouched().await);
}

#[tokio::test]
async fn only_so_many_strangers_are_listened_to() {
    let world = World::new();
    let broker = world.broker().await;
    let tunnel = world.tunnel(&broker).await;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS_MAX {
        strangers.push(client(&tunnel).await);
    }
    let mut one_more = client(&tunnel).await;
    assert_eq!(one_more.rest().await, b"", "it is closed at once, the others are not");
    let (first, _) = strangers.split_first_mut().expect("there are some");
    first.send(connecting(METHOD, &tunnel.secret(), None)).await;
    // One of them was us, and its place is free for the next.
    let _first = broker.greeted().await;
    let _client = known_client(&tunnel, None).await;
    broker.greeted().await;
}

#[tokio::test]
async fn a_lookup_leads_through_the_tunnel_to_the_broker_it_names() {
    let world = World::new();
    let (service, other) = (world.broker().await, world.broker().await);
    let tunnel = world.tunnel(&service).await;
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;

    broker.send(found(Some(other.url()), Some("pulsar://127.0.0.1:1"), false)).await;
    let answer = client.receive().await.expect("a frame").lookup_topic_response.expect("an answer");
    let named = format!("127.0.0.1:{}", other.port());
    assert_eq!(answer.broker_service_url, Some(format!("pulsar://{named}")));
    assert_eq!((answer.proxy_through_service_url, answer.request_id), (Some(true), 7));
    assert_eq!(answer.authoritative, Some(true));
    let _through = known_client(&tunnel, Some(named.clone())).await;
    let (_, connect) = other.greeted().await;
    assert_eq!(connect.proxy_to_broker_url, None, "it is the broker, and no proxy to it");

    // When the service is a proxy itself, it is the one that dials.
    broker.send(found(Some(other.url()), None, true)).await;
    client.receive().await.expect("a frame");
    let _through = known_client(&tunnel, Some(named.clone())).await;
    let (_, connect) = service.greeted().await;
    assert_eq!(connect.proxy_to_broker_url, Some(named));
    assert!(other.is_untouched().await);
}

#[tokio::test]
async fn nothing_goes_past_the_tunnel_in_plain() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    for secure in [None, Some(String::new()), Some("pulsar://127.0.0.1:1".to_owned()), Some("nonsense".to_owned())] {
        broker.send(found(secure, Some("pulsar://127.0.0.1:1"), false)).await;
        let answer = client.receive().await.expect("a frame").lookup_topic_response.expect("an answer");
        assert_eq!(answer.broker_service_url, None);
    }
    // A kind that does not come first could be any: it is not passed.
    let disguised = found(None, Some("pulsar://127.0.0.1:1"), false).encode_to_vec();
    let (kind, rest) = disguised.split_at(2);
    let size = u32::try_from(disguised.len()).expect("short");
    broker.write(&[&(size + 4).to_be_bytes()[..], &size.to_be_bytes(), rest, kind].concat()).await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn payloads_pass_as_they_are_and_at_once() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    let connected = CommandConnected { server_version: "a broker".to_owned(), ..CommandConnected::default() };
    broker.send(BaseCommand { connected: Some(connected), ..of(base_command::Type::Connected) }).await;
    assert!(client.receive().await.expect("a frame").connected.is_some());
    for size in [0, 1, 100, 8_191, 8_192, 70_000, 3_000_000] {
        let payload: Vec<u8> = (0..size).map(|byte: u32| byte.to_le_bytes()[0]).collect();
        let command = of(base_command::Type::Send).encode_to_vec();
        let length = |bytes: usize| u32::try_from(bytes).expect("short").to_be_bytes();
        let sent =
            [&length(command.len() + payload.len() + 4)[..], &length(command.len()), &command, &payload].concat();
        // Both ways; each frame comes while its sender sends no other.
        let mut got = vec![0; sent.len()];
        tokio::join!(client.write(&sent), async { broker.0.read_exact(&mut got).await.expect("it comes") });
        assert!(got == sent, "{size} bytes towards the broker");
        let mut got = vec![0; sent.len()];
        tokio::join!(broker.write(&sent), async { client.0.read_exact(&mut got).await.expect("it comes") });
        assert!(got == sent, "{size} bytes towards the client");
    }
}

#[tokio::test]
async fn when_one_side_ends_the_other_does() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;

    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    // In the middle of a frame.
    broker.write(&frame(&found(Some(service.url()), None, false))[..12]).await;
    drop(broker);
    assert_eq!(client.rest().await, b"");

    let client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    drop(client);
    assert_eq!(broker.rest().await, b"");

    // And all of it, with its address, when nobody may dial it any more.
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    let address = tunnel.url().trim_start_matches("pulsar://").to_owned();
    drop(tunnel);
    assert_eq!(client.rest().await, b"");
    assert_eq!(broker.rest().await, b"");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_broker_that_breaks_the_protocol_is_left() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let lookup = frame(&found(Some(service.url()), None, false));
    let huge = [&0x00ff_ffff_u32.to_be_bytes()[..], &0x00ff_fffb_u32.to_be_bytes(), &lookup[8..]].concat();
    let mut with_payload = lookup.to_vec();
    with_payload[3] += 1;
    with_payload.push(0);
    for said in [huge, with_payload, [0; 32].to_vec(), [255; 32].to_vec(), [&[0, 0, 0, 2], &[0; 30][..]].concat()] {
        let mut client = known_client(&tunnel, None).await;
        let (mut broker, _) = service.greeted().await;
        broker.write(&said).await;
        assert_eq!(client.rest().await, b"", "{said:?}");
    }
}

#[tokio::test]
async fn renewed_files_count_from_the_next_connection() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let shown = |side: &Side<TlsStream<TcpStream>>| {
        let (_, connection) = side.0.get_ref().get_ref();
        connection.peer_certificates().expect("it was asked for")[0].to_vec()
    };
    let file = || CertificateDer::from_pem_file(world.dir.path().join("client.pem")).expect("a certificate").to_vec();
    let _client = known_client(&tunnel, None).await;
    let (first, _) = service.greeted().await;
    assert_eq!(shown(&first), file());

    // Half renewed, they do not fit: nothing is dialled, and later it goes on.
    let key = world.dir.path().join("client.key");
    let old = std::fs::read(&key).expect("the key");
    world.renew("client-2");
    let new = std::fs::read(&key).expect("the key");
    std::fs::write(&key, old).expect("written");
    let mut client = known_client(&tunnel, None).await;
    assert_eq!(client.rest().await, b"");
    assert!(service.is_untouched().await);

    std::fs::write(&key, new).expect("written");
    let _client = known_client(&tunnel, None).await;
    let (second, _) = service.greeted().await;
    assert_eq!(shown(&second), file());
    assert_ne!(shown(&second), shown(&first));
}

#[tokio::test]
async fn an_expired_certificate_of_the_brokers_is_refused_and_named() {
    let world = World::new();
    let late = world.broker_with(world.sign("broker", true)).await;
    let port = late.port();
    let serving = tokio::spawn(async move {
        let (stream, _) = late.listener.accept().await.expect("a connection");
        late.acceptor.accept(stream).await.map(drop)
    });
    let error = world.tls().dial("127.0.0.1", port).await.map(drop).expect_err("it has expired");
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("has expired") && error.to_string().contains("clock"), "{error}");
    assert!(serving.await.expect("it serves").is_err());
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_says_so() {
    let world = World::new();
    let service = world.broker().await;
    let url = service.url();
    tokio::spawn(async move {
        loop {
            let (stream, _) = service.listener.accept().await.expect("a connection");
            let _ = service.acceptor.accept(stream).await;
        }
    });
    let access = Access::new(Token::None, Tls { identity: None, ..world.tls() });
    let error = crate::handshake::diagnose(&url, &access).await.expect("there is something to say");
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("EVERPULSE_TLS_CERT"), "{error}");
}
