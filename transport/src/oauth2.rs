//! Tokens that an issuer gives for a client's id and secret: OAuth 2.0's client credentials (RFC 6749, section 4.4), asked
//! for as Pulsar's own clients do, with the same key file.
//!
//! ```text
//! GET  ISSUER/.well-known/openid-configuration     {"token_endpoint": ..}
//! POST token_endpoint                              grant_type, client_id, client_secret, audience, scope
//!                                                  {"access_token": .., "expires_in": seconds}
//! ```
//!
//! A token is kept until shortly before it expires; all connections share it. While a new one cannot be had, for whatever
//! reason, the old one serves for as long as it is valid; then nobody waits long for the issuer, and it is left alone for
//! some seconds. One that the broker refuses is forgotten, and once another is tried: clocks differ. The key file is read
//! each time that a token is asked for.
//!
//! No answer of the issuer's is repeated in an error beyond its reason, and that without the secret. Redirections are not
//! followed, since the secret would follow them; from an issuer with TLS nothing leads to one without; and without TLS the
//! secret goes to this machine only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::admin::{is_loopback, is_private};
use crate::tls::Tls;
use crate::{Error, ErrorKind};

const LIMIT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// How long the issuer may take while the old token is valid, and how long it is not asked again after that failed.
const LIMIT_WITH_A_TOKEN: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(5);
/// More than that is no token.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Longer than any token lives.
const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How long before the end the next token is asked for: a fifth of its life, and no longer than this.
const BEFORE_THE_END_MAX: Duration = Duration::from_secs(60);

/// What is asked for, and of whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Grant {
    /// JSON, as Pulsar's clients take it: `client_id`, `client_secret`, and perhaps `issuer_url`.
    pub key_file: PathBuf,
    /// The key file's if none.
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub scope: Option<String>,
}

/// Gives tokens.
pub(crate) struct Source {
    grant: Grant,
    /// Whom to trust. A certificate of ours is for the broker.
    tls: Tls,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: String,
    /// When the next one is asked for.
    renewed_at: Instant,
    ends_at: Instant,
}

/// Never printed.
struct Key {
    client_id: String,
    client_secret: String,
    issuer: Url,
}

impl Source {
    pub fn new(grant: Grant, tls: &Tls) -> Self {
        let tls = Tls { ca: tls.ca.clone(), identity: None };
        Source { grant, tls, kept: Mutex::new(None) }
    }

    /// A token that is valid now, for all this process can know.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] when the issuer gives none to this client, or the key file cannot be read;
    /// [`ErrorKind::Unreachable`] when the issuer cannot be asked; [`ErrorKind::Refused`] when it is no issuer.
    ///
    /// # Cancel safety
    /// What was kept stays.
    pub async fn token(&self) -> Result<String, Error> {
        // Held while asking: who comes meanwhile has the answer, too.
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| Instant::now() < kept.renewed_at.min(kept.ends_at)) {
            return Ok(kept.token.clone());
        }
        let asking = self.ask();
        let Some(old) = kept.as_mut().filter(|kept| Instant::now() < kept.ends_at) else {
            let new = kept.insert(asking.await?);
            return Ok(new.token.clone());
        };
        let reason = match timeout(LIMIT_WITH_A_TOKEN, asking).await {
            Ok(Ok(new)) => {
                *old = new;
                return Ok(old.token.clone());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the issuer has not answered in {LIMIT_WITH_A_TOKEN:?}"),
        };
        tracing::warn!(reason, "no new token for now; the old one is used until it ends");
        old.renewed_at = Instant::now() + PAUSE;
        Ok(old.token.clone())
    }

    /// The broker does not take this one.
    pub async fn forget(&self, refused: &str) {
        // Somebody else may have a better one by now.
        self.kept.lock().await.take_if(|kept| kept.token == refused);
    }

    async fn ask(&self) -> Result<Kept, Error> {
        let key = self.read_key()?;
        let http = self.http(&key.issuer)?;
        let about =
            Url::parse(&format!("{}/.well-known/openid-configuration", key.issuer.as_str().trim_end_matches('/')))
                .map_err(|error| no_issuer(&key.issuer, &error.to_string()))?;
        let about = self.json(http.get(about), &key).await?;
        let endpoint = about["token_endpoint"]
            .as_str()
            .and_then(|text| Url::parse(text).ok())
            .ok_or_else(|| no_issuer(&key.issuer, "it names no token_endpoint"))?;
        let here = endpoint.scheme() == "http" && is_loopback(endpoint.as_str()) && key.issuer.scheme() == "http";
        if endpoint.scheme() != "https" && !here {
            return Err(no_issuer(&key.issuer, "its token_endpoint has no TLS"));
        }
        let request = http
            .post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(self.form(&key));
        let asked_at = Instant::now();
        let answer = self.json(request, &key).await?;
        let token = answer["access_token"].as_str().ok_or_else(|| no_issuer(&key.issuer, "it gave no access_token"))?;
        // Some write it as a text. Without one it is not known to be good for a second time.
        let life = answer["expires_in"].as_u64().or_else(|| answer["expires_in"].as_str()?.parse().ok()).unwrap_or(0);
        let life = Duration::from_secs(life).min(LIFE_MAX);
        let ends_at = asked_at + life;
        Ok(Kept { token: token.to_owned(), renewed_at: ends_at - (life / 5).min(BEFORE_THE_END_MAX), ends_at })
    }

    fn form(&self, key: &Key) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        form.append_pair("client_id", &key.client_id).append_pair("client_secret", &key.client_secret);
        for (name, value) in [("audience", &self.grant.audience), ("scope", &self.grant.scope)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }

    fn http(&self, issuer: &Url) -> Result<reqwest::Client, Error> {
        let mut builder = reqwest::Client::builder()
            .use_preconfigured_tls(self.tls.config()?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(LIMIT)
            .connect_timeout(CONNECT);
        if is_loopback(issuer.as_str()) {
            builder = builder.no_proxy();
        }
        builder
            .build()
            .map_err(|error| Error::with_source(ErrorKind::Invalid, format!("cannot use HTTP: {error}"), error))
    }

    async fn json(&self, request: reqwest::RequestBuilder, key: &Key) -> Result<Value, Error> {
        let (http, request) = request.build_split();
        let request = request.map_err(|error| no_issuer(&key.issuer, &error.without_url().to_string()))?;
        let url = request.url().clone();
        let unreachable = |error: reqwest::Error| {
            let (kind, reason) =
                self.tls.explain(&error).unwrap_or_else(|| (ErrorKind::Unreachable, crate::admin::innermost(&error)));
            let message = format!(
                "no token from {url}: {reason}; is the issuer running, and is its address right (oauth2_issuer or \
                 EVERPULSE_OAUTH2_ISSUER)?"
            );
            Error::new(kind, message)
        };
        let mut response = http.execute(request).await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(no_issuer(&key.issuer, "its answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let body: Option<Value> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            return body.ok_or_else(|| no_issuer(&key.issuer, &format!("{url} answers with something else than JSON")));
        }
        let reason = reason(body.as_ref(), key);
        let file = self.grant.key_file.display();
        Err(if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            Error::new(ErrorKind::Unreachable, format!("no token from {url}: {status}{reason}"))
        } else if status.is_redirection() || status == reqwest::StatusCode::NOT_FOUND {
            no_issuer(&key.issuer, &format!("{url} answers {status}"))
        } else {
            Error::new(
                ErrorKind::Unauthorized,
                format!(
                    "no token from {url}: {status}{reason}; are the client in {file}, the audience and the scope right \
                     (oauth2_key_file, oauth2_audience, oauth2_scope, or EVERPULSE_OAUTH2_KEY_FILE and so on)?"
                ),
            )
        })
    }

    fn read_key(&self) -> Result<Key, Error> {
        let file = &self.grant.key_file;
        let text = std::fs::read_to_string(file).map_err(|error| unusable(file, &error.to_string()))?;
        // What serde says quotes what it found.
        let json: Value = serde_json::from_str(&text)
            .map_err(|error| unusable(file, &format!("it is not JSON, at line {}", error.line())))?;
        let field = |name: &str| json[name].as_str().filter(|value| !value.is_empty());
        let needed = |name: &str| {
            field(name).map(str::to_owned).ok_or_else(|| unusable(file, &format!("it has no text called {name}")))
        };
        if field("type").is_some_and(|kind| kind != "client_credentials") {
            return Err(unusable(file, "its type is not client_credentials"));
        }
        let issuer =
            self.grant.issuer.as_deref().or_else(|| field("issuer_url")).ok_or_else(|| {
                unusable(file, "it has no issuer_url; set oauth2_issuer=URL or EVERPULSE_OAUTH2_ISSUER")
            })?;
        let issuer = Url::parse(issuer)
            .ok()
            .filter(|url| {
                matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
            })
            .ok_or_else(|| unusable(file, "the issuer is no http or https URL without a user"))?;
        if !is_private(issuer.as_str()) {
            let reason = format!(
                "its secret would go to the issuer {issuer} in plain; give the issuer an address with https://"
            );
            return Err(unusable(file, &reason));
        }
        Ok(Key { client_id: needed("client_id")?, client_secret: needed("client_secret")?, issuer })
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// What the issuer says was wrong, made fit for an error.
fn reason(body: Option<&Value>, key: &Key) -> String {
    const CHARACTERS_MAX: usize = 200;
    let said = |name: &str| body.and_then(|body| body[name].as_str()).filter(|text| !text.is_empty());
    let parts: Vec<&str> = ["error", "error_description"].into_iter().filter_map(said).collect();
    let text = parts.join(", ").replace(&key.client_secret, "***");
    let text: String = text.chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

fn unusable(file: &Path, reason: &str) -> Error {
    let message = format!("cannot use the OAuth 2.0 key file {}: {reason}", file.display());
    Error::new(ErrorKind::Unauthorized, message)
}

fn no_issuer(issuer: &Url, reason: &str) -> Error {
    let message = format!(
        "{issuer} is not an issuer of tokens: {reason}; is oauth2_issuer (or EVERPULSE_OAUTH2_ISSUER, or issuer_url in \
         the key file) right?"
    );
    Error::new(ErrorKind::Refused, message)
}

#[cfg(test)]
mod tests;
