//! Asks the broker's admin address how much lies unacknowledged.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::{Options, source};
use crate::Backlog;

/// How long a broker may be unable to answer.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);

/// Asks the admin address for the statistics of every topic of the namespace.
pub async fn read(options: &Options) -> anyhow::Result<Option<Backlog>> {
    let Some(admin) = &options.admin_url else { return Ok(None) };
    let base = format!("{}/admin/v2/persistent/{}", admin.trim_end_matches('/'), source::namespace(options));
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?;
    let ask = async |url: String| -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            match ask_once(&client, &url, options).await {
                // A broker that has just come back answers so until its storage is there, too.
                Err(error) if is_passing(&error) && Instant::now() < until => tokio::time::sleep(PAUSE).await,
                answer => return answer.with_context(|| format!("cannot ask {url}")),
            }
        }
    };
    let mut backlog = Backlog::default();
    let topics = ask(base.clone()).await?;
    for topic in topics.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let Some((_, name)) = topic.rsplit_once('/') else { continue };
        let whole = name.rsplit_once("-partition-").map_or(name, |(whole, _)| whole);
        if whole == "history" || whole.starts_with("__") {
            continue;
        }
        let statistics = ask(format!("{base}/{name}/stats")).await?;
        for (subscription, of) in statistics["subscriptions"].as_object().into_iter().flatten() {
            let messages = of["msgBacklog"].as_u64().unwrap_or_default();
            *backlog.messages.entry(format!("{whole}/{subscription}")).or_default() += messages;
        }
    }
    Ok(Some(backlog))
}

async fn ask_once(client: &reqwest::Client, url: &str, options: &Options) -> reqwest::Result<Value> {
    let mut request = client.get(url);
    if let Some(token) = &options.token {
        request = request.bearer_auth(token);
    }
    request.send().await?.error_for_status()?.json().await
}

/// Whether the same question may be answered later.
fn is_passing(error: &reqwest::Error) -> bool {
    error.is_timeout() || error.is_connect() || error.status().is_some_and(|status| status.is_server_error())
}
