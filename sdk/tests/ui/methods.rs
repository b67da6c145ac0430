extern crate everpulse_sdk as everpulse;
use everpulse::{activities, activity, workflow};

struct Payments;

impl Payments {
    #[activity]
    async fn alone(&self) {}

    #[workflow]
    async fn flow(&self) {}
}

#[activities]
impl Payments {
    #[activity]
    async fn changes(&mut self) {}

    #[activity]
    async fn consumes(self) {}

    #[activity]
    async fn stands_alone(id: u32) {}
}

#[activities]
impl Payments {
    async fn nothing_here(&self) {}
}

#[activities]
impl Default for Payments {
    fn default() -> Self {
        Self
    }
}

#[activities]
struct NoImpl;

fn main() {}
