//! The little of Pulsar's admin REST API that is needed, over HTTP.
//!
//! ```text
//! GET  clusters                                   PUT  tenants/T
//! GET  namespaces/T/N                             PUT  namespaces/T/N
//! POST namespaces/T/N/POLICY
//! GET  persistent/T/N/TOPIC/partitions            PUT  persistent/T/N/TOPIC/partitions
//! PUT  persistent/T/N/TOPIC                       DELETE persistent/T/N/TOPIC[/partitions]
//! PUT  persistent/T/N/TOPIC/subscription/SUB      PUT  persistent/T/N/TOPIC/unload
//! GET  persistent/T/N/TOPIC/stats                 POST persistent/T/N/TOPIC/subscription/SUB/expireMessages
//! ```
//!
//! A broker that does not own a topic answers with the address of the one that does (307), as often as [`HOPS_MAX`]. The
//! token and the certificate go there, too: whoever answers at the admin address is believed when it names another
//! broker. By TLS it has proved its name, and so has the other one; from TLS nothing leads out of it, and while the
//! broker's own address is `pulsar+ssl://` nothing leads to another machine in plain.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::Position;
use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use crate::access::Access;
use crate::link::Endpoint;
use crate::{Error, ErrorKind};

const LIMIT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How many brokers one request may be sent on to.
const HOPS_MAX: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Admin {
    http: reqwest::Client,
    endpoints: Arc<watch::Sender<Endpoint>>,
    access: Access,
}

/// What the broker answered, where "there is none" and "there is one already" are answers and not failures.
pub(crate) enum Answer {
    Done(Value),
    Missing,
    Exists,
}

impl Admin {
    pub fn new(endpoints: Arc<watch::Sender<Endpoint>>, access: Access) -> Result<Self, Error> {
        // The authorities are read once; a certificate of ours at each connection.
        let tls = access.tls.config()?;
        let mut builder = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            // They are followed here: a client of HTTP would go anywhere with our certificate, and without the token.
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .connect_timeout(CONNECT);
        if is_loopback(&endpoints.borrow().admin_url) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| Error::with_source(ErrorKind::Invalid, format!("cannot use HTTP: {error}"), error))?;
        Ok(Admin { http, endpoints, access })
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::GET, path, None).await
    }

    pub async fn put(&self, path: &str, body: Option<Value>) -> Result<Answer, Error> {
        self.send(Method::PUT, path, body).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Result<Answer, Error> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, Error> {
        let endpoint = self.endpoints.borrow().clone();
        let url = format!("{}/admin/v2/{path}", endpoint.admin_url);
        let mut url = Url::parse(&url).map_err(|error| {
            Error::with_source(
                ErrorKind::Invalid,
                format!("{method} {url}: {error}; is the admin address right?"),
                error,
            )
        })?;
        let mut token = self.access.token().await?;
        for _ in 0..=HOPS_MAX {
            let mut response = self.ask(&method, &url, token.as_deref(), body.as_ref()).await?;
            if response.status() == StatusCode::UNAUTHORIZED && self.access.forget(token.as_deref()).await {
                token = self.access.token().await?;
                response = self.ask(&method, &url, token.as_deref(), body.as_ref()).await?;
            }
            if response.status() != StatusCode::TEMPORARY_REDIRECT {
                return answer(&method, &url, response).await;
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            url = next(&url, location, &endpoint.service_url)
                .map_err(|reason| Error::new(ErrorKind::Refused, format!("{method} {url}: 307: {reason}")))?;
        }
        // Topics are moving just now, for example.
        let message = format!("{method} {url}: one broker sends us on to the next, more than {HOPS_MAX} times");
        Err(Error::new(ErrorKind::Unreachable, message))
    }

    async fn ask(
        &self,
        method: &Method,
        url: &Url,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Response, Error> {
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|error| {
            let (kind, reason) =
                self.access.tls.explain(&error).unwrap_or_else(|| (ErrorKind::Unreachable, innermost(&error)));
            let message =
                format!("{method} {url}: {reason}; the admin address is set by ?admin=URL or EVERPULSE_ADMIN_URL");
            Error::with_source(kind, message, error)
        })
    }
}

async fn answer(method: &Method, url: &Url, response: Response) -> Result<Answer, Error> {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    if status.is_success() {
        return Ok(Answer::Done(serde_json::from_str(&text).unwrap_or(Value::Null)));
    }
    let reason = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|body| Some(body.get("reason")?.as_str()?.to_owned()))
        .unwrap_or_default();
    let failed = |kind, hint: &str| Err(Error::new(kind, format!("{method} {url}: {status}: {reason}{hint}")));
    match status {
        StatusCode::NOT_FOUND => Ok(Answer::Missing),
        StatusCode::CONFLICT => Ok(Answer::Exists),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => failed(
            ErrorKind::Unauthorized,
            "; is the token or the certificate right (EVERPULSE_TOKEN, EVERPULSE_TOKEN_FILE, EVERPULSE_TLS_CERT), and \
                 may its role administer this namespace?",
        ),
        // Two create the same subscription at the same moment.
        StatusCode::PRECONDITION_FAILED if reason.contains("Busy") => failed(ErrorKind::Unreachable, ""),
        // Apache Pulsar, when a subscription is to be made of a partition that there is not.
        StatusCode::PRECONDITION_FAILED if reason.starts_with("Topic does not exist") => Ok(Answer::Missing),
        status if status.is_server_error() => failed(ErrorKind::Unreachable, ""),
        status if status.is_redirection() => {
            failed(ErrorKind::Refused, "it is somewhere else; set ?admin=URL or EVERPULSE_ADMIN_URL to where")
        }
        _ => failed(ErrorKind::Refused, ""),
    }
}

impl Answer {
    /// The body, where nothing else makes sense.
    pub fn or_refused(self, what: impl Display) -> Result<Value, Error> {
        match self {
            Answer::Done(body) => Ok(body),
            Answer::Missing => Err(Error::new(ErrorKind::NotFound, format!("{what}: the broker knows no such thing"))),
            Answer::Exists => Err(Error::new(ErrorKind::Refused, format!("{what}: something is in the way"))),
        }
    }
}

/// Where a broker sends us on to, if we go there.
fn next(from: &Url, location: Option<&str>, service_url: &str) -> Result<Url, String> {
    let to = location
        .and_then(|location| from.join(location).ok())
        .filter(|to| to.has_host() && to.username().is_empty() && to.password().is_none())
        .ok_or_else(|| "it sends us on and does not say where to".to_owned())?;
    if to.scheme() != from.scheme() {
        return Err(format!(
            "it sends us on from {} to {}; set ?admin=URL or EVERPULSE_ADMIN_URL to the address that is meant, or let \
             the brokers name each other by the same",
            from.scheme(),
            to.origin().ascii_serialization()
        ));
    }
    if service_url.starts_with("pulsar+ssl://") && !is_private(to.as_str()) {
        let to = to.origin().ascii_serialization();
        return Err(format!("it sends us on to {to}, where our token would go in plain; let the brokers use https"));
    }
    Ok(to)
}

/// Where the admin API of a broker is, if nobody says: the same host, the default port.
pub(crate) fn default_url(service_url: &str) -> String {
    let secure = service_url.starts_with("pulsar+ssl://");
    let host = Url::parse(service_url).ok().and_then(|url| Some(url.host_str()?.to_owned())).unwrap_or_default();
    match secure {
        true => format!("https://{host}:8443"),
        false => format!("http://{host}:8080"),
    }
}

/// The body that creates a subscription before the first message.
pub(crate) fn earliest() -> Value {
    json!({"ledgerId": -1, "entryId": -1, "partitionIndex": -1})
}

/// The body that names a message of a topic, which is meant too. Pulsar wants to hear again which partition that is.
pub(crate) fn at(topic: &str, position: Position) -> Value {
    let partition = topic.rsplit_once("-partition-").and_then(|(_, number)| number.parse::<i32>().ok()).unwrap_or(-1);
    json!({"ledgerId": position.ledger, "entryId": position.entry, "partitionIndex": partition})
}

/// Whether nobody on the way can read what is sent to this URL: it has TLS, or does not leave this machine.
pub(crate) fn is_private(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "https") || is_loopback(url)
}

pub(crate) fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

/// The last cause: reqwest's own message only says which URL failed.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
