//! Faults: whatever is killed, cut off or wiped, an accepted job comes to one end.

mod broker_away;
mod database_away;
mod own_faults;
mod poison;
mod processes_killed;
mod zombie;
