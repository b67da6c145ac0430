//! Updates of runs that go on as other ones: what one of them has taken is taken for all, and what it has not received goes along.

mod world;

use everpulse_engine::Options;
use everpulse_protocol::RequestId;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Start};
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{RunId, Timestamp, codec::Body};
use everpulse_sdk::{continue_as_new, signal, update, workflow};
use world::judge::judge;
use world::workflows::{Put, Word, number, registry};
use world::{World, done, payload};

/// Does by words what it is to do with the next update, and with itself.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn till(n: u64) -> u64 {
    let puts = update::<Put>();
    let (mut sum, mut held) = (n, Vec::new());
    loop {
        match signal::<Word>().recv().await.text.as_str() {
            "take" => {
                let put = puts.recv().await;
                sum += put.n;
                put.reply(Ok(sum));
            }
            "hold" => held.push(puts.recv().await),
            "on" => return continue_as_new(till(sum)).await,
            _ => return sum,
        }
    }
}

struct Shop {
    world: World,
    owner: usize,
    first: RunId,
}

impl Shop {
    fn new(options: impl FnOnce(Options) -> Options) -> Self {
        let mut registry = registry();
        registry.workflow_fn(till).expect("new");
        let mut world = World::new(registry);
        world.options = options(world.options.clone());
        let owner = world.owner();
        let start = world.start("a", "till", number(0));
        let first = RunId(start.id.0);
        world.say(owner, vec![start]);
        Self { world, owner, first }
    }

    fn put(&mut self, id: &str, n: u64) -> Event {
        let (id, name, args) = (id.to_owned(), "Put".to_owned(), payload(&Put { n }));
        let event = self.world.event(
            "a",
            Some(self.first),
            &EventBody::Update { id, name, args, patient: true, headers: None },
        );
        self.world.say(self.owner, vec![event.clone()]);
        event
    }

    fn words(&mut self, words: &[&str]) {
        for text in words {
            let value = payload(&Word { text: (*text).to_owned() });
            let body = EventBody::Signal { name: "Word".to_owned(), value, headers: None };
            let event = self.world.event("a", Some(self.first), &body);
            self.world.say(self.owner, vec![event]);
        }
    }

    /// What an update is, asked by its id.
    fn ask(&mut self, id: &str, exact: bool) -> Option<(Option<RunId>, UpdateState)> {
        let body = EventBody::AskUpdate { id: id.to_owned(), name: Some("Put".to_owned()) };
        let event = Event { exact, ..self.world.event("a", Some(self.first), &body) };
        self.world.say(self.owner, vec![event.clone()]);
        self.told(&event).pop()
    }

    fn told(&self, event: &Event) -> Vec<(Option<RunId>, UpdateState)> {
        let request = RequestId(event.id.0);
        let replies = self.world.replies.iter().filter(|(of, _)| *of == request);
        let told = replies.filter_map(|(_, body)| match body {
            ReplyBody::Update { run_id, state } => Some((*run_id, state.clone())),
            _ => None,
        });
        told.collect()
    }

    fn states(&self, event: &Event) -> Vec<UpdateState> {
        self.told(event).into_iter().map(|(_, state)| state).collect()
    }

    /// Which run has taken an update: event by event.
    fn taken(&self) -> Vec<(RunId, String)> {
        let records = self.world.records().into_iter().filter(|record| !world::repeats(record));
        let taken = records.filter_map(|record| match record.body() {
            Ok(RecordBody::UpdateAccepted { id, .. }) => Some((record.run_id, id)),
            _ => None,
        });
        taken.collect()
    }

    fn runs(&self) -> Vec<RunId> {
        let mut runs = Vec::new();
        for record in self.world.records().into_iter().filter(|record| record.workflow_id.as_str() == "a") {
            if !runs.contains(&record.run_id) {
                runs.push(record.run_id);
            }
        }
        runs
    }

    fn hand_over(&mut self) {
        self.world.crash(self.owner);
        self.owner = self.world.owner();
    }
}

fn accepted() -> UpdateState {
    UpdateState::Accepted
}

fn answered(sum: u64) -> UpdateState {
    UpdateState::Answered(done(&sum))
}

#[test]
fn what_was_taken_and_not_received_goes_along_and_is_answered_by_the_next_run() {
    for hands_over in [false, true] {
        let mut shop = Shop::new(|options| options);
        let (first, second) = (shop.put("u-1", 3), shop.put("u-2", 4));
        shop.words(&["take", "on"]);
        assert_eq!(shop.states(&first), [accepted(), answered(3)]);
        assert_eq!(shop.states(&second), [accepted()], "it is neither answered nor given up");
        let [one, two] = shop.runs()[..] else { panic!("{:?}", shop.runs()) };
        if hands_over {
            shop.hand_over();
        }
        // Whoever means the first run alone is told of the same update.
        for exact in [false, true] {
            assert_eq!(shop.ask("u-2", exact), Some((Some(two), accepted())));
            assert_eq!(shop.ask("u-1", exact), Some((Some(one), UpdateState::TakenBefore)));
        }
        let again = shop.put("u-2", 40);
        assert_eq!(shop.states(&again), [accepted()]);
        shop.words(&["take"]);
        assert_eq!(shop.states(&again), [accepted(), answered(7)]);
        if !hands_over {
            assert_eq!(shop.states(&second), [accepted(), answered(7)], "who waits waits on");
        }
        assert_eq!(shop.ask("u-2", true), Some((Some(two), answered(7))));
        let third = shop.put("u-3", 1);
        assert_eq!(shop.states(&third), [accepted()]);
        let taken: Vec<(RunId, String)> =
            [(one, "u-1"), (one, "u-2"), (two, "u-2"), (two, "u-3")].map(|(run, id)| (run, id.to_owned())).into();
        assert_eq!(shop.taken(), taken);
        // All of it is known when the series is over, to whoever asks and whoever requests it again.
        shop.words(&["end"]);
        assert_eq!(shop.states(&third).last(), Some(&UpdateState::Unanswered));
        for (id, run) in [("u-1", one), ("u-2", two), ("u-3", two)] {
            let again = shop.put(id, 5);
            assert_eq!(shop.told(&again), [(Some(run), UpdateState::TakenBefore)]);
            assert_eq!(shop.ask(id, false), Some((Some(run), UpdateState::TakenBefore)));
            shop.hand_over();
        }
        assert_eq!(shop.ask("u-4", false), None, "it is told that the run has ended");
        judge(&shop.world);
    }
}

#[test]
fn what_a_run_holds_when_it_goes_on_is_told_to_be_unanswered() {
    let mut shop = Shop::new(|options| options);
    let held = shop.put("u-1", 3);
    shop.words(&["hold", "on"]);
    assert_eq!(shop.states(&held), [accepted(), UpdateState::Unanswered]);
    assert_eq!(shop.taken().len(), 1);
    // It goes on with the next one that comes, and what comes under the id of that is known.
    let again = shop.put("u-1", 3);
    assert_eq!(shop.states(&again), [UpdateState::TakenBefore]);
    judge(&shop.world);
}

#[test]
fn an_update_that_ends_its_run_may_go_along_itself() {
    let mut shop = Shop::new(|options| options);
    // The run waits for one, and goes on before it has received the other.
    shop.words(&["take", "on"]);
    let first = shop.put("u-1", 3);
    assert_eq!(shop.states(&first), [answered(3)]);
    let second = shop.put("u-2", 4);
    shop.words(&["take"]);
    assert_eq!(shop.states(&second), [accepted(), answered(7)]);
    assert_eq!(shop.runs().len(), 2);
    judge(&shop.world);
}

#[test]
fn an_id_stays_taken_when_nobody_knows_any_more_by_which_run() {
    const RETENTION_MS: u64 = 1_000;
    let mut shop = Shop::new(|options| Options {
        retention_ms: RETENTION_MS,
        id_memory_ms: 20 * RETENTION_MS,
        trim_bytes_min: 4_000,
        ..options
    });
    shop.put("u-1", 3);
    shop.words(&["take", "on"]);
    let noise = |shop: &mut Shop, rounds: std::ops::Range<u32>| {
        for round in rounds {
            let until = Timestamp(shop.world.now.0 + 500);
            shop.world.run_until(until);
            let start = shop.world.start(&format!("noise-{round}"), "steps", number(2));
            shop.world.say(shop.owner, vec![start]);
        }
    };
    noise(&mut shop, 0..20);
    assert!(shop.world.start > 10, "history was trimmed: {}", shop.world.start);
    for _ in 0..2 {
        let again = shop.put("u-1", 5);
        assert_eq!(shop.told(&again), [(None, UpdateState::TakenBefore)]);
        assert_eq!(shop.ask("u-1", false), Some((None, UpdateState::TakenBefore)));
        shop.hand_over();
    }
    // And is forgotten as all ids are.
    noise(&mut shop, 20..90);
    let anew = shop.put("u-1", 5);
    assert_eq!(shop.states(&anew), [accepted()]);
}

#[test]
fn a_series_that_has_ended_is_known_by_its_first_run_also_where_another_one_came_after_it() {
    const RETENTION_MS: u64 = 1_000;
    let mut world = World::new(registry());
    let memory =
        Options { retention_ms: RETENTION_MS, id_memory_ms: RETENTION_MS, trim_bytes_min: 4_000, ..world.options };
    world.options = memory;
    let owner = world.owner();
    let start = world.start("a", "circles", number(0));
    let first = RunId(start.id.0);
    world.say(owner, vec![start]);
    for round in 0..30 {
        let until = Timestamp(world.now.0 + 500);
        world.run_until(until);
        let start = world.start(&format!("noise-{round}"), "steps", number(2));
        world.say(owner, vec![start]);
    }
    let terminate = world.event("a", Some(first), &EventBody::Terminate { reason: "enough".to_owned() });
    world.say(owner, vec![terminate]);
    let mut start = world.start("a", "circles", number(0));
    let Ok(EventBody::Start(body)) = start.body() else { panic!("{start:?}") };
    start.body = Body::of(&EventBody::Start(Start { policy: IdPolicy::RestartWhenClosed, ..body }));
    world.say(owner, vec![start]);
    let ask = |world: &mut World, owner: usize, exact: bool| {
        let ask = Event { exact, ..world.event("a", Some(first), &EventBody::Describe) };
        world.replies.clear();
        world.say(owner, vec![ask]);
        world.replies.pop().expect("an answer").1
    };
    for owner in [owner, world.owner()] {
        assert_eq!(ask(&mut world, owner, true), ReplyBody::NotFound, "the first run itself is forgotten");
        let ReplyBody::Description(view) = ask(&mut world, owner, false) else { panic!("its series is known") };
        assert_eq!(view.status.to_string(), "terminated");
    }
}
