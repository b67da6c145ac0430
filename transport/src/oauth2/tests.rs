//! The source of tokens and an issuer that gives them, or does not.

use axum::http::StatusCode;
use serde_json::json;
use tempfile::TempDir;

use super::*;

#[path = "../../tests/support/issuer.rs"]
mod issuer;

use issuer::{Issuer, SECRET, granted};

const HOUR: u64 = 3600;

struct Asking {
    issuer: Issuer,
    source: Source,
    dir: TempDir,
}

impl Asking {
    async fn new(answering: impl Fn() -> (StatusCode, Value) + Send + Sync + 'static) -> Asking {
        let issuer = Issuer::start(answering).await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let grant = Grant { key_file: issuer.key_file(dir.path()), issuer: None, audience: None, scope: None };
        Asking { issuer, source: Source::new(grant, &Tls::default()), dir }
    }

    async fn token(&self) -> String {
        self.source.token().await.expect("a token")
    }

    async fn error(&self) -> Error {
        let error = self.source.token().await.expect_err("no token");
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
        error
    }

    /// As if so much time had passed for what is kept.
    async fn let_pass(&self, time: Duration) {
        let mut kept = self.source.kept.lock().await;
        let kept = kept.as_mut().expect("there is one");
        kept.renewed_at -= time;
        kept.ends_at -= time;
    }
}

fn numbered() -> impl Fn() -> (StatusCode, Value) + Send + Sync + 'static {
    let count = std::sync::atomic::AtomicU64::new(0);
    move || granted(&format!("token {}", count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)), HOUR)
}

#[tokio::test]
async fn it_is_asked_as_the_standard_says() {
    let mut asking = Asking::new(numbered()).await;
    asking.source.grant.audience = Some("urn:pulsar & co".to_owned());
    asking.source.grant.scope = Some("a b".to_owned());
    asking.token().await;
    let form = asking.issuer.asked().remove(0);
    let field = |name: &str| form.get(name).map(String::as_str);
    assert_eq!(field("grant_type"), Some("client_credentials"));
    assert_eq!((field("client_id"), field("client_secret")), (Some("a client"), Some(SECRET)));
    assert_eq!((field("audience"), field("scope")), (Some("urn:pulsar & co"), Some("a b")));
    assert_eq!(form.len(), 5);
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_its_end() {
    let asking = Asking::new(numbered()).await;
    let (one, other) = tokio::join!(asking.token(), asking.token());
    assert_eq!((one, other), ("token 0".to_owned(), "token 0".to_owned()), "those who come at once share it");
    asking.let_pass(Duration::from_secs(HOUR - 120)).await;
    assert_eq!(asking.token().await, "token 0");
    asking.let_pass(Duration::from_secs(60)).await;
    assert_eq!(asking.token().await, "token 1");
    asking.source.forget("token 1").await;
    assert_eq!(asking.token().await, "token 2");
    asking.source.forget("token 1").await;
    assert_eq!(asking.token().await, "token 2", "that was the one before");
    assert_eq!(asking.issuer.asked().len(), 3);
}

#[tokio::test]
async fn while_the_issuer_is_down_the_old_token_serves_to_its_end() {
    let asking = Asking::new(numbered()).await;
    asking.token().await;
    asking.issuer.answers(|| (StatusCode::SERVICE_UNAVAILABLE, json!({})));
    asking.let_pass(Duration::from_secs(HOUR - 30)).await;
    assert_eq!(asking.token().await, "token 0");
    assert_eq!(asking.token().await, "token 0");
    assert_eq!(asking.issuer.asked().len(), 2, "it is left alone for a while");
    asking.let_pass(PAUSE).await;
    assert_eq!(asking.token().await, "token 0");
    assert_eq!(asking.issuer.asked().len(), 3);
    asking.let_pass(Duration::from_secs(30)).await;
    let error = asking.error().await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    asking.issuer.answers(|| granted("another", HOUR));
    assert_eq!(asking.token().await, "another");
}

#[tokio::test]
async fn whatever_is_wrong_with_the_issuer_the_old_token_serves_to_its_end() {
    let mut asking = Asking::new(numbered()).await;
    asking.token().await;
    asking.let_pass(Duration::from_secs(HOUR - 30)).await;
    let url = asking.issuer.url.clone();
    asking.issuer.answers(|| (StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"})));
    for issuer in [url.clone(), format!("{url}/nowhere"), format!("{url}/moved"), format!("{url}/page")] {
        asking.source.grant.issuer = Some(issuer);
        assert_eq!(asking.token().await, "token 0");
        asking.let_pass(PAUSE).await;
    }
    asking.source.grant.issuer = None;
    std::fs::remove_file(asking.dir.path().join("key.json")).expect("removed");
    assert_eq!(asking.token().await, "token 0");
    asking.let_pass(Duration::from_secs(30)).await;
    asking.error().await;
}

#[tokio::test]
async fn nobody_waits_for_an_issuer_that_hangs_while_there_is_a_token() {
    let mut asking = Asking::new(numbered()).await;
    asking.token().await;
    asking.let_pass(Duration::from_secs(HOUR - 30)).await;
    // It takes connections, and says nothing.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    asking.source.grant.issuer = Some(format!("http://{}", hanging.local_addr().expect("bound")));
    // Only what is waited for in vain lets time pass.
    tokio::time::pause();
    let before = Instant::now();
    for _ in 0..3 {
        assert_eq!(asking.token().await, "token 0");
    }
    let waited = before.elapsed();
    assert!(waited >= LIMIT_WITH_A_TOKEN && waited < LIMIT_WITH_A_TOKEN * 2, "once, and no longer: {waited:?}");
}

#[tokio::test]
async fn a_client_that_is_turned_away_is_told_what_to_look_at() {
    let asking = Asking::new(numbered()).await;
    let said = json!({"error": "invalid_client", "error_description": format!("no, not {SECRET}\n!")});
    asking.issuer.answers(move || (StatusCode::UNAUTHORIZED, said.clone()));
    let error = asking.error().await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let text = error.to_string();
    for part in ["401", "invalid_client, no, not ***!", "key.json", "EVERPULSE_OAUTH2_KEY_FILE", &asking.issuer.url] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn nobody_at_the_issuers_address_is_said_with_the_address() {
    let mut asking = Asking::new(numbered()).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    asking.source.grant.issuer = Some(format!("http://{free}"));
    let error = asking.error().await;
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for part in [&*free.to_string(), "refused", "EVERPULSE_OAUTH2_ISSUER"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_issuer_is_refused() {
    let mut asking = Asking::new(|| (StatusCode::OK, json!({"token": "elsewhere"}))).await;
    let check = |error: Error, part: &str| {
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
    };
    check(asking.error().await, "access_token");
    asking.issuer.answers(|| (StatusCode::OK, json!({"access_token": "x".repeat(ANSWER_BYTES_MAX)})));
    check(asking.error().await, "too large");
    let url = asking.issuer.url.clone();
    asking.source.grant.issuer = Some(format!("{url}/nowhere"));
    check(asking.error().await, "404");
    // Nor does the secret go where somebody points.
    let asked = asking.issuer.asked().len();
    asking.source.grant.issuer = Some(format!("{url}/moved"));
    check(asking.error().await, "307");
    assert_eq!(asking.issuer.asked().len(), asked);
    // Nor anywhere in plain; nobody is even dialled.
    asking.source.grant.issuer = None;
    for (endpoint, part) in [
        (json!(null), "no token_endpoint"),
        (json!("token"), "no token_endpoint"),
        (json!("http://issuer.example.com/token"), "has no TLS"),
        (json!("ftp://127.0.0.1/token"), "has no TLS"),
    ] {
        asking.issuer.points_to(endpoint);
        check(asking.error().await, part);
    }
    assert_eq!(asking.issuer.asked().len(), asked);
    asking.source.grant.issuer = Some("http://issuer.example.com".to_owned());
    let error = asking.error().await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    for part in ["issuer.example.com", "in plain", "https://"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn how_long_a_token_lives_is_read_as_issuers_write_it() {
    let asking = Asking::new(|| granted("a", "3600")).await;
    asking.token().await;
    asking.token().await;
    assert_eq!(asking.issuer.asked().len(), 1, "written as a text");
    // Longer than clocks can count, and ten seconds, and nothing at all.
    for (life, asked_again) in [(json!(u64::MAX), false), (json!(10), false), (json!(null), true)] {
        *asking.source.kept.lock().await = None;
        let before = asking.issuer.asked().len();
        let answered = life.clone();
        asking.issuer.answers(move || granted("b", answered.clone()));
        asking.token().await;
        asking.token().await;
        assert_eq!(asking.issuer.asked().len() - before, if asked_again { 2 } else { 1 }, "{life}");
    }
}

#[tokio::test]
async fn a_bad_key_file_is_named_and_not_quoted() {
    let asking = Asking::new(numbered()).await;
    let file = asking.dir.path().join("key.json");
    let good = std::fs::read_to_string(&file).expect("the key");
    for (text, part) in [
        (format!("{{\"client_secret\": \"{SECRET}\" oh"), "not JSON"),
        (good.replace("client_id", "clientId"), "client_id"),
        (good.replace(&format!("\"{SECRET}\""), &format!("[\"{SECRET}\"]")), "client_secret"),
        (good.replace("client_credentials", "password"), "type"),
        (good.replace("issuer_url", "issuerUrl"), "EVERPULSE_OAUTH2_ISSUER"),
        (good.replace("http://", &format!("http://user:{SECRET}@")), "without a user"),
    ] {
        std::fs::write(&file, text).expect("written");
        let error = asking.error().await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains(part) && error.to_string().contains("key.json"), "{part}: {error}");
    }
    std::fs::remove_file(&file).expect("removed");
    assert!(asking.error().await.to_string().contains("No such file"));
    // It is read each time: put right, it serves.
    std::fs::write(&file, good).expect("written");
    assert_eq!(asking.token().await, "token 0");
    assert!(!format!("{:?}", asking.source).contains(SECRET));
}
