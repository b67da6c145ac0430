//! Workers that share permits by a log, in no time at all: each reads, publishes, sleeps and dies when it is told to.

use everpulse_engine::permits::{Heard, Member, ROUNDS};
use everpulse_protocol::Position;
use everpulse_protocol::permit::{Notice, SessionId, Terms};
use uuid::Uuid;

/// A worker: its part, how far it has read, and what it is publishing.
pub(crate) struct Worker {
    pub(crate) member: Member,
    pub(crate) read: usize,
    pub(crate) publishing: Option<Notice>,
    /// Tasks that wait for a permit here.
    pub(crate) waiting: u32,
    /// Tasks that run with a permit of this session.
    pub(crate) running: u32,
    /// Rounds without knowing what holds.
    pub(crate) unanswered: u32,
    /// It does nothing for so many steps.
    pub(crate) asleep: u32,
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
        Self { judge, judged: 0, log: Vec::new(), workers: Vec::new(), limit, sessions: 0, served: 0, dice }
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
            behind => (Some(at(behind - 1)), behind),
        };
        let mut member = Member::new(session, so_many(limit), began);
        let publishing = Some(member.join(self.log.is_empty()));
        self.workers.push(Worker { member, read, publishing, waiting: 0, running: 0, unanswered: 0, asleep: 0 });
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
        let worker = &mut self.workers[which];
        let Some(notice) = self.log.get(worker.read).cloned() else { return };
        let heard = worker.member.read(at(worker.read), notice);
        worker.read += 1;
        if heard == Heard::Over {
            self.sessions += 1;
            // What runs goes on, as somebody else's.
            worker.member.begin_anew(session);
            (worker.running, worker.unanswered) = (0, 0);
            worker.publishing = Some(worker.member.join(false));
        }
    }

    pub(crate) fn work(&mut self, which: usize, round: bool) {
        let worker = &mut self.workers[which];
        while worker.waiting > 0 && worker.member.take() {
            (worker.waiting, worker.running, self.served) = (worker.waiting - 1, worker.running + 1, self.served + 1);
        }
        if worker.publishing.is_some() {
            return;
        }
        if worker.member.is_informed() {
            worker.publishing = worker.member.next(worker.waiting, round);
        } else if round {
            worker.unanswered += 1;
            if worker.unanswered.is_multiple_of(2 * ROUNDS) {
                worker.publishing = Some(worker.member.join(true));
            }
        }
    }

    pub(crate) fn end_one(&mut self, which: usize) {
        let worker = &mut self.workers[which];
        if worker.running > 0 {
            worker.running -= 1;
            worker.member.put();
        }
    }

    /// What holds at the log's end, read from its beginning by somebody who says nothing.
    pub(crate) fn judge(&mut self) {
        for (entry, notice) in self.log.iter().enumerate().skip(self.judged) {
            self.judge.read(at(entry), notice.clone());
        }
        self.judged = self.log.len();
        let Some(account) = self.judge.account() else { return };
        let held: u32 = account.members.iter().map(|member| member.holds).sum();
        assert!(held <= self.limit, "{held} permits of {} are held", self.limit);
        for worker in &self.workers {
            // One that others have called silent may not know it yet.
            let Some(part) = account.members.iter().find(|part| part.session == worker.member.session()) else {
                continue;
            };
            assert!(worker.running <= part.holds, "{} run with {} permits", worker.running, part.holds);
            if worker.read == self.log.len() && worker.member.is_informed() {
                assert_eq!(
                    worker.member.account().as_ref(),
                    Some(&account),
                    "all who have read the same know the same"
                );
            }
        }
    }

    pub(crate) fn step(&mut self) {
        let which = self.below(self.workers.len());
        if self.workers[which].asleep > 0 {
            self.workers[which].asleep -= 1;
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
            3 if self.below(3) == 0 => self.workers[which].asleep = 150,
            3..12 => self.workers[which].waiting += 1,
            12..24 => self.end_one(which),
            24..50 => self.store(which),
            50..54 => self.work(which, true),
            54..70 => self.work(which, false),
            _ => self.read(which),
        }
    }

    /// Everybody is quick, and nobody dies.
    pub(crate) fn calm(&mut self) {
        for _ in 0..30 * ROUNDS {
            for which in 0..self.workers.len() {
                self.workers[which].asleep = 0;
                while self.workers[which].read < self.log.len() {
                    self.read(which);
                }
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
            while world.workers[which].read < world.log.len() {
                world.read(which);
            }
            world.work(which, true);
            world.store(which);
        }
    }
}

/// All of them have read all.
pub(crate) fn all_read(world: &mut World) {
    for which in 0..world.workers.len() {
        while world.workers[which].read < world.log.len() {
            world.read(which);
        }
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
