//! Where a replay asks for something else than history says was asked for, and its message.

use std::fmt::Write as _;

use everpulse_protocol::Timestamp;
use everpulse_protocol::WorkflowId;
use everpulse_protocol::history::{CommandKind, CommandMark, Parked, ParkedKind};

/// Compares the commands of one replayed record; the message says what differs first.
///
/// Kind, number and name are compared. A timer's length and an activity's queue may change in code without
/// harm: the recorded ones are in force. A patch whose old way is gone may be passed over.
///
/// # Errors
/// Why the run has to be parked.
pub(crate) fn compare(
    workflow_id: &WorkflowId,
    at: Timestamp,
    recorded: &[CommandMark],
    replayed: &[CommandMark],
) -> Result<(), Parked> {
    let (mut old, mut new) = (recorded.iter().peekable(), replayed.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(a), Some(b)) if is_same(a, b) => {
                old.next();
                new.next();
            }
            (Some(a), _) if a.kind == CommandKind::DeprecatedPatch => {
                old.next();
            }
            (Some(a), b) if a.kind == CommandKind::Patch => return Err(unpatched(workflow_id, at, a, b.copied())),
            (a, b) => {
                let message = message(workflow_id, at, a.copied(), b.copied(), hint(recorded, replayed));
                return Err(Parked::new(ParkedKind::Diverged, message));
            }
        }
    }
}

fn is_same(old: &CommandMark, new: &CommandMark) -> bool {
    (old.no, old.kind, &old.name) == (new.no, new.kind, &new.name)
}

/// The run went a new way that this code does not know.
fn unpatched(workflow_id: &WorkflowId, at: Timestamp, patch: &CommandMark, replayed: Option<&CommandMark>) -> Parked {
    let hint = format!(
        "this worker's code has no `patched(\"{}\")` there, so it is older than the code that the run went on with, or the \
         patch was taken out too early; deploy the code with the patch, and the run goes on",
        patch.name
    );
    Parked::new(ParkedKind::NoCode, message(workflow_id, at, Some(patch), replayed, &hint))
}

/// What the author may have done.
fn hint(recorded: &[CommandMark], replayed: &[CommandMark]) -> &'static str {
    fn sorted(marks: &[CommandMark]) -> Vec<(&str, &str)> {
        let mut sorted: Vec<_> = marks.iter().map(|mark| (word(mark.kind), mark.name.as_str())).collect();
        sorted.sort_unstable();
        sorted
    }
    if recorded.len() > 1 && sorted(recorded) == sorted(replayed) {
        return "the same commands in another order: is something iterated whose order differs each time, such as a `HashMap`? \
                use a `BTreeMap`. Or was a step moved? guard the new way with `patched(\"..\")`, or give the new code another \
                version";
    }
    "was a step added, removed or moved? guard the new way with `patched(\"..\")`, or keep the old code for open runs: give the \
     new one another version. Does the code read a clock, chance or the world? do that in a `step`"
}

fn message(
    workflow_id: &WorkflowId,
    at: Timestamp,
    recorded: Option<&CommandMark>,
    replayed: Option<&CommandMark>,
    hint: &str,
) -> String {
    let no = recorded.or(replayed).map_or(0, |mark| mark.no);
    let mut text = format!("workflow {workflow_id} diverged at command {no}\n");
    let _ = writeln!(text, "  recorded: {}", describe(recorded, at));
    let _ = writeln!(text, "  replayed: {}", describe(replayed, at));
    let _ = write!(text, "  {hint}");
    text
}

fn word(kind: CommandKind) -> &'static str {
    match kind {
        CommandKind::Activity => "activity",
        CommandKind::Step => "step",
        CommandKind::Timer => "timer",
        CommandKind::Promise => "promise",
        CommandKind::Child => "child",
        CommandKind::Signal => "signal",
        CommandKind::CancelRun => "cancel request",
        CommandKind::TerminateRun => "termination",
        CommandKind::ContinueAsNew => "continue as new",
        CommandKind::Detach => "detach",
        CommandKind::Answer => "answer",
        CommandKind::Cancel => "cancel",
        CommandKind::Patch | CommandKind::DeprecatedPatch => "patch",
        CommandKind::Unknown(_) => "unknown",
    }
}

fn describe(mark: Option<&CommandMark>, at: Timestamp) -> String {
    let Some(mark) = mark else { return "no command".to_owned() };
    match mark.kind {
        CommandKind::Activity => format!("schedule activity `{}`", mark.name),
        CommandKind::Step => format!("run step `{}`", mark.name),
        CommandKind::Timer => match mark.due {
            Some(due) => format!("start timer {:?}", due.since(at)),
            None => "start timer".to_owned(),
        },
        CommandKind::Promise => "make a promise".to_owned(),
        CommandKind::Child => format!("begin child `{}`", mark.name),
        CommandKind::Signal => format!("send signal `{}` to another run", mark.name),
        CommandKind::CancelRun => "ask another run to cancel".to_owned(),
        CommandKind::TerminateRun => "terminate another run".to_owned(),
        CommandKind::ContinueAsNew => format!("continue as new, as `{}`", mark.name),
        CommandKind::Detach => format!("leave child {} alone", mark.no),
        CommandKind::Answer => format!("answer update `{}`", mark.name),
        CommandKind::Cancel => format!("cancel command {}", mark.no),
        CommandKind::Patch | CommandKind::DeprecatedPatch => format!("go the new way at patch `{}`", mark.name),
        CommandKind::Unknown(kind) => format!("ask for a `{kind}`, which this release does not know"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(no: u32, kind: CommandKind, name: &str) -> CommandMark {
        CommandMark { name: name.to_owned(), ..CommandMark::new(no, kind) }
    }

    fn id() -> WorkflowId {
        WorkflowId::new("order-42").expect("a good id")
    }

    #[test]
    fn the_message_names_run_command_and_both_sides() {
        let recorded = [mark(7, CommandKind::Activity, "charge")];
        let mut timer = mark(7, CommandKind::Timer, "");
        timer.due = Some(Timestamp(31_000));
        let parked = compare(&id(), Timestamp(1_000), &recorded, &[timer]).expect_err("they differ");
        assert_eq!(parked.kind, ParkedKind::Diverged);
        assert_eq!(
            parked.message,
            "workflow order-42 diverged at command 7\n  recorded: schedule activity `charge`\n  replayed: start timer \
             30s\n  was a step added, removed or moved? guard the new way with `patched(\"..\")`, or keep the old code for \
             open runs: give the new one another version. Does the code read a clock, chance or the world? do that in a \
             `step`"
        );
    }

    #[test]
    fn a_missing_command_is_a_divergence() {
        let recorded = [mark(0, CommandKind::Step, "one"), mark(1, CommandKind::Step, "two")];
        let parked = compare(&id(), Timestamp(0), &recorded, &recorded[..1]).expect_err("one is missing");
        assert!(parked.message.contains("diverged at command 1"), "{}", parked.message);
        assert!(parked.message.contains("replayed: no command"), "{}", parked.message);
    }

    #[test]
    fn the_same_commands_in_another_order_point_to_what_is_iterated() {
        let recorded = [mark(0, CommandKind::Activity, "mail"), mark(1, CommandKind::Activity, "ship")];
        let replayed = [mark(0, CommandKind::Activity, "ship"), mark(1, CommandKind::Activity, "mail")];
        let parked = compare(&id(), Timestamp(0), &recorded, &replayed).expect_err("they differ");
        assert!(parked.message.contains("such as a `HashMap`?"), "{}", parked.message);
    }

    #[test]
    fn placement_queue_and_due_time_are_no_divergence() {
        let mut other = mark(0, CommandKind::Activity, "charge");
        other.eager = true;
        other.queue = "slow".to_owned();
        assert!(compare(&id(), Timestamp(0), &[mark(0, CommandKind::Activity, "charge")], &[other]).is_ok());
    }

    #[test]
    fn code_without_a_patch_that_the_run_passed_is_named_as_too_old() {
        let recorded = [mark(1, CommandKind::Patch, "fraud-check"), mark(1, CommandKind::Activity, "check")];
        for replayed in [&[][..], &[mark(1, CommandKind::Activity, "charge")], &recorded[1..]] {
            let parked = compare(&id(), Timestamp(0), &recorded, replayed).expect_err("they differ");
            assert_eq!(parked.kind, ParkedKind::NoCode);
            assert!(parked.message.contains("has no `patched(\"fraud-check\")` there"), "{}", parked.message);
        }
    }

    #[test]
    fn a_deprecated_patch_may_be_passed_over_and_nothing_else() {
        let patch = || mark(1, CommandKind::DeprecatedPatch, "old");
        let work = || mark(1, CommandKind::Activity, "check");
        for replayed in [&[work()][..], &[patch(), work()]] {
            assert_eq!(compare(&id(), Timestamp(0), &[patch(), work(), patch()], replayed), Ok(()));
        }
        assert!(compare(&id(), Timestamp(0), &[patch()], &[work()]).is_err());
        assert!(compare(&id(), Timestamp(0), &[patch(), work()], &[patch()]).is_err());
    }
}
