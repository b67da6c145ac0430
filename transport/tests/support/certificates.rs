//! Certificates that a test makes: of an authority of its own, or of another's.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// The one that `cargo xtask pulsar` made, see its `secured.rs`.
    pub fn in_dir(dir: &Path) -> Authority {
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a file of the test's broker");
        let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
        let mut params = named("the test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { issuer: Issuer::new(params, key), pem: read("ca.pem") }
    }

    /// A certificate and its key, in PEM.
    pub fn sign(&self, name: &str, expired: bool) -> (String, String) {
        let mut params = named(name);
        params.subject_alt_names =
            CertificateParams::new([name.to_owned()]).map(|params| params.subject_alt_names).unwrap_or_default();
        if expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// Writes `NAME.pem` and `NAME.key`.
pub fn write(dir: &Path, name: &str, (certificate, key): &(String, String)) -> (PathBuf, PathBuf) {
    let files = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&files.0, certificate).expect("written");
    std::fs::write(&files.1, key).expect("written");
    files
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
