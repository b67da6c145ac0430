//! An authority, brokers that it has signed, and connections that are spoken to by hand.

use std::net::Ipv6Addr;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::tls::{Identity, Tls};

/// An authority, files of ours that it signed, and brokers' certificates.
pub struct World {
    pub dir: TempDir,
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl World {
    pub fn new() -> World {
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
    pub fn renew(&self, name: &str) {
        let (certificate, key) = self.sign(name, false);
        std::fs::write(self.dir.path().join("client.pem"), certificate).expect("written");
        std::fs::write(self.dir.path().join("client.key"), key).expect("written");
    }

    pub fn sign(&self, name: &str, expired: bool) -> (String, String) {
        self.sign_for("127.0.0.1", name, expired)
    }

    pub fn sign_for(&self, host: &str, name: &str, expired: bool) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host");
        params.distinguished_name.push(DnType::CommonName, name);
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    pub fn tls(&self) -> Tls {
        let file = |name: &str| self.dir.path().join(name);
        let identity = Identity { certificate: file("client.pem"), key: file("client.key") };
        Tls { ca: Some(file("ca.pem")), identity: Some(identity) }
    }

    pub async fn tunnel(&self, broker: &Broker) -> Arc<Tunnel> {
        self.tunnel_with(broker, Token::None).await
    }

    pub async fn tunnel_with(&self, broker: &Broker, token: Token) -> Arc<Tunnel> {
        let access = Access::new(token, self.tls());
        Tunnel::open(&broker.url(), access).await.expect("loopback has a port")
    }

    pub async fn broker(&self) -> Broker {
        self.broker_with(self.sign("broker", false)).await
    }

    /// A broker that asks for a certificate.
    pub async fn broker_with(&self, (certificate, key): (String, String)) -> Broker {
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

    /// One at `[::1]`.
    pub async fn broker_by_ipv6(&self) -> Broker {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.expect("a port");
        Broker { listener, ..self.broker_with(self.sign_for("::1", "broker", false)).await }
    }
}

pub struct Broker {
    pub listener: TcpListener,
    pub acceptor: TlsAcceptor,
}

impl Broker {
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    pub fn url(&self) -> String {
        format!("pulsar+ssl://{}", self.named())
    }

    pub fn named(&self) -> String {
        self.listener.local_addr().expect("bound").to_string()
    }

    pub async fn accept(&self) -> Side<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        Side(BufReader::new(self.acceptor.accept(stream).await.expect("a handshake")))
    }

    /// The connection, and its first frame.
    pub async fn greeted(&self) -> (Side<TlsStream<TcpStream>>, CommandConnect) {
        let mut side = self.accept().await;
        let connect = side.receive().await.expect("a frame").connect.expect("a greeting");
        (side, connect)
    }

    /// Nobody has knocked. What has been sent to loopback by now is here by now.
    pub async fn is_untouched(&self) -> bool {
        futures::poll!(std::pin::pin!(self.listener.accept())).is_pending()
    }
}

/// One end of a connection that speaks frames.
pub struct Side<S>(pub BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Side<S> {
    pub async fn send(&mut self, command: BaseCommand) {
        self.write(&frame(&command)).await;
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
        self.0.flush().await.expect("written");
    }

    /// The next command; none when the other side has closed.
    pub async fn receive(&mut self) -> Option<BaseCommand> {
        let total = self.0.read_u32().await.ok()? as usize;
        let size = self.0.read_u32().await.ok()? as usize;
        assert_eq!(total, size + 4);
        let mut bytes = vec![0; size];
        self.0.read_exact(&mut bytes).await.ok()?;
        assert!(frames::kind(&bytes).is_some(), "{bytes:?}");
        Some(frames::decode(&bytes).expect("a command"))
    }

    /// Bytes until the other side closes, whichever way.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.0.read_to_end(&mut rest).await;
        rest
    }
}
