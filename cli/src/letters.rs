//! Dead letters as an operator tends them.

use everpulse::client::{Client, DeadLetter, DeadLetters, Error, Letter};
use serde_json::{Value, json};

use crate::arguments::{LetterCommand, LettersOf};

/// Carries out what was said on the command line.
///
/// # Errors
/// Those of the client.
pub async fn run(client: &Client, command: LetterCommand) -> anyhow::Result<()> {
    match command {
        LetterCommand::List { of, json } => {
            let letters = letters(client, &of)?.list().await?;
            if json {
                let list: Vec<Value> = letters.iter().map(|of| as_json(&of.id.to_string(), &of.letter)).collect();
                println!("{:#}", Value::from(list));
                return Ok(());
            }
            for of in &letters {
                println!("{:<10} {:<50} {}", of.id.to_string(), what(&of.letter), of.letter.reason);
            }
            if letters.is_empty() {
                println!("there are none");
            }
        }
        LetterCommand::Show { id, of } => {
            let letter = letters(client, &of)?.show(id).await?;
            println!("{:#}", as_json(&id.to_string(), &letter));
        }
        LetterCommand::Redrive { id, of } => letters(client, &of)?.redrive(id).await?,
        LetterCommand::Drop { id, of } => letters(client, &of)?.drop(id).await?,
    }
    Ok(())
}

fn letters(client: &Client, of: &LettersOf) -> Result<DeadLetters, Error> {
    match &of.queue {
        Some(queue) => client.dead_letters(queue),
        None => Ok(client.inbox_dead_letters()),
    }
}

fn what(letter: &DeadLetter) -> String {
    match &letter.letter {
        Letter::Task(task) => format!("`{}` of {} #{}", task.activity, task.workflow_id, task.step),
        Letter::Event(event) => format!("an event for {}", event.workflow_id),
        Letter::Unreadable { topic, bytes } => format!("{} bytes from {topic}", bytes.len()),
    }
}

/// A letter for programs. Payloads stay out: who wants them has the types.
fn as_json(id: &str, letter: &DeadLetter) -> Value {
    let of = match &letter.letter {
        Letter::Task(task) => json!({
            "kind": "task",
            "activity": task.activity,
            "workflow_id": task.workflow_id,
            "run_id": task.run_id,
            "step": task.step,
            "attempt": task.attempt,
            "failures": task.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
        Letter::Event(event) => json!({ "kind": "event", "event_id": event.id, "workflow_id": event.workflow_id }),
        Letter::Unreadable { topic, bytes } => json!({ "kind": "unreadable", "topic": topic, "bytes": bytes.len() }),
    };
    json!({ "id": id, "at_ms": letter.at, "reason": letter.reason, "letter": of })
}
