extern crate everpulse_sdk as everpulse;
use everpulse::workflow;

mod rand {
    pub fn random<T: Default>() -> T {
        T::default()
    }
}

struct Uuid;

impl Uuid {
    fn new_v4() -> u64 {
        4
    }
}

#[workflow]
async fn draw() -> String {
    format!("{} {}", rand::random::<u8>(), Uuid::new_v4())
}

fn main() {}
