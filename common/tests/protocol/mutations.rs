//! That the exploration can fail: each part of the protocol that is left out breaks something, and it is found.

use crate::everything::{IMPORT, PLAIN};
use crate::explore::exhaust;
use crate::invariants::Broken;
use crate::store::Kind;
use crate::world::{Mutation, World};

/// What the exploration finds broken, with as few faults as it takes.
fn found(kind: Kind, mutation: Mutation) -> Option<Broken> {
    let broken = |faults| exhaust(World::new(&[kind], 2, true, faults).with(mutation)).err();
    (0..=2).find_map(broken).map(|found| found.broken)
}

macro_rules! found {
    ($($name:ident: $kind:ident without $mutation:ident breaks $broken:ident;)*) => { $(
        #[test]
        fn $name() {
            assert_eq!(found($kind, Mutation::$mutation), Some(Broken::$broken));
        }
    )* };
}

found! {
    an_end_of_another_epoch: PLAIN without FinishIgnoresEpoch breaks WhoPaysIsWhoRan;
    an_end_against_a_wish_to_cancel: IMPORT without FinishIgnoresCancel breaks AWishToCancelIsKept;
    a_transaction_without_a_fence: IMPORT without TransactionIgnoresFence breaks OneEffectPerSuccess;
    a_steal_at_the_same_epoch: IMPORT without StealKeepsEpoch breaks EpochsGrow;
    reaping_whoever_lives: IMPORT without ReapIgnoresMembers breaks OnlyTheLostLose;
    reaping_at_the_mark_only: IMPORT without ReapOnlyAtTheMark breaks EverythingEnds;
    acknowledging_before_the_write: PLAIN without AcknowledgedBeforeTheWrite breaks AcknowledgedTooEarly;
    acknowledging_what_was_given_up: PLAIN without GivenBackAsDone breaks AcknowledgedTooEarly;
    a_drain_that_spends_an_attempt: PLAIN without HandingBackSpendsAnAttempt breaks WhoPaysIsWhoRan;
    leases_of_lost_replies: IMPORT without NobodyLooksForStrays breaks EverythingEnds;
    lost_messages: PLAIN without NobodySteals breaks EverythingEnds;
}

/// An equal epoch proves that nothing changed hands: the state in the guard is a second lock on the same door.
#[test]
fn the_epoch_alone_guards_an_end() {
    for kind in [IMPORT, PLAIN] {
        assert_eq!(found(kind, Mutation::FinishIgnoresState), None);
    }
}
