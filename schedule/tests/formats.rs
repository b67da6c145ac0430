//! What a schedule keeps and is told lies in histories, for as long as the schedule lives: later releases read it.
//!
//! `EVERPULSE_WRITE_FIXTURES=1` writes fixtures that are missing; existing ones are never written again.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use everpulse_protocol::{Payload, Timestamp};
use everpulse_schedule::{Action, Control, Overlap, Plan, Spec, State};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn plan() -> Plan {
    let spec = Spec::new().cron("0 2 * * *").every_offset(Duration::from_secs(60), Duration::from_secs(5));
    let spec = spec.except("* * 24-26 12 *").time_zone("Europe/Vienna").jitter(Duration::from_secs(30));
    let spec = spec.from(Timestamp(1_774_746_000_000)).until(Timestamp(1_806_282_000_000));
    let args = Payload::encode(&std::collections::BTreeMap::from([("minutes", 7)])).expect("encoded");
    let tags = vec!["vip".to_owned()];
    let action = Action {
        workflow: "report".to_owned(),
        version: Some(2),
        args,
        tags,
        timeout_ms: Some(60_000),
        priority: Default::default(),
    };
    let mut plan = Plan::new(spec, action);
    (plan.overlap, plan.pause_on_failure, plan.remaining) = (Overlap::BufferAll, true, Some(9));
    plan
}

#[track_caller]
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.json"));
    if !file.exists() && std::env::var_os("EVERPULSE_WRITE_FIXTURES").is_some() {
        let text = serde_json::to_string_pretty(value).expect("it can be written");
        std::fs::write(&file, text + "\n").expect("it can be written");
    }
    let text = std::fs::read_to_string(&file).expect("there is a fixture");
    let stored: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(serde_json::to_value(value).expect("it can be written"), stored, "{name} is written as ever");
    assert_eq!(&serde_json::from_str::<T>(&text).expect("it can be read"), value, "{name} is read as ever");
    // What is written today, in the format of histories, is read.
    let payload = Payload::encode(value).expect("it can be written");
    assert_eq!(&payload.decode::<T>().expect("it can be read"), value, "{name} comes back");
}

#[test]
fn what_is_kept_is_written_as_ever() {
    check("state.1", &State::new("nightly", plan()).since(Timestamp(1_774_746_000_000)));
}

#[test]
fn what_is_told_is_written_as_ever() {
    check("pause.1", &Control::Pause { note: "a holiday".to_owned() });
    check("unpause.1", &Control::Unpause);
    check("trigger.1", &Control::Trigger { overlap: Overlap::CancelOther });
    check("trigger.2", &Control::Trigger { overlap: Overlap::TerminateOther });
    let (from, until) = (Timestamp(1_774_746_000_000), Timestamp(1_774_832_400_000));
    check("backfill.1", &Control::Backfill { from, until, overlap: Overlap::AllowAll });
    let (plan, id) = (Box::new(plan()), "u-1".to_owned());
    check("update.1", &Control::Update { plan: plan.clone(), revision: 3, id: id.clone(), keeps_remaining: false });
    check("update.2", &Control::Update { plan, revision: 3, id, keeps_remaining: true });
    check("delete.1", &Control::Delete);
}
