//! The report of one chaos, from its figures.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use crate::root;

const HEAD: &str = "\
Written by `cargo xtask chaos`; the program is `integration-tests/src/chaos`. Four workers (two of them behind proxies of
their own), the broker and the clients are processes of their own; a fifth worker comes and goes. *Storms*, in which faults
that are drawn by the seed overlap, and *calms* take turns. In a calm nothing new is started: all that was started must end,
nothing may be open or lie in the topics, and the checker reads what the broker still has of history. At the end it reads all
that was ever written, since an archive was kept of it before it was trimmed. Each caller compares what it hears with a
sequential model; every run, effect, dead letter and repeated execution is accounted for at the end.

The seed repeats what is drawn (runs, faults, pauses); when the machine comes to it differs from run to run.
";

const NOTES: &str = "\
*Kills* are SIGKILLs of workers and of the broker. *Stopped* workers got SIGSTOP and later SIGCONT. One *owned shards* if it
was the last to write in a shard when it was stopped, and was *taken over* (a zombie) if another one wrote a frame that stands
there before it went on. An attempt that was executed again is right when a fault explains it: one between its first and last
execution, or in the 90 seconds before. A *minute* counts runs that ended in it, calms included.
";

/// What is built from, asked before it begins: the commit, and whether something differs from it.
///
/// # Errors
/// When git does not answer.
pub fn source() -> anyhow::Result<String> {
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]).context("cannot ask git for the commit")?;
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    Ok(format!("{commit}{}", if changed { ", with changes" } else { "" }))
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The report, in Markdown.
///
/// # Errors
/// None that can come: it is written into memory.
pub fn written(figures: &Value, source: &str, again: &str) -> anyhow::Result<String> {
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let arm = if figures["arm"] == "embedded" { "the embedded broker" } else { "Apache Pulsar" };
    let mut text = format!("# Chaos on {arm}\n\n{HEAD}\n");
    writeln!(text, "{date}, commit {source}, load average at the end {load}.\n\n```sh\n{again}\n```\n")?;
    let verdict = if figures["ok"] == true { "**The rules held.**" } else { "**The rules did not hold.**" };
    writeln!(text, "{verdict}\n")?;
    for violation in figures["violations"].as_array().into_iter().flatten().take(20) {
        writeln!(text, "* {}", violation.as_str().unwrap_or_default())?;
    }
    let history = &figures["history"];
    table(&mut text, "What was done", ROWS, figures)?;
    each(&mut text, "Faults", &figures["faults"])?;
    each(&mut text, "Runs that their callers saw end, by kind", &figures["runs_by_kind"])?;
    each(&mut text, "History, all that was ever written", &history["counts"])?;
    table(&mut text, "Executions and zombies", HISTORY_ROWS, history)?;
    if !history["releases"].is_null() {
        table(&mut text, "Two releases on the same shards", RELEASE_ROWS, figures)?;
    }
    each(&mut text, "What callers heard", &figures["heard"])?;
    each(&mut text, "Dead letters", &figures["dead_letters"])?;
    each(&mut text, "Peak resident memory, KB", &figures["peak_kb"])?;
    each(&mut text, "More", &figures["samples"])?;
    each(&mut text, "Settings", &figures["options"])?;
    writeln!(text, "{NOTES}")?;
    Ok(format!("{}\n", text.trim_end()))
}

const ROWS: &[(&str, &str)] = &[
    ("seconds, all in all", "/seconds"),
    ("seconds in storms", "/storm_seconds"),
    ("runs", "/runs"),
    ("kills", "/kills"),
    ("runs in a minute", "/runs_per_minute"),
    ("runs in a second, in storms", "/runs_per_second_in_storms"),
    ("one activity, from the start call to its result: p50, ms", "/hello_ms/p50"),
    ("p90, ms", "/hello_ms/p90"),
    ("p99, ms", "/hello_ms/p99"),
    ("slowest, ms", "/hello_ms/max"),
    ("all has ended after the last fault, ms", "/settled_ms"),
    ("the broker's disk at most, bytes", "/disk_max"),
    ("the disk could be filled", "/disk_limited"),
];

const RELEASE_ROWS: &[(&str, &str)] = &[
    ("workers that came to serve", "/workers_started"),
    ("of them of the earlier commit", "/workers_started_of_the_earlier_release"),
    ("frames that the earlier one wrote", "/history/releases/frames_of_the_earlier_release"),
    ("frames on one of the other", "/history/releases/frames_on_one_of_the_other_release"),
    ("runs", "/history/releases/runs"),
    ("runs that both wrote of", "/history/releases/runs_that_both_wrote_of"),
];

const HISTORY_ROWS: &[(&str, &str)] = &[
    ("attempts that were executed", "/repeats/attempts"),
    ("of them more than once", "/repeats/executed_again"),
    ("executions of one attempt at most", "/repeats/most_executions_of_one"),
    ("executed again without a fault that explains it", "/repeats/without_a_fault"),
    ("workers stopped", "/zombies/stopped"),
    ("of them owned shards", "/zombies/owned_shards"),
    ("of them were taken over: zombies", "/zombies/taken_over"),
    ("of them wrote void frames afterwards", "/zombies/and_wrote_void_frames_afterwards"),
    ("bytes of history", "/archive_bytes"),
];

fn table(text: &mut String, title: &str, rows: &[(&str, &str)], of: &Value) -> std::fmt::Result {
    writeln!(text, "| {title} | |\n|---|---|")?;
    for (words, path) in rows {
        writeln!(text, "| {words} | {} |", cell(of.pointer(path).unwrap_or(&Value::Null)))?;
    }
    writeln!(text)
}

fn each(text: &mut String, title: &str, of: &Value) -> std::fmt::Result {
    let Some(rows) = of.as_object().filter(|rows| !rows.is_empty()) else { return Ok(()) };
    writeln!(text, "| {title} | |\n|---|---|")?;
    for (name, value) in rows {
        writeln!(text, "| {} | {} |", name.replace('_', " "), cell(value))?;
    }
    writeln!(text)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Object(spread) if spread.contains_key("median") => {
            let of = |name: &str| spread.get(name).map(Value::to_string).unwrap_or_default();
            format!("{} / {} / {} (min / median / max)", of("min"), of("median"), of("max"))
        }
        Value::Object(each) => {
            each.iter().map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join("; ")
        }
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        value => value.to_string(),
    }
}
