//! The endpoints of a setup code that are still to be tried (wire protocol §7.6).

use std::collections::VecDeque;
use std::rc::Rc;

use node_config::{PlannedEndpoint, Reach};

type Destination = (Rc<PlannedEndpoint>, Rc<Reach>);

/// All but the one that is tried now, in the order in which they come next.
#[derive(Debug)]
pub(crate) struct Candidates {
    waiting: VecDeque<Destination>,
    /// How many of them are to be tried before the next wait.
    left: usize,
}

/// Where to go next.
#[derive(Debug)]
pub(crate) struct NextCandidate {
    pub(crate) destination: Destination,
    /// Whether it has not been tried since the last wait.
    pub(crate) at_once: bool,
}

impl Candidates {
    pub(crate) fn new(alternatives: Vec<(PlannedEndpoint, Reach)>) -> Self {
        let waiting: VecDeque<_> = alternatives
            .into_iter()
            .map(|(endpoint, reach)| (Rc::new(endpoint), Rc::new(reach)))
            .collect();
        Self {
            left: waiting.len(),
            waiting,
        }
    }

    /// The one after `current`, which goes to the end of the line; `None` if there is no other.
    pub(crate) fn after(&mut self, current: Destination) -> Option<NextCandidate> {
        let destination = self.waiting.pop_front()?;
        self.waiting.push_back(current);
        let at_once = self.left > 0;
        self.left = match at_once {
            true => self.left - 1,
            false => self.waiting.len(),
        };
        Some(NextCandidate {
            destination,
            at_once,
        })
    }

    /// One of them is the gateway: the others are not tried any more.
    pub(crate) fn settle(&mut self) {
        self.waiting.clear();
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(url: &str) -> (PlannedEndpoint, Reach) {
        let endpoint = PlannedEndpoint::from_url(url, None).unwrap();
        (endpoint, Reach::default())
    }

    #[test]
    fn each_is_tried_once_between_two_waits_until_one_is_the_gateway() {
        let (first, reach) = destination("ws://a");
        let mut candidates = Candidates::new(vec![destination("ws://b"), destination("ws://c")]);
        let mut current = (Rc::new(first), Rc::new(reach));
        let mut seen = Vec::new();
        for _ in 0..6 {
            let next = candidates.after(current).unwrap();
            seen.push((next.destination.0.host().to_owned(), next.at_once));
            current = next.destination;
        }
        let round = |at: usize| (seen[at].0.as_str(), seen[at].1);
        assert_eq!(
            [round(0), round(1), round(2)],
            [("b", true), ("c", true), ("a", false)]
        );
        assert_eq!(
            [round(3), round(4), round(5)],
            [("b", true), ("c", true), ("a", false)]
        );
        candidates.settle();
        assert!(candidates.after(current).is_none());
    }
}
