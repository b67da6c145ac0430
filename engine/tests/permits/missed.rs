//! What is away, trimmed or stored twice: nobody forgets what runs because of time alone, and whoever missed something finds out.

use everpulse_engine::permits::{Member, ROUNDS};
use everpulse_protocol::permit::SessionId;
use uuid::Uuid;

use crate::world::{all_read, one_at_work_and_one_beside, rounds, so_many};

#[test]
fn a_broker_that_was_away_for_long_and_has_a_new_ledger_takes_no_permit_from_anybody() {
    let mut world = one_at_work_and_one_beside();
    world.workers[1].waiting = 1;
    let sessions: Vec<_> = world.workers.iter().map(|worker| worker.member.session()).collect();
    for _ in 0..3 {
        let before = world.at(world.log.len());
        world.is_away(60);
        assert!(world.at(world.log.len()).ledger > before.ledger);
        // Who comes meanwhile may be the first to be heard.
        world.come(1);
        let last = world.workers.len() - 1;
        world.store(last);
        for _ in 0..2 * ROUNDS {
            rounds(&mut world, 0..last + 1, 1);
            world.judge();
        }
        assert_eq!((world.workers[0].running, world.workers[1].running), (1, 0));
    }
    let after = world.workers.iter().map(|worker| worker.member.session());
    assert!(after.take(2).eq(sessions), "they are the same");
    world.end_one(0);
    rounds(&mut world, 0..2, 3);
    assert_eq!(world.workers[1].running, 1);
}

#[test]
fn whoever_missed_the_beginning_of_another_one_knows_it_by_whatever_that_one_says() {
    let mut world = one_at_work_and_one_beside();
    let mut missed = Member::new(SessionId(Uuid::from_u128(90)), so_many(1), None);
    for entry in 0..world.log.len() {
        missed.read(world.at(entry), world.log[entry].clone());
    }
    assert!(missed.is_informed());
    let from = world.log.len();
    world.come(1);
    rounds(&mut world, 2..3, 3);
    assert!(world.log[from..].iter().any(|notice| notice.joins.is_none()));
    for notice in &world.log[from..] {
        assert_eq!(missed.has_missed(notice), notice.joins.is_none(), "{notice:?}");
    }
    // What is over is known.
    let first = world.log[0].session;
    world.log.push(world.workers[0].member.leave());
    missed.read(world.at(world.log.len() - 1), world.log[world.log.len() - 1].clone());
    assert!(world.log.iter().filter(|notice| notice.session == first).all(|notice| !missed.has_missed(notice)));
}

#[test]
fn a_join_that_is_stored_again_behind_its_sessions_end_is_nothing() {
    let mut world = one_at_work_and_one_beside();
    world.come(3);
    let joins = world.workers[2].publishing.clone().expect("it joins");
    rounds(&mut world, 0..3, 2);
    world.come(2);
    rounds(&mut world, 0..4, 2);
    assert_eq!(world.workers[0].member.terms(), so_many(2));
    // The third one is gone.
    rounds(&mut world, 0..2, ROUNDS + 3);
    world.come(2);
    let last = world.workers.len() - 1;
    rounds(&mut world, 0..2, 2);
    world.store(last);
    rounds(&mut world, 0..2, 2);
    world.read_all(last);
    world.log.push(joins.clone());
    all_read(&mut world);
    for which in [0, 1, last] {
        let member = &world.workers[which].member;
        assert_eq!(member.terms(), so_many(2), "as the one said that began last");
        let account = member.account().expect("it knows");
        assert!(account.members.iter().all(|member| member.session != joins.session), "{account:?}");
    }
}
