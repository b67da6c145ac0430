//! What a seed makes of the application before anything happens: how large it is, who takes part, what it remembers.

use everpulse_engine::Options;

use crate::broker::Layout;
use crate::dice::Dice;
use crate::plan::Plan;
use crate::workflows::{KINDS, Kind, PLAIN, QUIET};

/// The shape of one play.
#[derive(Debug, Clone)]
pub struct Shape {
    pub layout: Layout,
    pub workers: usize,
    pub clients: usize,
    pub runs: usize,
    /// Of a hundred workers so many run activities at once, instead of through the queue.
    pub eager_percent: u64,
    /// How the shards are run.
    pub options: Options,
    /// The broker lets go of so many messages at once.
    pub segment_entries: usize,
    /// Nothing goes wrong, though workers may come and leave: what may be done again after a fault is done once.
    pub calm: bool,
    /// Nothing has a timer, and history is kept: no wake-up is due for an hour but those that see to local work.
    pub quiet: bool,
    /// Runs have priorities, and the queue the lanes for them.
    pub lanes: bool,
    /// What is run.
    pub kinds: Vec<Kind>,
}

impl Shape {
    pub fn draw(plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed, 1);
        let layout = Layout { shards: dice.within(1, 4) as u32, partitions: dice.within(1, 2) as u32 };
        let (workers, clients) = (dice.within(1, 4) as usize, dice.within(1, 3) as usize);
        let eager_percent = *dice.pick(&[0, 30, 100]).expect("there are some");
        let live_runs_max = *dice.pick(&[1, 3, 1_000]).expect("there are some");
        let runs = plan.runs(dice.within(26, 36) as usize);
        let mut options = Options { live_runs_max, ..Options::default() };
        let trims = dice.percent(60);
        let mut segment_entries = usize::MAX;
        let retention_ms = *dice.pick(&[1_000, 3_000, 8_000, 60_000]).expect("there are some");
        let memory_ms = *dice.pick(&[5_000, 12_000, 40_000, 900_000]).expect("there are some");
        let trim_bytes_min = *dice.pick(&[1_000, 4_000, 16_000]).expect("there are some");
        let entries = *dice.pick(&[16, 60, 200]).expect("there are some");
        let (calm, quiet) = (dice.percent(8), dice.percent(12));
        // History is trimmed while all this goes on, or is kept as a day would keep it.
        if trims && !quiet {
            (options.retention_ms, options.id_memory_ms, options.trim_bytes_min) =
                (retention_ms, memory_ms.max(retention_ms), trim_bytes_min);
            segment_entries = entries;
        }
        let kinds = if quiet { vec![PLAIN, *dice.pick(&QUIET).expect("there are some")] } else { KINDS.to_vec() };
        let lanes = dice.percent(50);
        Self { layout, workers, clients, runs, eager_percent, options, segment_entries, calm, quiet, lanes, kinds }
    }

    /// Clocks differ from the world's by no more than this. Then any two of them, one ahead and one behind, differ by no more
    /// than the application puts up with: runs ask each other for things by the clocks of their workers.
    pub fn skew_ms_max(&self) -> i64 {
        (self.options.id_memory_ms / 4).min(300_000) as i64 / 2 - 100
    }
}
