//! A small issuer of tokens, as an identity provider is one: it answers as a test tells it, and counts.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::sync::watch;

/// What its clients know.
pub const SECRET: &str = "canary-client-secret-9e1c";

type Answering = dyn Fn() -> (StatusCode, Value) + Send + Sync;

pub struct Issuer {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    /// Where it says that tokens are given.
    endpoint: Mutex<Value>,
    answering: Mutex<Arc<Answering>>,
    /// The forms that it was sent.
    asked: watch::Sender<Vec<BTreeMap<String, String>>>,
}

impl Issuer {
    pub async fn start(answering: impl Fn() -> (StatusCode, Value) + Send + Sync + 'static) -> Issuer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = watch::Sender::new(Vec::new());
        let endpoint = Mutex::new(json!(format!("{url}/token")));
        let answering: Mutex<Arc<Answering>> = Mutex::new(Arc::new(answering));
        let shared = Arc::new(Shared { url: url.clone(), endpoint, answering, asked });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(about))
            .route("/token", post(token))
            .route("/moved/.well-known/openid-configuration", get(moved))
            .route("/page/.well-known/openid-configuration", get(|| async { "<html>a page</html>" }))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Issuer { url, shared }
    }

    /// From now on it answers so.
    pub fn answers(&self, answering: impl Fn() -> (StatusCode, Value) + Send + Sync + 'static) {
        *self.shared.answering.lock().expect("no holder panics") = Arc::new(answering);
    }

    /// From now on it says that tokens are given there.
    pub fn points_to(&self, endpoint: impl Into<Value>) {
        *self.shared.endpoint.lock().expect("no holder panics") = endpoint.into();
    }

    pub fn asked(&self) -> Vec<BTreeMap<String, String>> {
        self.shared.asked.borrow().clone()
    }

    /// Waits until it was asked so often more.
    pub async fn is_asked(&self, more: usize) {
        let enough = self.asked().len() + more;
        let mut asked = self.shared.asked.subscribe();
        asked.wait_for(|asked| asked.len() >= enough).await.expect("it lives as long as this");
    }

    /// Writes a key file for it.
    pub fn key_file(&self, dir: &Path) -> std::path::PathBuf {
        let file = dir.join("key.json");
        let key = json!({
            "type": "client_credentials", "client_id": "a client", "client_secret": SECRET, "issuer_url": self.url,
        });
        std::fs::write(&file, key.to_string()).expect("written");
        file
    }
}

/// An answer with a token.
pub fn granted(token: &str, expires_in: impl Into<Value>) -> (StatusCode, Value) {
    (StatusCode::OK, json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in.into()}))
}

/// A token as Pulsar reads it, which is valid for so long from now on, and for a part of a second more.
pub fn signed(secret: &[u8], role: &str, life: Duration) -> String {
    let ends_at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + life;
    let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let text =
        format!("{}.{}", part(json!({"alg": "HS256"})), part(json!({"sub": role, "exp": ends_at.as_secs() + 1})));
    let signature = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

async fn about(State(shared): State<Arc<Shared>>) -> Response {
    let endpoint = shared.endpoint.lock().expect("no holder panics").clone();
    json(StatusCode::OK, &json!({"issuer": shared.url, "token_endpoint": endpoint}))
}

/// Another place than it should be.
async fn moved(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let to = format!("{}{}", shared.url, uri.path().trim_start_matches("/moved"));
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
}

async fn token(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let form = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    shared.asked.send_modify(|asked| asked.push(form));
    let answering = shared.answering.lock().expect("no holder panics").clone();
    let (status, body) = answering();
    json(status, &body)
}

fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
