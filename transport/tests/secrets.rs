//! A token is known to the two sides that need it, and to nobody else: not to logs at any level, not to errors, and not
//! to what lies about.
#![cfg(feature = "embedded")]

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use everpulse_broker::Embedded;
use everpulse_transport::{Address, ErrorKind, Options, SetUp, Subscription, SubscriptionKind, Transport};
use support::issuer::{Issuer, granted};
use support::{LONG, numbered, publisher, soon};

const CANARY: &str = "canary-7f3a";

/// All that is logged, by `tracing` and by `log`.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// As text, as a list of bytes, and without its last letters, as a cut line would have it.
fn spellings() -> Vec<String> {
    let bytes: Vec<String> = CANARY.bytes().map(|byte| byte.to_string()).collect();
    vec!["canary".to_owned(), bytes.join(", "), bytes.join(",")]
}

fn assert_clean(what: &str, text: &str) {
    for spelling in spellings() {
        if let Some(at) = text.find(&spelling) {
            let begin = text[..at].rfind('\n').map_or(0, |line| line + 1);
            let end = text[at..].find('\n').map_or(text.len(), |line| at + line);
            panic!("the token is in {what}: {}", &text[begin..end]);
        }
    }
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path => found.push(path),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_in_nothing_that_is_logged_said_or_stored() {
    let logged = Logged::default();
    let writer = logged.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut options = everpulse_broker::Options::new(dir.path());
    options.token = Some(CANARY.into());
    let mut said = vec![format!("{options:?}")];
    let broker = Embedded::open(options).await.expect("it serves");
    let endpoint = broker.endpoint();
    let address: Address =
        format!("{}?admin={}", endpoint.service_url, endpoint.admin_url).parse().expect("a good address");

    // The right token does what it is for.
    let right = address.clone().with_token(CANARY);
    said.push(format!("{right} {right:?}"));
    let transport =
        Transport::connect(&right, Options::default().connect_timeout(LONG)).await.expect("the token is right");
    said.push(format!("{transport:?}"));
    transport.set_up(&SetUp::default().shards(Some(2)).inbox_partitions(Some(2))).await.expect("set up");
    let sender = publisher(&transport, "timers");
    soon("a receipt", sender.publish(numbered(None, 1))).await.expect("stored");
    let subscription = Subscription::new("timers", "relay", SubscriptionKind::Shared);
    let mut consumer = transport.subscribe(subscription).await.expect("subscribed");
    let delivery = soon("the message", consumer.recv()).await;
    assert_eq!(support::number_of(&delivery), 1);
    let metrics = reqwest::Client::new().get(format!("{}/metrics", endpoint.admin_url)).bearer_auth(CANARY);
    let metrics = metrics.send().await.expect("an answer").text().await.expect("a text");
    assert!(metrics.contains("# TYPE"), "{metrics}");
    said.push(metrics);

    // One that an issuer gives, and what we show the issuer for it.
    let issuer = Issuer::start(|| granted(CANARY, 3600)).await;
    let keys = tempfile::tempdir().expect("a temporary directory");
    let key_file = issuer.key_file(keys.path());
    let issued: Address = format!("{address}&oauth2_key_file={}", key_file.display()).parse().expect("a good address");
    said.push(format!("{issued} {issued:?}"));
    let by_issuer =
        Transport::connect(&issued, Options::default().connect_timeout(LONG)).await.expect("the token is right");
    by_issuer.set_up(&SetUp::default()).await.expect("the admin API takes it, too");
    assert_eq!(issuer.asked().len(), 1);
    said.push(format!("{by_issuer:?}"));
    issuer.answers(|| granted(&format!("{CANARY}-wrong"), 3600));
    let error = soon("an error", Transport::connect(&issued, Options::default())).await.expect_err("it is wrong");
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    said.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));

    // Refused once, another is asked for, and it serves.
    let asked = issuer.asked().len();
    let tries = std::sync::atomic::AtomicU64::new(0);
    issuer.answers(move || match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => granted(&format!("{CANARY}-old"), 3600),
        _ => granted(CANARY, 3600),
    });
    soon("a second try", Transport::connect(&issued, Options::default())).await.expect("the second token is right");
    assert_eq!(issuer.asked().len() - asked, 2);

    // A wrong one is not repeated either.
    let wrong = address.with_token(format!("{CANARY}-wrong"));
    let error = soon("an error", Transport::connect(&wrong, Options::default())).await.expect_err("it is wrong");
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    said.push(format!("{error} {error:?} {:?}", std::error::Error::source(&error)));

    drop((consumer, sender, by_issuer));
    transport.close().await;
    broker.close().await;
    for text in &said {
        assert_clean("what was said", text);
    }
    let mut stored = Vec::new();
    files(dir.path(), &mut stored);
    assert!(stored.iter().any(|file| file.ends_with("broker.json")), "{stored:?}");
    for file in stored {
        let bytes = std::fs::read(&file).expect("a file");
        assert_clean(&file.display().to_string(), &String::from_utf8_lossy(&bytes));
    }
    let log = String::from_utf8(logged.0.lock().expect("not poisoned").clone()).expect("text");
    // It was listened to: to us, and to the crate that writes its handshake down where it may.
    assert!(log.contains("everpulse_transport::link") && log.contains("pulsar::connection"), "{log}");
    assert_clean("the log", &log);
}
