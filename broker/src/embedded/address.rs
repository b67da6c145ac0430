//! `broker.json`: where the broker of a directory is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::Endpoint;
use crate::error::Error;
use crate::storage::{Disk, snapshot};

#[derive(Debug, Serialize, Deserialize)]
struct Address {
    service_url: String,
    admin_url: String,
    pid: u32,
    version: String,
}

pub fn path(dir: &Path) -> PathBuf {
    dir.join("broker.json")
}

pub fn read(dir: &Path) -> Option<Endpoint> {
    let address: Address = serde_json::from_slice(&std::fs::read(path(dir)).ok()?).ok()?;
    Some(Endpoint { service_url: address.service_url, admin_url: address.admin_url })
}

pub fn write(dir: &Path, endpoint: &Endpoint) -> Result<(), Error> {
    let path = path(dir);
    let address = Address {
        service_url: endpoint.service_url.clone(),
        admin_url: endpoint.admin_url.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let json = serde_json::to_vec(&address).map_err(|error| Error::io("write", &path, error.into()))?;
    snapshot::replace(&Disk, dir, &path, &[&json, b"\n"]).map_err(|error| Error::io("write", &path, error))
}

/// The port of a URL of ours.
pub fn port(url: &str) -> Option<u16> {
    url.rsplit_once(':')?.1.parse().ok()
}

/// Whether somebody listens there.
pub async fn answers(endpoint: &Endpoint) -> bool {
    let Some((_, address)) = endpoint.service_url.split_once("://") else { return false };
    TcpStream::connect(address).await.is_ok()
}
