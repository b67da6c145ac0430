//! Clients that are broken, slow or hostile, on real sockets: each is stopped, and the others are served.

#[path = "support/thin.rs"]
mod thin;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use everpulse_broker::{Embedded, Options};
use thin::Thin;

const TOPIC: &str = "persistent://public/default/t";

struct Broker {
    embedded: Embedded,
    url: String,
    _dir: tempfile::TempDir,
}

/// The thin client blocks; the broker has a thread of its own.
async fn broker(change: impl FnOnce(&mut Options)) -> Broker {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path());
    change(&mut options);
    let embedded = Embedded::open(options).await.expect("opens");
    let url = embedded.endpoint().service_url;
    Broker { embedded, url, _dir: dir }
}

impl Broker {
    /// Somebody else sends and receives.
    fn serves(&self) {
        let mut other = Thin::connect(&self.url).expect("connects");
        let topic = "persistent://public/default/other";
        other.producer(topic, 1, None).expect("a producer");
        other.consumer(topic, "s", 2, 1).expect("a consumer");
        other.write(&[thin::flow(2, 10), thin::send(1, 0, b"hello")].concat()).expect("written");
        let answer =
            std::iter::repeat_with(|| other.next().expect("an answer")).find(|it| it.command.message.is_some());
        assert_eq!(thin::payload(answer.expect("endless").entry).expect("intact"), "hello"[..]);
    }
}

/// Reads until the broker ends the connection.
fn ends(thin: &mut Thin) -> io::Error {
    loop {
        if let Err(error) = thin.next() {
            let timeouts = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
            assert!(!timeouts.contains(&error.kind()), "the broker keeps the connection");
            return error;
        }
    }
}

#[tokio::test]
async fn the_largest_message_is_announced_and_a_larger_one_ends_its_connection() {
    let broker = broker(|options| options.limits.message_bytes = 100_000).await;
    let mut client = Thin::open(&broker.url).expect("opens");
    client.write(&thin::connect(None)).expect("written");
    let connected = client.next().expect("answered").command.connected.expect("CONNECTED");
    assert_eq!(connected.max_message_size, Some(100_000));
    client.producer(TOPIC, 1, None).expect("a producer");
    client.write(&thin::send(1, 0, &[b'x'; 99_000])).expect("written");
    assert!(client.next().expect("answered").command.send_receipt.is_some());
    // It may be gone before all is written.
    let _ = client.write(&thin::send(1, 1, &vec![b'x'; 200_000]));
    ends(&mut client);
    broker.serves();
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let broker = broker(|options| options.limits.connections = 2).await;
    let first = Thin::connect(&broker.url).expect("connects");
    let _second = Thin::connect(&broker.url).expect("connects");
    let mut third = Thin::open(&broker.url).expect("opens");
    let refusal = third.next().expect("a frame").command.error.expect("an error");
    assert!(refusal.message.contains("maximum number of connections"), "{}", refusal.message);
    ends(&mut third);
    first.close();
    // The broker hears of that in its own time.
    while Thin::connect(&broker.url).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_client_that_never_says_who_it_is_is_given_up() {
    let broker = broker(|options| options.limits.handshake = Duration::from_millis(50)).await;
    ends(&mut Thin::open(&broker.url).expect("opens"));
    broker.serves();
}

#[tokio::test]
async fn a_client_that_is_silent_is_pinged_and_then_given_up() {
    let broker = broker(|options| options.limits.keep_alive = Duration::from_millis(50)).await;
    let mut client = Thin::connect(&broker.url).expect("connects");
    assert!(client.next().expect("a frame").command.ping.is_some());
    ends(&mut client);
}

#[tokio::test]
async fn half_a_frame_does_not_wait_for_ever() {
    let broker = broker(|options| options.limits.stalled = Duration::from_millis(50)).await;
    let mut client = Thin::connect(&broker.url).expect("connects");
    client.producer(TOPIC, 1, None).expect("a producer");
    let send = thin::send(1, 0, &[b'x'; 1000]);
    client.write(&send[..500]).expect("written");
    ends(&mut client);
    broker.serves();
}

#[tokio::test]
async fn a_client_that_never_reads_is_dropped_and_others_are_served() {
    let broker = broker(|options| options.limits.stalled = Duration::from_secs(5)).await;
    let mut sender = Thin::connect(&broker.url).expect("connects");
    sender.producer(TOPIC, 1, None).expect("a producer");
    let mut stuck = Thin::connect(&broker.url).expect("connects");
    stuck.consumer(TOPIC, "s", 1, 0).expect("a consumer");
    stuck.write(&thin::flow(1, u32::MAX)).expect("written");
    // More than all buffers between them hold.
    for n in 0..300 {
        sender.write(&thin::send(1, n, &[b'x'; 100_000])).expect("written");
        assert!(sender.next().expect("answered").command.send_receipt.is_some());
    }
    broker.serves();
    // The exclusive subscription is free when it is gone.
    let mut next = Thin::connect(&broker.url).expect("connects");
    while next.consumer(TOPIC, "s", 1, 0).is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    next.write(&thin::flow(1, 1000)).expect("written");
    for _ in 0..300 {
        while next.next().expect("a frame").command.message.is_none() {}
    }
}

#[tokio::test]
async fn pings_without_end_from_a_client_that_never_reads_end_it() {
    let broker = broker(|options| options.limits.stalled = Duration::from_secs(5)).await;
    let client = Thin::connect(&broker.url).expect("connects");
    let pings = thin::ping().repeat(10_000);
    let mut socket = client.socket();
    // Both directions fill up, then the broker ends it.
    while socket.write_all(&pings).is_ok() {}
    broker.serves();
}

#[tokio::test]
async fn little_memory_makes_producers_wait_and_loses_nothing() {
    let broker = broker(|options| {
        options.limits.memory_bytes = 200_000;
        options.limits.stalled = Duration::from_secs(60);
    })
    .await;
    let mut clients: Vec<Thin> = (0..4).map(|_| Thin::connect(&broker.url).expect("connects")).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.producer(&format!("{TOPIC}{n}"), 1, None).expect("a producer");
    }
    let writers: Vec<_> = clients
        .iter()
        .map(|client| {
            let mut socket = client.socket().try_clone().expect("cloned");
            std::thread::spawn(move || {
                (0..300).for_each(|n| socket.write_all(&thin::send(1, n, &[b'x'; 20_000])).expect("written"));
            })
        })
        .collect();
    for client in &mut clients {
        for n in 0..300 {
            assert_eq!(client.next().expect("answered").command.send_receipt.expect("a receipt").sequence_id, n);
        }
    }
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    broker.serves();
}

#[tokio::test]
async fn garbage_ends_its_connection_and_no_other() {
    let broker = broker(|_| {}).await;
    let send = thin::send(1, 0, b"hello");
    let mut huge = send.clone();
    huge[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut longer_command = send.clone();
    longer_command[4..8].copy_from_slice(&1_000_000u32.to_be_bytes());
    let garbage: [&[u8]; 5] = [&[0xff; 64], &huge, &longer_command, &[0, 0, 0, 0], b"GET / HTTP/1.1\r\n\r\n"];
    for bytes in garbage {
        let mut client = Thin::connect(&broker.url).expect("connects");
        // It may be ended before all is written.
        let _ = client.write(bytes);
        ends(&mut client);
    }
    // A wrong checksum is answered, and the connection goes on.
    let mut client = Thin::connect(&broker.url).expect("connects");
    client.producer(TOPIC, 1, None).expect("a producer");
    let mut damaged = send.clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    client.write(&[damaged, send].concat()).expect("written");
    let error = client.next().expect("answered").command.send_error.expect("an error");
    assert!(error.message.contains("Checksum"), "{}", error.message);
    assert!(client.next().expect("answered").command.send_receipt.is_some());
    // One that goes away in the middle of a frame.
    let mut client = Thin::connect(&broker.url).expect("connects");
    client.write(&thin::send(1, 0, b"hello")[..20]).expect("written");
    drop(client);
    broker.serves();
    broker.embedded.close().await;
}

#[tokio::test]
async fn frames_byte_by_byte_are_understood() {
    let broker = broker(|_| {}).await;
    let mut client = Thin::open(&broker.url).expect("opens");
    for byte in [thin::connect(None), thin::producer(TOPIC, 1, None), thin::send(1, 0, b"hello")].concat() {
        client.write(&[byte]).expect("written");
    }
    while client.next().expect("answered").command.send_receipt.is_none() {}
    let mut rest = [0; 1];
    client.socket().set_nonblocking(true).expect("set");
    assert_eq!(client.socket().read(&mut rest).expect_err("nothing more").kind(), io::ErrorKind::WouldBlock);
}

/// A connection to the admin.
struct Http(TcpStream);

impl Http {
    fn connect(broker: &Broker) -> Http {
        let url = broker.embedded.endpoint().admin_url;
        let stream = TcpStream::connect(url.trim_start_matches("http://")).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        Http(stream)
    }

    fn ask(&mut self, request: &str, body: &str) {
        let head = format!("{request} HTTP/1.1\r\nhost: broker\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.write_all(format!("{head}{body}").as_bytes()).expect("written");
    }

    /// The status; the rest of what is there is passed over.
    fn status(&mut self) -> u16 {
        let mut answer = [0; 4096];
        let read = self.0.read(&mut answer).expect("answered");
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    }

    fn ask_health(&mut self) {
        self.ask("GET /admin/v2/brokers/health", "");
    }
}

// covers: limits
#[tokio::test]
async fn a_large_request_to_the_admin_is_refused() {
    let broker = broker(|options| options.limits.admin_body_bytes = 1000).await;
    for (len, refused) in [(900, false), (1100, true)] {
        let mut http = Http::connect(&broker);
        http.ask("PUT /admin/v2/namespaces/public/new", &"x".repeat(len));
        assert_eq!(http.status() == 413, refused, "{len} bytes");
    }
}

// covers: limits
#[tokio::test]
async fn connections_to_the_admin_wait_for_their_turn() {
    let broker = broker(|options| options.limits.admin_connections = 1).await;
    let mut first = Http::connect(&broker);
    first.ask_health();
    assert_eq!(first.status(), 200);
    let mut second = Http::connect(&broker);
    second.ask_health();
    // It asks later and is answered, since it has the only place.
    first.ask_health();
    assert_eq!(first.status(), 200);
    second.0.set_nonblocking(true).expect("set");
    assert_eq!(second.0.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    second.0.set_nonblocking(false).expect("set");
    drop(first);
    assert_eq!(second.status(), 200);
}

// covers: limits
#[tokio::test]
async fn a_silent_connection_to_the_admin_does_not_keep_its_place() {
    let broker = broker(|options| {
        options.limits.admin_connections = 1;
        options.limits.stalled = Duration::from_millis(50);
    })
    .await;
    let mut silent = Http::connect(&broker);
    silent.0.write_all(b"GET /half").expect("written");
    let mut second = Http::connect(&broker);
    second.ask_health();
    assert_eq!(second.status(), 200);
    // Closed, in whatever way.
    assert_eq!(silent.0.read(&mut [0]).unwrap_or(0), 0);
}
