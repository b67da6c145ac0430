//! What the guards of `#[workflow]` let pass: names of the author's own, and what a reason is given for.

use std::collections::HashMap;

use everpulse::{Error, now, random, step, workflow};

use crate::harness::{run, value};

/// An author's module, which is about threads of conversation.
mod chat {
    pub mod thread {
        pub fn name(n: u32) -> String {
            format!("thread {n}")
        }
    }
}

struct Clock(u32);

impl Clock {
    fn now(&self) -> u32 {
        self.0
    }

    fn elapsed(&self) -> u32 {
        self.0 + 1
    }
}

fn spawn(n: u32) -> u32 {
    n * 2
}

#[workflow]
async fn own_names(n: u32) -> (u32, String) {
    use chat::thread;
    fn helper() -> usize {
        std::env::args().count()
    }
    let rand = Clock(n);
    let _ = (now(), random::<u8>(), helper());
    (rand.now() + rand.elapsed() + spawn(n), thread::name(n))
}

#[test]
fn names_of_the_authors_own_are_left_alone() {
    assert_eq!(
        value::<(u32, String)>(&run(own_names(3)).turn(everpulse::replay::Input::Start)),
        (13, "thread 3".into())
    );
}

#[workflow]
async fn steps_do_anything() -> u128 {
    let read = step("read the clock", || async {
        std::time::UNIX_EPOCH.elapsed().map(|since| since.as_millis()).map_err(Error::from)
    });
    read.await.unwrap()
}

#[test]
fn a_steps_closure_may_do_anything() {
    assert_eq!(run(steps_do_anything()).start(), ["0 step read the clock", "waiting"]);
}

#[workflow(allow(order, reason = "it is only looked into"))]
async fn looks_up(key: u32) -> Option<u32> {
    let table: HashMap<u32, u32> = (0..10).map(|n| (n, n * n)).collect();
    table.get(&key).copied()
}

#[test]
fn a_guard_is_taken_off_with_a_reason() {
    assert_eq!(value::<Option<u32>>(&run(looks_up(3)).turn(everpulse::replay::Input::Start)), Some(9));
}
