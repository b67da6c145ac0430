//! Where an application's broker is: an address as people write it, and what the environment adds to it.
//! Nothing is contacted here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use crate::access::Token;
use crate::oauth2::Grant;
use crate::tls::{Identity, Tls};
use crate::{Error, ErrorKind, admin};

/// In the order that `grant` takes them.
const OAUTH2_PARAMETERS: [&str; 4] = ["oauth2_key_file", "oauth2_issuer", "oauth2_audience", "oauth2_scope"];
const OAUTH2_VARIABLES: [&str; 4] =
    ["EVERPULSE_OAUTH2_KEY_FILE", "EVERPULSE_OAUTH2_ISSUER", "EVERPULSE_OAUTH2_AUDIENCE", "EVERPULSE_OAUTH2_SCOPE"];
const SECURE: &str = "pulsar+ssl://";
const TENANT: &str = "public";
const NAMESPACE: &str = "everpulse";

/// Where the broker is, under which tenant and namespace the application lives, and with which token.
///
/// Written as `embedded:DIR[?mode=relaxed]` or `pulsar[+ssl]://HOST:PORT[/TENANT/NAMESPACE][?admin=URL]`. Both take
/// `shards=N` and `inbox_partitions=N` (used when the application is set up, checked afterwards); `pulsar` takes
/// `tls_ca=FILE`, certificates in PEM that are trusted beside the public ones, and `tls_cert=FILE` and `tls_key=FILE`, a
/// certificate of ours in PEM, which tells the broker who we are; or `oauth2_key_file=FILE`, with `oauth2_issuer=URL`,
/// `oauth2_audience=..` and `oauth2_scope=..` as needed, to have tokens given by an issuer (client credentials, with the
/// key file of Pulsar's clients). No secret is ever part of the text.
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
    /// `EVERPULSE_TOKEN`, `EVERPULSE_TOKEN_FILE`, `EVERPULSE_ADMIN_URL`, `EVERPULSE_TLS_CA`, `EVERPULSE_TLS_CERT`,
    /// `EVERPULSE_TLS_KEY`, and `EVERPULSE_OAUTH2_KEY_FILE`, `_ISSUER`, `_AUDIENCE` and `_SCOPE` add to it what it does not
    /// say itself.
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
        let token = match (variable("EVERPULSE_TOKEN"), variable("EVERPULSE_TOKEN_FILE")) {
            (Some(token), _) => Token::Value(token),
            (None, Some(file)) => Token::File(file.into()),
            (None, None) => Token::None,
        };
        let grant = grant(OAUTH2_VARIABLES, OAUTH2_VARIABLES.map(&variable))?;
        address.token = match (address.token, token, grant) {
            (said @ Token::Issued(_), _, _) => said,
            (_, Token::None, Some(grant)) if matches!(address.place, Place::Pulsar { .. }) => Token::Issued(grant),
            (_, Token::None, _) => Token::None,
            (_, token, None) => token,
            (_, _, Some(_)) => {
                return Err(invalid(
                    "a token is set (EVERPULSE_TOKEN or EVERPULSE_TOKEN_FILE), and EVERPULSE_OAUTH2_KEY_FILE \
                                    is, too; set one of them",
                ));
            }
        };
        if let Place::Pulsar { service_url, admin_url: admin_url @ None, .. } = &mut address.place
            && let Some(text) = variable("EVERPULSE_ADMIN_URL")
        {
            *admin_url = Some(check_admin_url("EVERPULSE_ADMIN_URL", &text, service_url)?);
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
    let mut asked: [Option<String>; 4] = Default::default();
    for (name, value) in parsed.query_pairs() {
        let Place::Pulsar { service_url, admin_url, tls } = &mut address.place else { continue };
        if matches!(&*name, "tls_cert" | "tls_key") && parsed.scheme() == "pulsar" {
            return Err(invalid(format!("the address {shown} has {name} and no TLS; write pulsar+ssl://")));
        }
        match &*name {
            "admin" => *admin_url = Some(check_admin_url("admin", &value, service_url)?),
            "tls_ca" => tls.ca = Some(PathBuf::from(&*value)),
            name if OAUTH2_PARAMETERS.contains(&name) => {
                let place = OAUTH2_PARAMETERS.iter().position(|known| *known == name);
                asked[place.expect("it is one of them")] = Some(value.into_owned());
            }
            "tls_cert" => certificate = Some(value.into_owned()),
            "tls_key" => key = Some(value.into_owned()),
            _ => {
                let known = "admin, tls_ca, tls_cert, tls_key, oauth2_key_file, oauth2_issuer, oauth2_audience, \
                             oauth2_scope, shards and inbox_partitions";
                common_parameter(&mut address, &shown, &name, &value, known)?;
            }
        }
    }
    if let Place::Pulsar { tls, .. } = &mut address.place {
        tls.identity = identity(["tls_cert", "tls_key"], certificate, key)?;
    }
    if let Some(grant) = grant(OAUTH2_PARAMETERS, asked)? {
        address.token = Token::Issued(grant);
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

/// What an issuer of tokens is asked for, if there is one: in the order of the names.
fn grant(names: [&str; 4], [key_file, issuer, audience, scope]: [Option<String>; 4]) -> Result<Option<Grant>, Error> {
    if let Some(issuer) = &issuer {
        let issuer = check_http_url(names[1], issuer, "https://issuer.example.com")?;
        if !admin::is_private(&issuer) {
            let message =
                format!("{} is {issuer}: the client's secret would go there in plain; write https://", names[1]);
            return Err(invalid(message));
        }
    }
    match key_file {
        Some(key_file) => Ok(Some(Grant { key_file: key_file.into(), issuer, audience, scope })),
        None if issuer.is_none() && audience.is_none() && scope.is_none() => Ok(None),
        None => {
            Err(invalid(format!("{} is not set, and another of {} is: they need it", names[0], names[1..].join(", "))))
        }
    }
}

fn check_admin_url(what: &str, text: &str, service_url: &str) -> Result<String, Error> {
    let url = check_http_url(what, text, "http://127.0.0.1:8080")?;
    if service_url.starts_with(SECURE) && !admin::is_private(&url) {
        return Err(invalid(format!(
            "{what} is {url} and the broker's address is pulsar+ssl://: our token would go there in plain, to whoever \
             answers; set {what} to the broker's admin address by TLS, for example https://HOST:8443"
        )));
    }
    Ok(url)
}

fn check_http_url(what: &str, text: &str, example: &str) -> Result<String, Error> {
    let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if parsed.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        // Not echoed: it holds a secret.
        return Err(invalid(format!("{what} holds a user or a password; a token goes into EVERPULSE_TOKEN")));
    }
    if parsed.is_none() {
        return Err(invalid(format!("{what} is {}; write for example {example}", shown(text))));
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
        if let Token::Issued(grant) = &self.token {
            parameters.push(format!("oauth2_key_file={}", quoted(&grant.key_file.to_string_lossy())));
            let rest = [&grant.issuer, &grant.audience, &grant.scope];
            for (name, value) in OAUTH2_PARAMETERS[1..].iter().zip(rest) {
                parameters.extend(value.iter().map(|value| format!("{name}={}", quoted(value))));
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
mod tests;
