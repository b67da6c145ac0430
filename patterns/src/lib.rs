//! The workflow control-flow patterns of van der Aalst, ter Hofstede, Kiepuszewski and Barros (2003), in the revised list
//! of Russell, ter Hofstede, van der Aalst and Mulyar (BPM-06-22, 2006), each as a small workflow.
//!
//! Numbers and names are theirs. A *task* there is an activity here, a *case* a run, a *thread of control* a future.
//!
//! | no. | pattern | workflow |
//! |---|---|---|
//! | 1 | Sequence | [`basic::sequence()`] |
//! | 2 | Parallel Split | [`basic::parallel_split()`] |
//! | 3 | Synchronization | [`basic::synchronization()`] |
//! | 4 | Exclusive Choice | [`basic::exclusive_choice()`] |
//! | 5 | Simple Merge | [`basic::simple_merge()`] |
//! | 6 | Multi-Choice | [`branching::multi_choice()`] |
//! | 7 | Structured Synchronizing Merge | [`branching::structured_synchronizing_merge()`] |
//! | 8 | Multi-Merge | [`branching::multi_merge()`] |
//! | 9 | Structured Discriminator | [`joins::structured_discriminator()`] |
//! | 10 | Arbitrary Cycles | [`cycles::arbitrary_cycles()`] |
//! | 11 | Implicit Termination | [`cycles::implicit_termination()`] |
//! | 12 | Multiple Instances without Synchronization | [`instances::without_synchronization()`] |
//! | 13 | Multiple Instances with a Priori Design-Time Knowledge | [`instances::known_when_written()`] |
//! | 14 | Multiple Instances with a Priori Run-Time Knowledge | [`instances::known_when_begun()`] |
//! | 15 | Multiple Instances without a Priori Run-Time Knowledge | [`instances::never_known()`] |
//! | 16 | Deferred Choice | [`state::deferred_choice()`] |
//! | 17 | Interleaved Parallel Routing | [`state::interleaved_parallel_routing()`] |
//! | 18 | Milestone | [`state::milestone()`] |
//! | 19 | Cancel Task | [`cancelling::cancel_task()`] |
//! | 20 | Cancel Case | [`cancelling::cancel_case()`] |
//! | 21 | Structured Loop | [`cycles::structured_loop()`] |
//! | 22 | Recursion | [`cycles::recursion()`] |
//! | 23 | Transient Trigger | [`triggers::transient_trigger()`] |
//! | 24 | Persistent Trigger | [`triggers::persistent_trigger()`] |
//! | 25 | Cancel Region | [`cancelling::cancel_region()`] |
//! | 26 | Cancel Multiple Instance Task | [`instances::cancelled()`] |
//! | 27 | Complete Multiple Instance Task | [`instances::completed_early()`] |
//! | 28 | Blocking Discriminator | [`joins::blocking_discriminator()`] |
//! | 29 | Cancelling Discriminator | [`joins::cancelling_discriminator()`] |
//! | 30 | Structured Partial Join | [`joins::structured_partial_join()`] |
//! | 31 | Blocking Partial Join | [`joins::blocking_partial_join()`] |
//! | 32 | Cancelling Partial Join | [`joins::cancelling_partial_join()`] |
//! | 33 | Generalised AND-Join | [`joins::generalised_and_join()`] |
//! | 34 | Static Partial Join for Multiple Instances | [`instances::static_partial_join()`] |
//! | 35 | Cancelling Partial Join for Multiple Instances | [`instances::cancelling_partial_join()`] |
//! | 36 | Dynamic Partial Join for Multiple Instances | [`instances::dynamic_partial_join()`] |
//! | 37 | Local Synchronizing Merge | [`branching::local_synchronizing_merge()`] |
//! | 38 | General Synchronizing Merge | none: see below |
//! | 39 | Critical Section | [`state::critical_section()`] |
//! | 40 | Interleaved Routing | [`state::interleaved_routing()`] |
//! | 41 | Thread Merge | [`branching::thread_merge()`] |
//! | 42 | Thread Split | [`branching::thread_split()`] |
//! | 43 | Explicit Termination | [`cycles::explicit_termination()`] |
//!
//! *General Synchronizing Merge* (38) is a merge that waits for a branch exactly if a token can still reach it, anywhere in a
//! graph with jumps and cycles. Whether one can is a question about the future of the whole graph, which an engine of nets may
//! answer from the graph. A program has none to look at: here a merge names the futures that it waits for. Where the
//! author knows them, that is pattern 7 or 37.

pub mod basic;
pub mod branching;
pub mod cancelling;
pub mod cycles;
pub mod instances;
pub mod joins;
pub mod state;
pub mod triggers;

use std::future::Future;

use everpulse::prelude::*;

/// Any task. It is done when it says its name.
#[activity(timeout = "10s")]
pub async fn perform(task: String) -> String {
    task
}

/// A task that somebody has to stop.
#[activity(timeout = "10s")]
pub async fn perform_for_ever(task: String) -> String {
    activity::context().cancelled().await;
    task
}

/// Waits for the next of several that run, takes it out, and leaves the others running.
pub(crate) async fn next<F: Future + Unpin>(running: &mut Vec<F>) -> F::Output {
    let (at, output) = race(running.iter_mut().enumerate().map(async |(at, future)| (at, future.await))).await;
    drop(running.remove(at));
    output
}

/// Registers all of them with a worker.
#[must_use]
pub fn serve(worker: Worker) -> Worker {
    let worker = worker.activity(perform).activity(perform_for_ever);
    let worker = [basic::serve, branching::serve, joins::serve, instances::serve]
        .into_iter()
        .fold(worker, |worker, serve| serve(worker));
    [state::serve, cancelling::serve, cycles::serve, triggers::serve]
        .into_iter()
        .fold(worker, |worker, serve| serve(worker))
}
