//! How an author tests a workflow: days pass in no time, payments are mocked, and then everything goes wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use everpulse::prelude::*;
use everpulse::testing::{Environment, Wait, explore, replay_dir};

use crate::workflow::*;

fn claim() -> Claim {
    Claim { employee: "ada".to_owned(), approver: "grace".to_owned(), cents: 4_200 }
}

fn approved() -> Decision {
    Decision { by: "grace".to_owned(), approved: true }
}

fn office() -> Environment {
    Environment::new().workflow(expense).mock(pay, |_: String, cents: u64| Ok(format!("paid {cents}"))).activity(remind)
}

#[test]
fn an_approved_expense_is_paid() {
    let env = office();
    let run = env.start(expense(claim())).id("expense-7");
    assert!(run.is_waiting_for(Wait::signal::<Decision>()));
    run.signal(approved());
    let paid = Paid { reference: "paid 4200".to_owned(), approved_by: "grace".to_owned() };
    assert_eq!(run.result(), Ok(paid));
}

#[test]
fn each_day_without_a_decision_brings_a_reminder_and_the_fourth_is_the_last() {
    let env = office();
    let run = env.start(expense(claim()));
    env.advance(DAY);
    assert_eq!(run.published(), Some(Progress { reminders: 1 }));
    assert_eq!(run.result(), Err(Failure::Failed(ExpenseError::Forgotten)));
    assert_eq!((env.now(), env.executions().len()), (DAY * 4, 3));
}

#[test]
fn a_decision_on_the_second_day_is_in_time() {
    let env = office();
    let run = env.start(expense(claim()));
    run.at(DAY * 2 - Duration::from_secs(1)).signal(Decision { by: "grace".to_owned(), approved: false });
    assert_eq!(run.result(), Err(Failure::Failed(ExpenseError::Refused { by: "grace".to_owned() })));
}

#[test]
fn the_bank_is_asked_until_it_answers_and_no_account_is_final() {
    let env = office().fail_first(pay, 3, BankError::Unreachable);
    let run = env.start(expense(claim()));
    run.signal(approved());
    run.result().expect("the bank is back");
    assert_eq!(env.now().as_secs(), 1 + 2 + 4);

    let env = office().fail_first(pay, 1, BankError::NoAccount("ada".to_owned()));
    let run = env.start(expense(claim()));
    run.signal(approved());
    let no_account = Failure::Failed(BankError::NoAccount("ada".to_owned()));
    assert_eq!(run.result(), Err(Failure::Failed(ExpenseError::Payment(no_account))));
}

#[test]
fn the_history_reads_as_what_happened() {
    let env = office();
    let run = env.start(expense(claim())).id("expense-7");
    run.at(DAY + Duration::from_secs(60)).signal(approved());
    run.result().expect("paid");
    assert_eq!(
        run.history().to_string(),
        r#"expense-7
  +0ns        started `expense` version 1 {"claim":{"employee":"ada","approver":"grace","cents":4200}}
                > timer 0, 86400s
  +86400s     timer 0 fired
                > activity 1 `remind` {"approver":"grace","number":1}
  +86400s     activity 1 `remind` done null
                > timer 2, 86400s
  +86460s     signal `Decision` {"by":"grace","approved":true}
                > cancel 2
                > activity 3 `pay` {"employee":"ada","cents":4200}
  +86460s     activity 3 `pay` done "paid 4200"
                completed {"reference":"paid 4200","approved_by":"grace"}
"#
    );
}

/// Whatever crashes, comes twice or comes late, whoever remembers the key pays once.
#[test]
fn an_expense_is_paid_once() {
    explore(200, |env| {
        let paid = Rc::new(RefCell::new(BTreeMap::new()));
        let bank = Rc::clone(&paid);
        let env = env.workflow(expense).activity(remind).mock(pay, move |_: String, cents: u64| {
            bank.borrow_mut().insert(activity::context().idempotency_key().to_owned(), cents);
            Ok(format!("paid {cents}"))
        });
        let run = env.start(expense(claim()));
        run.at(DAY * 2).signal(approved());
        run.result().expect("paid");
        assert_eq!(paid.borrow().values().sum::<u64>(), 4_200);
    });
}

/// Runs that were recorded go on with today's code. To record one: `client.run_named("expense-7").export()`.
#[test]
fn recorded_expenses_go_on_with_todays_code() {
    assert_eq!(replay_dir!("histories/expenses", expense), 2);
}

/// Writes the histories that the test above replays; they are recorded once and never edited.
#[test]
#[ignore = "it records new histories"]
fn record() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("histories/expenses");
    let keep = |name: &str, json: String| std::fs::write(folder.join(name), json).expect("written");
    let env = office();
    let run = env.start(expense(claim())).id("expense-7");
    run.at(DAY + Duration::from_secs(60)).signal(approved());
    run.result().expect("paid");
    keep("approved-on-the-second-day.json", run.export());
    let run = env.start(expense(claim())).id("expense-8");
    run.result().expect_err("forgotten");
    keep("forgotten.json", run.export());
}
