//! How urgent what a run asks for is, and whose: as the call says, or the definition, or the run.

use everpulse::replay::{Command, Input};
use everpulse::{Error, activity, continue_as_new, join, workflow};
use everpulse_protocol::priority::Priority;

use crate::harness::{Run, run, run_of};

#[activity]
async fn mail(_to: String) -> Result<(), Error> {
    Ok(())
}

#[activity(priority = 5)]
async fn tidy() -> Result<(), Error> {
    Ok(())
}

#[workflow]
async fn child() -> Result<(), Error> {
    Ok(())
}

#[workflow]
async fn asks() -> Result<(), Error> {
    let to = || "ada".to_owned();
    let mails = (mail(to()), mail(to()).priority(1), mail(to()).fairness_key("globex").fairness_weight(0.5));
    let (_, _, _, _, _, _) = join!(mails.0, mails.1, mails.2, tidy(), tidy().priority(2), child());
    continue_as_new(asks().priority(4)).await
}

fn priority(level: Option<u8>, key: Option<&str>, weight: Option<u32>) -> Priority {
    Priority { level, key: key.map(str::to_owned), weight }
}

/// Those of all that it asks for, in their order.
fn asked(run: &mut Run, input: Input) -> Vec<Priority> {
    let commands = run.turn(input).commands.into_iter();
    let asked = commands.map(|command| match command {
        Command::Activity { options, .. } => options.priority,
        Command::Child { spawn, .. } => spawn.priority,
        Command::ContinueAsNew { next, .. } => next.priority,
        other => panic!("{other:?}"),
    });
    asked.collect()
}

#[test]
fn a_call_says_how_urgent_it_is_or_its_definition_or_nobody() {
    let none = Priority::default();
    let expected = [
        none.clone(),
        priority(Some(1), None, None),
        priority(None, Some("globex"), Some(500)),
        priority(Some(5), None, None),
        priority(Some(2), None, None),
        none,
    ];
    assert_eq!(asked(&mut run(asks()), Input::Start), expected);
}

#[test]
fn what_they_do_not_say_the_run_says_to_tasks_and_children() {
    let own = priority(Some(2), Some("acme"), Some(3_000));
    let mut run = run_of(asks(), own.clone());
    let acme = |level| priority(Some(level), Some("acme"), Some(3_000));
    let expected = [acme(2), acme(1), priority(Some(2), Some("globex"), Some(500)), acme(5), acme(2), own];
    assert_eq!(asked(&mut run, Input::Start), expected);
}

#[test]
fn one_that_goes_on_says_what_is_to_be_otherwise() {
    let mut run = run(asks());
    run.start();
    for step in 0..5 {
        run.done(step, ());
    }
    let last = Input::Settled {
        step: 5,
        outcome: everpulse_protocol::event::Outcome::Done(everpulse_protocol::Payload::encode(&()).expect("encodes")),
    };
    assert_eq!(asked(&mut run, last), [priority(Some(4), None, None)]);
}

#[test]
#[should_panic(expected = "6 is no priority")]
fn there_are_five_priorities() {
    drop(mail("ada".to_owned()).priority(6));
}

#[test]
#[should_panic(expected = "a fairness key of 65 bytes")]
fn a_key_is_short() {
    drop(mail("ada".to_owned()).fairness_key("a".repeat(65)));
}
