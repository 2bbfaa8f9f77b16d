//! What looks wrong only because of where things stand just now is watched: it counts once it has looked wrong at every
//! look for a while.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// The suspicions that every look so far has confirmed.
pub(super) struct Watch<T> {
    lasts: Duration,
    since: Option<Instant>,
    standing: HashSet<T>,
}

impl<T: Eq + Hash> Watch<T> {
    /// A watch that lasts this long, and takes two looks at least.
    pub(super) fn new(lasts: Duration) -> Self {
        Self { lasts, since: None, standing: HashSet::new() }
    }

    /// Takes note of what looks wrong at `now`; answers whether that is worth another look.
    pub(super) fn look(&mut self, now: Instant, suspects: HashSet<T>) -> bool {
        match self.since {
            None => {
                self.since = Some(now);
                self.standing = suspects;
                !self.standing.is_empty()
            }
            Some(since) => {
                self.standing.retain(|suspect| suspects.contains(suspect));
                !self.standing.is_empty() && now.duration_since(since) < self.lasts
            }
        }
    }

    /// Waits until it is time for the next look.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(PAUSE.min(self.lasts)).await;
    }

    /// What has looked wrong all the time.
    pub(super) fn into_standing(self) -> HashSet<T> {
        self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_looks_right_once_is_let_go() {
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Watch::new(Duration::from_secs(10));
        assert!(watch.look(at(0), HashSet::from(['a', 'b'])));
        assert!(watch.look(at(5), HashSet::from(['b', 'c'])));
        assert!(!watch.look(at(10), HashSet::from(['a', 'b', 'c'])), "it has lasted long enough");
        assert_eq!(watch.into_standing(), HashSet::from(['b']));
    }

    #[test]
    fn nothing_to_suspect_is_not_watched_and_a_single_look_is_none() {
        let start = clock::instant();
        assert!(!Watch::<char>::new(Duration::from_secs(10)).look(start, HashSet::new()));
        let mut watch = Watch::new(Duration::ZERO);
        assert!(watch.look(start, HashSet::from(['a'])), "it is looked at again");
        assert!(!watch.look(start, HashSet::from(['a'])));
    }
}
