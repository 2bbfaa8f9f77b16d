//! Whether every part of the worker is alive. One that has lost a part can only end, for a supervisor to start it again.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// The parts that a worker cannot do without.
#[derive(Clone, Default)]
pub(crate) struct Vitals {
    dead: Arc<OnceLock<&'static str>>,
    death: CancellationToken,
}

/// A part that is alive. Dropped before it has [`Living::ended`], it has died.
#[must_use = "a part whose guard is dropped counts as dead"]
pub(crate) struct Living(Option<(Vitals, &'static str)>);

impl Vitals {
    /// A part lives from now on.
    pub(crate) fn living(&self, part: &'static str) -> Living {
        Living(Some((self.clone(), part)))
    }

    /// The first part that died, if one has.
    pub(crate) fn dead(&self) -> Option<&'static str> {
        self.dead.get().copied()
    }

    /// Fires when a part dies.
    pub(crate) const fn death(&self) -> &CancellationToken {
        &self.death
    }
}

impl Living {
    /// The part has come to its end as it should.
    pub(crate) fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        if let Some((vitals, part)) = self.0.take() {
            let _ = vitals.dead.set(part);
            vitals.death.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_that_dies_is_told_and_one_that_ends_is_not() {
        let vitals = Vitals::default();
        vitals.living("a").ended();
        assert_eq!((vitals.dead(), vitals.death().is_cancelled()), (None, false));
        drop(vitals.living("b"));
        drop(vitals.living("c"));
        assert_eq!((vitals.dead(), vitals.death().is_cancelled()), (Some("b"), true));
    }
}
