extern crate everpulse_sdk as everpulse;
use everpulse::definition::Registry;
use everpulse::{activities, activity, workflow};

#[workflow]
async fn checkout() {}

#[activity]
async fn charge() {}

struct Payments;

#[activities]
impl Payments {
    #[activity]
    async fn refund(&self) {}
}

struct Nothing;

fn main() {
    let mut registry = Registry::new();
    let _ = registry.workflow_fn(charge);
    let _ = registry.activity_fn(checkout);
    let _ = registry.activity_fn(Payments::refund);
    let _ = registry.activity_fn(charge());
    let _ = registry.activities_of(Nothing);
}
