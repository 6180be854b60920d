//! Work shared among threads, taken in the order of the jobs: the product never depends on who was faster.

use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

/// Runs `work` on every job with `workers` threads (at least one) and hands each product to `take` in the jobs' order.
/// After the first error of `take` no further job is begun; those under way end and are dropped.
///
/// # Errors
/// The first error of `take`.
pub fn in_order<J: Sync, R: Send>(
    jobs: &[J],
    workers: usize,
    work: impl Fn(&J) -> R + Sync,
    mut take: impl FnMut(&J, R) -> Result<()>,
) -> Result<()> {
    let (next, is_stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(workers.max(1));
        for _ in 0..workers.max(1) {
            let sender = sender.clone();
            let (next, is_stopped, work) = (&next, &is_stopped, &work);
            scope.spawn(move || {
                while !is_stopped.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(place) else { break };
                    if sender.send((place, work(job))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut expected = 0;
        let mut outcome = Ok(());
        for (place, product) in receiver {
            early.insert(place, product);
            while let Some(product) = early.remove(&expected) {
                if outcome.is_ok() {
                    outcome = take(&jobs[expected], product);
                    is_stopped.store(outcome.is_err(), Ordering::Relaxed);
                }
                expected += 1;
            }
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TrainError;

    #[test]
    fn products_come_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..200).collect();
        for workers in [0, 1, 7] {
            let mut taken = Vec::new();
            let work = |job: &u64| {
                // Uneven work, so that later jobs end first.
                (0..(200 - job) * 50).fold(*job, |sum, each| sum.wrapping_mul(31).wrapping_add(each))
            };
            in_order(&jobs, workers, work, |job, product| {
                taken.push((*job, product));
                Ok(())
            })
            .unwrap();
            let one_by_one: Vec<_> = jobs.iter().map(|job| (*job, work(job))).collect();
            assert_eq!(taken, one_by_one);
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let jobs: Vec<usize> = (0..1000).collect();
        let mut taken = 0;
        let outcome = in_order(
            &jobs,
            2,
            |job| *job,
            |_, product| {
                taken += 1;
                if product == 5 { Err(TrainError::Host("five".into())) } else { Ok(()) }
            },
        );
        assert_eq!((taken, outcome.unwrap_err().to_string().as_str()), (6, "host failed: five"));
    }
}
