//! Who comes: when it is alone, when it is not, and whom it believes.

use everpulse_engine::permits::{Member, ROUNDS};
use everpulse_protocol::Position;
use everpulse_protocol::permit::{Account, Notice, SessionId};
use uuid::Uuid;

use crate::world::{at, one_at_work_and_one_beside, rounds, so_many};

#[test]
fn whoever_is_alone_is_not_if_somebody_who_knows_has_spoken() {
    let mut world = one_at_work_and_one_beside();
    let first = world.workers[0].member.session();
    world.come(1);
    world.store(2);
    world.read_all(2);
    let alone = world.workers[2].member.join(true);
    // On its way, and the others go on.
    rounds(&mut world, 0..2, 2);
    world.log.push(alone);
    rounds(&mut world, 0..3, 3);
    assert_eq!(world.workers[0].member.session(), first, "it has its permit");
    assert_eq!(world.workers[0].member.holds(), 1);
    world.judge();
}

#[test]
fn an_account_from_before_a_new_beginning_is_of_no_use_behind_it() {
    let mut world = one_at_work_and_one_beside();
    world.read_all(0);
    // A third one hears nothing from here on.
    let heard = at(world.log.len() - 1);
    let alone = Member::new(SessionId(Uuid::from_u128(90)), so_many(1), Some(heard)).join(true);
    let came = Member::new(SessionId(Uuid::from_u128(91)), so_many(1), None).join(false);
    world.log.push(came);
    let from = at(world.log.len() - 1);
    // The first one reads that somebody came, and stops for long when it is about to say who holds what.
    world.read(0);
    world.work(0, true);
    let account = world.workers[0].publishing.take().expect("it was asked");
    assert_eq!(account.account.as_ref().map(|account| account.at), Some(from));
    let mut late = Member::new(SessionId(Uuid::from_u128(92)), so_many(1), Some(from));
    let joins = late.join(false);
    for notice in [alone, joins, account] {
        late.read(at(world.log.len()), notice.clone());
        world.log.push(notice);
    }
    let mut judge = Member::new(SessionId(Uuid::nil()), so_many(1), None);
    for (entry, notice) in world.log.iter().enumerate() {
        judge.read(at(entry), notice.clone());
    }
    let known = judge.account().expect("it has read all");
    assert!(known.members.iter().all(|member| member.holds == 0), "all began anew: {known:?}");
    assert_eq!(late.account().filter(|account| *account != known), None, "it knows nothing else");
}

#[test]
fn whether_a_new_beginning_is_one_may_hang_on_another_that_cannot_be_told() {
    let alone = |id, after| {
        let mut member = Member::new(SessionId(Uuid::from_u128(id)), so_many(1), Some(at(after)));
        member.join(true)
    };
    let plain = |id| Member::new(SessionId(Uuid::from_u128(id)), so_many(1), None).join(false);
    // The second of those that are alone names what came before the first: who has read all takes the first one alone.
    let log = [plain(1), plain(2), plain(3), alone(4, 0), alone(5, 2)];
    let mut judge = Member::new(SessionId(Uuid::nil()), so_many(1), None);
    let mut late = Member::new(SessionId(Uuid::from_u128(9)), so_many(1), Some(at(1)));
    for (entry, notice) in log.into_iter().enumerate() {
        judge.read(at(entry), notice.clone());
        if entry > 1 {
            late.read(at(entry), notice);
        }
    }
    let known = judge.account().expect("it has read all");
    assert_eq!(known.members.len(), 2, "{known:?}");
    assert_eq!(late.account().filter(|account| *account != known), None, "it knows nothing else");
}

#[test]
fn whoever_is_told_nothing_is_alone_after_rounds_that_it_has_heard_itself() {
    let mut member = Member::new(SessionId(Uuid::from_u128(1)), so_many(1), Some(at(0)));
    // A broker that is away lets nobody say that it is alone, however long that takes.
    let mut unread: Vec<_> = (0..10 * ROUNDS).filter_map(|_| member.next(0, true)).collect();
    assert!(unread.iter().all(|notice| notice.joins.as_ref().is_some_and(|joins| joins.alone.is_none())));
    unread.truncate(ROUNDS as usize - 1);
    let mut entry = 1;
    // What is there twice was said once.
    for notice in unread.iter().flat_map(|notice| [notice, notice]) {
        member.read(at(entry), notice.clone());
        entry += 1;
    }
    let is_alone = |notice: &Option<Notice>| {
        notice.as_ref().and_then(|notice| notice.joins.as_ref()).is_some_and(|joins| joins.alone.is_some())
    };
    let next = member.next(0, true);
    assert!(!is_alone(&next), "one is missing");
    member.read(at(entry), next.expect("it says that it is here"));
    assert!(is_alone(&member.next(0, true)));
}

#[test]
fn whoever_hears_somebody_who_knows_is_not_alone_though_nobody_tells_it() {
    let mut member = Member::new(SessionId(Uuid::from_u128(1)), so_many(1), Some(at(0)));
    // It reads late what others say, and its accounts are of before.
    let mut knows = Member::new(SessionId(Uuid::from_u128(2)), so_many(1), None);
    let alone = knows.join(true);
    knows.read(at(0), alone);
    let mut entry = 1;
    for _ in 0..3 * ROUNDS {
        let joins = member.next(0, true).expect("it says that it is here");
        assert!(joins.joins.as_ref().is_some_and(|joins| joins.alone.is_none()));
        member.read(at(entry), joins);
        let mut lags = knows.next(0, true).expect("it says that it is here");
        lags.account = None;
        member.read(at(entry + 1), lags);
        entry += 2;
    }
    assert!(!member.is_informed());
}

fn account_of_nobody(at: Position) -> Account {
    Account { at, terms: so_many(1), members: Vec::new(), line: Vec::new(), over: Vec::new() }
}

#[test]
fn what_is_kept_by_one_that_is_not_told_has_a_bound_and_it_is_told_nonetheless() {
    let mut world = one_at_work_and_one_beside();
    let mut late = Member::new(SessionId(Uuid::from_u128(90)), so_many(1), Some(at(0)));
    let from = world.log.len();
    world.log.push(late.join(false));
    let mut told = None;
    for entry in from..from + 10_000 {
        rounds(&mut world, 0..2, 1);
        let mut notice = world.log[entry].clone();
        told = notice.account.take().map(|account| (entry, account)).or(told);
        late.read(at(entry), notice);
    }
    let (before, account) = told.expect("it is said in each round");
    // As somebody says it who has left meanwhile.
    let session = SessionId(Uuid::from_u128(91));
    let told = Notice { session, account: Some(account), ..world.log[before].clone() };
    assert!(!late.is_informed());
    // What followed that of long ago is kept no more, and none of it would tell that it is missing.
    let long_ago = account_of_nobody(at(from));
    late.read(at(from + 10_000), Notice { account: Some(Box::new(long_ago)), ..told.clone() });
    assert!(!late.is_informed());
    late.read(at(from + 10_001), told);
    assert!(late.is_informed());
}
