//! The conformance suite of the [`Store`] port.
//!
//! Every case is a function over a [`Database`]; [`store_conformance!`](crate::store_conformance) stamps them all as
//! tests of one backend, so that a failure names both: `store_sqlite::claim_is_exclusive`.

#[doc(hidden)]
pub mod agreement;
#[doc(hidden)]
pub mod auditing_fires;
#[doc(hidden)]
pub mod auditing_past;
#[doc(hidden)]
pub mod auditing_rows;
#[doc(hidden)]
pub mod auditing_work;
#[doc(hidden)]
pub mod batches;
#[doc(hidden)]
pub mod callbacks;
#[doc(hidden)]
pub mod cancelling;
#[doc(hidden)]
pub mod chains;
#[doc(hidden)]
pub mod claiming;
#[doc(hidden)]
pub mod finishing;
#[doc(hidden)]
pub mod idempotency;
#[doc(hidden)]
pub mod intake;
#[doc(hidden)]
pub mod keeping;
#[doc(hidden)]
pub mod listing;
#[doc(hidden)]
pub mod promotion;
#[doc(hidden)]
pub mod reaping;
#[doc(hidden)]
pub mod reports;
#[doc(hidden)]
pub mod scheduling;
#[doc(hidden)]
pub mod sessions;
#[doc(hidden)]
pub mod stealing;
mod steps;
mod tampering;
#[doc(hidden)]
pub mod trails;
#[doc(hidden)]
pub mod transactions;
#[doc(hidden)]
pub mod turmoil;
#[doc(hidden)]
pub mod unique;

use std::sync::Arc;

use async_trait::async_trait;

pub use tampering::Dialect;

use crate::store::Store;
use crate::store::audit::Audit;

/// A backend, as the suite makes one for each case.
#[async_trait]
pub trait Database: Sized + Send + Sync + 'static {
    /// A fresh, migrated database. What it holds on to is let go of when it is dropped, also when the case fails.
    async fn fresh() -> Self;

    /// A handle on it.
    fn store(&self) -> Arc<dyn Store>;

    /// A further handle on the same database, as another process has one, where the backend serves several; else the
    /// same one again.
    async fn another(&self) -> Arc<dyn Store>;

    /// The auditor's view of it.
    async fn audit(&self) -> Box<dyn Audit>;

    /// The words of [`Database::tamper`].
    fn dialect(&self) -> Dialect;

    /// Runs statements that nothing of Offload's would run.
    async fn tamper(&self, sql: String);
}

/// Stamps every case as a test of one backend: `store_conformance!(Postgres);` in a file of its own under `tests/`, where
/// `Postgres` implements [`Database`](crate::testing::store::Database).
#[macro_export]
macro_rules! store_conformance {
    ($database:ty) => {
        $crate::store_conformance! { @stamp $database;
            intake:
                a_job_reads_back_as_it_was_accepted
                a_missing_job_is_none
                one_tenant_does_not_see_the_other
                a_job_due_now_or_before_is_queued
                a_job_due_later_is_scheduled
                a_delay_counts_by_the_stores_clock
                a_job_that_is_not_admitted_waits_and_looks_queued
                a_thousand_jobs_are_accepted_in_order
                queueing_order_holds_below_a_second
                a_refused_row_writes_none_of_its_batch
                json_passes_through_byte_by_byte;
            idempotency:
                a_repeated_key_answers_the_first_job
                a_key_with_another_body_is_refused
                a_key_is_the_tenants_own
                a_key_twice_in_one_batch_counts_once
                racing_requests_with_one_key_make_one_job
                racing_batches_with_the_same_keys_make_one_job_each;
            unique:
                a_key_has_one_live_job
                whatever_ends_a_job_frees_its_key
                a_job_keeps_its_key_between_its_attempts
                what_has_not_started_is_replaced
                several_of_one_key_in_one_call_are_taken_in_their_order
                an_idempotency_key_goes_before_a_unique_key
                racing_submitters_of_one_key_leave_one_live_job
                racing_calls_and_ends_neither_lock_each_other_out_nor_share_a_key
                a_batch_leaves_out_what_another_job_stands_for
                a_batch_that_another_stands_for_as_a_whole_is_finished_at_once
                a_key_that_a_batch_does_not_do_without_refuses_all_of_it
                a_failed_job_of_a_batch_is_repeated_once_its_key_is_free
                live_jobs_that_share_a_key_are_found;
            listing:
                a_list_is_newest_first_and_limited
                every_filter_narrows_the_list
                the_state_filter_goes_by_the_visible_state
                pages_neither_skip_nor_repeat_while_jobs_arrive
                depths_count_each_lane_up_to_a_limit;
            claiming:
                a_claim_grants_a_lease
                a_session_claims_like_the_store
                claim_is_exclusive
                a_repeated_claim_is_granted_again
                a_repeated_claim_is_not_granted_once_the_worker_has_left
                only_a_member_is_granted_anything
                only_a_queued_row_at_that_epoch_is_granted
                a_late_claim_puts_the_start_back;
            finishing:
                a_lazy_run_succeeds_in_one_write
                a_claimed_run_succeeds
                a_retry_is_scheduled_with_its_error_and_history
                history_keeps_every_failed_attempt
                a_final_failure_ends_the_job
                a_repeated_finish_is_recognised
                a_stale_epoch_cannot_finish
                finishes_are_answered_in_order
                results_pass_through_byte_by_byte
                a_released_job_is_queued_again
                a_snoozed_job_spends_no_attempt
                one_of_two_racing_finishes_counts
                a_declined_job_is_scheduled_without_an_attempt
                what_is_final_stays_as_it_is;
            cancelling:
                a_job_that_has_not_started_is_cancelled_at_once
                cancelling_a_running_job_leaves_the_lease_good
                a_wish_to_cancel_is_not_lost_to_a_retry
                success_wins_over_a_wish_to_cancel
                cancelling_comes_too_late_for_what_has_ended
                a_cancel_races_a_retry
                a_cancel_races_a_success;
            callbacks:
                every_way_to_an_end_is_told_of_once
                the_job_of_a_fire_is_told_of
                only_ends_that_are_asked_for_are_told_of
                racing_ends_are_told_of_once
                a_repeated_request_keeps_the_first_callback
                a_batch_and_its_jobs_are_told_of
                a_callback_is_kept_as_long_as_its_job
                a_callback_that_was_not_fired_is_found;
            chains:
                a_job_waits_until_its_parents_have_succeeded
                what_has_ended_before_counts
                a_parent_that_fails_cancels_what_follows_it_and_so_on
                a_job_may_run_whatever_becomes_of_its_parents
                the_later_of_both_times_counts
                a_job_that_waits_can_be_cancelled
                parents_must_be_there_and_of_the_same_tenant
                jobs_of_a_batch_wait_for_each_other
                every_way_to_an_end_is_told
                what_became_of_parents_is_read_within_bounds
                racing_ends_and_children_leave_nobody_waiting
                a_row_that_waits_is_pruned_with_its_parents_named
                a_job_that_nobody_tells_is_found;
            batches:
                jobs_of_a_batch_read_back_as_they_were_accepted
                every_way_to_an_end_is_counted
                an_end_counts_once
                plain_and_linked_ends_are_written_together
                racing_ends_are_counted_exactly_and_followed_once
                a_key_names_one_batch
                racing_requests_with_one_key_make_one_batch
                a_batch_that_fails_in_the_middle_leaves_nothing
                an_open_batch_grows_until_it_is_sealed
                a_batch_is_cancelled_page_by_page
                what_failed_is_repeated_once
                batches_are_listed_newest_first
                pruning_keeps_batches_with_something_left_to_do
                a_batch_that_counts_wrong_is_found;
            agreement:
                every_operation_does_what_is_decided
                an_end_is_taken_where_the_fence_says;
            promotion:
                a_due_job_is_queued_for_publishing
                a_lane_is_filled_up_to_its_window
                promotion_takes_the_oldest_due_first
                future_jobs_are_left_alone
                a_job_is_promoted_once_it_comes_due
                a_retry_is_promoted_with_its_attempts
                only_kinds_of_live_workers_are_promoted
                racing_promoters_queue_each_job_once
                the_next_due_time_is_known;
            stealing:
                stealing_claims
                only_what_fits_is_stolen
                rows_that_lost_a_worker_go_first
                suspects_are_stolen_one_at_a_time
                racing_stealers_share;
            reaping:
                live_workers_keep_their_jobs
                jobs_of_workers_that_are_gone_are_queued_again
                jobs_of_a_worker_that_left_are_queued_again
                a_reaped_worker_is_fenced
                silence_is_what_counts
                who_cannot_judge_marks_nobody
                what_waits_again_is_told_until_it_starts
                the_third_loss_ends_a_job
                a_lost_job_with_one_attempt_fails
                a_lost_job_that_was_to_be_cancelled_is
                racing_reapers_take_each_job_once;
            sessions:
                a_beat_tells_which_jobs_to_cancel
                a_live_worker_is_listed
                work_that_waits_for_a_worker_is_known
                kinds_outlive_the_workers_that_registered_them;
            reports:
                progress_is_seen
                log_lines_keep_their_order_over_pages
                a_second_run_writes_after_the_first
                a_repeated_report_is_written_once
                a_lost_lease_says_nothing;
            trails:
                a_short_run_is_told_of_by_its_row
                the_whole_story_is_told_in_order
                what_was_told_stays_and_what_is_new_comes_behind
                many_trails_are_read_together
                a_trail_has_an_end;
            transactions:
                writes_commit_with_the_finish
                a_dropped_transaction_leaves_nothing
                a_zombie_cannot_commit
                a_lease_lost_meanwhile_rolls_back
                a_wish_to_cancel_rolls_a_retry_back
                racing_imports_create_one_table
                a_tables_columns_are_known
                cells_of_every_type_are_inserted
                a_cell_that_its_type_refuses_is_rejected
                statements_take_json_arguments
                others_go_on_while_a_transaction_is_open;
            keeping:
                a_files_record_reads_back
                pruning_removes_what_is_past_its_retention
                pruning_keeps_what_is_live
                pruning_keeps_what_is_within_its_retention
                migrating_twice_changes_nothing;
            scheduling:
                a_schedule_reads_back_as_it_was_made
                a_change_names_the_version_that_it_saw
                racing_renames_give_a_name_to_one
                a_fire_submits_its_job_once
                a_fire_that_comes_again_is_not_repeated
                racing_firers_fire_each_fire_once
                missed_fires_go_by_their_policy
                overlapping_fires_go_by_their_policy
                a_fire_that_waits_follows_the_job_before_it
                a_fire_whose_key_is_taken_is_skipped
                a_schedule_in_trouble_keeps_no_other_from_its_turn
                a_fire_submits_its_batch_once
                a_batch_is_cancelled_by_the_next_fire
                a_batch_runs_when_it_is_asked_to
                a_paused_schedule_does_not_fire
                a_schedule_runs_when_it_is_asked_to
                jobs_and_records_outlive_their_schedule
                records_are_kept_for_their_retention
                the_next_fire_is_known;
            turmoil:
                every_job_comes_to_one_end;
            auditing_rows:
                a_clean_life_raises_nothing
                a_moving_database_raises_nothing
                every_contradiction_in_a_row_is_found
                a_missing_primary_key_is_found
                pages_leave_nobody_out;
            auditing_work:
                a_lease_of_no_worker_is_found
                leases_that_nobody_could_take_back_are_noted
                a_lease_that_is_taken_back_in_time_is_none_to_find
                two_jobs_of_one_run_are_found
                more_leases_than_slots_are_found
                a_queued_job_that_a_worker_could_run_is_overdue
                a_queued_job_may_have_a_reason_to_wait
                suspects_take_turns
                a_due_job_whose_lane_has_room_is_overdue;
            auditing_fires:
                a_fire_whose_job_is_gone_is_found
                a_fire_whose_batch_is_gone_or_doubled_is_found
                jobs_that_share_a_fire_are_found
                a_job_of_a_fire_that_was_never_recorded_is_found
                a_schedule_that_is_passed_over_is_found;
            auditing_past:
                a_job_that_is_gone_is_found_by_its_key
                named_jobs_that_are_gone_are_found
                a_ledger_has_a_row_for_each_success
                what_is_no_id_in_a_ledger_is_found
                a_ledger_that_is_none_is_refused
                a_ledger_of_more_than_a_page_is_read_to_its_end
                what_changes_against_the_record_is_found
                what_is_past_its_retention_may_be_gone;
        }
    };
    (@stamp $database:ty; $($topic:ident: $($case:ident)*;)*) => { $($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let database = <$database as $crate::testing::store::Database>::fresh().await;
            $crate::testing::store::$topic::$case(&database).await;
        }
    )*)* };
}

#[cfg(test)]
mod tests {
    /// A case that is written but not stamped would pass for ever.
    #[test]
    fn every_case_is_stamped() {
        let stamped = include_str!("mod.rs");
        for (topic, source) in [
            ("intake", include_str!("intake.rs")),
            ("idempotency", include_str!("idempotency.rs")),
            ("listing", include_str!("listing.rs")),
            ("claiming", include_str!("claiming.rs")),
            ("finishing", include_str!("finishing.rs")),
            ("cancelling", include_str!("cancelling.rs")),
            ("agreement", include_str!("agreement.rs")),
            ("promotion", include_str!("promotion.rs")),
            ("stealing", include_str!("stealing.rs")),
            ("reaping", include_str!("reaping.rs")),
            ("sessions", include_str!("sessions.rs")),
            ("reports", include_str!("reports.rs")),
            ("trails", include_str!("trails.rs")),
            ("transactions", include_str!("transactions.rs")),
            ("keeping", include_str!("keeping.rs")),
            ("scheduling", include_str!("scheduling.rs")),
            ("turmoil", include_str!("turmoil.rs")),
            ("auditing_rows", include_str!("auditing_rows.rs")),
            ("unique", include_str!("unique.rs")),
            ("batches", include_str!("batches.rs")),
            ("callbacks", include_str!("callbacks.rs")),
            ("chains", include_str!("chains.rs")),
            ("auditing_work", include_str!("auditing_work.rs")),
            ("auditing_fires", include_str!("auditing_fires.rs")),
            ("auditing_past", include_str!("auditing_past.rs")),
        ] {
            let cases = source.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next());
            let list = stamped.split(&format!("            {topic}:\n")).nth(1).expect("the topic is listed");
            let listed: Vec<_> = list.split(';').next().unwrap_or_default().split_whitespace().collect();
            assert_eq!(cases.collect::<Vec<_>>(), listed, "the cases of {topic}.rs");
        }
    }
}
