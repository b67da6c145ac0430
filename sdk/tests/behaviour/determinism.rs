//! Replaying the same events gives the same commands, and says nothing while it does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use everpulse::replay::{Command, Input, TurnState};
use everpulse::{activity, join_all, publish, random_range, select, signal, sleep, uuid, workflow};
use everpulse_protocol::history::CommandMark;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::harness::{Run, done, run, show, value};

#[activity]
async fn double(n: u32) -> u32 {
    n * 2
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Poke(u8);

/// Does a bit of everything, as wildly as events let it.
#[workflow]
async fn busy(children: u32) -> Vec<String> {
    let child = |n: u32| async move {
        let mut log = Vec::new();
        for round in 0..3 {
            select! {
                doubled = double(n) => log.push(format!("{n}: {}", doubled.unwrap())),
                poke = signal::<Poke>().recv() => log.push(format!("{n}: poked {}", poke.0)),
                () = sleep(Duration::from_millis(random_range(1..100))), if round != 1 => log.push(format!("{n}: timer")),
            }
            publish(&log.len());
        }
        log.push(uuid().to_string());
        log
    };
    join_all((0..children).map(child)).await.concat()
}

#[derive(Debug, Clone)]
enum Happening {
    Settle(u32),
    Fire(u32),
    Poke(u8),
}

fn input(happening: &Happening) -> Input {
    match *happening {
        Happening::Settle(step) => done(step, step),
        Happening::Fire(step) => Input::TimerFired { step },
        Happening::Poke(n) => {
            Input::Signal { name: "Poke".into(), value: everpulse_protocol::Payload::encode(&Poke(n)).unwrap() }
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..20_u32).prop_map(Happening::Settle),
        (0..20_u32).prop_map(Happening::Fire),
        any::<u8>().prop_map(Happening::Poke),
    ]
}

type Turns = (Vec<Vec<CommandMark>>, Vec<TurnState>, usize);

fn play(run: &mut Run, happenings: &[(Happening, u64)]) -> Turns {
    let (mut marks, mut states, mut published) = (Vec::new(), Vec::new(), 0);
    for (happening, now) in happenings {
        run.now = 1_000 + now;
        let turn = run.turn(input(happening));
        marks.push(turn.commands.iter().map(Command::mark).collect());
        states.push(turn.state);
        published += turn.published.len();
    }
    (marks, states, published)
}

proptest! {
    #[test]
    fn the_same_events_give_the_same_commands_live_and_replayed(
        happenings in prop::collection::vec((happening(), 0..1_000_u64), 0..60),
    ) {
        let mut live = run(busy(4));
        let begun = live.start();
        let first = play(&mut live, &happenings);
        let mut again = run(busy(4));
        again.replaying = Some(Vec::new());
        prop_assert_eq!(begun, again.start());
        prop_assert_eq!(first, play(&mut again, &happenings));
    }

    #[test]
    fn settlements_that_come_twice_change_nothing(
        picks in prop::collection::vec((any::<u32>(), any::<bool>(), 0..1_000_u64), 0..60),
    ) {
        let (mut once, mut twice) = (run(busy(4)), run(busy(4)));
        let mut given = once.turn(Input::Start).commands.len() as u32;
        twice.start();
        for (pick, settle, now) in picks {
            // Of a command that was given, open or not: one that is not yet given would count later.
            let step = pick % given;
            let happening = if settle { Happening::Settle(step) } else { Happening::Fire(step) };
            once.now = 1_000 + now;
            twice.now = once.now;
            let turn = once.turn(input(&happening));
            given += turn.commands.iter().filter(|command| !matches!(command, Command::Cancel { .. })).count() as u32;
            prop_assert_eq!(show(&turn), twice.apply(input(&happening)));
            let again = twice.turn(input(&happening));
            prop_assert!(again.commands.is_empty() && again.published.is_empty());
            prop_assert_eq!(again.state, turn.state);
        }
    }

    #[test]
    fn numbers_are_dense_and_only_open_commands_are_cancelled(
        happenings in prop::collection::vec((happening(), 0..1_000_u64), 0..60),
    ) {
        let mut live = run(busy(4));
        let mut marks: Vec<_> = live.turn(Input::Start).commands.iter().map(Command::mark).collect();
        marks.extend(play(&mut live, &happenings).0.concat());
        let mut next = 0;
        let mut cancelled = std::collections::BTreeSet::new();
        for mark in marks {
            if mark.kind == everpulse_protocol::history::CommandKind::Cancel {
                prop_assert!(mark.no < next && cancelled.insert(mark.no));
            } else {
                prop_assert_eq!(mark.no, next);
                next += 1;
            }
        }
    }
}

static EVENTS: AtomicU32 = AtomicU32::new(0);

struct Counter;

impl tracing::Subscriber for Counter {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        EVENTS.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[workflow]
async fn talks() -> u32 {
    tracing::info!("begins");
    let result = double(1).await.unwrap();
    tracing::info!("ends");
    result
}

#[test]
fn events_of_tracing_are_silent_while_replaying() {
    tracing::subscriber::with_default(Counter, || {
        let mut run = run(talks());
        run.replaying = Some(Vec::new());
        run.start();
        assert_eq!(EVENTS.load(Ordering::Relaxed), 0);
        run.replaying = None;
        assert_eq!(value::<u32>(&run.turn(done(0, 2))), 2);
        assert_eq!(EVENTS.load(Ordering::Relaxed), 1);
    });
}
