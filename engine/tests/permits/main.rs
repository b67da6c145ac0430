//! Permits that workers share by a log: never more are used than there are, whoever comes, dies, sleeps or is heard twice, and
//! everybody who waits gets one in the end.

mod beginnings;
mod missed;
mod world;

use everpulse_engine::permits::{Heard, Member, ROUNDS};
use everpulse_protocol::permit::{Notice, SessionId, Terms};
use uuid::Uuid;

use world::{World, all_read, at, one_at_work_and_one_beside, rounds, so_many};

#[test]
fn no_more_permits_are_used_than_there_are_and_everybody_gets_one_in_the_end() {
    let mut served = 0;
    for seed in 0..1_000 {
        let limit = 1 + u32::try_from(seed % 4).expect("small");
        let mut world = World::new(seed, limit);
        world.come(limit);
        // Two that find nobody at once.
        world.come(limit);
        for _ in 0..1_500 {
            if world.workers.is_empty() {
                world.come(limit);
            }
            world.step();
            world.judge();
        }
        if world.workers.is_empty() {
            world.come(limit);
        }
        world.calm();
        let waiting: u32 = world.workers.iter().map(|worker| worker.waiting).sum();
        assert_eq!(waiting, 0, "seed {seed}");
        served += world.served;
    }
    assert!(served > 10_000, "{served}");
}

#[test]
fn one_that_is_silent_for_long_loses_its_permits_and_is_told() {
    let mut world = World::new(1, 1);
    world.come(1);
    rounds(&mut world, 0..1, 2);
    world.workers[0].waiting = 1;
    rounds(&mut world, 0..1, 3);
    assert_eq!(world.workers[0].running, 1);
    world.come(1);
    world.workers[1].waiting = 1;
    rounds(&mut world, 0..2, 3);
    assert_eq!(world.workers[1].running, 0, "there is one permit");
    // The first one sleeps.
    rounds(&mut world, 1..2, ROUNDS - 1);
    assert_eq!(world.workers[1].running, 0);
    rounds(&mut world, 1..2, 4);
    assert_eq!(world.workers[1].running, 1);
    let before = world.workers[0].member.session();
    rounds(&mut world, 0..2, 4);
    assert_ne!(world.workers[0].member.session(), before, "it takes part anew");
    assert_eq!(world.workers[0].member.holds(), 0);
}

#[test]
fn a_smaller_number_holds_when_enough_came_back_and_a_greater_one_at_once() {
    let mut world = World::new(1, 3);
    world.come(3);
    rounds(&mut world, 0..1, 2);
    world.workers[0].waiting = 5;
    rounds(&mut world, 0..1, 3);
    assert_eq!(world.workers[0].running, 3);
    world.come(1);
    rounds(&mut world, 0..2, 3);
    for running in [2, 1] {
        world.end_one(0);
        rounds(&mut world, 0..2, 4);
        assert_eq!(world.workers[0].member.holds(), running.max(1), "nothing new is given");
    }
    world.end_one(0);
    rounds(&mut world, 0..2, 4);
    assert_eq!(world.workers[0].running, 1, "one at a time from here on");
    world.come(4);
    rounds(&mut world, 0..3, 4);
    assert_eq!(world.workers[0].running + world.workers[0].waiting, 2);
    assert_eq!(world.workers[0].waiting, 0, "all of them");
}

#[test]
fn permits_that_are_free_are_of_no_use_where_there_are_too_many() {
    let mut world = World::new(1, 3);
    world.come(3);
    rounds(&mut world, 0..1, 2);
    world.workers[0].waiting = 2;
    rounds(&mut world, 0..1, 2);
    // As if more were to begin soon.
    world.workers[0].waiting = 1;
    world.work(0, false);
    world.store(0);
    world.workers[0].waiting = 0;
    world.read_all(0);
    assert_eq!((world.workers[0].running, world.workers[0].member.free()), (2, 1));
    world.come(1);
    world.store(1);
    world.read_all(0);
    world.workers[0].waiting = 1;
    for running in [2, 1] {
        for _ in 0..4 {
            world.work(0, true);
            assert_eq!(world.workers[0].running, running, "nothing begins until enough has ended");
            assert_eq!(world.workers[0].waiting, 1);
            world.store(0);
            rounds(&mut world, 1..2, 1);
            world.read_all(0);
        }
        world.end_one(0);
    }
    rounds(&mut world, 0..2, 4);
    assert_eq!((world.workers[0].running, world.workers[0].waiting), (1, 0));
}

#[test]
fn what_a_later_one_says_is_noticed_where_it_differs() {
    let mut world = one_at_work_and_one_beside();
    assert_eq!(world.workers[0].member.differing(), None);
    world.come(3);
    rounds(&mut world, 0..3, 2);
    for (which, differing) in [(0, Some(so_many(3))), (1, Some(so_many(3))), (2, None)] {
        assert_eq!(world.workers[which].member.differing(), differing);
    }
    // One that comes hears what held before, and that is no news.
    world.come(1);
    world.store(3);
    assert_eq!(world.workers[3].member.differing(), None);
    rounds(&mut world, 0..4, 2);
    assert_eq!(world.workers[2].member.differing(), Some(so_many(1)));
    assert!([0, 1, 3].iter().all(|which| world.workers[*which].member.differing().is_none()));
}

#[test]
fn whoever_speaks_before_it_is_called_silent_is_not() {
    let mut world = one_at_work_and_one_beside();
    let first = world.workers[0].member.session();
    // The first one sleeps until the other one is about to say so.
    let called = loop {
        world.read_all(1);
        world.work(1, true);
        let notice = world.workers[1].publishing.take().expect("a round is over");
        if !notice.silent.is_empty() {
            break notice;
        }
        world.log.push(notice);
    };
    world.read_all(0);
    world.work(0, true);
    world.store(0);
    world.log.push(called);
    rounds(&mut world, 0..2, 3);
    assert_eq!(world.workers[0].member.session(), first, "it was heard before");
    assert_eq!(world.workers[0].member.holds(), 1);
    world.judge();
}

#[test]
fn what_holds_is_said_once_in_a_round_however_many_there_are() {
    let mut world = World::new(1, 1);
    for _ in 0..5 {
        world.come(1);
    }
    rounds(&mut world, 0..5, 10);
    let from = world.log.len();
    rounds(&mut world, 0..5, 20);
    let said = world.log[from..].iter().filter(|notice| notice.account.is_some()).count();
    assert!((15..=25).contains(&said), "{said} in 20 rounds of five");
}

#[test]
fn what_is_read_again_counts_once() {
    let mut world = one_at_work_and_one_beside();
    world.read_all(1);
    // One that came and left does not come again.
    let mut third = Member::new(SessionId(Uuid::from_u128(90)), so_many(1), None);
    world.log.extend([third.join(false), third.leave()]);
    world.read_all(1);
    let before = world.workers[1].member.account();
    for entry in 0..world.log.len() - 1 {
        assert_eq!(world.workers[1].member.read(at(entry), world.log[entry].clone()), Heard::News);
    }
    assert_eq!(world.workers[1].member.account(), before);
}

#[test]
fn permits_that_rest_have_rested_before_their_worker_is_called_silent() {
    let slow = Terms { limit: 1, rest_ms: 20_000 };
    let member = Member::new(SessionId(Uuid::from_u128(1)), slow, None);
    assert_eq!(member.rounds_max(), ROUNDS + 10);
    // Also where another one's rule is the slow one.
    let mut member = Member::new(SessionId(Uuid::from_u128(1)), so_many(1), None);
    let mut other = Member::new(SessionId(Uuid::from_u128(2)), slow, None);
    let (first, second) = (member.join(true), other.join(false));
    member.read(at(0), first);
    member.read(at(1), second);
    assert_eq!((member.terms(), member.rounds_max()), (slow, ROUNDS + 10));
}

#[test]
fn a_permit_that_ends_goes_to_another_one_that_waits_for_it() {
    let mut world = one_at_work_and_one_beside();
    // The first one has much to do, and asks for more than once.
    for which in [0, 0, 1] {
        world.workers[which].waiting += 2;
        all_read(&mut world);
        world.work(which, false);
        world.store(which);
    }
    all_read(&mut world);
    let mut ran = Vec::new();
    for _ in 0..4 {
        let runs = world.workers.iter().position(|worker| worker.running > 0).expect("the permit is in use");
        world.end_one(runs);
        for _ in 0..3 {
            rounds(&mut world, 0..2, 1);
        }
        ran.push(world.workers.iter().position(|worker| worker.running > 0).expect("somebody waits"));
    }
    assert_eq!(ran, [0, 1, 0, 1], "they take turns");
}

#[test]
fn one_that_leaves_gives_back_what_it_has_at_once() {
    let mut world = one_at_work_and_one_beside();
    world.workers[1].waiting = 1;
    rounds(&mut world, 1..2, 1);
    let left = world.workers[0].member.leave();
    world.log.push(left);
    world.read_all(1);
    assert_eq!(world.workers[1].member.holds(), 1);
}

#[test]
fn one_that_comes_is_told_what_holds_at_once_and_by_one_alone() {
    let mut world = one_at_work_and_one_beside();
    all_read(&mut world);
    // What they were about to say they have said.
    world.workers.iter_mut().for_each(|worker| worker.publishing = None);
    world.come(1);
    world.store(2);
    for which in [1, 0] {
        world.read_all(which);
        world.work(which, false);
        let said = world.workers[which].publishing.take();
        world.log.extend(said);
    }
    let tells = |notice: &&Notice| notice.account.is_some();
    let from = world.log.iter().rposition(|notice| notice.joins.is_some()).expect("it came");
    let told: Vec<_> = world.log[from..].iter().filter(tells).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].session, world.workers[0].member.session(), "the eldest");
    // If that one is not there, the next one says it in its round.
    world.come(1);
    world.store(3);
    let from = world.log.len();
    rounds(&mut world, 1..2, 1);
    assert!(world.log[from..].iter().any(|notice| notice.account.is_some()));
}

#[test]
fn whoever_missed_a_notice_knows_nothing_any_more() {
    let mut world = one_at_work_and_one_beside();
    all_read(&mut world);
    let from = world.log.len();
    rounds(&mut world, 0..1, 2);
    assert_eq!(world.log.len(), from + 2);
    let missed = world.log[from + 1].clone();
    assert_eq!(world.workers[1].member.read(at(from + 1), missed), Heard::Over);
    assert!(!world.workers[1].member.is_informed());
}

#[test]
fn a_notice_of_a_later_release_is_followed_by_nothing_until_somebody_tells_who_has_read_it() {
    let mut world = one_at_work_and_one_beside();
    all_read(&mut world);
    // What the first one is about to say it says without having read it.
    world.workers[0].publishing = None;
    world.workers[1].publishing = None;
    world.work(0, true);
    let mut later = Member::new(SessionId(Uuid::from_u128(90)), so_many(1), None);
    world.log.push(later.leave());
    assert_eq!(world.workers[1].member.unreadable(at(world.log.len() - 1)), Heard::Over);
    world.workers[1].read += 1;
    let session = world.session();
    world.workers[1].member.begin_anew(session);
    assert!(world.workers[0].publishing.as_ref().is_some_and(|notice| notice.account.is_some()));
    world.store(0);
    world.read_all(1);
    assert!(!world.workers[1].member.is_informed(), "it is of before");
    rounds(&mut world, 0..2, 3);
    assert!(world.workers[1].member.is_informed());
    world.judge();
}

#[test]
fn a_worker_that_takes_part_anew_does_not_say_again_how_many_there_are() {
    let mut world = one_at_work_and_one_beside();
    world.come(3);
    rounds(&mut world, 0..3, 2);
    assert_eq!(world.workers[0].member.terms(), so_many(3));
    let session = world.session();
    world.workers[0].member.begin_anew(session);
    rounds(&mut world, 0..3, 3);
    assert!(world.workers[0].member.is_informed());
    for worker in &world.workers {
        assert_eq!(worker.member.terms(), so_many(3), "as the one said that began last");
    }
    // Whoever is alone has nobody from whom to know.
    let alone = world.workers[0].member.join(true);
    assert_eq!(alone.joins.and_then(|joins| joins.terms), Some(so_many(1)));
}

#[test]
fn terms_that_nobody_could_count_are_said_again() {
    let mut late = Member::new(SessionId(Uuid::from_u128(91)), so_many(3), Some(at(0)));
    let mut first = Member::new(SessionId(Uuid::from_u128(90)), so_many(1), Some(at(0)));
    let joins = late.next(0, false).expect("it joins");
    for member in [&mut late, &mut first] {
        member.read(at(1), joins.clone());
    }
    let alone = first.join(true);
    assert_eq!(first.read(at(2), alone.clone()), Heard::News);
    assert_eq!(late.read(at(2), alone), Heard::Over, "another one was alone before it");
    late.begin_anew(SessionId(Uuid::from_u128(93)));
    first.read(at(3), late.next(0, false).expect("it joins"));
    assert_eq!(first.terms(), so_many(3), "as the one said that began last");
}

#[test]
fn what_is_free_for_many_turns_is_given_at_once_and_as_in_turns() {
    for (limit, held) in [(8, [4, 2, 2]), (9, [4, 3, 2]), (19, [6, 7, 6]), (1_000_000, [6, 999_987, 7])] {
        let mut world = one_at_work_and_one_beside();
        world.come(1);
        rounds(&mut world, 0..3, 2);
        for (which, asks) in [(0, 5), (1, u32::MAX), (2, 7)] {
            world.workers[which].publishing = None;
            all_read(&mut world);
            let asked = world.workers[which].member.next(asks, false).expect("it asks");
            world.log.push(asked);
        }
        world.come(limit);
        world.store(3);
        all_read(&mut world);
        let holds: Vec<_> = world.workers.iter().map(|worker| worker.member.holds()).collect();
        assert_eq!(holds[..3], held);
    }
}
