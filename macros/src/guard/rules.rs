//! What a workflow's code may not name, and what it uses instead.

/// The guards by the names under which `allow(..)` takes them off.
pub const GUARDS: &[&str] = &["clock", "random", "thread", "io", "order", "global"];

/// Paths that are refused for one reason.
pub struct Rule {
    pub guard: &'static str,
    /// Whole paths, as `a::b::c`; each may be written with fewer segments before the last ones: `|` stands where the
    /// shortest form begins. One that ends with `::` means what is inside, not the name itself.
    pub paths: &'static [&'static str],
    /// What is wrong with it, and what to use.
    pub why: &'static str,
}

const CLOCK: &str = "reads a clock, which shows another time in a replay: use `now()`, the recorded time";
const TIMER: &str =
    "waits by a timer that is gone after a restart: use `sleep(..)`, `sleep_until(..)` or `timeout(..)`";
const RANDOM: &str = "draws something else in each replay: use `random()`, `random_range(..)` or `uuid()`";
const THREAD: &str = "starts or stops what no history records: await activities and `step`s, many of them with `join!` or \
                      `join_all`";
const NAP: &str = "blocks the thread on which other workflows run, too, and is forgotten by a restart: use `sleep(..)`";
const BLOCK: &str = "blocks the thread on which other workflows run, too: `.await` it";
const ENVIRONMENT: &str = "reads what may differ between replays: take it as an argument, or read it in an activity or in \
                           `step(\"..\", ..)`";
const IO: &str = "reaches outside the workflow, and would do so again in each replay: do it in an activity or in \
                  `step(\"..\", ..)`";
const SELECT: &str =
    "looks at its branches in an order drawn by chance: use `everpulse::select!`, which goes by the source";
const ORDER: &str = "gives its entries in another order in each process: use `BTreeMap`, `BTreeSet` or the crate `indexmap`; \
                     where it is never iterated, write `#[workflow(allow(order, reason = \"..\"))]`";
const GLOBAL: &str = "outlives the run and is shared with others, and a replay finds it changed: keep state in the workflow's \
                      own variables";

/// Everything that is known to make a workflow's commands differ between two replays, or to be lost by a restart.
pub const RULES: &[Rule] = &[
    Rule {
        guard: "clock",
        paths: &[
            "std::time::|SystemTime::now",
            "std::time::|Instant::now",
            "std::time::|SystemTime::elapsed",
            "tokio::time::|Instant::now",
            "chrono::|Utc::now",
            "chrono::|Local::now",
            "time::|OffsetDateTime::now_utc",
            "time::|OffsetDateTime::now_local",
            "jiff::|Timestamp::now",
            "jiff::|Zoned::now",
        ],
        why: CLOCK,
    },
    Rule {
        guard: "clock",
        paths: &[
            "tokio::|time::sleep",
            "tokio::|time::sleep_until",
            "tokio::|time::interval",
            "tokio::|time::interval_at",
            "tokio::|time::timeout",
            "tokio::|time::timeout_at",
            "|futures_timer::Delay",
            "async_std::|task::sleep",
        ],
        why: TIMER,
    },
    Rule {
        guard: "random",
        paths: &[
            "|rand::",
            "|fastrand::",
            "|getrandom::",
            "rand::|thread_rng",
            "rand::rngs::|OsRng",
            "rand::rngs::|ThreadRng",
            "uuid::|Uuid::new_v4",
            "uuid::|Uuid::now_v1",
            "uuid::|Uuid::now_v6",
            "uuid::|Uuid::now_v7",
            "ulid::|Ulid::new",
            "|nanoid::",
            "std::hash::|RandomState",
        ],
        why: RANDOM,
    },
    Rule { guard: "thread", paths: &["std::|thread::sleep"], why: NAP },
    Rule {
        guard: "thread",
        paths: &[
            "|std::thread::",
            "std::|thread::spawn",
            "std::|thread::scope",
            "std::|thread::park",
            "std::|thread::current",
            "std::|thread::yield_now",
            "|tokio::spawn",
            "|tokio::task::",
            "|tokio::task_local",
            "|tokio::runtime::",
            "tokio::|task::spawn",
            "tokio::|task::spawn_blocking",
            "tokio::|task::spawn_local",
            "tokio::|task::yield_now",
            "tokio::task::|JoinSet",
            "tokio::runtime::|Handle::current",
            "|async_std::task::",
            "|smol::spawn",
            "|rayon::",
        ],
        why: THREAD,
    },
    Rule {
        guard: "thread",
        paths: &["futures::|executor::block_on", "futures::executor::|block_on", "|pollster::block_on"],
        why: BLOCK,
    },
    Rule {
        guard: "io",
        paths: &["|std::env::", "std::|env::var", "std::|env::var_os", "std::|env::vars", "std::|env::args"],
        why: ENVIRONMENT,
    },
    Rule {
        guard: "io",
        paths: &[
            "|std::fs::",
            "std::|fs::read",
            "std::|fs::read_to_string",
            "std::|fs::write",
            "std::|fs::remove_file",
            "std::|fs::create_dir_all",
            "std::fs::|File::open",
            "std::fs::|File::create",
            "std::fs::|OpenOptions::new",
            "|tokio::fs::",
            "|async_std::fs::",
            "std::net::|TcpStream",
            "std::net::|TcpListener",
            "std::net::|UdpSocket",
            "|tokio::net::",
            "|std::process::",
            "std::|process::exit",
            "std::|process::abort",
            "std::|process::id",
            "std::process::|Command::new",
            "|tokio::process::",
            "std::|io::stdin",
            "tokio::|io::stdin",
            "|reqwest::get",
            "|reqwest::Client",
            "|reqwest::ClientBuilder",
            "|reqwest::blocking::",
            "|ureq::get",
            "|ureq::post",
            "|ureq::put",
            "|ureq::delete",
            "|ureq::Agent",
            "|ureq::agent",
            "|sqlx::query",
            "|sqlx::query_as",
            "|sqlx::query_scalar",
        ],
        why: IO,
    },
    Rule { guard: "order", paths: &["|tokio::select", "|futures::select", "|futures_util::select"], why: SELECT },
    Rule {
        guard: "order",
        paths: &[
            "std::collections::|HashMap",
            "std::collections::|HashSet",
            "|hashbrown::HashMap",
            "|hashbrown::HashSet",
            "dashmap::|DashMap",
            "dashmap::|DashSet",
        ],
        why: ORDER,
    },
    Rule { guard: "global", paths: &["std::|thread_local"], why: GLOBAL },
];

/// The method `elapsed` of a time that `now()` gave.
pub const ELAPSED: (&str, &str) =
    ("clock", "reads a clock, which shows another time in a replay: subtract from `now()`");

pub const STATIC_MUT: (&str, &str) = ("global", GLOBAL);

/// The rule that a path breaks, if it does.
pub fn broken_by(path: &[String]) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.paths.iter().any(|forbidden| is_in(path, forbidden)))
}

/// Whether a path as written begins with a form of the forbidden one.
fn is_in(path: &[String], forbidden: &str) -> bool {
    let (optional, shortest) = forbidden.split_once('|').expect("each path says where its shortest form begins");
    let (shortest, inside) = match shortest.strip_suffix("::") {
        Some(module) => (module, true),
        None => (shortest, false),
    };
    let optional: Vec<&str> = optional.split("::").filter(|segment| !segment.is_empty()).collect();
    let shortest: Vec<&str> = shortest.split("::").collect();
    (0..=optional.len()).any(|from| {
        let form: Vec<&str> = optional[from..].iter().chain(&shortest).copied().collect();
        path.len() >= form.len() + usize::from(inside)
            && path.iter().zip(&form).all(|(written, segment)| written == segment)
    })
}
