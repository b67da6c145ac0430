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

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::Position;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use crate::access::Access;
use crate::link::Endpoint;
use crate::{Error, ErrorKind};

const LIMIT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

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
        let mut builder = reqwest::Client::builder().use_preconfigured_tls(tls).timeout(LIMIT).connect_timeout(CONNECT);
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

    async fn ask(&self, method: &Method, url: &str, body: Option<&Value>) -> Result<reqwest::Response, Error> {
        let mut request = self.http.request(method.clone(), url);
        if let Some(token) = self.access.token().await? {
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

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, Error> {
        let url = format!("{}/admin/v2/{path}", self.endpoints.borrow().admin_url);
        let mut response = self.ask(&method, &url, body.as_ref()).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.access.forget().await {
            response = self.ask(&method, &url, body.as_ref()).await?;
        }
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
            _ => failed(ErrorKind::Refused, ""),
        }
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
mod tests {
    use super::*;

    #[test]
    fn a_position_bears_the_partition_of_its_topic() {
        let partition = |topic: &str| at(topic, Position { ledger: 1, entry: 2 })["partitionIndex"].as_i64();
        assert_eq!(partition("history-partition-12"), Some(12));
        assert_eq!(partition("persistent://public/default/timers"), Some(-1));
        assert_eq!(partition("a-partition-of-mine"), Some(-1));
    }
}
