//! Commands that wait for their turn, fairly between agents: an agent that asks for much waits for
//! itself, not the others for it.

use std::collections::VecDeque;

/// A queue that takes from each agent in turn.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// The agents that wait, in the order of their turns, each with at least one item.
    agents: VecDeque<(String, VecDeque<T>)>,
    len: usize,
}

impl<T> FairQueue<T> {
    pub(super) const fn new() -> Self {
        Self {
            agents: VecDeque::new(),
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, agent: &str, item: T) {
        self.len += 1;
        match self.agents.iter_mut().find(|(name, _)| name == agent) {
            Some((_, items)) => items.push_back(item),
            None => {
                let items = VecDeque::from([item]);
                self.agents.push_back((agent.to_owned(), items));
            }
        }
    }

    /// The oldest item of the agent whose turn it is; its next turn comes after everybody else's.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (agent, mut items) = self.agents.pop_front()?;
        let item = items.pop_front()?;
        self.len -= 1;
        if !items.is_empty() {
            self.agents.push_back((agent, items));
        }
        Some(item)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.agents.iter_mut().flat_map(|(_, items)| items)
    }

    /// Takes out whatever is no longer wanted, and returns it.
    pub(super) fn extract(&mut self, mut is_wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut extracted = Vec::new();
        for (_, items) in &mut self.agents {
            let (kept, unwanted): (VecDeque<T>, VecDeque<T>) =
                items.drain(..).partition(&mut is_wanted);
            *items = kept;
            extracted.extend(unwanted);
        }
        self.agents.retain(|(_, items)| !items.is_empty());
        self.len -= extracted.len();
        extracted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(items: &[(&str, u32)]) -> FairQueue<u32> {
        let mut queue = FairQueue::new();
        for (agent, item) in items {
            queue.push(agent, *item);
        }
        queue
    }

    fn emptied(mut queue: FairQueue<u32>) -> Vec<u32> {
        let items = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(queue.len(), 0);
        items
    }

    #[test]
    fn an_agent_that_asks_for_much_does_not_hold_up_the_others() {
        let queue = filled(&[
            ("a", 1),
            ("a", 2),
            ("a", 3),
            ("b", 10),
            ("c", 20),
            ("b", 11),
        ]);
        assert_eq!(queue.len(), 6);
        assert_eq!(emptied(queue), [1, 10, 20, 2, 11, 3]);
    }

    #[test]
    fn one_agent_is_served_in_order() {
        assert_eq!(emptied(filled(&[("a", 1), ("a", 2), ("a", 3)])), [1, 2, 3]);
    }

    #[test]
    fn what_is_no_longer_wanted_is_taken_out() {
        let mut queue = filled(&[("a", 1), ("b", 2), ("a", 3), ("c", 5)]);
        assert_eq!(queue.extract(|item| *item % 2 == 0), [1, 3, 5]);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.iter_mut().map(|item| *item).collect::<Vec<_>>(), [2]);
        assert_eq!(emptied(queue), [2]);
    }
}
