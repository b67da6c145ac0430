//! What a broker sees: a proxy in front of it that keeps every byte that passes, in both directions.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

pub struct Wiretap {
    pub url: String,
    heard: Heard,
}

type Heard = Arc<Mutex<Vec<u8>>>;

impl Wiretap {
    /// In front of `pulsar://127.0.0.1:PORT`.
    pub async fn start(broker_url: &str) -> Result<Self> {
        let broker = broker_url.strip_prefix("pulsar://").context("a plain address")?.to_owned();
        // Of the same length, so that one can stand for the other inside an answer that says where a topic is.
        let listener = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            if listener.local_addr()?.to_string().len() == broker.len() {
                break listener;
            }
        };
        let own = listener.local_addr()?.to_string();
        let heard = Heard::default();
        let tap = Self { url: format!("pulsar://{own}"), heard: Arc::clone(&heard) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&broker).await else { continue };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                tokio::spawn(forward(client_read, server_write, Arc::clone(&heard), None));
                let names = Some((broker.clone(), own.clone()));
                tokio::spawn(forward(server_read, client_write, Arc::clone(&heard), names));
            }
        });
        Ok(tap)
    }

    /// Whether these bytes have passed.
    pub fn has_heard(&self, what: &str) -> bool {
        holds(&self.heard.lock().unwrap_or_else(PoisonError::into_inner), what)
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, heard: Heard, names: Option<(String, String)>) {
    while let Ok(size) = from.read_u32().await {
        let mut frame = size.to_be_bytes().to_vec();
        frame.resize(4 + size as usize, 0);
        if from.read_exact(&mut frame[4..]).await.is_err() {
            return;
        }
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend(&frame);
        if let Some((broker, own)) = names.as_ref().filter(|_| frame.len() <= 512) {
            let found = frame.windows(broker.len()).position(|window| window == broker.as_bytes());
            if let Some(at) = found {
                frame[at..at + own.len()].copy_from_slice(own.as_bytes());
            }
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Whether bytes hold a text.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
