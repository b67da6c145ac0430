//! The embedded broker of an `embedded:` address: started or joined, and followed when another process takes over.
//! Beyond that it is a broker like any other, spoken to over its socket.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use everpulse_broker::{Embedded, Mode};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::link::Endpoint;
use crate::{Error, ErrorKind};

pub(crate) struct Host {
    embedded: Mutex<Option<Embedded>>,
    following: JoinHandle<()>,
}

impl Host {
    /// Serves the directory or joins who does; the sender tells where that is, also after a take-over.
    pub async fn open(dir: &Path, relaxed: bool) -> Result<(Self, Arc<watch::Sender<Endpoint>>), Error> {
        let mut options = everpulse_broker::Options::new(dir);
        options.mode = if relaxed { Mode::Relaxed } else { Mode::Durable };
        let embedded = Embedded::open(options).await.map_err(|error| {
            let message = format!("the embedded broker in {}: {error}", dir.display());
            Error::with_source(ErrorKind::Broker, message, error)
        })?;
        let mut broker = embedded.watch();
        let endpoints = Arc::new(watch::Sender::new(endpoint(&broker.borrow_and_update())));
        let told = endpoints.clone();
        let following = tokio::spawn(async move {
            while broker.changed().await.is_ok() {
                let now = endpoint(&broker.borrow_and_update());
                tracing::info!(url = now.service_url, "another process serves the embedded broker");
                told.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
            }
        });
        Ok((Host { embedded: Mutex::new(Some(embedded)), following }, endpoints))
    }

    pub fn is_holder(&self) -> bool {
        self.embedded().as_ref().is_some_and(Embedded::is_holder)
    }

    /// Stops serving, with everything on disk.
    pub async fn close(&self) {
        let embedded = self.embedded().take();
        if let Some(embedded) = embedded {
            embedded.close().await;
        }
    }

    fn embedded(&self) -> std::sync::MutexGuard<'_, Option<Embedded>> {
        // Nothing in here can be left half done.
        self.embedded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.following.abort();
    }
}

fn endpoint(endpoint: &everpulse_broker::Endpoint) -> Endpoint {
    Endpoint { service_url: endpoint.service_url.clone(), admin_url: endpoint.admin_url.clone() }
}
