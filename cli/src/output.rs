//! What is printed: descriptions of runs, for people and as JSON.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpulse::client::{Description, Timestamp};
use serde_json::{Value, json};

/// A run for people.
pub fn description(view: &Description, now: SystemTime) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // A String takes all that is written to it.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("workflow", &format!("{} (version {})", view.workflow, view.version));
    line("id", view.workflow_id.as_str());
    line("run", &view.run_id.to_string());
    line("status", &status(view));
    line("started", &ago(view.started_at, now));
    if let Some(closed_at) = view.closed_at {
        line("ended", &ago(closed_at, now));
    }
    if !view.tags.is_empty() {
        line("tags", &view.tags.join(", "));
    }
    if let Some(build) = &view.build {
        line("build", build);
    }
    line("records", &format!("{}, {} bytes", view.records, view.history_bytes));
    if let Some(continues) = &view.continues {
        line("continues", &format!("{}, number {} since {}", continues.previous, continues.number, continues.first));
    }
    if let Some(next) = &view.continued_as {
        line("goes on as", &next.to_string());
    }
    if let Some(parked) = &view.parked {
        line("parked", &parked.message);
    }
    for step in &view.pending {
        let mut of = format!("#{} {}", step.no, kind(step));
        if !step.name.is_empty() {
            let _ = write!(of, " `{}`", step.name);
        }
        if !step.scopes.is_empty() {
            let _ = write!(of, " in {}", step.scopes.join(" > "));
        }
        if step.attempt > 1 {
            let _ = write!(of, ", attempt {}", step.attempt);
        }
        if step.parked {
            of.push_str(", waits for a redrive");
        }
        if let Some(target) = &step.target {
            let _ = write!(of, ", workflow {}", target.workflow_id);
        }
        if let Some(heard_at) = step.heard_at {
            let _ = write!(of, ", heard of {}", ago(heard_at, now));
        }
        if let Some(next_at) = step.next_at {
            let _ = write!(of, ", next {}", ago(next_at, now));
        }
        line("waits for", &of);
        // Nothing, where this client has no key for it.
        if let Some(details) = step.heartbeat.as_ref().and_then(|details| details.decode::<Value>().ok()) {
            line("", &format!("heartbeat: {details}"));
        }
        if let Some(error) = &step.last_error {
            line("", &format!("last error: {error}"));
        }
        if let Some(token) = &step.token {
            line("", &format!("token: {token}"));
        }
    }
    for update in &view.updates {
        let of = format!("an answer to update `{}` {}, taken {}", update.name, update.id, ago(update.at, now));
        line("owes", &of);
    }
    text
}

fn status(view: &Description) -> String {
    let asked = if view.cancel_requested && view.closed_at.is_none() { ", was asked to cancel" } else { "" };
    format!("{}{asked}", view.status)
}

fn kind(step: &everpulse::client::PendingStep) -> String {
    // The wire's own word.
    serde_json::to_value(step.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A time as a person wants it: `3 min ago`, `in 2 h`.
fn ago(at: Timestamp, now: SystemTime) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at.0);
    match now.duration_since(at) {
        Ok(past) => format!("{} ago", length(past)),
        Err(future) => format!("in {}", length(future.duration())),
    }
}

fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A run for programs. Results stay out: `result` has them.
pub fn description_json(view: &Description) -> Value {
    json!({
        "workflow_id": view.workflow_id,
        "run_id": view.run_id,
        "workflow": view.workflow,
        "version": view.version,
        "build": view.build,
        "status": view.status,
        "tags": view.tags,
        "started_at_ms": view.started_at,
        "closed_at_ms": view.closed_at,
        "parked": view.parked,
        "cancel_requested": view.cancel_requested,
        "records": view.records,
        "pending": view.pending,
        "updates": view.updates,
        "parent": view.parent,
        "history_bytes": view.history_bytes,
        "continues": view.continues,
        "continued_as": view.continued_as,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds: u64| ago(Timestamp(seconds * 1_000), now);
        assert_eq!(at(1_000_000), "0 s ago");
        assert_eq!(at(999_820), "3 min ago");
        assert_eq!(at(1_007_200), "in 2 h");
        assert_eq!(at(0), "11 days ago");
    }
}
