//! From functions to what a worker runs, by name and version.

use everpulse::definition::Registry;
use everpulse::{activity, workflow};

#[workflow]
async fn checkout(_order: String) {}

#[workflow(name = "checkout", version = 4)]
async fn checkout_v4(_order: String) {}

#[workflow(name = "checkout", version = 4)]
async fn another_v4() {}

#[activity(queue = "slow")]
async fn ship() {}

#[activity]
async fn pack(_order: String, _boxes: u8) {}

mod other {
    #[everpulse::activity]
    pub async fn ship() {}
}

#[test]
fn the_newest_version_is_found_unless_one_is_named() {
    let mut registry = Registry::new();
    registry.workflow_fn(checkout_v4).unwrap();
    registry.workflow_fn(checkout).unwrap();
    let version = |asked| registry.workflow("checkout", asked).map(|entry| entry.version);
    assert_eq!([version(None), version(Some(1)), version(Some(2))], [Some(4), Some(1), None]);
    assert!(registry.has_workflow_name("checkout") && !registry.has_workflow_name("ship"));
    assert!(registry.workflow("nothing", None).is_none());
}

#[test]
fn a_registry_knows_the_queues_of_its_activities() {
    let mut registry = Registry::new();
    registry.activity_fn(ship).unwrap();
    registry.activity_fn(pack).unwrap();
    assert_eq!(registry.activity_queues().into_iter().collect::<Vec<_>>(), ["default", "slow"]);
    assert!(registry.activity("ship").is_some() && registry.activity("checkout").is_none());
}

#[test]
fn two_definitions_of_one_name_are_refused_with_both_places() {
    let mut registry = Registry::new();
    registry.workflow_fn(checkout_v4).unwrap();
    registry.workflow_fn(checkout_v4).unwrap();
    let error = registry.workflow_fn(another_v4).unwrap_err();
    let (first, second) = (error.first, error.second);
    assert!(first.line < second.line, "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "version 4 of workflow `checkout` is defined twice, at {first} and at {second}; give one of them another \
             version or name"
        )
    );

    registry.activity_fn(ship).unwrap();
    registry.activity_fn(ship).unwrap();
    let error = registry.activity_fn(other::ship).unwrap_err().to_string();
    assert!(error.starts_with("activity `ship` is defined twice, at "), "{error}");
    assert!(error.ends_with("; give one of them another name with `name = \"..\"`"), "{error}");
}

#[test]
fn entries_can_go_to_other_threads() {
    fn assert_send_sync<T: Send + Sync + Clone>(_: &T) {}
    assert_send_sync(&Registry::new());
}
