//! What the suites build on: the binary's processes, a client, and stacks of both.

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod messages;
pub(crate) mod process;
pub(crate) mod queues;
pub(crate) mod samples;
pub(crate) mod stack;

pub(crate) use client::Client;
pub(crate) use process::Process;
pub(crate) use stack::{Backend, Stack, StackBuilder};

/// Stamps cases for both ways of running: the embedded backend, and PostgreSQL with RabbitMQ.
macro_rules! on_both_backends {
    ($($case:ident)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let stack = super::stack(crate::support::Backend::Embedded).await;
                super::$case(&stack).await;
            })*
        }

        mod services {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let stack = super::stack(crate::support::Backend::Services).await;
                super::$case(&stack).await;
            })*
        }
    };
}
pub(crate) use on_both_backends;
