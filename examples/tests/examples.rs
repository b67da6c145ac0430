//! The examples as a user runs them: as processes, on the embedded broker, killed half-way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

/// Generous: nothing here is about time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory with a file of orders.
struct Shop {
    dir: TempDir,
}

impl Shop {
    fn new(orders: usize, more_lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a place for files");
        let mut file = std::fs::File::create(dir.path().join("orders.csv")).expect("a file");
        writeln!(file, "order_id,customer,sku,quantity,cents").expect("written");
        for number in 0..orders {
            writeln!(file, "N-{number},\"Żaneta, née {number}\",TEA,1,{}", 100 + number).expect("written");
        }
        write!(file, "{more_lines}").expect("written");
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn orders(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
        command.arg("--data").arg(self.data()).arg("--orders").arg(self.dir.path().join("orders.csv")).arg("--json");
        command.env_remove("EVERPULSE_URL").env_remove("RUST_LOG");
        command
    }

    /// Runs to the end, and gives the line on stdout.
    #[track_caller]
    fn report(&self) -> Value {
        let output = self.orders().output().expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        serde_json::from_str(&stdout).expect("one line of JSON")
    }

    #[track_caller]
    fn count(&self, sql: &str) -> i64 {
        self.query(sql).expect("the database is there")
    }

    fn query(&self, sql: &str) -> rusqlite::Result<i64> {
        let path = self.data().join("orders.sqlite");
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.query_row(sql, (), |row| row.get(0))
    }

    /// Nothing while the file is being made.
    fn charges_so_far(&self) -> i64 {
        self.query("SELECT count(*) FROM charges").unwrap_or_default()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn orders_end_and_add_up_with_the_database() {
    let more = "N-0,\"Żaneta, née 0\",TEA,1,100\nN-0,somebody else,TEA,1,100\nN-x,no cents,TEA,1\n";
    let shop = Shop::new(100, more);
    let report = shop.report();
    let number = |field: &str| report[field].as_i64().expect("a number");
    assert_eq!((number("orders"), number("bad_lines"), number("duplicates")), (100, 2, 1));
    assert_eq!(number("charged") + number("declined"), 100);
    assert_eq!(number("compensated"), number("declined"));
    assert_eq!(number("failed"), 0);
    assert!(number("declined") > 0 && number("p99_ms") >= number("p50_ms"), "{report}");
    assert_eq!(shop.count("SELECT count(*) FROM charges"), number("charged"));
    assert_eq!(shop.count("SELECT count(DISTINCT order_id) FROM charges"), number("charged"));
    assert!(shop.count("SELECT count(*) - count(DISTINCT key) FROM attempts") > 0, "nothing was flaky");

    let attempts = shop.count("SELECT count(*) FROM attempts");
    assert_eq!(shop.report(), report, "a second run attaches to what has ended, and reports from history");
    assert_eq!(shop.count("SELECT count(*) FROM attempts"), attempts);
}

#[test]
fn killed_half_way_it_finishes_the_rest_and_charges_nobody_twice() {
    let shop = Shop::new(600, "");
    for charged in [1, 150, 300] {
        let mut first = Running(shop.orders().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
        let began = Instant::now();
        while shop.charges_so_far() < charged {
            assert!(first.0.try_wait().expect("it is ours").is_none(), "it ended before it could be killed");
            assert!(began.elapsed() < PATIENCE, "no progress");
            std::thread::sleep(Duration::from_millis(1));
        }
        first.0.kill().expect("SIGKILL");
        first.0.wait().expect("it is ours");
    }
    assert!(shop.count("SELECT count(*) FROM charges") < 540, "it was to be killed half-way");
    let report = shop.report();
    let number = |field: &str| report[field].as_i64().expect("a number");
    assert_eq!((number("orders"), number("failed")), (600, 0));
    assert_eq!(number("charged") + number("declined"), 600);
    assert_eq!(shop.count("SELECT count(*) FROM charges"), number("charged"));
    assert_eq!(shop.count("SELECT count(DISTINCT order_id) FROM charges"), number("charged"));
    assert_eq!(shop.count("SELECT count(*) FROM releases"), number("declined"));
}

#[test]
fn a_file_that_holds_no_orders_is_refused_with_its_name() {
    let dir = tempfile::tempdir().expect("a place for files");
    let file = dir.path().join("wrong.csv");
    std::fs::write(&file, "a,b\n1,2\n").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    let output = command.arg("--data").arg(dir.path()).arg("--orders").arg(&file).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("wrong.csv is no file of orders: the first line must be"), "{}", stderr(&output));
}

#[test]
fn hello_greets_in_one_process() {
    let dir = tempfile::tempdir().expect("a place for files");
    let output = hello(dir.path()).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello, world!\n", "{}", stderr(&output));
}

#[test]
fn hello_greets_from_two_processes_and_a_start_waits_for_its_worker() {
    let dir = tempfile::tempdir().expect("a place for files");
    let mut start =
        Running(hello(dir.path()).args(["start", "Zoë"]).stdout(Stdio::piped()).spawn().expect("it starts"));
    let _worker = Running(hello(dir.path()).arg("worker").spawn().expect("it starts"));
    let mut line = String::new();
    BufReader::new(start.0.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    assert_eq!(line, "Hello, Zoë!\n");
    assert!(start.0.wait().expect("it is ours").success());
}

fn hello(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    command.arg("--url").arg(format!("embedded:{}", dir.display())).env_remove("RUST_LOG");
    command
}

#[test]
fn a_run_goes_through_releases_by_the_way_that_it_began() {
    let dir = tempfile::tempdir().expect("a place for files");
    let url = format!("embedded:{}", dir.path().join("data").display());
    let output = Command::new(env!("CARGO_BIN_EXE_releases"))
        .args(["--url", &url])
        .env_remove("RUST_LOG")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = [
        "begun by release-1: charged order-1",
        "begun by release-2: checked order-2, charged order-2",
        "version 2: checked order-3, charged order-3",
    ];
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_tour_has_a_child_for_each_city() {
    let dir = tempfile::tempdir().expect("a place for files");
    let mut command = Command::new(env!("CARGO_BIN_EXE_families"));
    command.env("EVERPULSE_URL", format!("embedded:{}", dir.path().display())).env_remove("RUST_LOG");
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let told = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "Oslo: 320 listeners",
            "Rome: the hall in Rome is closed",
            "Wien: nobody has counted",
            "shirts: open",
            "shirts: terminated",
        ]
    );
}

#[test]
fn a_subscription_goes_on_from_month_to_month() {
    let dir = tempfile::tempdir().expect("a place for files");
    let mut command = Command::new(env!("CARGO_BIN_EXE_subscription"));
    command.env("EVERPULSE_URL", format!("embedded:{}", dir.path().display())).env_remove("RUST_LOG");
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let told = String::from_utf8(output.stdout).expect("text");
    let payments = told.lines().filter_map(|line| line.strip_prefix("Ada pays ")).map(|cents| cents.parse::<u64>());
    let payments: Vec<u64> = payments.collect::<Result<_, _>>().expect("cents");
    assert!(payments.len() >= 4 && payments.is_sorted() && payments.ends_with(&[1_500]), "{told}");
    assert!(payments.contains(&1_200) && told.contains("2 subscribers know the new price"), "{told}");
    assert!(told.contains("Grace paid "), "{told}");
    let sum: u64 = payments.iter().sum();
    assert!(told.ends_with(&format!("Ada paid {sum} in all\n")), "{told}");
}

#[test]
fn a_sealed_run_goes_on_with_another_key_and_names_it_to_who_has_none() {
    let mut sealed = Command::new(env!("CARGO_BIN_EXE_sealed"));
    let output = sealed.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("finished with the key `autumn`: Rent of a flat, signed by Ada"), "{said}");
    assert!(said.contains("the layer `aes256gcm` with key `autumn`, which this process does not have"), "{said}");
}

#[test]
fn a_document_of_20_megabytes_passes_by_a_directory_and_by_the_broker() {
    for arguments in [&[][..], &["--on-broker"]] {
        let mut documents = Command::new(env!("CARGO_BIN_EXE_documents"));
        let documents = documents.args(arguments).env_remove("EVERPULSE_URL").env_remove("RUST_LOG");
        let output = documents.output().expect("it runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.contains("Proverbs: "), "{said}");
        assert_eq!(said.contains("in the store: "), arguments.is_empty(), "{said}");
    }
}

#[test]
fn a_trace_goes_through_a_run_and_its_child_and_strangers_are_refused() {
    let mut traced = Command::new(env!("CARGO_BIN_EXE_traced"));
    let output = traced.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(said.matches(&format!("a service was asked in trace 00-{trace}-")).count(), 2, "{said}");
    assert_eq!(said.matches(&format!("in trace 00-{trace}-00f067aa0ba902b7-01")).count(), 2, "both runs ended: {said}");
    assert!(said.contains("without a token: whoever started"), "{said}");
}

#[test]
fn a_hundred_rows_are_stored_in_fewer_executions_and_one_bad_row_is_its_own_runs() {
    let mut batches = Command::new(env!("CARGO_BIN_EXE_batches"));
    let output = batches.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("sensor 13: -300 degrees are no temperature"), "{said}");
    assert!(said.contains("99 rows were stored in "), "{said}");
}

#[test]
fn a_few_documents_and_an_urgent_one_do_not_wait_for_a_long_backlog() {
    let mut tenants = Command::new(env!("CARGO_BIN_EXE_tenants"));
    let output = tenants.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("printed: the recall as number "), "{said}");
}

#[test]
fn no_more_copies_of_a_program_are_open_than_were_paid_for() {
    let mut licences = Command::new(env!("CARGO_BIN_EXE_licences"));
    let output = licences.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("12 drawings, and "), "{said}");
}

#[test]
fn a_rose_bed_is_watered_at_its_times_and_by_hand() {
    let dir = tempfile::tempdir().expect("a place for files");
    let mut command = Command::new(env!("CARGO_BIN_EXE_schedules"));
    command.env("EVERPULSE_URL", format!("embedded:{}", dir.path().display())).env_remove("RUST_LOG");
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let told = String::from_utf8(output.stdout).expect("text");
    let wet = "the rose bed is wet";
    let expected = [wet, wet, wet, "4 waterings; paused: it rains", "schedules: roses"];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_cart_takes_what_fits_and_answers_it_also_after_a_kill() {
    let dir = tempfile::tempdir().expect("a place for files");
    let cart = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cart"));
        command.arg("--url").arg(format!("embedded:{}", dir.path().display())).args(arguments).env_remove("RUST_LOG");
        // What a user reads, whatever is set where the tests run.
        command.env("RUST_BACKTRACE", "0");
        command
    };
    let mut worker = Running(cart(&["worker"]).spawn().expect("it starts"));
    let say = |arguments: &[&str]| {
        let output = cart(arguments).output().expect("it runs");
        let said = if output.status.success() { output.stdout.clone() } else { output.stderr.clone() };
        String::from_utf8(said).expect("text").trim().to_owned()
    };
    assert_eq!(say(&["add", "ada", "tea", "3", "--id", "tea-1"]), r#"{"tea":3}"#);
    assert_eq!(say(&["add", "ada", "tea", "18"]), "Error: refused: 18 more are too many, there is room for 17");
    assert_eq!(say(&["add", "ada", "unicorn"]), "Error: there is no unicorn in stock");
    worker.0.kill().expect("SIGKILL");
    worker.0.wait().expect("it is ours");
    let _next = Running(cart(&["worker"]).spawn().expect("it starts"));
    assert_eq!(say(&["add", "ada", "tea", "3", "--id", "tea-1"]), r#"{"tea":3}"#, "it was put in once");
    assert_eq!(say(&["add", "ada", "milk"]), r#"{"milk":1,"tea":3}"#);
    assert_eq!(say(&["check-out", "ada"]), r#"{"milk":1,"tea":3}"#);
}

#[test]
fn a_film_is_uploaded_by_attempts_that_go_on_where_the_one_before_stood() {
    let mut upload = Command::new(env!("CARGO_BIN_EXE_upload"));
    let output = upload.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).expect("text");
    let begins: Vec<u32> = said
        .lines()
        .filter_map(|line| line.strip_prefix("attempt ")?.split("from piece ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    // Where it stood, or a little before: what is said quickly is not all sent on.
    assert!(begins.len() == 4 && begins.is_sorted() && begins[0] == 0 && begins[3] > 0, "{said}");
    assert!(said.contains("12 pieces are there after 4 attempts"), "{said}");
    assert!(said.ends_with("Empire: there is no room for films\n"), "{said}");
}

#[test]
fn a_festival_takes_place_or_is_given_back_as_the_clerk_says_also_after_a_kill() {
    let dir = tempfile::tempdir().expect("a place for files");
    let festival = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_festival"));
        command.arg("--url").arg(format!("embedded:{}", dir.path().display())).args(arguments).env_remove("RUST_LOG");
        command.env("RUST_BACKTRACE", "0").stdout(Stdio::piped());
        command
    };
    let mut worker = Running(festival(&["worker"]).spawn().expect("it starts"));
    let mut printed = BufReader::new(worker.0.stdout.take().expect("piped")).lines();
    let mut asked = |decision: &str| {
        let begin = "festival decide ";
        let line =
            printed.by_ref().map(|line| line.expect("text")).find(|line| line.contains(&format!("{decision}: ")));
        let line = line.expect("the clerk is asked");
        line.split(begin).nth(1).and_then(|rest| rest.split(' ').next()).expect("a token").to_owned()
    };
    let said = |running: Child| {
        let output = running.wait_with_output().expect("it ends");
        let text = if output.status.success() { output.stdout.clone() } else { output.stderr.clone() };
        String::from_utf8(text).expect("text").trim().to_owned()
    };
    let begin = |arguments: &[&str]| festival(arguments).stderr(Stdio::piped()).spawn().expect("it starts");
    let decide = |token: &str, decision: &str| begin(&["decide", token, decision]);

    let woodstock = begin(&["plan", "Woodstock"]);
    let token = asked("yes");
    worker.0.kill().expect("SIGKILL");
    worker.0.wait().expect("it is ours");
    let mut next = Running(festival(&["worker"]).spawn().expect("it starts"));
    assert_eq!(said(decide(&token, "yes")), "");
    assert_eq!(said(woodstock), "Woodstock takes place by permit 47/11, posters by Gutenberg");
    assert!(said(decide(&token, "no")).starts_with("Error: "), "it was decided");

    let altamont = begin(&["plan", "Altamont"]);
    let mut printed = BufReader::new(next.0.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    // The question about Woodstock may stand there once more: the worker that had asked it was killed.
    printed.by_ref().find(|line| line == "May Altamont take place?").expect("the clerk is asked");
    let line = printed.by_ref().find(|line| line.contains("  no: ")).expect("in two lines");
    let token = line.split("decide ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a token");
    assert_eq!(said(decide(token, "no")), "");
    assert!(said(altamont).contains("the town does not want it: it is too loud"));
    let mut given_back: Vec<String> = printed.filter(|line| line.starts_with("given back: ")).take(3).collect();
    given_back.sort_unstable();
    assert_eq!(given_back, ["given back: Joan Baez", "given back: Santana", "given back: The Who"]);
}

#[test]
fn a_ballot_is_held_and_other_programs_take_part_in_it() {
    let mut ballot = Command::new(env!("CARGO_BIN_EXE_ballot"));
    let output = ballot.env_remove("EVERPULSE_URL").env_remove("RUST_LOG").output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = ["before the chair has voted Grace has 0", "and then 2", "Alan has 1", r#"{"Alan":2,"Grace":2}"#];
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), lines);
}
