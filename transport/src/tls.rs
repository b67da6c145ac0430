//! TLS of our own: whom we trust, which certificate we show, and in plain words why a handshake failed.
//!
//! The `pulsar` crate speaks TLS by itself where no certificate of ours is asked for; `tunnel.rs` speaks it where one is,
//! and `admin.rs` always uses what is made here. Trusted are the authorities that browsers trust and those of `tls_ca`.
//! A broker's name is always checked, and there is no option against it.
//!
//! The key and the certificate of ours are read again at each handshake, so that renewed files count from the next
//! connection on. While one of the two is renewed and the other is not yet, they do not fit; the attempt fails with that
//! reason, and the next one is made anyway.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription as Alert, CertificateError, ClientConfig, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Error, ErrorKind};

/// Whom we trust, and what we show.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tls {
    /// Authorities that are trusted beside the public ones, in PEM.
    pub ca: Option<PathBuf>,
    pub identity: Option<Identity>,
}

/// A certificate of ours and its key, both in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// What rustls needs, from the files as they are now.
    pub fn config(&self) -> Result<ClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(ca) = &self.ca {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| unusable("certificates", ca, &error))?;
            }
        }
        // Said by name: which of several makes of cryptography is the default is the program's business.
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has what both versions need")
            .with_root_certificates(roots);
        Ok(match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                // Read once here so that what is wrong is said; a handshake could only go without.
                identity.read()?;
                let mut config = builder.with_client_cert_resolver(Arc::new(ReadAtHandshake(identity.clone())));
                // A resumed session counts as of the certificate that it began with, and a renewed one is not shown.
                config.resumption = Resumption::disabled();
                config
            }
        })
    }

    /// A connection to `host`, which has proved that it has that name.
    ///
    /// # Cancel safety
    /// A connection that was half made is closed.
    pub async fn dial(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, Error> {
        let host = host.trim_matches(['[', ']']);
        let url = if host.contains(':') {
            format!("pulsar+ssl://[{host}]:{port}")
        } else {
            format!("pulsar+ssl://{host}:{port}")
        };
        let config = Arc::new(self.config()?);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            Error::with_source(ErrorKind::Invalid, format!("{url}: no certificate can have this name: {error}"), error)
        })?;
        let unreachable = |error: io::Error| {
            let hint = match error.kind() {
                // What Pulsar's port without TLS does, and a broker that is just going down.
                io::ErrorKind::UnexpectedEof => "is that its port for TLS, or is it pulsar://?",
                _ => "is the broker running, and is the address right?",
            };
            Error::with_source(ErrorKind::Unreachable, format!("cannot connect to {url}: {error}; {hint}"), error)
        };
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        // Frames are written whole, and nobody waits for a second one.
        stream.set_nodelay(true).map_err(unreachable)?;
        match TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Ok(stream),
            Err(error) => Err(match self.explain(&error) {
                Some((kind, reason)) => Error::with_source(kind, format!("cannot connect to {url}: {reason}"), error),
                None => unreachable(error),
            }),
        }
    }

    /// What a failed handshake means, and what to set; none if it failed for other reasons than TLS.
    pub fn explain(&self, error: &(dyn StdError + 'static)) -> Option<(ErrorKind, String)> {
        let error = rustls_error(error)?;
        let refused = |reason: &str| Some((ErrorKind::Refused, format!("{error}: {reason}")));
        match error {
            rustls::Error::InvalidCertificate(problem) => match problem {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => refused(&match &self.ca {
                    Some(ca) => format!(
                        "the authority that signed the broker's certificate is not in {}; set tls_ca=FILE or \
                         EVERPULSE_TLS_CA to the file that holds it",
                        ca.display()
                    ),
                    None => "the broker's certificate was signed by an authority that is not a public one; set \
                             tls_ca=FILE or EVERPULSE_TLS_CA to the file that holds its certificate"
                        .to_owned(),
                }),
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => refused(
                    "the broker's certificate is for another name than the address has; write one of its names into \
                     the address, or give the broker a certificate for this one",
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    refused("the broker's certificate has expired; renew it there (or is the clock wrong here?)")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    refused("the broker's certificate is not valid yet; is the clock wrong, here or where it was made?")
                }
                _ => refused("the broker's certificate is no good"),
            },
            rustls::Error::AlertReceived(alert) if self.is_about_ours(*alert) => Some((
                ErrorKind::Unauthorized,
                match &self.identity {
                    None => format!(
                        "{error}: the broker wants a certificate of ours; set tls_cert=FILE&tls_key=FILE, or \
                         EVERPULSE_TLS_CERT and EVERPULSE_TLS_KEY"
                    ),
                    Some(identity) => format!(
                        "{error}: the broker does not accept our certificate in {}",
                        identity.certificate.display()
                    ),
                },
            )),
            rustls::Error::InvalidMessage(_) => {
                refused("what answers there does not speak TLS; is it the broker's port for it, or is it pulsar://?")
            }
            _ => refused("no secure connection could be made"),
        }
    }

    /// Whether the broker says this of a certificate of ours, or of there being none.
    fn is_about_ours(&self, alert: Alert) -> bool {
        match alert {
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            // What TLS 1.2 says when a certificate is missing, among other things.
            | Alert::HandshakeFailure => true,
            // What Apache Pulsar 4.0 says when it does not know the authority that signed ours.
            Alert::InternalError => self.identity.is_some(),
            _ => false,
        }
    }
}

impl Identity {
    fn read(&self) -> Result<CertifiedKey, Error> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| {
            // Other errors quote what they found, and that may be a piece of the key.
            let reason = match &error {
                pem::Error::Io(error) => error.to_string(),
                _ => "it holds no private key in PEM".to_owned(),
            };
            Error::new(ErrorKind::Invalid, format!("cannot use the key in {}: {reason}", self.key.display()))
        })?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let message = format!(
                "cannot use the key in {} for the certificate in {}: {error}",
                self.key.display(),
                self.certificate.display()
            );
            Error::with_source(ErrorKind::Invalid, message, error)
        })
    }
}

#[derive(Debug)]
struct ReadAtHandshake(Identity);

impl ResolvesClientCert for ReadAtHandshake {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self.0.read() {
            Ok(key) => Some(Arc::new(key)),
            Err(error) => {
                tracing::warn!(%error, "no certificate of ours is shown");
                None
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(unusable("certificates", file, &"there is none in PEM in it"))
        }
        Ok(certificates) => Ok(certificates),
        Err(pem::Error::Io(error)) => Err(unusable("certificates", file, &error)),
        Err(error) => Err(unusable("certificates", file, &error)),
    }
}

fn unusable(what: &str, file: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("cannot read the {what} in {}: {reason}", file.display()))
}

/// The cause that rustls gave, however deep it lies.
fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An `io::Error` gives the source of what it holds, and not what it holds.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}
