//! The tunnel between a client that speaks frames by hand and brokers that do, with TLS: what holds of it, attacked.

use prost::Message as _;
use pulsar::proto::command_lookup_topic_response::LookupType;
use pulsar::proto::{CommandAuthChallenge, CommandAuthResponse, CommandConnected, CommandPing, CommandSend};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;
use tokio_rustls::server::TlsStream;

use super::door::STRANGERS_MAX;
use super::*;
use crate::access::Token;
use crate::tls::Tls;

mod world;

use world::{Side, World};

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

/// A command as it is sent, whatever it says.
fn framed(command: &[u8]) -> Vec<u8> {
    [&frames::head(command.len() + 4, command.len())[..], command].concat()
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
    // Without it Apache Pulsar does not ask again when a token expires: it closes.
    assert_eq!(connect.feature_flags.and_then(|flags| flags.supports_auth_refresh), Some(true));

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
    let oldest = &mut strangers[0];
    assert_eq!(oldest.rest().await, b"", "it makes room for the next, the others do not");
    for known in [&mut strangers[1], &mut one_more] {
        known.send(connecting(METHOD, &tunnel.secret(), None)).await;
        broker.greeted().await;
    }
    // Who is known is no stranger any more, and is not displaced.
    let mut known = known_client(&tunnel, None).await;
    let (mut side, _) = broker.greeted().await;
    for _ in 0..=STRANGERS_MAX {
        strangers.push(client(&tunnel).await);
    }
    assert_eq!(strangers[2].rest().await, b"", "the oldest that has said nothing");
    side.send(pinging()).await;
    assert!(known.receive().await.expect("a frame").ping.is_some());
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

    // When the service is a proxy itself, it is the one that dials. Pulsar's says the address that it dials in both fields.
    for scheme in ["pulsar", "pulsar+ssl"] {
        let dialled = format!("{scheme}://{named}");
        broker.send(found(Some(dialled.clone()), Some(&dialled), true)).await;
        let answer = client.receive().await.expect("a frame").lookup_topic_response.expect("an answer");
        assert_eq!(answer.broker_service_url, Some(format!("pulsar://{named}")));
        let _through = known_client(&tunnel, Some(named.clone())).await;
        let (_, connect) = service.greeted().await;
        assert_eq!(connect.proxy_to_broker_url.as_ref(), Some(&named));
        assert!(other.is_untouched().await);
    }
}

#[tokio::test]
async fn who_is_sent_on_to_another_broker_asks_that_one_through_the_tunnel() {
    let world = World::new();
    let (service, other) = (world.broker().await, world.broker_by_ipv6().await);
    let tunnel = world.tunnel(&service).await;
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    let mut redirect = found(Some(other.url()), Some("pulsar://127.0.0.1:1"), false);
    let answer = redirect.lookup_topic_response.as_mut().expect("it is one");
    answer.response = Some(LookupType::Redirect as i32);
    broker.send(redirect).await;
    let answer = client.receive().await.expect("a frame").lookup_topic_response.expect("an answer");
    assert_eq!(answer.response, Some(LookupType::Redirect as i32));
    assert_eq!(answer.broker_service_url, Some(format!("pulsar://[::1]:{}", other.port())));
    assert_eq!((answer.broker_service_url_tls, answer.proxy_through_service_url), (None, Some(true)));
    let _through = known_client(&tunnel, Some(other.named())).await;
    let (_, connect) = other.greeted().await;
    assert_eq!(connect.proxy_to_broker_url, None);
}

#[tokio::test]
async fn a_broker_that_a_lookup_names_proves_that_name() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let mut client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    // Of the same authority, and for another name.
    for certificate in [world.sign_for("localhost", "other", false), world.sign_for("127.0.0.2", "other", false)] {
        let other = world.broker_with(certificate).await;
        broker.send(found(Some(other.url()), None, false)).await;
        client.receive().await.expect("a frame");
        let mut through = known_client(&tunnel, Some(other.named())).await;
        let (stream, _) = other.listener.accept().await.expect("it is dialled");
        assert!(other.acceptor.accept(stream).await.is_err(), "and hears nothing");
        assert_eq!(through.rest().await, b"");
    }
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
    // Wherever the kind stands.
    let answer = found(None, Some("pulsar://127.0.0.1:1"), false);
    let bytes = answer.encode_to_vec();
    let (kind, rest) = bytes.split_at(2);
    broker.write(&framed(&[rest, kind].concat())).await;
    let rewritten = client.receive().await.expect("a frame").lookup_topic_response.expect("an answer");
    assert_eq!(rewritten.broker_service_url, None);
}

#[tokio::test]
async fn a_command_that_lies_about_its_kind_ends_the_connection() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let answer = found(None, Some("pulsar://127.0.0.1:1"), false);
    // The crate would take either for the answer that it holds.
    let lies = [
        BaseCommand { r#type: base_command::Type::Success as i32, ..answer.clone() },
        BaseCommand { ping: Some(CommandPing {}), ..answer.clone() },
        BaseCommand { lookup_topic_response: answer.lookup_topic_response, ..pinging() },
    ];
    for lie in lies {
        let mut client = known_client(&tunnel, None).await;
        let (mut broker, _) = service.greeted().await;
        broker.write(&framed(&lie.encode_to_vec())).await;
        assert_eq!(client.rest().await, b"", "{lie:?}");
    }
}

#[tokio::test]
async fn a_side_that_takes_nothing_is_left() {
    let world = World::new();
    let service = world.broker().await;
    let tunnel = world.tunnel(&service).await;
    let _client = known_client(&tunnel, None).await;
    let (mut broker, _) = service.greeted().await;
    // From here on only what is waited for in vain lets time pass.
    tokio::time::pause();
    let much = framed(&pinging().encode_to_vec()).repeat(1000);
    let writing = async { while broker.0.write_all(&much).await.is_ok() && broker.0.flush().await.is_ok() {} };
    tokio::time::timeout(STUCK * 4, writing).await.expect("the broker is cut off");
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
        let command = BaseCommand { send: Some(CommandSend::default()), ..of(base_command::Type::Send) };
        let command = command.encode_to_vec();
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
async fn a_renewed_certificate_is_shown_by_who_has_connected_before() {
    let world = World::new();
    let service = world.broker().await;
    // As the client of the admin API has it: one for all of its connections.
    let connector = TlsConnector::from(Arc::new(world.tls().config().expect("good files")));
    let mut shown = Vec::new();
    for name in ["client-1", "client-2"] {
        world.renew(name);
        let client = async {
            let stream = TcpStream::connect(("127.0.0.1", service.port())).await.expect("it listens");
            let host = ServerName::try_from("127.0.0.1").expect("an address");
            let mut stream = connector.connect(host, stream).await.expect("a handshake");
            // What would let the next connection do without a certificate comes before this.
            assert_eq!(stream.read_u8().await.expect("a byte"), 1);
        };
        let broker = async {
            let mut side = service.accept().await;
            side.write(&[1]).await;
            let (_, connection) = side.0.get_ref().get_ref();
            connection.peer_certificates().expect("it was asked for")[0].to_vec()
        };
        shown.push(tokio::join!(client, broker).1);
    }
    assert_ne!(shown[0], shown[1]);
    let file = CertificateDer::from_pem_file(world.dir.path().join("client.pem")).expect("a certificate");
    assert_eq!(shown[1], file.to_vec());
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
