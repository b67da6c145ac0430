//! The clients that start runs: some, of which any may be dropped at any time and be followed by a new one.
//!
//! *Quick* ones give up a question after seconds, as callers do, and it is asked anew under another event's id; that is
//! right for whatever is the same when it is done twice. *Patient* ones ask one question until it is answered: for
//! signals, which count once per question.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use everpulse::Client;
use everpulse::client::Options;
use everpulse_transport::Address;

/// How long a quick client waits for an answer.
const QUICK: Duration = Duration::from_secs(20);
/// How long a patient one does: longer than anything is broken, shorter than inputs may be on their way.
pub const PATIENT: Duration = Duration::from_secs(900);
/// How long the first connection is tried again, while the broker may be away.
const CONNECT: Duration = Duration::from_secs(120);

/// Some clients.
#[derive(Debug)]
pub struct Clients {
    urls: Vec<String>,
    limit: Duration,
    all: Mutex<Vec<Client>>,
    next: AtomicUsize,
}

impl Clients {
    /// As many as there are addresses, which give up after some seconds.
    ///
    /// # Errors
    /// When one cannot connect for minutes.
    pub async fn quick(urls: Vec<String>) -> Result<Self> {
        Self::connect(urls, QUICK).await
    }

    /// The same, for those who wait.
    ///
    /// # Errors
    /// As [`Self::quick`].
    pub async fn patient(urls: Vec<String>) -> Result<Self> {
        Self::connect(urls, PATIENT).await
    }

    async fn connect(urls: Vec<String>, limit: Duration) -> Result<Self> {
        let mut all = Vec::new();
        for url in &urls {
            all.push(connected(url, limit).await?);
        }
        Ok(Self { urls, limit, all: Mutex::new(all), next: AtomicUsize::new(0) })
    }

    /// One after the other.
    ///
    /// # Panics
    /// When there are no addresses.
    #[must_use]
    pub fn any(&self) -> Client {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.next.fetch_add(1, Ordering::Relaxed) % all.len();
        all[at].clone()
    }

    /// Drops one, with whatever it had heard, when a new one is connected. Those who hold it keep it.
    ///
    /// # Errors
    /// When the new one cannot connect for minutes.
    pub async fn replace(&self, which: usize) -> Result<()> {
        let at = which % self.urls.len();
        let new = connected(&self.urls[at], self.limit).await?;
        self.all.lock().unwrap_or_else(PoisonError::into_inner)[at] = new;
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.urls.len()
    }
}

async fn connected(url: &str, limit: Duration) -> Result<Client> {
    let address: Address = url.parse()?;
    let until = tokio::time::Instant::now() + CONNECT;
    loop {
        match Client::connect_to(&address, Options::default().timeout(limit)).await {
            Ok(client) => return Ok(client),
            Err(error) if tokio::time::Instant::now() >= until => {
                return Err(error).with_context(|| format!("connecting a client to {url} for {CONNECT:?}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
