//! The fault suite: servers and processes of its own are killed, stopped, cut off and wiped while jobs pour in; at the end
//! every job that was accepted has come to its one end.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod run;
mod seeded;
mod servers;
mod support;
