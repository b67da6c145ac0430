//! What a broker needs that speaks TLS and asks who is there: an authority, certificates, a key for tokens, and the
//! settings that name them.
//!
//! ```text
//! tls/ca.pem      ca.key           the authority, with which tests can sign too
//! tls/broker.pem  broker.key       the broker's, for 127.0.0.1 and no other name
//! tls/client.pem  client.key       a client's, whose name is the role `everpulse`
//! tls/token.secret                 what tokens are signed with (HS256)
//! tls/admin.jwt                    a token of the role `everpulse`, for the broker's own client too
//! ```
//!
//! All is for tests: the keys lie in the open. What a wrong certificate would be, tests make themselves.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::rand::SecureRandom as _;

/// The role that may do everything.
const ROLE: &str = "everpulse";

/// Whether a client shows a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum ClientCertificates {
    /// It may, and is known by it then; another shows a token.
    Optional,
    /// TLS without one is refused.
    Required,
}

/// Makes all files, if they are not there.
pub(super) fn prepare(dir: &Path) -> anyhow::Result<()> {
    if dir.join("admin.jwt").exists() {
        return Ok(());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let write = |name: &str, content: &[u8]| {
        let file = dir.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
    };
    let mut authority = named("the test's authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().context("making a key")?;
    write("ca.pem", authority.self_signed(&key).context("signing the authority")?.pem().as_bytes())?;
    write("ca.key", key.serialize_pem().as_bytes())?;
    let issuer = Issuer::new(authority, key);
    for (name, mut certificate, usage) in [
        ("broker", with_address("127.0.0.1")?, ExtendedKeyUsagePurpose::ServerAuth),
        ("client", named(ROLE), ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        certificate.extended_key_usages = vec![usage];
        let key = KeyPair::generate().context("making a key")?;
        let certificate = certificate.signed_by(&key, &issuer).context("signing a certificate")?;
        write(&format!("{name}.pem"), certificate.pem().as_bytes())?;
        write(&format!("{name}.key"), key.serialize_pem().as_bytes())?;
    }
    let mut secret = [0; 32];
    ring::rand::SystemRandom::new().fill(&mut secret).ok().context("the system gives no random bytes")?;
    write("token.secret", &secret)?;
    write("admin.jwt", token(&secret, ROLE).as_bytes())
}

/// The settings that make use of them. The plain ports stay, and ask for a token.
pub(super) fn settings(
    dir: &Path,
    (broker, web): (u16, u16),
    clients: ClientCertificates,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let file = |name: &str| dir.join(name).display().to_string();
    let token = fs::read_to_string(dir.join("admin.jwt")).context("cannot read admin.jwt")?;
    Ok(vec![
        ("brokerServicePortTls", broker.to_string()),
        ("webServicePortTls", web.to_string()),
        ("tlsEnabled", "true".to_owned()),
        ("tlsCertificateFilePath", file("broker.pem")),
        ("tlsKeyFilePath", file("broker.key")),
        ("tlsTrustCertsFilePath", file("ca.pem")),
        ("tlsRequireTrustedClientCertOnConnect", (clients == ClientCertificates::Required).to_string()),
        ("authenticationEnabled", "true".to_owned()),
        (
            "authenticationProviders",
            "org.apache.pulsar.broker.authentication.AuthenticationProviderTls,\
             org.apache.pulsar.broker.authentication.AuthenticationProviderToken"
                .to_owned(),
        ),
        ("tokenSecretKey", format!("file://{}", file("token.secret"))),
        // A token that expires is asked for anew so often; Pulsar's default is a minute.
        ("authenticationRefreshCheckSeconds", "1".to_owned()),
        ("authorizationEnabled", "true".to_owned()),
        ("superUserRoles", ROLE.to_owned()),
        ("brokerClientAuthenticationPlugin", "org.apache.pulsar.client.impl.auth.AuthenticationToken".to_owned()),
        ("brokerClientAuthenticationParameters", format!("token:{token}")),
    ])
}

fn named(name: &str) -> CertificateParams {
    let mut certificate = CertificateParams::default();
    certificate.distinguished_name = DistinguishedName::new();
    certificate.distinguished_name.push(DnType::CommonName, name);
    certificate
}

fn with_address(address: &str) -> anyhow::Result<CertificateParams> {
    let mut certificate = named("broker");
    certificate.subject_alt_names =
        CertificateParams::new([address.to_owned()]).context("an address for a certificate")?.subject_alt_names;
    Ok(certificate)
}

/// A token without an end, signed as Pulsar's `tokens create` does.
fn token(secret: &[u8], role: &str) -> String {
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(serde_json::json!({"alg": "HS256"})), part(serde_json::json!({"sub": role})));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
