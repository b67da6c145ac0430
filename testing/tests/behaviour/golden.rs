use std::path::Path;
use std::time::Duration;

use everpulse_sdk as everpulse;
use everpulse_testing::{Environment, Registry, ReplayErrorKind, replay, replay_all};

use crate::samples::*;

fn exported() -> String {
    let env = Environment::new().workflow(checkout).activity(charge).activity(refund);
    let run = env.start(checkout("4711".to_owned(), 42)).id("order-42");
    run.at(Duration::from_secs(60)).signal(Approved { ok: true });
    run.result().expect("it is approved");
    run.export()
}

fn file(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

mod edited {
    use super::*;
    use everpulse::{sleep, workflow};

    /// Somebody put a pause before the payment.
    #[workflow(version = 1, name = "checkout", crate = everpulse_sdk)]
    pub async fn checkout(card: String, cents: u64) -> Result<Receipt, CheckoutError> {
        sleep(Duration::from_secs(30)).await;
        Ok(charge(card, cents).await?)
    }

    /// Somebody took the approval away.
    #[workflow(version = 1, name = "checkout", crate = everpulse_sdk)]
    pub async fn hasty(card: String, cents: u64) -> Result<Receipt, CheckoutError> {
        Ok(charge(card, cents).await?)
    }
}

fn with<A, F: everpulse::definition::WorkflowFn<A>>(workflow: F) -> Registry {
    let mut registry = Registry::new();
    registry.workflow_fn(workflow).expect("new");
    registry
}

#[test]
fn a_history_is_readable_and_is_replayed_by_the_code_that_wrote_it() {
    let json = exported();
    for part in ["\"workflow\": \"checkout\"", "\"card\": \"4711\"", "\"name\": \"charge\"", "\"ok\": true"] {
        assert!(json.contains(part), "{part} is not in {json}");
    }
    assert_eq!(exported(), json, "the same each time");
    let dir = tempfile::tempdir().expect("a directory");
    file(dir.path(), "order-42.json", &json);
    assert_eq!(replay_all(dir.path(), &with(checkout)), Ok(1));
}

#[test]
fn an_edited_workflow_fails_with_file_step_and_both_commands() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path(), "order-42.json", &exported());
    let error = replay(&path, &with(edited::checkout)).expect_err("it differs");
    assert_eq!(error.kind(), ReplayErrorKind::Diverged);
    let message = error.to_string();
    for part in [
        "order-42.json: workflow `checkout` version 1, recorded by build ",
        ", at record 0:\n",
        "workflow order-42 diverged at command 0\n",
        "recorded: schedule activity `charge`\n",
        "replayed: start timer 30s\n",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    let error = replay(&path, &with(edited::hasty)).expect_err("it differs").to_string();
    assert!(error.contains("at record 1") && error.contains("replayed: no command"), "{error}");
}

#[test]
fn files_that_are_no_histories_are_named_with_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let json = exported();
    let registry = with(checkout);
    let kind = |name: &str, text: &str| {
        let error = replay(file(dir.path(), name, text), &registry).expect_err("it is bad");
        println!("{error}");
        (error.kind(), error.to_string())
    };
    use ReplayErrorKind::Malformed;
    assert_eq!(kind("a", "{").0, Malformed);
    assert!(kind("b", &json.replace("\"format\": 1", "\"format\": 2")).1.contains("format 2; this release reads 1"));
    assert!(kind("c", &json.replacen("\"version\": 1,", "\"version\": 2,", 1)).1.contains("head names"));
    assert!(kind("d", &json.replace("\"seq\": 1", "\"seq\": 7")).1.contains("record 1"));
    assert!(kind("e", &json.replace("$uuid", "$guid")).1.contains("`$guid` is unknown"));
    assert!(kind("f", &json.replace("signalled", "whispered")).1.contains("whispered"));
    assert_eq!(replay(dir.path().join("none"), &registry).expect_err("absent").kind(), ReplayErrorKind::Unreadable);
    assert_eq!(
        replay(file(dir.path(), "g", &json), &with(books)).expect_err("no code").kind(),
        ReplayErrorKind::NoCode
    );
    let empty = tempfile::tempdir().expect("a directory");
    assert!(
        replay_all(empty.path(), &registry).expect_err("it proves nothing")[0].to_string().contains("no histories")
    );
}
