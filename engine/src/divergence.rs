//! The comparison of what a replay asks for with what history says was asked for, and its message.

use std::fmt::Write as _;

use everpulse_protocol::Timestamp;
use everpulse_protocol::WorkflowId;
use everpulse_protocol::history::{CommandKind, CommandMark};

/// Compares the commands of one replayed record; the message says what differs first.
///
/// Kind, number and name are compared. A timer's length and an activity's queue may change in code without
/// harm: the recorded ones are in force.
pub(crate) fn compare(
    workflow_id: &WorkflowId,
    at: Timestamp,
    recorded: &[CommandMark],
    replayed: &[CommandMark],
) -> Result<(), String> {
    let longest = recorded.len().max(replayed.len());
    for index in 0..longest {
        let (old, new) = (recorded.get(index), replayed.get(index));
        if let (Some(old), Some(new)) = (old, new)
            && (old.no, old.kind, &old.name) == (new.no, new.kind, &new.name)
        {
            continue;
        }
        return Err(message(workflow_id, at, old, new));
    }
    Ok(())
}

fn message(
    workflow_id: &WorkflowId,
    at: Timestamp,
    recorded: Option<&CommandMark>,
    replayed: Option<&CommandMark>,
) -> String {
    let no = recorded.or(replayed).map_or(0, |mark| mark.no);
    let mut text = format!("workflow {workflow_id} diverged at command {no}\n");
    let _ = writeln!(text, "  recorded: {}", describe(recorded, at));
    let _ = writeln!(text, "  replayed: {}", describe(replayed, at));
    text.push_str(
        "  was a step added, removed or moved? keep the old code for open runs: give the new one another version",
    );
    text
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
        CommandKind::Cancel => format!("cancel command {}", mark.no),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(no: u32, kind: CommandKind, name: &str) -> CommandMark {
        CommandMark { no, kind, name: name.to_owned(), queue: String::new(), due: None, eager: false }
    }

    #[test]
    fn the_message_names_run_command_and_both_sides() {
        let recorded = [mark(7, CommandKind::Activity, "charge")];
        let mut timer = mark(7, CommandKind::Timer, "");
        timer.due = Some(Timestamp(31_000));
        let id = WorkflowId::new("order-42").expect("a good id");
        let error = compare(&id, Timestamp(1_000), &recorded, &[timer]).expect_err("they differ");
        assert_eq!(
            error,
            "workflow order-42 diverged at command 7\n  recorded: schedule activity `charge`\n  replayed: start timer \
             30s\n  was a step added, removed or moved? keep the old code for open runs: give the new one another version"
        );
    }

    #[test]
    fn a_missing_command_is_a_divergence() {
        let id = WorkflowId::new("a").expect("a good id");
        let recorded = [mark(0, CommandKind::Step, "one"), mark(1, CommandKind::Step, "two")];
        let error = compare(&id, Timestamp(0), &recorded, &recorded[..1]).expect_err("one is missing");
        assert!(error.contains("diverged at command 1"), "{error}");
        assert!(error.contains("replayed: no command"), "{error}");
    }

    #[test]
    fn placement_queue_and_due_time_are_no_divergence() {
        let id = WorkflowId::new("a").expect("a good id");
        let mut other = mark(0, CommandKind::Activity, "charge");
        other.eager = true;
        other.queue = "slow".to_owned();
        assert!(compare(&id, Timestamp(0), &[mark(0, CommandKind::Activity, "charge")], &[other]).is_ok());
    }
}
