//! Being the broker of a directory, from recovery to the last write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Endpoint, Host, address};
use crate::admin;
use crate::error::Error;
use crate::server::{self, Hub, Settings};
use crate::storage::{self, DirectoryLock, Storage};

impl Host {
    /// Serves until it is told to stop.
    pub(super) async fn serve(&mut self, lock: DirectoryLock) -> Result<(), Error> {
        let dir = self.options.dir.clone();
        let (broker, recovered) = storage::recover(&*self.options.storage.files, &dir)?;
        let last = address::read(&dir);
        let last_port = |url: fn(&Endpoint) -> &str| last.as_ref().and_then(|last| address::port(url(last)));
        let service = self.listen(self.options.port, last_port(|last| &last.service_url)).await?;
        let admin = self.listen(self.options.admin_port, last_port(|last| &last.admin_url)).await?;
        let local =
            |listener: &TcpListener| listener.local_addr().map_err(|error| Error::io("listen for", &dir, error));
        let endpoint = Endpoint {
            service_url: format!("pulsar://{}", local(&service)?),
            admin_url: format!("http://{}", local(&admin)?),
        };
        let (completed, completions) = mpsc::unbounded_channel();
        let options = storage::Options { mode: self.options.mode, ..self.options.storage.clone() };
        let needed = broker.entries_per_segment();
        let storage = Storage::start(&dir, options, &recovered, needed, move |completion| {
            // The other end goes when the broker stops; then nobody waits for it.
            let _ = completed.send(completion);
        });
        let storage = storage.map_err(|error| Error::io("open the log in", &dir, error))?;
        let settings = Settings {
            service_url: endpoint.service_url.clone(),
            admin_url: endpoint.admin_url.clone(),
            token: self.options.token.clone(),
            limits: self.options.limits.clone(),
        };
        let generation = broker.generation();
        let hub = Arc::new(Hub::new(settings, broker, storage));
        address::write(&dir, &endpoint)?;
        let tasks = [
            tokio::spawn(server::complete(completions, hub.clone())),
            tokio::spawn(server::keep_time(hub.clone())),
            tokio::spawn(server::compact(hub.clone())),
            tokio::spawn(server::attend(self.options.busy_poll, hub.clone())),
            tokio::spawn(server::accept(service, hub.clone())),
            tokio::spawn(admin::serve(admin, hub.clone())),
        ];
        tracing::info!(
            dir = %dir.display(), service_url = endpoint.service_url, generation,
            torn_bytes = recovered.torn_bytes, "the broker serves"
        );
        self.holder.store(true, Ordering::Release);
        self.publish(endpoint);
        // An error means that the other end is gone, which is to stop, too.
        let _ = self.stopped.wait_for(|stop| *stop).await;
        for task in tasks {
            task.abort();
        }
        hub.stop();
        self.holder.store(false, Ordering::Release);
        // Only now may another broker read the files.
        drop(lock);
        tracing::info!(dir = %dir.display(), "the broker has stopped");
        Ok(())
    }

    /// A port that was asked for must be free; the last broker's is only preferred.
    async fn listen(&self, asked: u16, preferred: Option<u16>) -> Result<TcpListener, Error> {
        if asked == 0
            && let Some(port) = preferred
            && let Ok(listener) = TcpListener::bind(SocketAddr::new(self.options.listen, port)).await
        {
            return Ok(listener);
        }
        let address = SocketAddr::new(self.options.listen, asked);
        TcpListener::bind(address).await.map_err(|error| Error::bind(address, error))
    }
}
