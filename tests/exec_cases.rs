//! What the node answers, case by case, end to end: the real binary on a real socket.
//!
//! `EXEC_CASES=run-cwd cargo test --test exec_cases` runs only the cases whose id contains that.

#![cfg(test)]

mod cases;
mod common;

use std::collections::{BTreeMap, BTreeSet};

use cases::Case;
use cases::world::World;
use common::home::Account;
use serde_json::Value;
use tokio::task::JoinSet;

/// Cases that one node takes one after the other; more nodes share a larger group.
const CASES_PER_NODE: usize = 100;

/// What went wrong, by case.
type Failures = BTreeMap<String, Vec<String>>;

async fn run_group(config: Value, group: Vec<Case>, account: Account, who: &str) -> Failures {
    let mut world = World::start(&config, account).await;
    let mut failures = Failures::new();
    for case in group {
        let found = world.run(&case).await;
        if !found.is_empty() {
            let found = found
                .into_iter()
                .map(|text| format!("{who}: {text}"))
                .collect();
            failures.insert(case.id, found);
        }
    }
    failures
}

/// Runs the cases as one user.
fn start(corpus: &[Case], account: Account, who: &'static str, running: &mut JoinSet<Failures>) {
    for (config, group) in cases::by_config(corpus.to_vec()) {
        for group in group.chunks(CASES_PER_NODE) {
            let (config, group) = (config.clone(), group.to_vec());
            running.spawn(async move { run_group(config, group, account, who).await });
        }
    }
}

#[tokio::test]
async fn every_case_that_is_due_passes_and_no_other() {
    let corpus = cases::corpus();
    let not_yet = cases::not_yet(&corpus);
    let only = std::env::var("EXEC_CASES").unwrap_or_default();
    let corpus: Vec<Case> = corpus
        .into_iter()
        .filter(|case| case.id.contains(&only))
        .collect();

    let mut running = JoinSet::new();
    start(
        &corpus,
        Account::current(),
        "as the current user",
        &mut running,
    );
    if let Some(ordinary) = Account::ordinary() {
        start(&corpus, ordinary, "as an ordinary user", &mut running);
    }
    let mut failures = Failures::new();
    while let Some(group) = running.join_next().await {
        for (id, found) in group.unwrap() {
            failures.entry(id).or_default().extend(found);
        }
    }

    let due = |id: &str| !not_yet.contains(id);
    for (id, found) in failures
        .iter()
        .filter(|(id, _)| due(id) || !only.is_empty())
    {
        println!("{id}: {}", found.join("; "));
    }
    let failed: Vec<&String> = failures.keys().filter(|id| due(id)).collect();
    let passed: BTreeSet<&String> = corpus
        .iter()
        .map(|case| &case.id)
        .filter(|id| not_yet.contains(*id) && !failures.contains_key(*id))
        .collect();
    println!(
        "{} cases, {} failed, {} not due yet",
        corpus.len(),
        failed.len(),
        corpus.iter().filter(|case| !due(&case.id)).count(),
    );
    assert!(
        passed.is_empty(),
        "these pass now, take them out of not_yet.txt: {passed:?}"
    );
    assert!(failed.is_empty(), "these fail: {failed:?}");
}
