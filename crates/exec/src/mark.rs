//! The mark of a run: what tells its processes from all others, whatever they do.
//!
//! A process can leave its group, its session and its parent, and change its environment and its
//! descriptors. What it inherits from its parent without a word are its resource limits, so each
//! run gets a soft limit of its own on the resident set, which Linux has not enforced since 2.4.30
//! (getrlimit(2)) and which no program has a reason to change. The limit is set on this process for
//! the instant of the spawn, so that no descendant can be faster than the mark.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

/// The bit that every mark has: as a limit, 4 EiB or more.
#[cfg(any(target_os = "linux", test))]
const MARK: u64 = 1 << 62;

/// Where the instance stands in a mark; below it is the number of the run.
const INSTANCE_SHIFT: u32 = 31;

/// Bits of an instance and of a number.
const PART: u64 = (1 << INSTANCE_SHIFT) - 1;

/// The number of the first service: half of all numbers is more than a process can use up.
const FIRST_SERVICE: u32 = 1 << (INSTANCE_SHIFT - 1);

/// What tells the runs of one process from those of all others that this machine has seen.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Instance(u32);

impl Instance {
    /// This process's own.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<u32> = OnceLock::new();
        Self(*CURRENT.get_or_init(|| {
            let (random, _) = Uuid::new_v4().as_u64_pair();
            low(random >> 32)
        }))
    }

    /// An instance that was recorded.
    #[must_use]
    pub fn from_raw(raw: u32) -> Self {
        Self(low(u64::from(raw)))
    }

    /// The instance as a number below 2³¹.
    #[must_use]
    pub fn as_raw(self) -> u32 {
        self.0
    }
}

/// The mark of one run.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RunMark {
    instance: Instance,
    number: u32,
}

impl RunMark {
    /// A mark that no run had before.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::new(Instance::current(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A mark for what is not a run and never recorded. Its number is beyond those of all runs, so
    /// that the next start takes it for something that was started in the moment before the kill,
    /// and ends it.
    #[must_use]
    pub(crate) fn next_service() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = FIRST_SERVICE | NEXT.fetch_add(1, Ordering::Relaxed);
        Self::new(Instance::current(), number)
    }

    /// A mark that was recorded.
    #[must_use]
    pub fn new(instance: Instance, number: u32) -> Self {
        Self {
            instance,
            number: low(u64::from(number)),
        }
    }

    /// Which process started the run.
    #[must_use]
    pub fn instance(self) -> Instance {
        self.instance
    }

    /// Which of that process's runs, in the order of their start.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// The mark as a limit, in bytes.
    #[cfg(any(target_os = "linux", test))]
    pub(crate) fn as_limit(self) -> u64 {
        MARK | u64::from(self.instance.0) << INSTANCE_SHIFT | u64::from(self.number)
    }

    /// The mark that a limit is.
    pub(crate) fn from_limit(limit: u64) -> Option<Self> {
        (limit >> (2 * INSTANCE_SHIFT) == 1).then(|| Self {
            instance: Instance(low(limit >> INSTANCE_SHIFT)),
            number: low(limit),
        })
    }
}

fn low(bits: u64) -> u32 {
    u32::try_from(bits & PART).unwrap_or(0)
}

/// Runs `spawn`; what it starts has the mark. `false` if this system does not let it.
#[cfg(target_os = "linux")]
pub(crate) fn while_marked<T>(mark: RunMark, spawn: impl FnOnce() -> T) -> (T, bool) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    #[expect(clippy::disallowed_types, reason = "it is never held across an await")]
    static SPAWNING: std::sync::Mutex<()> = std::sync::Mutex::new(());

    // A spawn that panicked has left nothing behind that the next one would mind.
    let _only_one = SPAWNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let marked = getrlimit(Resource::RLIMIT_RSS).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_RSS, mark.as_limit(), hard)?;
        Ok((soft, hard))
    });
    let spawned = spawn();
    match marked {
        Ok((soft, hard)) => {
            if let Err(errno) = setrlimit(Resource::RLIMIT_RSS, soft, hard) {
                tracing::warn!(%errno, "the node keeps the mark of a run");
            }
            (spawned, true)
        }
        Err(errno) => {
            tracing::debug!(%errno, "runs cannot be marked; only their groups are ended");
            (spawned, false)
        }
    }
}

/// Runs `spawn`; there are no marks on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn while_marked<T>(_: RunMark, spawn: impl FnOnce() -> T) -> (T, bool) {
    (spawn(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again_in_the_limit() {
        for (instance, number) in [(0, 0), (1, 2), (u32::MAX, u32::MAX), (0, u32::MAX)] {
            let mark = RunMark::new(Instance::from_raw(instance), number);
            assert_eq!(RunMark::from_limit(mark.as_limit()), Some(mark));
        }
    }

    #[test]
    fn limits_that_people_set_are_no_marks() {
        for limit in [0, 1 << 30, MARK - 1, MARK << 1, u64::MAX] {
            assert_eq!(RunMark::from_limit(limit), None, "{limit}");
        }
    }

    #[test]
    fn no_two_runs_share_a_mark() {
        let (first, second) = (RunMark::next(), RunMark::next());
        assert_ne!(first, second);
        assert_eq!(first.instance(), second.instance());
    }

    #[test]
    fn a_service_counts_as_started_after_every_run() {
        let service = RunMark::next_service();
        assert!(service.number() > RunMark::next().number());
        assert_eq!(RunMark::from_limit(service.as_limit()), Some(service));
    }
}
