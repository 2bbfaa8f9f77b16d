//! The command line from outside: the real binary, its output, its exit codes, its signals.

mod client;
mod configuration;
mod demo;
mod help;
mod program;
mod schedule;
mod server;
mod verify;
