//! Where an application's broker is: an address as people write it, and what the environment adds to it.
//! Nothing is contacted here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use crate::access::Token;
use crate::tls::{Identity, Tls};
use crate::{Error, ErrorKind};

const SECURE: &str = "pulsar+ssl://";
const TENANT: &str = "public";
const NAMESPACE: &str = "everpulse";

/// Where the broker is, under which tenant and namespace the application lives, and with which token.
///
/// Written as `embedded:DIR[?mode=relaxed]` or `pulsar[+ssl]://HOST:PORT[/TENANT/NAMESPACE][?admin=URL]`. Both take
/// `shards=N` and `inbox_partitions=N` (used when the application is set up, checked afterwards); `pulsar` takes
/// `tls_ca=FILE`, certificates in PEM that are trusted beside the public ones, and `tls_cert=FILE` and `tls_key=FILE`, a
/// certificate of ours in PEM, which tells the broker who we are. A token is never part of the text.
///
/// ```
/// use everpulse_transport::Address;
///
/// let address: Address = "pulsar://127.0.0.1:6650".parse()?;
/// assert_eq!((address.tenant(), address.namespace()), ("public", "everpulse"));
/// assert_eq!(address.to_string(), "pulsar://127.0.0.1:6650/public/everpulse");
///
/// let error = "http://127.0.0.1:8080".parse::<Address>().unwrap_err();
/// assert!(error.to_string().contains("pulsar://HOST:PORT"));
/// # Ok::<(), everpulse_transport::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    pub(crate) place: Place,
    pub(crate) token: Token,
    tenant: String,
    namespace: String,
    shards: Option<u32>,
    inbox_partitions: Option<u32>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Embedded { dir: PathBuf, relaxed: bool },
    Pulsar { service_url: String, admin_url: Option<String>, tls: Tls },
}

impl Address {
    /// The embedded broker in a directory, durable.
    #[must_use]
    pub fn embedded(dir: impl Into<PathBuf>) -> Self {
        Address::at(Place::Embedded { dir: dir.into(), relaxed: false })
    }

    /// The address in `explicit`, else in `EVERPULSE_URL`, else the embedded broker in this user's data directory.
    ///
    /// `EVERPULSE_TOKEN`, `EVERPULSE_TOKEN_FILE`, `EVERPULSE_ADMIN_URL`, `EVERPULSE_TLS_CA`, `EVERPULSE_TLS_CERT` and
    /// `EVERPULSE_TLS_KEY` add to it what it does not say itself.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], naming the variable, when an address cannot be read.
    pub fn from_env_or(explicit: Option<&str>) -> Result<Self, Error> {
        Address::from_variables(explicit, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(explicit: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut address = match (explicit, variable("EVERPULSE_URL")) {
            (Some(text), _) => text.parse()?,
            (None, Some(text)) => {
                text.parse().map_err(|error: Error| Error::new(error.kind(), format!("EVERPULSE_URL: {error}")))?
            }
            (None, None) => {
                let data = dirs::data_dir().ok_or_else(|| {
                    invalid("this user has no data directory; name one: --url embedded:DIR, or EVERPULSE_URL")
                })?;
                Address::embedded(data.join("everpulse"))
            }
        };
        if let Some(token) = variable("EVERPULSE_TOKEN") {
            address = address.with_token(token);
        } else if let Some(file) = variable("EVERPULSE_TOKEN_FILE") {
            address = address.with_token_file(file);
        }
        if let Place::Pulsar { admin_url: admin_url @ None, .. } = &mut address.place
            && let Some(text) = variable("EVERPULSE_ADMIN_URL")
        {
            *admin_url = Some(check_admin_url("EVERPULSE_ADMIN_URL", &text)?);
        }
        if let Place::Pulsar { service_url, tls, .. } = &mut address.place {
            tls.ca = tls.ca.take().or_else(|| variable("EVERPULSE_TLS_CA").map(PathBuf::from));
            if tls.identity.is_none() && service_url.starts_with(SECURE) {
                let [certificate, key] = ["EVERPULSE_TLS_CERT", "EVERPULSE_TLS_KEY"].map(&variable);
                tls.identity = identity(["EVERPULSE_TLS_CERT", "EVERPULSE_TLS_KEY"], certificate, key)?;
            }
        }
        Ok(address)
    }

    /// The same address with a token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Token::Value(token.into());
        self
    }

    /// The same address with a file that holds the token. It is read again at every reconnection.
    #[must_use]
    pub fn with_token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token = Token::File(file.into());
        self
    }

    /// The same broker, another tenant and namespace.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when a name is not one that Pulsar allows.
    pub fn with_namespace(mut self, tenant: &str, namespace: &str) -> Result<Self, Error> {
        check_name("tenant", tenant)?;
        check_name("namespace", namespace)?;
        tenant.clone_into(&mut self.tenant);
        namespace.clone_into(&mut self.namespace);
        Ok(self)
    }

    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How many shards the address asks for.
    #[must_use]
    pub fn shards(&self) -> Option<u32> {
        self.shards
    }

    /// How many partitions of the inbox the address asks for.
    #[must_use]
    pub fn inbox_partitions(&self) -> Option<u32> {
        self.inbox_partitions
    }

    /// The directory of the embedded broker, if it is one.
    #[must_use]
    pub fn embedded_dir(&self) -> Option<&Path> {
        match &self.place {
            Place::Embedded { dir, .. } => Some(dir),
            Place::Pulsar { .. } => None,
        }
    }

    fn at(place: Place) -> Self {
        Address {
            place,
            token: Token::None,
            tenant: TENANT.to_owned(),
            namespace: NAMESPACE.to_owned(),
            shards: None,
            inbox_partitions: None,
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("embedded:") {
            return parse_embedded(text, rest);
        }
        if text.starts_with("pulsar://") || text.starts_with("pulsar+ssl://") {
            return parse_pulsar(text);
        }
        Err(invalid(format!(
            "the address {} starts with neither `embedded:` nor `pulsar://` nor `pulsar+ssl://`; write \
             pulsar://HOST:PORT/TENANT/NAMESPACE, for example pulsar://127.0.0.1:6650/public/everpulse, or \
             embedded:DIR, for example embedded:./data",
            shown(text)
        )))
    }
}

fn parse_embedded(text: &str, rest: &str) -> Result<Address, Error> {
    let (dir, query) = rest.split_once('?').unwrap_or((rest, ""));
    let dir = dir.trim();
    let shown = shown(text);
    if dir.is_empty() {
        return Err(invalid(format!("the address {shown} names no directory; write for example embedded:./data")));
    }
    let mut address = Address::embedded(dir);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            ("mode", "relaxed" | "durable") => {
                address.place = Place::Embedded { dir: dir.into(), relaxed: value == "relaxed" };
            }
            ("mode", _) => {
                return Err(invalid(format!("the address {shown} has mode={value}; it can be durable or relaxed")));
            }
            _ => common_parameter(&mut address, &shown, &name, &value, "mode, shards and inbox_partitions")?,
        }
    }
    Ok(address)
}

fn parse_pulsar(text: &str) -> Result<Address, Error> {
    const EXAMPLE: &str = "write for example pulsar://127.0.0.1:6650/public/everpulse";
    let shown = shown(text);
    let parsed = Url::parse(text).map_err(|error| invalid(format!("the address {shown}: {error}; {EXAMPLE}")))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // Not echoed: it holds a secret.
        return Err(invalid("an address holds no user and no password; a token goes into EVERPULSE_TOKEN"));
    }
    let Some(host) = parsed.host_str().filter(|host| !host.is_empty()) else {
        return Err(invalid(format!("the address {shown} names no host; {EXAMPLE}")));
    };
    if host.contains(',') {
        return Err(invalid(format!(
            "the address {shown} names several hosts; name one, or a name that stands for all"
        )));
    }
    let port = parsed.port().unwrap_or(if parsed.scheme() == "pulsar" { 6650 } else { 6651 });
    let mut address = Address::at(Place::Pulsar {
        service_url: format!("{}://{host}:{port}", parsed.scheme()),
        admin_url: None,
        tls: Tls::default(),
    });
    let path: Vec<&str> = parsed.path().split('/').filter(|part| !part.is_empty()).collect();
    match path[..] {
        [] => {}
        [tenant, namespace] => address = address.with_namespace(tenant, namespace)?,
        _ => {
            return Err(invalid(format!(
                "the address {shown} has {} after the host, and it takes none or two, TENANT/NAMESPACE; {EXAMPLE}",
                if path.len() == 1 { "one name" } else { "several names" },
            )));
        }
    }
    let (mut certificate, mut key) = (None, None);
    for (name, value) in parsed.query_pairs() {
        let Place::Pulsar { admin_url, tls, .. } = &mut address.place else { continue };
        if matches!(&*name, "tls_cert" | "tls_key") && parsed.scheme() == "pulsar" {
            return Err(invalid(format!("the address {shown} has {name} and no TLS; write pulsar+ssl://")));
        }
        match &*name {
            "admin" => *admin_url = Some(check_admin_url("admin", &value)?),
            "tls_ca" => tls.ca = Some(PathBuf::from(&*value)),
            "tls_cert" => certificate = Some(value.into_owned()),
            "tls_key" => key = Some(value.into_owned()),
            _ => {
                let known = "admin, tls_ca, tls_cert, tls_key, shards and inbox_partitions";
                common_parameter(&mut address, &shown, &name, &value, known)?;
            }
        }
    }
    if let Place::Pulsar { tls, .. } = &mut address.place {
        tls.identity = identity(["tls_cert", "tls_key"], certificate, key)?;
    }
    Ok(address)
}

fn common_parameter(address: &mut Address, shown: &str, name: &str, value: &str, known: &str) -> Result<(), Error> {
    let count = match name {
        "shards" => &mut address.shards,
        "inbox_partitions" => &mut address.inbox_partitions,
        _ => return Err(invalid(format!("the address {shown} has the parameter {name:?}; known are {known}"))),
    };
    match value.parse() {
        Ok(number @ 1..=1024) => *count = Some(number),
        _ => return Err(invalid(format!("the address {shown} has {name}={value}; it is a number from 1 to 1024"))),
    }
    Ok(())
}

/// A certificate and its key, or neither.
fn identity(names: [&str; 2], certificate: Option<String>, key: Option<String>) -> Result<Option<Identity>, Error> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate: certificate.into(), key: key.into() })),
        (Some(_), None) => Err(invalid(format!("{} is set, and {} is not: one needs the other", names[0], names[1]))),
        (None, Some(_)) => Err(invalid(format!("{} is set, and {} is not: one needs the other", names[1], names[0]))),
    }
}

fn check_admin_url(what: &str, text: &str) -> Result<String, Error> {
    let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if parsed.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        // Not echoed: it holds a secret.
        return Err(invalid(format!("{what} holds a user or a password; a token goes into EVERPULSE_TOKEN")));
    }
    if parsed.is_none() {
        return Err(invalid(format!("{what} is {}; write for example http://127.0.0.1:8080", shown(text))));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// An address as an error may show it. Whatever somebody took for the place of a secret is left out: what is before an
/// `@`, and the values of parameters.
fn shown(text: &str) -> String {
    let (place, query) = text.split_once('?').map_or((text, ""), |(place, _)| (place, "?..."));
    let place = match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://...@{host}"),
        (None, Some((_, host))) => format!("...@{host}"),
        _ => place.to_owned(),
    };
    format!("{place:?}{query}")
}

/// Pulsar's own rule for tenants and namespaces.
fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | ':' | '.');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(invalid(format!("the {what} {name:?} has characters beside letters, digits and - _ = : .")));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message.into())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parameters = Vec::new();
        match &self.place {
            Place::Embedded { dir, relaxed } => {
                write!(f, "embedded:{}", dir.display())?;
                if *relaxed {
                    parameters.push("mode=relaxed".to_owned());
                }
            }
            Place::Pulsar { service_url, admin_url, tls } => {
                write!(f, "{service_url}/{}/{}", self.tenant, self.namespace)?;
                parameters.extend(admin_url.iter().map(|url| format!("admin={}", quoted(url))));
                let files = [
                    ("tls_ca", &tls.ca),
                    ("tls_cert", &tls.identity.as_ref().map(|identity| identity.certificate.clone())),
                    ("tls_key", &tls.identity.as_ref().map(|identity| identity.key.clone())),
                ];
                for (name, file) in files {
                    parameters.extend(file.iter().map(|file| format!("{name}={}", quoted(&file.to_string_lossy()))));
                }
            }
        }
        parameters.extend(self.shards.iter().map(|count| format!("shards={count}")));
        parameters.extend(self.inbox_partitions.iter().map(|count| format!("inbox_partitions={count}")));
        for (index, parameter) in parameters.iter().enumerate() {
            write!(f, "{}{parameter}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// The value of a parameter, spelled so that it is read back; what needs no spelling stays as it is.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]@,".contains(c);
    let spelled = |c: char| url::form_urlencoded::byte_serialize(c.encode_utf8(&mut [0; 4]).as_bytes()).collect();
    value.chars().map(|c| if plain(c) { c.to_string() } else { spelled(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_back() {
        let check = |text: &str, written: &str| {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<Address>().expect(written), address);
        };
        check("embedded:./data", "embedded:./data");
        check("embedded:/a b/c?mode=relaxed&shards=4", "embedded:/a b/c?mode=relaxed&shards=4");
        check("pulsar://h", "pulsar://h:6650/public/everpulse");
        check("pulsar+ssl://h", "pulsar+ssl://h:6651/public/everpulse");
        check("pulsar://[::1]:7000/t/n", "pulsar://[::1]:7000/t/n");
        check("embedded:d ?", "embedded:d");
        check("pulsar+ssl://h:1/t/n?tls_ca=/a%26b%20c/ca.pem", "pulsar+ssl://h:1/t/n?tls_ca=/a%26b+c/ca.pem");
        check("pulsar+ssl://h:1/t/n?tls_key=k&tls_cert=/c", "pulsar+ssl://h:1/t/n?tls_cert=/c&tls_key=k");
        check(
            "pulsar://h:1/t/n?admin=http://h:2/&shards=64&inbox_partitions=8",
            "pulsar://h:1/t/n?admin=http://h:2&shards=64&inbox_partitions=8",
        );
    }

    #[test]
    fn bad_addresses_are_refused_with_the_reason_and_an_example() {
        let check = |text: &str, expect: &[&str]| {
            let error = text.parse::<Address>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            for part in expect {
                assert!(error.to_string().contains(part), "{text}: {error}");
            }
        };
        check("", &["starts with neither", "pulsar://127.0.0.1:6650/public/everpulse", "embedded:./data"]);
        check("http://h:8080", &["starts with neither"]);
        check("embedded:", &["no directory", "embedded:./data"]);
        check("embedded:d?mode=fast", &["mode=fast", "durable or relaxed"]);
        check("pulsar://", &["no host"]);
        check("pulsar://h:99999", &["port", "for example"]);
        check("pulsar://a,b:6650", &["several hosts"]);
        check("pulsar://h:1/only", &["one name", "TENANT/NAMESPACE"]);
        check("pulsar://h:1/t/n/x", &["several names"]);
        check("pulsar://h:1/t/n%20n", &["namespace", "characters"]);
        check("pulsar://h:1?admin=h:8080", &["admin", "http://127.0.0.1:8080"]);
        check("pulsar+ssl://h:1?tls_cert=/c", &["tls_cert is set", "tls_key is not"]);
        check("pulsar+ssl://h:1?tls_key=/k", &["tls_key is set", "tls_cert is not"]);
        check("pulsar://h:1?tls_cert=/c", &["tls_cert", "no TLS", "pulsar+ssl://"]);
        check("pulsar://h:1?shards=0", &["shards=0", "1 to 1024"]);
        check("pulsar://h:1?shard=3", &["\"shard\"", "known are"]);
    }

    #[test]
    fn a_secret_is_neither_echoed_nor_printed() {
        let error = "pulsar://user:s3cret@h:1".parse::<Address>().expect_err("holds a password");
        assert!(!error.to_string().contains("s3cret") && !format!("{error:?}").contains("s3cret"));
        for text in [
            "http://user:s3cret@h:1",
            "pulsar://user:s3cret@h:99999",
            "pulsar://s3cret@h/only",
            "pulsar://h:1?token=s3cret",
            "pulsar://h:1/only?token=s3cret",
            "pulsar://h:1?admin=http://user:s3cret@h:2",
            "pulsar://h:1?admin=ftp://user:s3cret@h:2",
            "embedded:d?token=s3cret",
        ] {
            let error = text.parse::<Address>().expect_err(text);
            assert!(!error.to_string().contains("s3cret") && !format!("{error:?}").contains("s3cret"), "{error}");
        }
        let address = Address::embedded("d").with_token("s3cret");
        assert!(!address.to_string().contains("s3cret") && !format!("{address:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_said_explicitly_beats_the_environment() {
        let ca = |name: &str| (name == "EVERPULSE_TLS_CA").then(|| "/env.pem".to_owned());
        let text = |explicit| Address::from_variables(Some(explicit), ca).map(|address| address.to_string());
        assert_eq!(text("pulsar+ssl://h").expect("good"), "pulsar+ssl://h:6651/public/everpulse?tls_ca=/env.pem");
        let own = "pulsar+ssl://h:1/t/n?tls_ca=/own.pem";
        assert_eq!(text(own).expect("good"), own);
        assert_eq!(text("embedded:d").expect("good"), "embedded:d");

        let own = |name: &str| name.strip_prefix("EVERPULSE_TLS_").map(|name| format!("/{}", name.to_lowercase()));
        let address = Address::from_variables(Some("pulsar+ssl://h:1/t/n"), own).expect("good");
        assert_eq!(address.to_string(), "pulsar+ssl://h:1/t/n?tls_ca=/ca&tls_cert=/cert&tls_key=/key");
        let half = |name: &str| (name == "EVERPULSE_TLS_KEY").then(|| "/key".to_owned());
        let error = Address::from_variables(Some("pulsar+ssl://h"), half).expect_err("half of it");
        assert!(error.to_string().contains("EVERPULSE_TLS_CERT is not"), "{error}");

        let variables = |name: &str| match name {
            "EVERPULSE_URL" => Some("pulsar://env:1".to_owned()),
            "EVERPULSE_ADMIN_URL" => Some("http://env:2".to_owned()),
            "EVERPULSE_TOKEN" => Some("t".to_owned()),
            _ => None,
        };
        let text = |explicit| Address::from_variables(explicit, variables).map(|address| address.to_string());
        assert_eq!(text(None).expect("good"), "pulsar://env:1/public/everpulse?admin=http://env:2");
        assert_eq!(
            text(Some("pulsar://me:1?admin=http://me:2")).expect("good"),
            "pulsar://me:1/public/everpulse?admin=http://me:2"
        );
        let address = Address::from_variables(None, variables).expect("good");
        assert_eq!(address.token, Token::Value("t".to_owned()));
        let error = Address::from_variables(None, |_| Some("x".to_owned())).expect_err("bad");
        assert!(error.to_string().starts_with("EVERPULSE_URL: "), "{error}");
    }
}
