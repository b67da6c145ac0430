//! Makes a play that fails smaller, as long as it fails: fewer kinds of fault, fewer runs, less time.

use crate::faults::Fault;
use crate::plan::Plan;
use crate::play;

/// The smallest play that was found to fail as well. Another fault than the first may show: it is one, too.
#[must_use]
pub fn shrink(plan: &Plan) -> Plan {
    let fails = |plan: &Plan| !play(plan, false).violations.is_empty();
    let mut least = plan.clone();
    for fault in Fault::ALL {
        let mut smaller = least.clone();
        smaller.without.insert(*fault);
        if fails(&smaller) {
            least = smaller;
        }
    }
    loop {
        let runs = least.runs_max.unwrap_or(64);
        let fewer =
            [runs / 2, runs * 3 / 4, runs.saturating_sub(1)].into_iter().filter(|fewer| *fewer < runs && *fewer > 0);
        let smaller = fewer.map(|runs| Plan { runs_max: Some(runs), ..least.clone() }).find(fails);
        match smaller {
            Some(smaller) => least = smaller,
            None => break,
        }
    }
    while least.busy_ms > 1_000 {
        let shorter = Plan { busy_ms: least.busy_ms / 2, ..least.clone() };
        if !fails(&shorter) {
            break;
        }
        least = shorter;
    }
    least
}
