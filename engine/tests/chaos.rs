//! Several owners of one shard at once, on a network that loses, doubles and reorders, by clocks that disagree.
//!
//! Everything follows from a seed, which a failure names: `EVERPULSE_SEED=17 cargo test -p everpulse-engine --test
//! chaos` plays that one again.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use everpulse_engine::{Eager, Effect, NoEager, Options};
use everpulse_protocol::Timestamp;
use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::history::{ParkedKind, RecordBody};
use world::play::{Always, Play};
use world::workflows::{MENDED, Word, number, registry};
use world::{Answer, Receipts, World, done, outcome_of, payload};

/// `EVERPULSE_SEEDS` in the environment asks for another number.
const SEEDS: u64 = 100;
const STEPS: usize = 500;

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("small")
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

struct Chaos {
    world: World,
    dice: Dice,
    /// What was done for each owner, and it has not heard of.
    answers: Vec<Vec<Answer>>,
    relayed: BTreeSet<usize>,
    answered: BTreeSet<usize>,
    /// Events of clients that are still to come; signals wait until their runs stand.
    starts: Vec<Event>,
    later: Vec<Event>,
    /// The history as far as it was read, and whose runs are there.
    chain: Chain,
    read: usize,
    begun: BTreeSet<String>,
}

fn word(world: &mut World, id: &str, text: &str) -> Event {
    let body =
        EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }) };
    world.event(id, None, &body)
}

impl Chaos {
    fn new(seed: u64, options: Options) -> Self {
        MENDED.set(false);
        let mut world = World::new(registry());
        if options.save_bytes_min == 1 {
            world.with_disk();
        }
        world.options = options;
        world.whole_ledgers = seed.is_multiple_of(2);
        let mut starts = Vec::new();
        for (id, n) in [("twice", 3), ("steps", 3), ("naps", 900), ("fans_out", 6), ("chooses", 3)] {
            starts.push(world.start(id, id, number(n)));
        }
        for (id, n) in [("mixed", 3), ("listens", 4), ("fussy", 3)] {
            starts.push(world.start(id, id, number(n)));
        }
        starts.push(world.start("cancelled", "naps", number(600_000)));
        starts.push(world.start("terminated", "twice", number(4)));
        let mut later: Vec<Event> = ["a", "b", "c", "d"].iter().map(|text| word(&mut world, "listens", text)).collect();
        later.push(word(&mut world, "mixed", "word"));
        later.push(word(&mut world, "fussy", "spinach"));
        later.push(word(&mut world, "fussy", "cake"));
        later.push(world.event("cancelled", None, &EventBody::Cancel { reason: "enough".to_owned() }));
        later.push(world.event("terminated", None, &EventBody::Terminate { reason: "enough".to_owned() }));
        let mut chaos = Self {
            world,
            dice: Dice(seed),
            answers: Vec::new(),
            relayed: BTreeSet::new(),
            answered: BTreeSet::new(),
            starts,
            later,
            chain: Chain::new(),
            read: 0,
            begun: BTreeSet::new(),
        };
        chaos.owner();
        chaos
    }

    fn owner(&mut self) {
        self.spoil();
        let eager: Rc<dyn Eager> = if self.dice.percent(30) { Rc::new(Always) } else { Rc::new(NoEager) };
        let owner = self.world.owner_with(self.world.registry.clone(), eager);
        self.world.owners[owner].skew = i64::try_from(self.dice.below(4_000)).expect("small") - 2_000;
        self.answers.push(Vec::new());
    }

    /// A disk loses some of what is on it, or is put back to what it was long ago.
    fn spoil(&mut self) {
        let Some(disks) = &self.world.disks else { return };
        let what = self.dice.below(6);
        for (disk, _) in disks {
            let mut disk = disk.borrow_mut();
            let long_ago = disk.saved.len() / 2;
            match what {
                0 | 1 => disk.lose(2),
                2 => disk.saved.truncate(long_ago),
                _ => {}
            }
        }
    }

    fn living(&mut self) -> usize {
        let living: Vec<usize> = (0..self.world.owners.len()).filter(|owner| self.world.owners[*owner].alive).collect();
        living[self.dice.below(living.len())]
    }

    fn step(&mut self) {
        let owner = self.living();
        match self.dice.below(100) {
            0..35 => self.carry_out(owner),
            35..60 => self.hear(owner),
            60..72 => self.deliver(owner),
            72..74 if !self.world.archive.is_empty() => {
                let frame = self.dice.below(self.world.archive.len());
                self.world.replay(owner, frame, true);
            }
            74..78 => {
                let now = self.world.clock(owner);
                self.world.owners[owner].shard.handle_tick(now);
            }
            78..81 => self.world.now = Timestamp(self.world.now.0 + self.dice.below(700) as u64),
            81..85 => self.relay(),
            85..90 => self.work(),
            90..94 => self.clients(),
            94..96 => {
                self.world.owners[owner].receipts = match self.dice.below(8) {
                    0 => Receipts::Lost,
                    1 => Receipts::Dropped,
                    2 => Receipts::Duplicate,
                    _ => Receipts::Prompt,
                };
            }
            96 => self.world.ledger += 1,
            97 => {
                let now = self.world.clock(owner);
                self.world.owners[owner].shard.handle_drain(now);
            }
            98 => {
                if self.world.owners.iter().filter(|owner| owner.alive).count() < 3 {
                    self.owner();
                }
            }
            _ => {
                self.world.crash(owner);
                self.answers[owner].clear();
                if !self.world.owners.iter().any(|owner| owner.alive) {
                    self.owner();
                }
            }
        }
    }

    /// Effects are carried out in any order.
    fn carry_out(&mut self, owner: usize) {
        self.world.collect(owner);
        let waiting = self.world.owners[owner].waiting.len();
        let Some(effect) = self.world.owners[owner].waiting.remove(self.dice.below(waiting)) else { return };
        let asked_to = if let Effect::Read { to, .. } = &effect { Some(*to) } else { None };
        match self.world.happen(owner, effect) {
            // The rest is read later: by then it may be trimmed.
            Some(Answer::Entries { id, mut entries, .. }) if entries.len() > 1 && self.dice.percent(30) => {
                entries.truncate(1 + self.dice.below(entries.len() - 1));
                let (after, to) = (entries.last().map(|(position, _)| *position), asked_to.expect("it was read"));
                self.world.owners[owner].waiting.push_back(Effect::Read { id, after, to });
                self.world.answer(owner, Answer::Entries { id, entries, done: false });
            }
            Some(Answer::Entries { id, mut entries, done }) if entries.len() > 1 && self.dice.percent(30) => {
                let rest = entries.split_off(self.dice.below(entries.len()));
                self.world.answer(owner, Answer::Entries { id, entries, done: false });
                self.answers[owner].push(Answer::Entries { id, entries: rest, done });
            }
            Some(answer) => self.answers[owner].push(answer),
            None => {}
        }
    }

    fn hear(&mut self, owner: usize) {
        let count = self.answers[owner].len();
        if count > 0 {
            let answer = self.answers[owner].swap_remove(self.dice.below(count));
            self.world.answer(owner, answer);
        }
    }

    /// Any message that is not acknowledged may come to any owner at any time.
    fn deliver(&mut self, owner: usize) {
        let open: Vec<usize> = (0..self.world.inbox.len()).filter(|at| self.world.inbox[*at].is_some()).collect();
        if !open.is_empty() {
            let frame = open[self.dice.below(open.len())];
            let suspect = self.dice.percent(20);
            self.world.deliver(owner, frame, suspect);
        }
    }

    /// Up to a second early, late, or twice.
    fn relay(&mut self) {
        if self.world.timers.is_empty() {
            return;
        }
        let place = self.dice.below(self.world.timers.len());
        let wake = self.world.timers[place];
        if wake.due.0 <= self.world.now.0 + 1_000 {
            self.relayed.insert(place);
            let event = self.world.wake(wake);
            self.world.publish(vec![event]);
        }
    }

    fn work(&mut self) {
        if self.world.queue.is_empty() {
            return;
        }
        let mut events = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let place = self.dice.below(self.world.queue.len());
            let task = self.world.queue[place].clone();
            self.answered.insert(place);
            events.push(self.world.settled(&task, outcome_of(&task)));
        }
        self.world.publish(events);
    }

    fn clients(&mut self) {
        if !self.starts.is_empty() {
            let batch = (1 + self.dice.below(3)).min(self.starts.len());
            let events = self.starts.drain(..batch).collect();
            self.world.publish(events);
        } else if let Some(event) = self.later.first().cloned() {
            self.read_on();
            if self.begun.contains(event.workflow_id.as_str()) {
                self.later.remove(0);
                // A client that hears nothing sends it again.
                if self.dice.percent(20) {
                    self.world.publish(vec![event.clone()]);
                }
                self.world.publish(vec![event]);
            }
        }
    }

    fn read_on(&mut self) {
        for (position, payload) in &self.world.log[self.read..] {
            if let Offered::Stands(frame) = self.chain.offer(*position, payload) {
                self.begun.extend(frame.records.iter().map(|record| record.workflow_id.to_string()));
            }
        }
        self.read = self.world.log.len();
    }

    /// Peace: one more owner, and no more faults.
    fn end(mut self) -> Play {
        MENDED.set(true);
        let zombies = self.dice.percent(50);
        for owner in 0..self.world.owners.len() {
            self.world.owners[owner].receipts = Receipts::Prompt;
            if !self.world.owners[owner].alive || !zombies {
                self.world.crash(owner);
                continue;
            }
            for answer in std::mem::take(&mut self.answers[owner]) {
                self.world.answer(owner, answer);
            }
            self.world.settle(owner);
        }
        let (starts, later) = (self.starts, self.later);
        let mut play = Play::adopt(self.world);
        (play.relayed, play.answered) = (self.relayed, self.answered);
        play.say(starts);
        play.settle();
        play.say(later);
        play.resume("fussy");
        // An input that saw three workers die is given up, whoever was to blame; a person lets it go on.
        play.settle();
        for id in poisoned(&play.world) {
            play.resume(&id);
        }
        play.run(&[], &[]);
        play
    }
}

/// Workflow ids of runs that were parked because workers went down.
fn poisoned(world: &World) -> Vec<String> {
    let is_poisoned = |body| matches!(body, Ok(RecordBody::Parked { reason }) if reason.kind == ParkedKind::Poisonous);
    world.records().iter().filter(|r| is_poisoned(r.body())).map(|r| r.workflow_id.to_string()).collect()
}

fn play(seed: u64, options: Options) -> World {
    let mut chaos = Chaos::new(seed, options);
    for _ in 0..STEPS {
        chaos.step();
    }
    let play = chaos.end();
    let world = &play.world;
    play.check(vec![
        ("twice", done(&12u64)),
        ("steps", done(&3u64)),
        ("naps", done(&900u64)),
        ("fans_out", done(&30u64)),
        ("mixed", done(&26u64)),
    ]);
    let Some(Outcome::Done(said)) = world.result("listens") else { panic!("it heard all") };
    let mut letters: Vec<char> = said.decode::<String>().expect("a text").chars().collect();
    letters.sort_unstable();
    assert_eq!(letters, ['a', 'b', 'c', 'd'], "each signal counts once");
    // By the order in which its two words came.
    assert!([Some(done(&14u64)), Some(done(&20u64))].contains(&world.result("fussy")));
    for id in ["chooses", "cancelled", "terminated"] {
        assert!(world.result(id).is_some(), "{id} ended");
    }
    assert_eq!(world.buried, 0, "no input is lost");
    play.world
}

/// Plays all seeds; gives what each came to.
fn play_all<T>(options: &Options, look: impl Fn(&World) -> T) -> Vec<T> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let one = number("EVERPULSE_SEED");
    let seeds = one.map_or(0..number("EVERPULSE_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let one = |seed| {
        let played = std::panic::catch_unwind(|| play(seed, options.clone()));
        look(&played.unwrap_or_else(|_| panic!("EVERPULSE_SEED={seed}")))
    };
    seeds.map(one).collect()
}

#[test]
fn whatever_happens_the_runs_come_to_the_same_end() {
    let outcomes = play_all(&Options { live_runs_max: 64, ..Options::default() }, |world| {
        (world.chain().1, poisoned(world).len())
    });
    let voids: usize = outcomes.iter().map(|(voids, _)| voids).sum();
    let poisoned: usize = outcomes.iter().map(|(_, poisoned)| poisoned).sum();
    println!("{voids} void frames, {poisoned} runs parked for dying workers");
    assert!(outcomes.len() == 1 || voids > 100, "owners collided: {voids}");
}

/// The same while history is carried forward and trimmed all the time.
#[test]
fn whatever_is_trimmed_the_runs_come_to_the_same_end() {
    let options = Options {
        live_runs_max: 64,
        retention_ms: 300,
        id_memory_ms: 3_600_000,
        trim_bytes_min: 500,
        ..Options::default()
    };
    let outcomes = play_all(&options, |world| (world.chain().1, world.start));
    let trimmed = outcomes.iter().filter(|(_, start)| *start > 0).count();
    println!("trimmed in {trimmed} of {} seeds", outcomes.len());
    assert!(outcomes.len() == 1 || trimmed * 2 > outcomes.len(), "history was trimmed");
}

/// The same with runs that lie on disks, and with caches of any age.
#[test]
fn whatever_lies_on_a_shelf_the_runs_come_to_the_same_end() {
    let options = Options {
        live_runs_max: 64,
        retention_ms: 600,
        id_memory_ms: 3_600_000,
        trim_bytes_min: 500,
        runs_at_hand_max: 0,
        save_bytes_min: 1,
        ..Options::default()
    };
    let outcomes = play_all(&options, |world| {
        let disks = world.disks.iter().flatten().map(|(disk, _)| disk.borrow());
        disks.fold((0, 0), |(resumed, missed), disk| (resumed + disk.resumed, missed + disk.missed))
    });
    let resumed: usize = outcomes.iter().map(|(resumed, _)| resumed).sum();
    let missed: usize = outcomes.iter().map(|(_, missed)| missed).sum();
    println!("{resumed} shards began with a cache, {missed} runs were lost from a shelf");
    assert!(outcomes.len() == 1 || resumed > 100 && missed > 5, "{resumed}, {missed}");
}

/// What a run did, without when: the kind of each record and the numbers of its commands.
fn told(world: &World) -> BTreeMap<String, Vec<(String, Vec<u32>)>> {
    let mut runs: BTreeMap<String, Vec<(String, Vec<u32>)>> = BTreeMap::new();
    for record in world.records() {
        let commands = record.commands.iter().map(|mark| mark.no).collect();
        let kind = record.body.kind().expect("a known kind");
        runs.entry(record.workflow_id.to_string()).or_default().push((kind, commands));
    }
    runs
}

/// The inputs of two runs, in the order in which a lone owner gets them, one by one.
fn inputs(world: &mut World) -> Vec<Event> {
    let mut events = vec![world.start("fans", "fans_out", number(8)), world.start("listens", "listens", number(3))];
    let owner = world.owner();
    world.say(owner, events.clone());
    for (place, text) in ["a", "b", "c"].into_iter().enumerate() {
        events.push(word(world, "listens", text));
        for task in [place * 2, place * 2 + 1] {
            events.push(world.settled(&world.queue[task], outcome_of(&world.queue[task])));
        }
    }
    events.extend([6, 7].map(|task| world.settled(&world.queue[task], outcome_of(&world.queue[task]))));
    for event in &events[2..] {
        world.say(owner, vec![event.clone()]);
    }
    events
}

#[test]
fn commands_are_a_function_of_history_whatever_the_borders_of_batches() {
    let mut alone = World::new(registry());
    let events = inputs(&mut alone);
    assert!(alone.result("fans").is_some() && alone.result("listens").is_some());
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let mut world = World::new(registry());
        let owner = world.owner();
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((1 + dice.below(5)).min(rest.len()));
            rest = later;
            let frame = world.publish(now.to_vec());
            world.deliver(owner, frame, false);
            // The next message comes while any part of this one is under way.
            for _ in 0..dice.below(6) {
                world.step(owner);
            }
        }
        world.settle(owner);
        assert_eq!(told(&world), told(&alone), "seed {seed}");
        assert_eq!((world.result("fans"), world.unacked()), (alone.result("fans"), 0), "seed {seed}");
    }
}
