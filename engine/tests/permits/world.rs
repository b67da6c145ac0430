//! Workers that share permits by a log, in no time at all: each reads, publishes, sleeps and dies when it is told to.

use everpulse_engine::permits::{Heard, Member, ROUNDS};
use everpulse_protocol::Position;
use everpulse_protocol::permit::{Notice, SessionId, Terms};
use uuid::Uuid;

/// So many steps of the world are a round.
const ROUND: u64 = 24;
/// A worker begins nothing unless it has read a notice of its own that it said less than this ago.
const FRESH: u64 = ROUND * 5 / 2;
/// A worker that has not heard itself for so long may have missed what was trimmed.
const MISSED: u64 = ROUND * 30;

/// A worker: its part, how far it has read, and what it is publishing.
pub(crate) struct Worker {
    pub(crate) member: Member,
    pub(crate) read: usize,
    pub(crate) publishing: Option<Notice>,
    /// Tasks that wait for a permit here.
    pub(crate) waiting: u32,
    /// Tasks that run with a permit of this session.
    pub(crate) running: u32,
    /// Those of them that ran when it fell asleep for long: others may have called it silent.
    excused: u32,
    /// What runs of sessions that are over, though nobody was right to call them silent.
    left: u32,
    /// It does nothing until then.
    wakes: u64,
    is_asleep: bool,
    /// When it says that it is here.
    round_at: u64,
    /// The number of the last notice that it said, and when.
    said: (u64, u64),
    /// When it said what it has read of its own.
    heard: Option<u64>,
}

pub(crate) struct World {
    pub(crate) log: Vec<Notice>,
    /// Who has read all of it, and says nothing; and how far.
    pub(crate) judge: Member,
    pub(crate) judged: usize,
    pub(crate) workers: Vec<Worker>,
    pub(crate) limit: u32,
    pub(crate) sessions: u128,
    pub(crate) served: u32,
    pub(crate) dice: u64,
    now: u64,
    /// Which entries are the first ones of ledgers, beside the topic's first.
    ledgers: Vec<usize>,
    /// Whatever runs goes on at least until then.
    busy_until: u64,
}

pub(crate) fn so_many(limit: u32) -> Terms {
    Terms { limit, rest_ms: 0 }
}

pub(crate) fn at(entry: usize) -> Position {
    Position { ledger: 1, entry: entry as u64 }
}

impl World {
    pub(crate) fn new(seed: u64, limit: u32) -> Self {
        // Splitmix64.
        let dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let judge = Member::new(SessionId(Uuid::nil()), so_many(1), None);
        let (log, workers) = (Vec::new(), Vec::new());
        Self {
            judge,
            judged: 0,
            log,
            workers,
            limit,
            sessions: 0,
            served: 0,
            dice,
            now: 0,
            ledgers: Vec::new(),
            busy_until: 0,
        }
    }

    /// Where an entry stands.
    pub(crate) fn at(&self, entry: usize) -> Position {
        let before = self.ledgers.partition_point(|first| *first <= entry);
        let first = before.checked_sub(1).map_or(0, |last| self.ledgers[last]);
        Position { ledger: 1 + before as u64, entry: (entry - first) as u64 }
    }

    /// The broker is away for so many rounds, and goes on with a new ledger.
    pub(crate) fn is_away(&mut self, rounds: u64) {
        let away = rounds * ROUND;
        self.now += away;
        // Longer than it takes to be called silent.
        self.busy_until = self.now + u64::from(3 * ROUNDS) * ROUND;
        for worker in &mut self.workers {
            worker.round_at = worker.round_at.max(self.now);
        }
        if self.ledgers.last() != Some(&self.log.len()) && !self.log.is_empty() {
            self.ledgers.push(self.log.len());
        }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).expect("it is less than a usize")
    }

    pub(crate) fn session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(Uuid::from_u128(self.sessions))
    }

    /// One that comes reads the end of the log only.
    pub(crate) fn come(&mut self, limit: u32) {
        let session = self.session();
        let (began, read) = match self.log.len().saturating_sub(1 + self.below(20)) {
            0 => (None, 0),
            behind => (Some(self.at(behind - 1)), behind),
        };
        let mut member = Member::new(session, so_many(limit), began);
        // The topic is new, or it has to be told.
        let joins = if self.log.is_empty() { member.join(true) } else { member.next(0, false).expect("it joins") };
        self.workers.push(Worker {
            member,
            read,
            said: (joins.number, self.now),
            publishing: Some(joins),
            waiting: 0,
            running: 0,
            excused: 0,
            left: 0,
            wakes: 0,
            is_asleep: false,
            round_at: self.now,
            heard: None,
        });
    }

    /// What is being published is stored, now and then twice.
    pub(crate) fn store(&mut self, which: usize) {
        let Some(notice) = self.workers[which].publishing.take() else { return };
        if self.below(5) == 0 {
            self.log.push(notice.clone());
        }
        self.log.push(notice);
    }

    pub(crate) fn read(&mut self, which: usize) {
        let session = SessionId(Uuid::from_u128(self.sessions + 1));
        let (now, position) = (self.now, self.at(self.workers[which].read));
        let worker = &mut self.workers[which];
        let Some(notice) = self.log.get(worker.read).cloned() else { return };
        let is_long = worker.heard.is_some_and(|said| now > said + MISSED);
        assert!(!is_long || !worker.member.has_missed(&notice), "nothing was trimmed");
        if (notice.session, notice.number) == (worker.member.session(), worker.said.0) {
            worker.heard = Some(worker.said.1);
        }
        let heard = worker.member.read(position, notice);
        worker.read += 1;
        if heard == Heard::Over {
            self.sessions += 1;
            // What runs goes on.
            worker.left += worker.running.saturating_sub(worker.excused);
            (worker.running, worker.excused, worker.heard, worker.publishing) = (0, 0, None, None);
            worker.member.begin_anew(session);
        }
    }

    pub(crate) fn read_all(&mut self, which: usize) {
        while self.workers[which].read < self.log.len() {
            self.read(which);
        }
    }

    pub(crate) fn work(&mut self, which: usize, round: bool) {
        let (now, worker) = (self.now, &mut self.workers[which]);
        let is_fresh = worker.heard.is_some_and(|said| now < said + FRESH);
        while is_fresh && worker.waiting > 0 && worker.member.take() {
            (worker.waiting, worker.running, self.served) = (worker.waiting - 1, worker.running + 1, self.served + 1);
        }
        if worker.publishing.is_some() {
            return;
        }
        worker.publishing = worker.member.next(worker.waiting, round);
        if let Some(notice) = &worker.publishing {
            worker.said = (notice.number, now);
        }
        if round {
            worker.round_at = now + ROUND;
        }
    }

    pub(crate) fn end_one(&mut self, which: usize) {
        let worker = &mut self.workers[which];
        if worker.left > 0 {
            worker.left -= 1;
        } else if worker.running > 0 {
            worker.running -= 1;
            worker.excused = worker.excused.min(worker.running);
            worker.member.put();
        }
    }

    /// What holds at the log's end, read from its beginning by somebody who says nothing; and what really runs.
    pub(crate) fn judge(&mut self) {
        for entry in self.judged..self.log.len() {
            self.judge.read(self.at(entry), self.log[entry].clone());
        }
        self.judged = self.log.len();
        let Some(account) = self.judge.account() else { return };
        let held: u32 = account.members.iter().map(|member| member.holds).sum();
        assert!(held <= self.limit, "{held} permits of {} are held", self.limit);
        let mut run = 0;
        for worker in &mut self.workers {
            run += worker.left;
            // One that others have called silent may not know it yet.
            let Some(part) = account.members.iter().find(|part| part.session == worker.member.session()) else {
                run += worker.running.saturating_sub(worker.excused);
                continue;
            };
            run += worker.running;
            if !worker.is_asleep && worker.heard.is_some_and(|said| said >= worker.wakes) {
                worker.excused = 0;
            }
            assert!(worker.running <= part.holds, "{} run with {} permits", worker.running, part.holds);
            if worker.read == self.log.len() && worker.member.is_informed() {
                assert_eq!(
                    worker.member.account().as_ref(),
                    Some(&account),
                    "all who have read the same know the same"
                );
            }
        }
        assert!(run <= self.limit, "{run} run with {} permits", self.limit);
    }

    /// Falls asleep for so many rounds.
    pub(crate) fn sleep(&mut self, which: usize, rounds: u64) {
        let worker = &mut self.workers[which];
        (worker.is_asleep, worker.wakes) = (true, self.now + rounds * ROUND);
        if rounds > 1 {
            worker.excused = worker.running;
        }
    }

    pub(crate) fn step(&mut self) {
        self.now += 1;
        let now = self.now;
        // Whoever wakes up begins at once what it believes that it may.
        if let Some(which) = self.workers.iter().position(|worker| worker.is_asleep && worker.wakes <= now) {
            self.workers[which].is_asleep = false;
            return self.work(which, false);
        }
        // Whoever is awake is never late by more than a round.
        if let Some(which) = self.workers.iter().position(|worker| !worker.is_asleep && worker.round_at + ROUND < now) {
            self.read_all(which);
            self.store(which);
            self.work(which, true);
            return self.store(which);
        }
        let which = self.below(self.workers.len());
        if self.workers[which].is_asleep {
            return;
        }
        match self.below(100) {
            0 if self.workers.len() < 6 => self.come(self.limit),
            1 if self.workers.len() > 1 && self.below(3) == 0 => drop(self.workers.swap_remove(which)),
            2 if self.workers.len() > 1 && self.below(3) == 0 => {
                let mut worker = self.workers.swap_remove(which);
                // What it was about to say may get there first.
                if worker.publishing.is_none() {
                    self.log.push(worker.member.leave());
                }
            }
            3 if self.below(3) == 0 => {
                let rounds = 1 + self.below(15) as u64;
                self.sleep(which, rounds);
            }
            // Two minutes, and three.
            4 if self.below(40) == 0 => {
                let rounds = 60 + self.below(30) as u64;
                self.is_away(rounds);
            }
            3..12 => self.workers[which].waiting += 1,
            12..24 if self.busy_until < now => self.end_one(which),
            24..50 => self.store(which),
            50..70 => self.work(which, self.workers[which].round_at <= now),
            _ => self.read(which),
        }
    }

    /// Everybody is quick, and nobody dies.
    pub(crate) fn calm(&mut self) {
        for _ in 0..30 * ROUNDS {
            self.now += ROUND;
            for which in 0..self.workers.len() {
                self.workers[which].is_asleep = false;
                self.read_all(which);
                self.end_one(which);
                self.work(which, true);
                self.store(which);
            }
            self.judge();
        }
    }
}

/// All of them read, work and publish, so many rounds.
pub(crate) fn rounds(world: &mut World, who: std::ops::Range<usize>, count: u32) {
    for _ in 0..count {
        for which in who.clone() {
            world.read_all(which);
            world.work(which, true);
            world.store(which);
        }
    }
}

/// All of them have read all.
pub(crate) fn all_read(world: &mut World) {
    for which in 0..world.workers.len() {
        world.read_all(which);
    }
}

/// Two that know what holds; the first one has the only permit.
pub(crate) fn one_at_work_and_one_beside() -> World {
    let mut world = World::new(1, 1);
    world.come(1);
    rounds(&mut world, 0..1, 2);
    world.workers[0].waiting = 1;
    rounds(&mut world, 0..1, 3);
    world.come(1);
    rounds(&mut world, 0..2, 3);
    assert_eq!(world.workers[0].running, 1);
    world
}
