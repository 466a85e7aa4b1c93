//! Waiting for what happens elsewhere.

use std::fmt::Debug;
use std::time::Duration;

/// How long anything but the start of a gateway may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that nothing announces.
const INTERVAL: Duration = Duration::from_millis(50);

/// Asks until the answer is `Ok`, and panics with `what` and the last answer after `deadline`.
pub(crate) async fn eventually<T, E: Debug>(
    what: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = None;
    let asking = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what}: not within {deadline:?}; last seen: {last:#?}"),
    }
}
