//! Updates: what is told of one is never taken back, however often it comes and whoever has the shard.

mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::NoEager;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Outcome, Start};
use everpulse_protocol::history::{Record, RecordBody};
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{FailureKind, RequestId, encode};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{signal, update, workflow};
use serde::{Deserialize, Serialize};
use world::judge::judge;
use world::workflows::{Word, registry};
use world::{World, done, payload};

#[update(reply = u64, error = String, crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
struct Add {
    n: u64,
}

thread_local! {
    static LIMIT: Cell<u64> = const { Cell::new(10) };
    /// How often the validator looked.
    static LOOKS: Cell<u32> = const { Cell::new(0) };
}

/// Takes what fits, and answers when the word comes. A seven is more than it can bear.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn shelf() -> u64 {
    let sum = Rc::new(Cell::new(0_u64));
    let seen = Rc::clone(&sum);
    let adds = update::<Add>().validate(move |add| {
        LOOKS.set(LOOKS.get() + 1);
        match seen.get() + add.n > LIMIT.get() {
            true => Err(format!("{} of {} are there", seen.get(), LIMIT.get())),
            false => Ok(()),
        }
    });
    loop {
        let add = adds.recv().await;
        assert_ne!(add.n, 7, "not seven");
        sum.set(sum.get() + add.n);
        if add.n == 0 {
            return sum.get();
        }
        let word = signal::<Word>().recv().await.text;
        let answer = if word == "no" { Err(word) } else { Ok(sum.get()) };
        add.reply(answer);
    }
}

/// Takes updates only after a word.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn opens_late() -> u64 {
    let _ = signal::<Word>().recv().await;
    let add = update::<Add>().recv().await;
    let n = add.n;
    add.reply(Ok(n * 2));
    n
}

fn add(id: &str, n: u64, patient: bool) -> EventBody {
    let (id, name, args) = (id.to_owned(), "Add".to_owned(), payload(&Add { n }));
    EventBody::Update { id, name, args, patient, headers: None }
}

struct Shop {
    world: World,
    owner: usize,
}

impl Shop {
    fn new(workflow: &str) -> Self {
        LIMIT.set(10);
        LOOKS.set(0);
        let mut registry: Registry = registry();
        registry.workflow_fn(shelf).expect("new");
        registry.workflow_fn(opens_late).expect("new");
        let mut world = World::new(registry);
        let owner = world.owner();
        let start = world.start("a", workflow, payload(&BTreeMap::<String, u64>::new()));
        world.say(owner, vec![start]);
        Self { world, owner }
    }

    fn event(&mut self, id: &str, n: u64, patient: bool) -> Event {
        self.world.event("a", None, &add(id, n, patient))
    }

    fn say(&mut self, event: Event) -> usize {
        let frame = self.world.publish(vec![event]);
        self.world.deliver(self.owner, frame, false);
        self.world.settle(self.owner);
        frame
    }

    fn word(&mut self, text: &str) {
        let value = payload(&Word { text: text.to_owned() });
        let body = EventBody::Signal { name: "Word".to_owned(), value, headers: None };
        let event = self.world.event("a", None, &body);
        self.say(event);
    }

    fn states(&self, event: &Event) -> Vec<UpdateState> {
        let request = RequestId(event.id.0);
        let replies = self.world.replies.iter().filter(|(of, _)| *of == request);
        let states = replies.filter_map(|(_, body)| match body {
            ReplyBody::Update { state, .. } => Some(state.clone()),
            _ => None,
        });
        states.collect()
    }

    fn records(&self) -> Vec<String> {
        let own = self.world.records().into_iter().filter(|record| !world::repeats(record));
        own.filter_map(|record| Some(record.body.kind()?.to_owned())).collect()
    }

    /// Another owner takes over, with nothing in its memory.
    fn hand_over(&mut self) {
        self.world.crash(self.owner);
        self.owner = self.world.owner();
    }
}

fn refused(states: &[UpdateState], words: &str) -> bool {
    matches!(states.last(), Some(UpdateState::Refused(failure)) if failure.message.contains(words))
}

#[test]
fn an_update_is_taken_once_and_answered_the_same_to_all_who_ask() {
    let mut shop = Shop::new("shelf");
    let first = shop.event("u-1", 4, true);
    let frame = shop.say(first.clone());
    assert_eq!(shop.states(&first), [UpdateState::Accepted]);
    // Under the same id it is the same, whoever asks and whatever it says now.
    let again = shop.event("u-1", 6, true);
    shop.say(again.clone());
    assert_eq!(shop.states(&again), [UpdateState::Accepted]);
    shop.word("yes");
    let answer = UpdateState::Answered(done(&4u64));
    assert_eq!(shop.states(&first).last(), Some(&answer));
    assert_eq!(shop.states(&again).last(), Some(&answer));
    assert_eq!(shop.records(), ["started", "update_accepted", "signalled"]);
    // After a takeover too.
    shop.hand_over();
    shop.world.replay(shop.owner, frame, true);
    shop.world.settle(shop.owner);
    let question = shop.world.event("a", None, &EventBody::AskUpdate { id: "u-1".to_owned(), name: None });
    shop.say(question.clone());
    assert_eq!((shop.states(&first).last(), shop.states(&question).last()), (Some(&answer), Some(&answer)));
    let unknown = shop.world.event("a", None, &EventBody::AskUpdate { id: "u-2".to_owned(), name: None });
    shop.say(unknown.clone());
    assert_eq!(shop.states(&unknown), [UpdateState::Unknown]);
    assert_eq!(shop.records(), ["started", "update_accepted", "signalled"]);
    // An answer may be an error.
    let second = shop.event("u-2", 1, true);
    shop.say(second.clone());
    shop.word("no");
    let Some(UpdateState::Answered(Outcome::Failed(failure))) = shop.states(&second).pop() else {
        panic!("{:?}", shop.states(&second))
    };
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Failed, "no"));
    assert_eq!(shop.world.unacked(), 0);
}

#[test]
fn a_refused_update_is_no_record_of_its_run_and_no_copy_of_it_is_taken_later() {
    let mut shop = Shop::new("shelf");
    let event = shop.event("u-1", 11, true);
    let frame = shop.say(event.clone());
    assert!(refused(&shop.states(&event), "0 of 10 are there"));
    assert_eq!(shop.records(), ["started"]);
    // Now it would be let pass, here, and after a takeover. Nobody looks.
    LIMIT.set(20);
    for words in ["0 of 10 are there", "was refused before"] {
        shop.world.replay(shop.owner, frame, false);
        shop.world.settle(shop.owner);
        assert!(refused(&shop.states(&event), words), "{:?}", shop.states(&event));
        shop.hand_over();
    }
    assert_eq!(shop.records(), ["started"]);
    assert_eq!(LOOKS.get(), 1, "it was looked at once");
    // Requested anew it is another request.
    let anew = shop.event("u-1", 11, true);
    shop.say(anew.clone());
    assert_eq!(shop.states(&anew), [UpdateState::Accepted]);
    assert_eq!(shop.world.unacked(), 0);
}

#[test]
fn what_cannot_be_asked_yet_is_not_decided_until_the_client_gives_up() {
    let mut shop = Shop::new("opens_late");
    let patient = shop.event("u-1", 3, true);
    let frame = shop.say(patient.clone());
    let mut last = patient.clone();
    last.body = Body::of(&add("u-1", 3, false));
    let not_yet = shop.states(&patient);
    assert!(
        matches!(&not_yet[..], [UpdateState::NotYet(failure)] if failure.message.contains("no handler for update `Add`, it has none")),
        "{not_yet:?}"
    );
    let copy = shop.event("u-2", 5, true);
    let copy_frame = shop.world.publish(vec![copy.clone()]);
    shop.say(last.clone());
    assert!(refused(&shop.states(&last), "no handler"));
    shop.word("open");
    // The one that was given up stays so; the other one was never decided.
    shop.world.replay(shop.owner, frame, false);
    shop.world.settle(shop.owner);
    assert!(refused(&shop.states(&patient), "no handler"));
    shop.world.deliver(shop.owner, copy_frame, false);
    shop.world.settle(shop.owner);
    assert_eq!(shop.states(&copy).last(), Some(&UpdateState::Answered(done(&10u64))));
    assert_eq!(shop.world.result("a"), Some(done(&5u64)));
    // There is no such run, or it has ended.
    let late = shop.event("u-3", 1, true);
    shop.say(late.clone());
    let request = RequestId(late.id.0);
    assert!(
        shop.world.replies.iter().any(|(of, body)| *of == request && matches!(body, ReplyBody::AlreadyClosed { .. }))
    );
    let nobody = Event { workflow_id: "nobody".parse().expect("an id"), ..shop.event("u-4", 1, false) };
    shop.say(nobody.clone());
    assert!(refused(&shop.states(&nobody), "there is no run of workflow id nobody"));
    assert_eq!(shop.world.unacked(), 0);
}

#[test]
fn an_update_that_the_code_cannot_bear_is_refused_and_the_run_goes_on() {
    let mut shop = Shop::new("shelf");
    let bad = shop.event("u-1", 7, true);
    shop.say(bad.clone());
    assert!(refused(&shop.states(&bad), "not seven"), "{:?}", shop.states(&bad));
    assert_eq!(shop.records(), ["started"], "nothing is parked");
    let good = shop.event("u-2", 3, true);
    shop.say(good.clone());
    shop.word("yes");
    assert_eq!(shop.states(&good).last(), Some(&UpdateState::Answered(done(&3u64))));
}

#[test]
fn who_waits_for_an_answer_is_told_when_the_run_ends_without_one() {
    let mut shop = Shop::new("shelf");
    let (first, second) = (shop.event("u-1", 3, true), shop.event("u-2", 0, true));
    shop.say(first.clone());
    shop.say(second.clone());
    assert_eq!(shop.states(&second), [UpdateState::Accepted]);
    shop.word("yes");
    // It takes the second, and ends with it in its hands.
    assert_eq!(shop.states(&first).last(), Some(&UpdateState::Answered(done(&3u64))));
    assert_eq!(shop.states(&second).last(), Some(&UpdateState::Unanswered));
    assert_eq!(shop.world.result("a"), Some(done(&3u64)));
}

#[test]
fn an_update_that_may_have_taken_a_worker_down_is_left_to_whoever_still_wants_it() {
    let mut shop = Shop::new("shelf");
    let event = shop.event("u-1", 3, true);
    let frame = shop.world.publish(vec![event.clone()]);
    shop.world.deliver(shop.owner, frame, true);
    shop.world.settle(shop.owner);
    assert_eq!((shop.states(&event).len(), shop.world.unacked()), (0, 0));
    shop.say(event.clone());
    assert_eq!(shop.states(&event), [UpdateState::Accepted]);
}

#[test]
fn an_update_that_takes_worker_after_worker_down_is_refused_for_good_and_looked_at_by_nobody() {
    let mut shop = Shop::new("shelf");
    let event = shop.event("u-1", 3, true);
    for gone in 1..=3 {
        // A client sends it again and again, and the copies wait for the next worker.
        for _ in 0..4 {
            let frame = shop.world.publish(vec![event.clone()]);
            shop.world.deliver(shop.owner, frame, true);
        }
        shop.world.settle(shop.owner);
        assert_eq!(shop.states(&event).is_empty(), gone < 3, "after {gone} workers");
        shop.hand_over();
    }
    let words = "was at hand when a worker went down, 3 times";
    assert!(refused(&shop.states(&event), words), "{:?}", shop.states(&event));
    shop.say(event.clone());
    shop.hand_over();
    shop.say(event.clone());
    assert!(refused(&shop.states(&event), "was refused before"), "{:?}", shop.states(&event));
    assert_eq!((LOOKS.get(), shop.records()), (0, vec!["started".to_owned()]));
    // One that was there when two went down is innocent yet, and it is another request that was refused.
    let innocent = shop.event("u-1", 4, true);
    for _ in 0..2 {
        let frame = shop.world.publish(vec![innocent.clone()]);
        shop.world.deliver(shop.owner, frame, true);
        shop.world.settle(shop.owner);
        shop.hand_over();
    }
    shop.say(innocent.clone());
    assert_eq!(shop.states(&innocent), [UpdateState::Accepted]);
    assert_eq!(shop.world.unacked(), 0);
}

#[test]
fn a_request_from_a_clock_that_is_ahead_is_not_decided_at_all() {
    let mut shop = Shop::new("shelf");
    let ahead = |event: Event| Event { sent_at: event.sent_at.after(Duration::from_secs(400)), ..event };
    let event = ahead(shop.event("u-1", 3, false));
    let nobody = Event { workflow_id: "nobody".parse().expect("an id"), ..ahead(shop.event("u-2", 1, false)) };
    for event in [&event, &nobody] {
        let frame = shop.say(event.clone());
        shop.world.replay(shop.owner, frame, false);
        shop.world.settle(shop.owner);
        let states = shop.states(event);
        assert_eq!(states.len(), 2);
        let ahead = |state: &UpdateState| matches!(state, UpdateState::NotYet(failure) if failure.message.contains("ahead of the time"));
        assert!(states.iter().all(ahead), "{states:?}");
    }
    // The shard's time has caught up.
    let now = shop.world.now.after(Duration::from_secs(200));
    shop.world.run_until(now);
    shop.say(event.clone());
    assert_eq!(shop.states(&event).last(), Some(&UpdateState::Accepted));
}

#[test]
fn an_id_is_that_of_an_update_of_one_name() {
    let mut shop = Shop::new("shelf");
    let first = shop.event("u-1", 3, true);
    shop.say(first.clone());
    let args = payload(&Add { n: 1 });
    let body = EventBody::Update { id: "u-1".to_owned(), name: "Take".to_owned(), args, patient: true, headers: None };
    let other = shop.world.event("a", None, &body);
    shop.say(other.clone());
    assert!(refused(&shop.states(&other), "is that of an update `Add`"), "{:?}", shop.states(&other));
    for (name, known) in [(None, true), (Some("Add"), true), (Some("Take"), false)] {
        let ask = EventBody::AskUpdate { id: "u-1".to_owned(), name: name.map(str::to_owned) };
        let ask = shop.world.event("a", None, &ask);
        shop.say(ask.clone());
        let state = if known { UpdateState::Accepted } else { UpdateState::Unknown };
        assert_eq!(shop.states(&ask), [state], "{name:?}");
    }
}

#[test]
fn what_an_earlier_run_has_taken_is_not_said_to_be_refused() {
    let mut shop = Shop::new("shelf");
    let taken = shop.event("u-1", 0, true);
    let frame = shop.say(taken.clone());
    assert_eq!(shop.states(&taken), [UpdateState::Unanswered], "the run has ended with it");
    let again = |shop: &mut Shop| {
        shop.world.replay(shop.owner, frame, false);
        shop.world.settle(shop.owner);
        shop.states(&taken).pop()
    };
    // By the run that is named, for all that is said here, or by one before it.
    assert_eq!(again(&mut shop), Some(UpdateState::TakenBefore));
    let mut start = shop.world.start("a", "shelf", payload(&BTreeMap::<String, u64>::new()));
    let Ok(EventBody::Start(body)) = start.body() else { panic!("{start:?}") };
    start.body = Body::of(&EventBody::Start(Start { policy: IdPolicy::RestartWhenClosed, ..body }));
    shop.world.say(shop.owner, vec![start]);
    for _ in 0..2 {
        assert_eq!(again(&mut shop), Some(UpdateState::TakenBefore));
        shop.hand_over();
    }
    // Under the same id it is another request, of another run.
    let anew = shop.event("u-1", 2, true);
    shop.say(anew.clone());
    assert_eq!(shop.states(&anew), [UpdateState::Accepted]);
    let taken = shop.records().into_iter().filter(|kind| kind == "update_accepted").count();
    assert_eq!((taken, shop.world.unacked()), (2, 0));
}

/// As an older release left it, which did not know updates.
fn received(shop: &mut Shop, events: &[Event]) {
    shop.world.crash(shop.owner);
    for event in events {
        let body = Body::of(&RecordBody::Received { event: event.clone(), attempt: 0 });
        let record = Record { event: event.id, ..shop.world.next_record("a", body) };
        let frame = shop.world.later_frame(vec![record]);
        shop.world.append(encode(&frame));
    }
}

#[test]
fn what_an_older_release_took_in_is_decided_once_by_its_id() {
    let mut shop = Shop::new("shelf");
    let events = [shop.event("u-1", 3, true), shop.event("u-1", 4, false), shop.event("u-2", 9, true)];
    received(&mut shop, &events);
    // Nobody has the code: it is not decided, also for those who have no patience.
    shop.owner = shop.world.owner_with(Arc::new(registry()), Rc::new(NoEager));
    shop.say(events[1].clone());
    let states = shop.states(&events[1]);
    assert!(
        matches!(&states[..], [UpdateState::NotYet(failure)] if failure.message.contains("decides when it goes on")),
        "{states:?}"
    );
    shop.hand_over();
    let events = [events[0].clone(), events[1].clone(), events[2].clone()];
    for event in &events {
        shop.say(event.clone());
    }
    assert_eq!(shop.states(&events[0]).last(), Some(&UpdateState::Accepted));
    assert_eq!(shop.states(&events[1]).last(), Some(&UpdateState::Accepted), "it is the same update");
    assert!(refused(&shop.states(&events[2]), "3 of 10 are there"), "{:?}", shop.states(&events[2]));
    shop.word("yes");
    let answer = UpdateState::Answered(done(&3u64));
    assert_eq!(shop.states(&events[0]).last(), Some(&answer));
    assert_eq!(shop.states(&events[1]).last(), Some(&answer));
    let third = shop.event("u-3", 2, true);
    shop.say(third.clone());
    shop.word("yes");
    assert_eq!(shop.states(&third).last(), Some(&UpdateState::Answered(done(&5u64))), "the numbers go on");
    let accepted = shop.records().into_iter().filter(|kind| kind == "update_accepted").count();
    assert_eq!((accepted, shop.world.unacked()), (2, 0));
    judge(&shop.world);
}

#[test]
fn a_run_that_stands_still_is_not_asked_and_decides_nothing() {
    let mut shop = Shop::new("shelf");
    let strange = shop.event("u-0", 0, true);
    let body = Body::of(&BTreeMap::from([("from_the_future", 1)]));
    shop.say(Event { body, ..strange });
    let event = shop.event("u-1", 3, true);
    shop.say(event.clone());
    let states = shop.states(&event);
    assert!(
        matches!(&states[..], [UpdateState::NotYet(failure)] if failure.message.contains("stands still")),
        "{states:?}"
    );
    assert!(!shop.records().iter().any(|kind| kind == "update_accepted"));
}
