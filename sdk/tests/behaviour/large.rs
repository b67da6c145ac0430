//! Ends of runs that are put into a store, or find no room there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use everpulse::definition::WorkflowDefinition;
use everpulse::replay::{Input, Instance, RunInfo, TurnState};
use everpulse::{Definition, workflow};
use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::CloseStatus;
use everpulse_protocol::payload::Format;
use everpulse_protocol::{Coding, RunId, Timestamp, WorkflowId};
use uuid::Uuid;

/// As an encryption does it: the same comes to other bytes each time.
#[derive(Debug, Default)]
struct Nonce(AtomicU32);

impl Layer for Nonce {
    fn name(&self) -> &'static str {
        "nonce"
    }
    fn wrap(&self, data: bytes::Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
        let nonce = self.0.fetch_add(1, Ordering::SeqCst) as u8;
        Ok(Wrapped::Changed { label: None, data: [&[nonce][..], &data].concat().into() })
    }
    fn unwrap(&self, data: bytes::Bytes, _: Option<&str>, _: Place<'_>) -> Result<bytes::Bytes, LayerError> {
        Ok(data.slice(1..))
    }
}

/// What it was asked to keep, and what it was told that stays the same.
type Asked = (bytes::Bytes, Option<[u8; 32]>);

#[derive(Debug, Default)]
struct Store(Mutex<Vec<Asked>>);

impl Layer for Store {
    fn name(&self) -> &'static str {
        "blob"
    }
    fn wrap(&self, data: bytes::Bytes, place: Place<'_>) -> Result<Wrapped, LayerError> {
        if data.len() > 1_000 {
            return Err(LayerError::failed("there is no room for so much"));
        }
        self.0.lock().expect("unpoisoned").push((data, place.again));
        Err(LayerError::away("it is slow"))
    }
    fn unwrap(&self, _: bytes::Bytes, _: Option<&str>, _: Place<'_>) -> Result<bytes::Bytes, LayerError> {
        Err(LayerError::away("it is slow"))
    }
}

#[workflow(version = 1)]
async fn says(n: u32) -> String {
    "x".repeat(n as usize)
}

fn end(coding: &Coding, run: u128, n: u32) -> TurnState {
    let info = RunInfo {
        workflow_id: WorkflowId::new("order-42").expect("a good id"),
        run_id: RunId(Uuid::from_u128(run)),
        workflow: says::NAME.to_owned(),
        version: 1,
        started_at: Timestamp(1_000),
        build: None,
        headers: None,
        tags: Vec::new(),
        continues: None,
        priority: Default::default(),
    };
    let args = says(n).into_request(Format::default()).expect("the arguments can be encoded").args;
    let mut instance = Instance::new(&says::entry(), info, args, coding);
    instance.apply(Input::Start, Timestamp(1_000)).state
}

#[test]
fn an_end_that_is_come_to_again_is_known_for_the_same_though_it_is_sealed_anew() {
    let store = Arc::new(Store::default());
    let coding = Coding::new(Format::default(), vec![Arc::new(Nonce::default())], Vec::new()).with_blobs(store.clone());
    for (run, n) in [(1, 300), (1, 300), (2, 300), (1, 301)] {
        let state = end(&coding, run, n);
        assert!(matches!(state, TurnState::Unopened { .. }), "{state:?}");
    }
    let asked = store.0.lock().expect("unpoisoned");
    let (bytes, same): (Vec<_>, Vec<_>) = asked.iter().cloned().unzip();
    assert!(bytes[0] != bytes[1] && same[0].is_some() && same[0] == same[1], "the run came to it twice");
    assert!(same[2] != same[0] && same[3] != same[0] && same[2] != same[3], "others come to others");
}

#[test]
fn an_end_that_no_store_takes_is_a_failure_and_parks_nobody() {
    let store = Arc::new(Store::default());
    let coding = Coding::default().with_blobs(store.clone());
    let TurnState::Closed(close) = end(&coding, 1, 2_000) else { panic!("it has ended") };
    let Outcome::Failed(failure) = close.outcome else { panic!("there is no room for its result") };
    assert_eq!(close.status, CloseStatus::Failed);
    assert!(failure.message.contains("there is no room for so much"), "{failure}");
    assert!(store.0.lock().expect("unpoisoned").is_empty());
}
