//! The admin client and brokers that send it on.

use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use super::*;
use crate::access::Token;
use crate::tls::Tls;

/// A broker: what it was asked, and where it sends everybody on to.
struct Broker {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Method, path and query, token, body.
    asked: Mutex<Vec<[String; 4]>>,
    sends_on_to: Mutex<Option<String>>,
}

impl Broker {
    async fn start() -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(asked).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Broker { url, shared }
    }

    fn sends_on_to(&self, location: impl Into<String>) {
        *self.shared.sends_on_to.lock().expect("no holder panics") = Some(location.into());
    }

    fn asked(&self) -> Vec<[String; 4]> {
        std::mem::take(&mut self.shared.asked.lock().expect("no holder panics"))
    }

    fn admin(&self, service_url: &str) -> Admin {
        let endpoint = Endpoint { service_url: service_url.to_owned(), admin_url: self.url.clone() };
        let access = Access::new(Token::Value("a token".to_owned()), Tls::default());
        Admin::new(Arc::new(watch::Sender::new(endpoint)), access).expect("a client")
    }
}

async fn asked(
    State(shared): State<Arc<Shared>>,
    method: axum::http::Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    shared.asked.lock().expect("no holder panics").push([method.to_string(), uri.to_string(), token, body]);
    match shared.sends_on_to.lock().expect("no holder panics").clone() {
        Some(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        None => axum::Json(json!({"here": true})).into_response(),
    }
}

#[test]
fn a_position_bears_the_partition_of_its_topic() {
    let partition = |topic: &str| at(topic, Position { ledger: 1, entry: 2 })["partitionIndex"].as_i64();
    assert_eq!(partition("history-partition-12"), Some(12));
    assert_eq!(partition("persistent://public/default/timers"), Some(-1));
    assert_eq!(partition("a-partition-of-mine"), Some(-1));
}

#[tokio::test]
async fn the_owner_of_a_topic_is_asked_where_another_broker_says_so_with_all_that_it_was_sent() {
    let (first, owner) = (Broker::start().await, Broker::start().await);
    let path = "/admin/v2/persistent/t/n/x?authoritative=true";
    // Another name, so that it is another host, too.
    first.sends_on_to(format!("{}{path}", owner.url.replace("127.0.0.1", "localhost")));
    let answer = first.admin("pulsar://h:1").post("persistent/t/n/x", json!({"a": 1})).await.expect("an answer");
    assert!(matches!(answer, Answer::Done(body) if body["here"] == true));
    let sent = |path: &str| vec![["POST", path, "Bearer a token", "{\"a\":1}"].map(str::to_owned)];
    assert_eq!(first.asked(), sent("/admin/v2/persistent/t/n/x"));
    assert_eq!(owner.asked(), sent(path));
}

#[tokio::test]
async fn who_is_sent_round_in_circles_tries_again_later() {
    let broker = Broker::start().await;
    broker.sends_on_to("/admin/v2/clusters");
    let error = broker.admin("pulsar://h:1").get("clusters").await.map(drop).expect_err("it never ends");
    assert!(error.is_passing(), "{error}");
    assert!(error.to_string().contains("/admin/v2/clusters: one broker sends us on"), "{error}");
    assert_eq!(broker.asked().len(), HOPS_MAX + 1);
}

#[tokio::test]
async fn where_nobody_may_be_sent_on_to_nobody_is_asked() {
    let broker = Broker::start().await;
    for (service_url, location, part) in [
        ("pulsar://h:1", "https://127.0.0.1:1/", "from http to https://127.0.0.1:1; set ?admin=URL"),
        ("pulsar+ssl://h:1", "http://broker.example.com:8080/x", "http://broker.example.com:8080, where our token"),
        ("pulsar://h:1", "http://user:s3cret@127.0.0.1:1/", "does not say where to"),
        ("pulsar://h:1", "ftp://127.0.0.1:1/", "from http to"),
        ("pulsar://h:1", "http://", "does not say where to"),
    ] {
        broker.sends_on_to(location);
        let error = broker.admin(service_url).get("clusters").await.map(drop).expect_err(location);
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains(part) && !error.to_string().contains("s3cret"), "{location}: {error}");
    }
}

#[test]
fn from_tls_nothing_leads_out_of_it() {
    let from = Url::parse("https://h:8443/admin/v2/clusters").expect("a URL");
    let to = |location| next(&from, Some(location), "pulsar+ssl://h:6651").map(|url| url.to_string());
    assert_eq!(to("https://other:8443/x?authoritative=true"), Ok("https://other:8443/x?authoritative=true".to_owned()));
    assert_eq!(to("/y"), Ok("https://h:8443/y".to_owned()));
    for location in ["http://h:8080/x", "http://127.0.0.1:8080/x", "HTTP://h/"] {
        assert!(to(location).expect_err(location).contains("from https to http://"), "{location}");
    }
    assert!(next(&from, None, "pulsar+ssl://h:6651").is_err());
}
